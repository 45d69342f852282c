//! What a machine's log tells of panics: of those that reached the user, and of those that the supervision caught.
//!
//! A caught panic is printed by nobody. The supervisor names it as the reason for which an actor failed, and the actor
//! comes back: a test that looks only for what a panic prints does not see that a check inside the machine has failed.

use std::process::ExitStatus;

/// What a panic that nobody caught prints, before its place and, in the next line, its text.
const PRINTED: &str = "panicked at";

/// What the supervisor logs of one that it caught, before its text.
const CAUGHT: &str = "reason: panic: ";

/// How the text of a panic begins that a test asked for.
const INJECTED: &str = "a fault was injected at the point ";

/// The exit code of a Rust program whose main thread panicked.
const EXIT_CODE: i32 = 101;

/// Which panics a test has asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// None.
    Nothing,
    /// Those of the fault points.
    Faults,
}

/// The first panic in a log that was not asked for, with its text.
pub fn first(log: &str, asked: Asked) -> Option<String> {
    let mut lines = log.lines().peekable();
    while let Some(line) = lines.next() {
        let text = if line.contains(PRINTED) {
            lines.peek().copied().unwrap_or_default()
        } else if let Some((_, text)) = line.split_once(CAUGHT) {
            text
        } else {
            continue;
        };
        if asked == Asked::Nothing || !text.starts_with(INJECTED) {
            return Some(format!("{line}\n{text}"));
        }
    }
    None
}

/// Proves that a process ended by its own decision, with an error: neither well, nor by a signal, nor because something
/// in it panicked.
///
/// # Panics
///
/// When it did not.
pub fn assert_refusal(status: ExitStatus, log: &str) {
    let decided = status
        .code()
        .is_some_and(|code| code != 0 && code != EXIT_CODE);
    assert!(decided, "no refusal but {status}:\n{log}");
    let panic = first(log, Asked::Nothing);
    assert_eq!(panic, None, "a refusal is no panic:\n{log}");
}

#[cfg(test)]
mod tests {
    use super::*;

    const AN_ACTORS: &str = "Nov 25 10:00:00.000 WARN an actor failed, reason: panic: assertion failed, at src/raft/node.rs:7:9, failed: logic_center, actor: RM.01.supervisor";
    const INJECTED_INTO_AN_ACTOR: &str = "Nov 25 10:00:00.000 WARN an actor failed, reason: panic: a fault was injected at the point handler, at actors/machine.rs:7:9, failed: timer, actor: RM.01.supervisor";
    const A_THREADS: &str = "thread 'main' (1) panicked at src/node/main.rs:7:9:\nassertion failed";
    const INJECTED_INTO_A_THREAD: &str = "thread 'x' (1) panicked at actors/machine.rs:7:9:\na fault was injected at the point received";

    #[test]
    fn a_panic_is_seen_whoever_caught_it() {
        for asked in [Asked::Nothing, Asked::Faults] {
            for log in [AN_ACTORS, A_THREADS] {
                let log = format!("{INJECTED_INTO_A_THREAD}\n{INJECTED_INTO_AN_ACTOR}\n{log}\n");
                assert!(first(&log, asked).is_some(), "{asked:?}: {log}");
            }
        }
        assert!(
            first(AN_ACTORS, Asked::Faults)
                .expect("a panic")
                .contains("assertion failed")
        );
    }

    #[test]
    fn a_panic_that_was_asked_for_is_none_where_it_was_asked_for() {
        for log in [INJECTED_INTO_AN_ACTOR, INJECTED_INTO_A_THREAD] {
            assert_eq!(first(log, Asked::Faults), None);
            assert!(first(log, Asked::Nothing).is_some());
        }
        let harmless = AN_ACTORS.replace("panic: assertion failed", "stopped");
        assert_eq!(first(&harmless, Asked::Nothing), None);
    }
}
