//! Why a command did not do what it was asked, and the exit code that says so.

use std::io;

use rm_backup::BackupError;
use tonic::{Code, Status};

use crate::client::{Endpoint, innermost};
use crate::migrate::MigrateError;

/// What a command ends with.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The arguments make no sense together.
    #[error("{0}\nTry `rmctl help`.")]
    Usage(String),
    /// A machine does not answer on its client port.
    #[error(
        "cannot reach {endpoint}: {reason}\nIs the machine running, and is this its client address? \
         Name others with --endpoints or RMCTL_ENDPOINTS."
    )]
    Unreachable {
        /// Which machine.
        endpoint: Endpoint,
        /// What the network said.
        reason: String,
    },
    /// None of several machines answers.
    #[error(
        "cannot reach any of the {} endpoints:\n{}\nAre the machines running? \
         Name others with --endpoints or RMCTL_ENDPOINTS.",
        .0.len(), .0.join("\n")
    )]
    NoneReachable(
        /// One line for each.
        Vec<String>,
    ),
    /// Some of several machines, or all, did not do what each of them was asked.
    #[error("{what} failed at {} of {total} endpoints:{}", failures.len(), list(failures))]
    Some {
        /// What was asked.
        what: &'static str,
        /// How many were asked.
        total: usize,
        /// Those that failed, and why.
        failures: Vec<(Endpoint, Error)>,
    },
    /// A machine answered with an error.
    #[error("{what} failed at {endpoint}: {}{}", describe(.status), advice(.status))]
    Request {
        /// What was asked.
        what: &'static str,
        /// Which machine.
        endpoint: Endpoint,
        /// Its answer.
        status: Box<Status>,
    },
    /// A benchmark ran, but some of its requests failed.
    #[error("{failed} of {total} requests failed; the first one: {first}")]
    Bench {
        /// How many failed.
        failed: u64,
        /// How many were made.
        total: u64,
        /// The text of the first failure.
        first: String,
    },
    /// A demonstration could not be set up, or could not go on.
    #[error("the demonstration ended: {0}")]
    Demo(String),
    /// A snapshot file is refused, or cannot be restored.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// What an etcd holds could not be moved.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    /// rmctl itself is at fault.
    #[error("{0} panicked; this is a fault of rmctl, please report it")]
    Panicked(&'static str),
    /// The host refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the host said.
        source: io::Error,
    },
}

impl Error {
    /// Names what was tried when the host refused.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
        let what = what.into();
        move |source| Error::Io { what, source }
    }

    /// 1 a request failed, 2 wrong use, 3 a machine that was needed could not be reached or there was no leader in time.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Error::Usage(_) => 2,
            Error::Unreachable { .. } | Error::NoneReachable(_) => 3,
            Error::Request { status, .. } if is_absence(status) => 3,
            Error::Migrate(error) => error.exit_code(),
            Error::Some { failures, .. } => {
                let codes = failures.iter().map(|(_, error)| error.exit_code());
                codes.max().unwrap_or(1)
            }
            Error::Request { .. }
            | Error::Bench { .. }
            | Error::Demo(_)
            | Error::Backup(_)
            | Error::Panicked(_)
            | Error::Io { .. } => 1,
        }
    }

    /// Why one of several machines gave nothing, in a few words.
    pub(crate) fn reason(&self) -> String {
        match self {
            Error::Unreachable { reason, .. } => format!("not reached: {reason}"),
            Error::Request { status, .. } => describe(status),
            other => other.to_string(),
        }
    }

    /// Whether whoever read the output has gone, as `head` does: no failure of ours.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(self, Error::Io { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
    }
}

/// A line for each machine that failed.
fn list(failures: &[(Endpoint, Error)]) -> String {
    let line =
        |(endpoint, error): &(Endpoint, Error)| format!("\n  {endpoint}: {}", error.reason());
    failures.iter().map(line).collect()
}

/// Whether an answer says that nobody could serve the request, rather than that the request was wrong.
pub(crate) fn is_absence(status: &Status) -> bool {
    // tonic reports its own timeout as a cancellation.
    matches!(
        status.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled
    ) || is_broken(status)
}

/// Whether it is no answer, but says that the connection was of no use.
fn is_broken(status: &Status) -> bool {
    let failure = std::error::Error::source(status);
    failure.is_some() && !matches!(status.code(), Code::Cancelled | Code::DeadlineExceeded)
}

/// An answer in words, with its code where the text alone would leave doubt.
pub(crate) fn describe(status: &Status) -> String {
    if is_broken(status) {
        return format!("the connection broke: {}", innermost(status));
    }
    match (status.code(), status.message()) {
        (code, "") => code.description().to_owned(),
        (Code::Unknown, message) => message.to_owned(),
        (code, message) => format!("{message} ({code:?})"),
    }
}

/// What to do about an answer, where there is something to do.
pub(crate) fn advice(status: &Status) -> &'static str {
    if is_broken(status) {
        return "\nIs the machine running, and does it speak TLS where we do (https:// or --cacert), and in plain where we do not?";
    }
    match status.code() {
        Code::Unimplemented => {
            "\nThis endpoint does not offer that: is it a Raft Machine of this version?"
        }
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => {
            "\nSee with `rmctl info` whether a majority of the machines runs and who leads; --timeout gives it longer."
        }
        Code::ResourceExhausted => {
            "\nThe machine refuses more for now: look at `rmctl info` for a full disk, or send less at once."
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: Status) -> Error {
        Error::Request {
            what: "put",
            endpoint: "127.0.0.1:2379".parse().expect("an address"),
            status: Box::new(status),
        }
    }

    #[test]
    fn a_missing_leader_has_another_exit_code_than_a_refused_request() {
        let absent = answered(Status::unavailable("etcdserver: no leader"));
        let refused = answered(Status::invalid_argument("etcdserver: key is not provided"));
        assert_eq!(absent.exit_code(), 3);
        assert_eq!(refused.exit_code(), 1);
        assert_eq!(Error::Usage("x".to_owned()).exit_code(), 2);
    }

    #[test]
    fn a_failed_request_names_what_where_and_the_remedy() {
        let text = answered(Status::unavailable("etcdserver: no leader")).to_string();
        assert!(text.starts_with("put failed at 127.0.0.1:2379: etcdserver: no leader"));
        assert!(text.contains("rmctl info"));
    }
}
