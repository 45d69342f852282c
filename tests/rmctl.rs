//! The binary `rmctl`, run as an operator runs it.

use std::io::Read;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::binary::rmctl;
use crate::machine::die_with_the_test;
use crate::wait::{PATIENCE, until};

/// Runs a command of rmctl to its end.
///
/// # Panics
///
/// When it cannot be run.
pub fn run(endpoints: &str, arguments: &[&str]) -> Output {
    let mut command = command(endpoints, arguments);
    command.output().expect("rmctl can be run")
}

fn command(endpoints: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(rmctl());
    command
        .args(arguments)
        .env("RMCTL_ENDPOINTS", endpoints)
        // With these it takes itself for one that `cargo run` has started.
        .env_remove("CARGO")
        .env_remove("CARGO_MANIFEST_DIR");
    die_with_the_test(&mut command);
    command
}

/// A command of rmctl under way.
#[derive(Debug)]
pub struct Running(Child);

impl Running {
    /// Starts one.
    ///
    /// # Panics
    ///
    /// When it cannot be run.
    pub fn start(endpoints: &str, arguments: &[&str]) -> Running {
        let mut command = command(endpoints, arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Running(command.spawn().expect("rmctl can be run"))
    }

    /// Sends it a signal.
    ///
    /// # Panics
    ///
    /// When it has ended.
    pub fn signal(&mut self, signal: Signal) {
        let ended = self.0.try_wait().expect("a child can be looked at");
        assert!(ended.is_none(), "it has ended: {ended:?}");
        let process = i32::try_from(self.0.id()).expect("process numbers are small");
        let process = Pid::from_raw(process).expect("no process has number zero");
        kill_process(process, signal).expect("it runs");
    }

    /// Waits until it says this on standard error; what it has said up to then is told no more.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub async fn says(&mut self, wanted: &'static str) {
        let mut error = self.0.stderr.take().expect("it is piped");
        let reading = tokio::task::spawn_blocking(move || {
            let mut said = Vec::new();
            let mut byte = [0];
            while !String::from_utf8_lossy(&said).contains(wanted) {
                match error.read(&mut byte) {
                    Ok(1) => said.push(byte[0]),
                    end => panic!("{end:?} after {}", String::from_utf8_lossy(&said)),
                }
            }
            error
        });
        let reading = tokio::time::timeout(PATIENCE, reading).await;
        let error = reading
            .expect("it says so in time")
            .expect("reading does not panic");
        self.0.stderr = Some(error);
    }

    /// Waits until it has ended, for what should end soon.
    ///
    /// # Panics
    ///
    /// When it has not in time.
    pub async fn ends_soon(&mut self) {
        until("rmctl ends", async || {
            let ended = self.0.try_wait().expect("a child can be looked at");
            ended.map(drop).ok_or("it runs".to_owned())
        })
        .await;
    }

    /// Waits for its end: all that it has printed.
    ///
    /// # Panics
    ///
    /// When it cannot be waited for.
    pub async fn end(self) -> Output {
        let waiting = tokio::task::spawn_blocking(|| self.0.wait_with_output());
        let output = waiting.await.expect("waiting does not panic");
        output.expect("a child can be waited for")
    }
}

/// Waits until a run has ended with this exit code, for what should end soon: what it said.
///
/// # Panics
///
/// When it ends otherwise.
pub async fn ended_with(mut run: Running, code: i32) -> String {
    run.ends_soon().await;
    end_with(run, code).await.1
}

/// Waits until a migration has come to its end: its report, and what it said.
///
/// # Panics
///
/// When it fails.
pub async fn reported(run: Running) -> (Value, String) {
    let (output, said) = end_with(run, 0).await;
    (serde_json::from_slice(&output.stdout).expect("JSON"), said)
}

/// Has a migration that follows catch up and end: its report, and what it said.
///
/// # Panics
///
/// When it fails.
pub async fn caught_up(mut run: Running) -> (Value, String) {
    run.signal(Signal::INT);
    reported(run).await
}

async fn end_with(run: Running, code: i32) -> (Output, String) {
    let output = run.end().await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    (output, said)
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
