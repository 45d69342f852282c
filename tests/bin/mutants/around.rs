//! A copy of the whole workspace, where faults around the core are planted, and the test that each names is run.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Instant;

use regex::Regex;
use tempfile::TempDir;

use crate::Outcome;
use crate::copy::copy_folder;
use crate::fault::Fault;
use crate::limit::within;

/// What of the workspace is built or read by its tests.
const PARTS: [&str; 8] = [
    "Cargo.toml",
    "Cargo.lock",
    "src",
    "actors",
    "tests",
    "config",
    "docs",
    "README.md",
];
/// How many seconds a test may take with a fault or without.
const TEST_SECONDS_MAX: u64 = 60;

/// A workspace of its own.
pub(crate) struct Around {
    folder: TempDir,
}

/// What came of a test.
pub(crate) enum Verdict {
    Passed,
    Failed {
        seconds: String,
    },
    /// It had not ended when its time was over.
    Endless,
}

impl Around {
    pub(crate) fn new(root: &Path) -> Outcome<Around> {
        let around = Around {
            folder: tempfile::tempdir()?,
        };
        around.restore(root)?;
        Ok(around)
    }

    /// Makes all of it what it is without a fault.
    pub(crate) fn restore(&self, root: &Path) -> Outcome<()> {
        for part in PARTS {
            let (from, to) = (root.join(part), self.folder.path().join(part));
            if from.is_dir() {
                copy_folder(&from, &to)?;
            } else if fs::read(&to).ok() != Some(fs::read(&from)?) {
                fs::copy(&from, &to)?;
            }
        }
        Ok(())
    }

    pub(crate) fn plant(&self, root: &Path, fault: &Fault) -> Outcome<()> {
        self.restore(root)?;
        for (file, text) in fault.planted(root)? {
            fs::write(self.folder.path().join(file), text)?;
        }
        Ok(())
    }

    /// Runs the test of a fault, in the workspace as it now is.
    ///
    /// # Errors
    /// It cannot be built, or its words name another number of tests than one.
    pub(crate) fn test(&self, fault: &Fault) -> Outcome<Verdict> {
        let words = fault.test()?;
        let built = self.cargo(&words, &["--no-run"]).output()?;
        if !built.status.success() {
            return Err(format!("{}: {}", fault.name, said(&built)).into());
        }
        let began = Instant::now();
        let Some(output) = within(TEST_SECONDS_MAX, &self.cargo(&words, &[]))? else {
            return Ok(Verdict::Endless);
        };
        let seconds = format!("{:.1}", began.elapsed().as_secs_f64());
        match (output.status.success(), tests_run(&said(&output))) {
            (_, number) if number != 1 => Err(format!(
                "{}: {} names {number} tests, not one",
                fault.name,
                words.join(" ")
            )
            .into()),
            (true, _) => Ok(Verdict::Passed),
            (false, _) => Ok(Verdict::Failed { seconds }),
        }
    }

    fn cargo(&self, words: &[&str], more: &[&str]) -> Command {
        let mut command = Command::new("cargo");
        command
            .current_dir(self.folder.path())
            .args(["test", "--quiet", "--offline", "--locked"])
            .args(words)
            .args(more)
            .env("CARGO_TARGET_DIR", self.folder.path().join("target"))
            // Half of what it takes otherwise, and nobody looks into it.
            .env("CARGO_PROFILE_DEV_DEBUG", "none");
        command
    }
}

fn said(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// How many tests ran, as the reports of one or more runners have it.
fn tests_run(report: &str) -> u64 {
    let line =
        Regex::new(r"test result: \w+\. (\d+) passed; (\d+) failed").expect("it is an expression");
    let numbers = line.captures_iter(report).flat_map(|found| {
        let (_, numbers) = found.extract::<2>();
        numbers.map(|number| number.parse::<u64>().unwrap_or(0))
    });
    numbers.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_counted_over_all_runners() {
        let report = "test result: ok. 0 passed; 0 failed; 0 ignored\nx\ntest result: FAILED. 2 passed; 1 failed; 0 ignored\n";
        assert_eq!(tests_run(report), 3);
        assert_eq!(tests_run("error: no such test"), 0);
    }
}
