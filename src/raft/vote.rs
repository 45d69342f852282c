//! What a machine answers when it is asked for its vote, whatever its role.

use crate::node::Node;
use crate::{Body, EntryId, Index, MachineId, Term};

/// Answers a pre-vote request: would this machine vote for the sender in `term`? (dissertation 9.6)
///
/// `hears_leader` tells whether it hears a live leader other than the sender; then it would not. The leader itself, asking,
/// has stopped leading, so that its own life is no reason against it.
pub(crate) fn pre_vote_requested(
    node: &mut Node,
    from: MachineId,
    term: Term,
    last: EntryId,
    hears_leader: bool,
) {
    let granted = term > node.term && !hears_leader && is_up_to_date(node, last);
    // A refusal carries this machine's own term, so that a sender that lags behind catches up; a grant carries the term
    // that it is for.
    let answer_term = if granted { term } else { node.term };
    node.promise_as(from, answer_term, Body::PreVoteResponse { granted });
}

/// Answers a vote request of the present term, and tells whether the vote was given (§5.2, §5.4.1).
pub(crate) fn vote_requested(
    node: &mut Node,
    from: MachineId,
    last: EntryId,
    knows_leader: bool,
) -> bool {
    let free = node.vote == Some(from) || (node.vote.is_none() && !knows_leader);
    let granted = free && is_up_to_date(node, last);
    if granted {
        node.cast_vote(from);
    }
    node.promise(from, Body::VoteResponse { granted });
    granted
}

/// Tells a machine that asks for a vote that it takes part no more. The last entry that is committed here speaks for the one that
/// removes it: a log that holds it holds both, and one that ends with an entry of a later term than the removal, which was never
/// committed, ends before it all the same.
pub(crate) fn tell_removed(node: &mut Node, from: MachineId) {
    let configured = node.configurations.committed(node.commit);
    let is_listed = configured.configuration.contains(from) || node.configuration().contains(from);
    if configured.index > Index(0)
        && !is_listed
        && let Some(committed) = node.log.id_at(node.commit)
    {
        node.send(from, Body::Removed { committed });
    }
}

/// Whether a log that ends with `last` is at least as up to date as this machine's: the later term decides, and within a
/// term the longer log (§5.4.1).
fn is_up_to_date(node: &Node, last: EntryId) -> bool {
    last >= node.log.last()
}
