//! No queue grows without a bound (rule 21): the entries that a core holds for a disk that does nothing are bounded by the limits
//! in its config.

use rm_raft::{Entry, Persist};

use super::{Check, require};
use crate::simulation::machine::Machine;

/// The largest entry that the clients of a run ask for, in bytes.
const ENTRY_MAX: usize = 400;

/// Checks what waits for a disk after a new request; `led` tells whether the machine led in the term of its last entry.
pub(super) fn check(machine: &Machine, persist: &Persist, led: bool) -> Check {
    if persist.entries.is_empty() {
        return Ok(());
    }
    let config = &machine.config;
    // A leader has what may be open, and the empty entries of its terms; a follower takes another request while no more than
    // twice the window waits.
    let bound = match led {
        true => {
            config.uncommitted_bytes_max
                + 2 * config.inflight_bytes_max
                + config.append_bytes_max
                + 4 * ENTRY_MAX
        }
        false => 2 * config.inflight_bytes_max + config.append_bytes_max.max(ENTRY_MAX),
    };
    let durable = machine.disk.log.last().index;
    let entries = machine.logic.log.entries().iter().rev();
    let waiting = entries.take_while(|entry| entry.id.index > durable);
    let bytes: usize = waiting.map(Entry::size).sum();
    require(bytes <= bound, "bounded queues", || {
        format!("{bytes} bytes of entries wait for the disk; the limits allow {bound}")
    })
}
