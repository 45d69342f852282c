//! What was found that is not as it should be: how much of it, and the first few.

/// How many are told one by one.
const SAMPLES_MAX: usize = 10;

/// Findings.
#[derive(Clone, Debug, Default)]
pub(crate) struct Findings {
    /// How many.
    pub(crate) count: u64,
    /// The first of them, a line each.
    pub(crate) samples: Vec<String>,
}

impl Findings {
    /// One more.
    pub(crate) fn note(&mut self, line: String) {
        self.count += 1;
        if self.samples.len() < SAMPLES_MAX {
            self.samples.push(line);
        }
    }
}
