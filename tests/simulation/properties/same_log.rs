//! The log that a core has in mind is the one that it had written: entries, compaction and snapshots leave the same behind on both
//! sides (rule 13: a snapshot keeps what follows it and matches).

use rm_raft::Status;

use super::{Check, require};
use crate::simulation::log_image::LogImage;

/// Checks a core that has handed out its effects against the log once all that it asked is written.
pub(super) fn check(status: &Status, log: &LogImage) -> Check {
    let (base, last) = (log.base(), log.last());
    require(
        status.base == base && status.last == last,
        "the core's log is the disk's",
        || {
            format!(
                "the core has {}..{}, its requests make {base}..{last}",
                status.base, status.last
            )
        },
    )
}
