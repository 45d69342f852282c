//! What is wrong with a config, in the words that its author reads.

use std::fmt;
use std::path::{Path, PathBuf};

/// One thing that is wrong with a config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where: a key as `machines[2].peer`, an option as `--local`, a line and column where the text is no JSON, or
    /// nothing when it is the file itself.
    pub key: String,
    /// What is wrong, and what to do about it.
    pub text: String,
}

impl Problem {
    pub(crate) fn new(key: impl Into<String>, text: impl Into<String>) -> Self {
        Problem {
            key: key.into(),
            text: text.into(),
        }
    }

    /// Whether the other key is this one's, one inside it, or one beside it in the same object: where this one cannot
    /// be read, nothing can be said about those.
    pub(crate) fn covers(&self, key: &str) -> bool {
        let is_in = |object: &str| {
            let rest = key.strip_prefix(object);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        let object = self.key.rsplit_once('.').map(|(object, _)| object);
        is_in(&self.key) || object.is_some_and(is_in)
    }
}

/// Everything that is wrong with a config: one line a problem, each with the file, the key and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// The config file.
    pub path: PathBuf,
    /// What is wrong with it; at least one.
    pub problems: Vec<Problem>,
}

impl ConfigError {
    pub(crate) fn new(path: &Path, problems: Vec<Problem>) -> Self {
        ConfigError {
            path: path.to_owned(),
            problems,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, Problem { key, text }) in self.problems.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            write!(f, "{}: ", self.path.display())?;
            if !key.is_empty() {
                write!(f, "{key}: ")?;
            }
            write!(f, "{text}")?;
        }
        Ok(())
    }
}

/// ` (did you mean "storage"?)` when one of the words is much like what was written, else nothing.
pub(crate) fn did_you_mean<'a>(written: &str, words: impl IntoIterator<Item = &'a str>) -> String {
    let written = written.to_lowercase();
    words
        .into_iter()
        .map(|word| (strsim::jaro_winkler(&written, &word.to_lowercase()), word))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(left, _), (right, _)| left.total_cmp(right))
        .map_or_else(String::new, |(_, word)| {
            format!(" (did you mean {word:?}?)")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_has_a_line_with_file_and_key() {
        let problems = vec![
            Problem::new("domain", "is empty: name it"),
            Problem::new("", "is too large"),
        ];
        let error = ConfigError::new(Path::new("a.json"), problems);
        assert_eq!(
            error.to_string(),
            "a.json: domain: is empty: name it\na.json: is too large"
        );
    }

    #[test]
    fn a_likely_word_is_offered_and_an_unlikely_one_is_not() {
        let words = ["timings", "limits", "log"];
        assert_eq!(
            did_you_mean("timing", words),
            " (did you mean \"timings\"?)"
        );
        assert_eq!(did_you_mean("Limit", words), " (did you mean \"limits\"?)");
        assert_eq!(did_you_mean("zebra", words), "");
    }
}
