//! A limit for what a planted fault may keep from ending.

use std::process::{Command, Output};

use crate::Outcome;

/// The exit code of `timeout` when the limit was over.
const OVER: i32 = 124;

/// Runs a command and all that it starts, for at most so many seconds; what it printed, or nothing if it did not end by then.
///
/// # Errors
/// It cannot be run, for which coreutils' `timeout` must be there.
pub(crate) fn within(seconds: u64, command: &Command) -> Outcome<Option<Output>> {
    let mut limited = Command::new("timeout");
    limited
        .args(["--kill-after=5", &seconds.to_string()])
        .arg(command.get_program())
        .args(command.get_args());
    if let Some(folder) = command.get_current_dir() {
        limited.current_dir(folder);
    }
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(key, value),
            None => limited.env_remove(key),
        };
    }
    let output = limited.output()?;
    Ok((output.status.code() != Some(OVER)).then_some(output))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_end_is_ended() {
        let mut endless = Command::new("sh");
        endless.args(["-c", "sleep 1000"]);
        let output = within(1, &endless).expect("a shell can be run");
        assert!(output.is_none());
    }

    #[test]
    fn what_ends_is_heard() {
        let mut quick = Command::new("sh");
        quick
            .args(["-c", "echo $WORD; exit 3"])
            .env("WORD", "heard");
        let output = within(60, &quick).expect("a shell can be run");
        let output = output.expect("it ends at once");
        assert_eq!(output.status.code(), Some(3));
        assert_eq!(output.stdout, b"heard\n");
    }
}
