//! The binary `rmctl`, run as an operator runs it.

use std::process::{Command, Output};

use serde_json::Value;

use crate::binary::rmctl;
use crate::machine::die_with_the_test;

/// Runs a command of rmctl to its end.
///
/// # Panics
///
/// When it cannot be run.
pub fn run(endpoints: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(rmctl());
    command
        .args(arguments)
        .env("RMCTL_ENDPOINTS", endpoints)
        // With these it takes itself for one that `cargo run` has started.
        .env_remove("CARGO")
        .env_remove("CARGO_MANIFEST_DIR");
    die_with_the_test(&mut command);
    command.output().expect("rmctl can be run")
}

/// Runs a command that must do what it was asked: what it prints.
///
/// # Panics
///
/// When it does not.
pub fn done(endpoints: &str, arguments: &[&str]) -> String {
    let output = run(endpoints, arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).expect("it prints text")
}

/// As [`done`], printed as JSON.
///
/// # Panics
///
/// When it does not.
pub fn json(endpoints: &str, arguments: &[&str]) -> Value {
    let text = done(endpoints, &[arguments, &["-o", "json"]].concat());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?}: {error}:\n{text}"))
}

/// Runs a command that must not do it, with this exit code: what it says.
///
/// # Panics
///
/// When it does, or ends otherwise.
pub fn refused(endpoints: &str, arguments: &[&str], code: i32) -> String {
    let output = run(endpoints, arguments);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
    error
}
