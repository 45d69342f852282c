//! Why a migration did not do what it was asked, what stands where by then, and what to do.

use tonic::Status;

use crate::client::Endpoint;
use crate::error::{advice, describe, is_absence};
use crate::migrate::done::Done;

/// What a step of a migration ends with.
pub(crate) type Result<T> = std::result::Result<T, MigrateError>;

/// One of the two clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// The etcd that is moved from.
    Source,
    /// The domain that is moved into.
    Target,
}

impl std::fmt::Display for Which {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Which::Source => "source",
            Which::Target => "target",
        })
    }
}

impl Which {
    fn flag(self) -> &'static str {
        match self {
            Which::Source => "--from",
            Which::Target => "--endpoints",
        }
    }
}

/// Why a migration did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MigrateError {
    /// None of the endpoints of a cluster answers.
    #[error(
        "cannot reach the {which}:\n{}\nIs it running, and are these its client addresses? Name others with {}.",
        failures.join("\n"), which.flag()
    )]
    Unreachable {
        /// Which cluster.
        which: Which,
        /// One line for each endpoint.
        failures: Vec<String>,
    },
    /// A cluster answered with an error, or did not answer for longer than was to be waited.
    #[error("{what} failed at the {which}, {endpoint}: {}{}", describe(status), hint(*.which, status))]
    Refused {
        /// Which cluster.
        which: Which,
        /// Which of its machines.
        endpoint: Endpoint,
        /// What was asked.
        what: &'static str,
        /// Its answer.
        status: Box<Status>,
    },
    /// The source ended while it was followed.
    #[error(
        "{reason}\nThe target holds all up to revision {revision} of the source. Once the source is back, run the same with --force: \
         only what differs is written."
    )]
    SourceLost {
        /// The last revision that was applied.
        revision: i64,
        /// What was last heard of the source.
        reason: Box<MigrateError>,
    },
    /// The target holds what the source does not.
    #[error(
        "the target is not empty: of its keys in the range, {found} are not in the source or are otherwise there:\n{}\n\
         Nothing was written. --force has the range become as the source's, and deletes what is not there; --dest-prefix moves \
         to another place.",
        samples.join("\n")
    )]
    Occupied {
        /// How many keys.
        found: u64,
        /// The first of them, a line each.
        samples: Vec<String>,
    },
    /// Nothing would be left of what the target holds.
    #[error(
        "the source has no key in its range, and the target has {0} in its own, which --force would delete. Do --from, --prefix and \
         --dest-prefix name what was meant? To empty the range is for `rmctl del`."
    )]
    NothingToMove(u64),
    /// The target has a key of somebody else, where ours is to be.
    #[error(
        "somebody else has written {key} at the target, in its revision {revision}: without --force nothing of theirs is overwritten or \
         deleted. Let nobody else write into the target's range, see what they wrote, and run the same with --force, which has the \
         range become as the source's and deletes what is not there; --dest-prefix moves to another place."
    )]
    Theirs {
        /// The key, as it is shown.
        key: String,
        /// Its mod revision.
        revision: i64,
    },
    /// A key is changed by somebody else whenever we are about to.
    #[error(
        "somebody else goes on writing {key} at the target, or keys that are written with it: have them stop, then run the same again \
         with --force"
    )]
    Contended {
        /// The first key of those that are written together, as it is shown.
        key: String,
    },
    /// A lease of this number is there, and would end at another time.
    #[error(
        "the target has a lease {id:x} of {held} s, and the source's has {wanted} s: it would end at another time. Revoke it there \
         (etcdctl lease revoke {id:x}), which deletes its keys, and try again."
    )]
    LeaseInTheWay {
        /// The lease.
        id: i64,
        /// Its time at the target, in seconds.
        held: i64,
        /// Its time at the source, in seconds.
        wanted: i64,
    },
    /// The source compacted what was being read, or what came next.
    #[error("the source has compacted revision {0} before it was read")]
    Compacted(i64),
    /// What hung on leases is gone from the target.
    #[error(
        "leases have ended at the target that live at the source, since they were not renewed in time"
    )]
    LeasesLost,
    /// A copy was begun anew too often.
    #[error(
        "{attempts} times the copy had to begin anew, at last because {why}. The target holds a part; run the same with --force \
         once the source keeps its history for longer (etcd's --auto-compaction-retention; whoever else compacts it) and the target \
         is reached."
    )]
    NoEnd {
        /// How often it was begun.
        attempts: u32,
        /// What made the last of them useless.
        why: String,
    },
    /// The two differ after all was done.
    #[error(
        "the target is not as the source at revision {revision}: {found} differences{}\n\
         Does anybody else write to the target's range? Run the same with --force: what differs is written again.",
        samples.iter().map(|line| format!("\n{line}")).collect::<String>()
    )]
    Different {
        /// Of the source.
        revision: i64,
        /// How many.
        found: u64,
        /// The first of them, a line each.
        samples: Vec<String>,
    },
    /// Both are the same cluster.
    #[error(
        "the source and the target are the same cluster, {0:x}: name the etcd with --from and the machines with --endpoints"
    )]
    Itself(u64),
    /// Not all answers are of one cluster.
    #[error(
        "{endpoint} is of the cluster {found:x}, and the {which} that answered first is the cluster {first:x}: {} must name machines of \
         one cluster, and a proxy lead to one. It was asked for nothing more.",
        which.flag()
    )]
    AnotherCluster {
        /// Which cluster.
        which: Which,
        /// Which of its machines, as it was thought.
        endpoint: Endpoint,
        /// The number of the cluster.
        first: u64,
        /// The number in its answer.
        found: u64,
    },
    /// A key would have no name.
    #[error(
        "the key {0:?} would have an empty name at the target: name a longer --dest-prefix, or a shorter --prefix"
    )]
    NoName(String),
    /// A pair does not fit.
    #[error(
        "{key} has {bytes} bytes, more than the target takes in a request: raise limits.request_bytes_max of all its machines above \
         that, then run the same with --force"
    )]
    TooLarge {
        /// The key, as it is shown.
        key: String,
        /// Of key and value.
        bytes: usize,
    },
    /// A pair of the source is larger than any machine takes.
    #[error(
        "the first key after {after} has more than {bytes_max} bytes with its value, more than any machine takes: delete it at the \
         source, or leave it out by --prefix"
    )]
    Oversized {
        /// The key before it, as it is shown.
        after: String,
        /// The largest that is read.
        bytes_max: usize,
    },
    /// It was stopped where it had written something.
    #[error("{reason}\nUp to then {done}.")]
    Stopped {
        /// What had been done.
        done: Done,
        /// Why.
        reason: Box<MigrateError>,
    },
    /// The operator ended it.
    #[error(
        "interrupted: {0}. Run the same again to go on, with --force where the source has changed since."
    )]
    Interrupted(Done),
}

