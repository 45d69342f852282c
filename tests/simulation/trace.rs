//! What happened in a run: always as a hash, which is the same whenever the run is the same; as text when somebody wants to read.

use super::register::mix;

/// The lines that are kept: the last ones.
const LINES_MAX: usize = 20_000;

/// The record of a run.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    hash: u64,
    lines: Option<std::collections::VecDeque<String>>,
}

impl Trace {
    /// A record that keeps its text if `text` is set.
    pub(crate) fn new(text: bool) -> Trace {
        Trace {
            hash: 0,
            lines: text.then(Default::default),
        }
    }

    /// Something happened that these numbers tell apart from all else.
    pub(crate) fn mark(&mut self, numbers: &[u64]) {
        for &number in numbers {
            self.hash = mix(self.hash, number);
        }
    }

    /// Adds a line at a moment, in microseconds.
    pub(crate) fn line(&mut self, now: u64, text: impl FnOnce() -> String) {
        if let Some(lines) = &mut self.lines {
            if lines.len() == LINES_MAX {
                lines.pop_front();
            }
            let (seconds, micros) = (now / 1_000_000, now % 1_000_000);
            lines.push_back(format!("{seconds}.{micros:06} {}", text()));
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default().into()
    }
}
