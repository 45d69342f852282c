//! What a machine tells others of its term, its vote and its log is durable before it leaves (figure 2: "updated on stable
//! storage before responding"; rules 1, 8 and 9), and nothing that waits for its disk will undo it.

use rm_raft::{Body, Index, MachineId, Message, Role, Term};

use super::{Check, require};
use crate::simulation::machine::Machine;

/// Checks a message that leaves a machine.
pub(crate) fn told(machine: &Machine, to: MachineId, message: &Message) -> Check {
    let durable = &machine.disk.hard_state;
    let same_term = durable.term == message.term;
    let lacks = match &message.body {
        Body::VoteRequest { last, .. } => {
            let own = same_term && durable.vote == Some(machine.id);
            let voted = own || durable.term > message.term;
            require(voted, "durable before told", || {
                format!("{} asks for votes before its own is durable", machine.id)
            })?;
            // Whoever lost the election meanwhile may have removed what the request names; nobody counts its votes any more.
            let stands = machine.status().is_some_and(|status| {
                status.role == Role::Candidate && status.term == message.term
            });
            stands && machine.disk.log.last().index < last.index
        }
        Body::VoteResponse { granted: true } => {
            let voted = same_term && durable.vote == Some(to) || durable.term > message.term;
            require(voted, "durable before told", || {
                format!("{} gives {to} a vote that is not durable", machine.id)
            })?;
            false
        }
        Body::Appended { matched, .. } => same_term && !keeps(machine, message.term, *matched),
        Body::VoteResponse { .. } | Body::AppendRejected { .. } => false,
        Body::HeartbeatResponse { .. } => false,
        _ => return Ok(()),
    };
    require(durable.term >= message.term, "durable before told", || {
        format!("{} speaks in a term that is not durable", machine.id)
    })?;
    require(!lacks, "durable before told", || {
        format!(
            "{} tells {:?} and its disk does not hold it",
            machine.id, message.body
        )
    })
}

/// Whether the disk holds the log up to `index`, and will still when all is done that was asked in terms up to this one.
fn keeps(machine: &Machine, term: Term, index: Index) -> bool {
    let mut requests = machine.storage.requests();
    machine.disk.log.last().index >= index
        && requests.all(|persist| {
            let first = persist.entries.first();
            persist.hard_state.term > term || first.is_none_or(|first| first.id.index > index)
        })
}