impl MigrateError {
    /// 3 where one of the clusters was not there, 2 for wrong use, else 1.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            MigrateError::Unreachable { .. } => 3,
            MigrateError::Refused { status, .. } if is_absence(status) => 3,
            MigrateError::SourceLost { reason, .. } | MigrateError::Stopped { reason, .. } => {
                reason.exit_code()
            }
            MigrateError::Itself(_)
            | MigrateError::AnotherCluster { .. }
            | MigrateError::NoName(_) => 2,
            _ => 1,
        }
    }

    /// Whether nobody has answered.
    pub(crate) fn is_absence(&self) -> bool {
        self.status().is_some_and(is_absence)
    }

    /// Whether the two need only be compared anew, and what differs be written.
    pub(crate) fn is_mended_by_a_copy(&self) -> bool {
        matches!(self, MigrateError::Compacted(_) | MigrateError::LeasesLost)
    }

    /// Whether it ends the whole wherever it is met, so that it is to be told what was done up to then.
    pub(crate) fn is_met_amid(&self) -> bool {
        matches!(
            self,
            MigrateError::Theirs { .. }
                | MigrateError::Contended { .. }
                | MigrateError::AnotherCluster { .. }
        )
    }

    /// Whether the source does not answer.
    pub(crate) fn is_lost_source(&self) -> bool {
        match self {
            MigrateError::Refused { which, status, .. } => {
                *which == Which::Source && is_absence(status)
            }
            _ => false,
        }
    }

    /// The answer of a cluster, if that is what it is.
    pub(crate) fn status(&self) -> Option<&Status> {
        match self {
            MigrateError::Refused { status, .. } => Some(status),
            _ => None,
        }
    }
}

/// What to do: `rmctl info` knows nothing of an etcd.
fn hint(which: Which, status: &Status) -> &'static str {
    match which {
        Which::Target => advice(status),
        Which::Source if is_absence(status) => {
            "\nSee with `etcdctl endpoint health` whether a majority of the source runs; --patience has it waited for longer."
        }
        Which::Source => "",
    }
}
