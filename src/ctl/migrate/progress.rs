//! What an operator sees while a migration goes on.

use std::io::Write;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A line at the foot of the terminal, where somebody looks.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Nothing is shown yet.
    pub(crate) fn new() -> Progress {
        Progress(ProgressBar::no_length())
    }

    /// So many keys are gone through.
    pub(crate) fn keys(&self, what: &'static str, count: u64) {
        const SHAPE: &str =
            "{msg:9} {wide_bar} {human_pos} of {human_len} keys, {per_sec}, {eta} left";
        self.0.set_style(style(SHAPE));
        self.0.set_message(what);
        self.0.reset();
        self.0.set_length(count);
    }

    /// So many keys of them are passed.
    pub(crate) fn passed(&self, keys: u64) {
        self.0.set_position(keys);
    }

    /// The source is followed from now on.
    pub(crate) fn following(&self) {
        self.0.set_style(style("{spinner} {msg}"));
        self.0.enable_steady_tick(Duration::from_millis(200));
    }

    /// How far the target is.
    pub(crate) fn at(&self, revision: i64, behind: i64) {
        let text = format!(
            "following: revision {revision}, {behind} behind; Ctrl-C to catch up, compare and end"
        );
        self.0.set_message(text);
    }

    /// The line is gone.
    pub(crate) fn clear(&self) {
        self.0.finish_and_clear();
    }

    /// Says something for good, on standard error.
    pub(crate) fn note(&self, text: &str) {
        // Nothing is left to be done when standard error is closed.
        self.0.suspend(|| {
            let _ = writeln!(std::io::stderr(), "{text}");
        });
    }
}

fn style(shape: &str) -> ProgressStyle {
    ProgressStyle::with_template(shape).expect("the template is well-formed")
}
