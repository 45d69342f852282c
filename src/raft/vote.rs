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

/// Tells a machine that asks for a vote that it takes part no more, by an entry that is committed here.
pub(crate) fn tell_removed(node: &mut Node, from: MachineId) {
    let committed = node.configurations.committed(node.commit);
    let is_listed = committed.configuration.contains(from) || node.configuration().contains(from);
    // Where the entry is compacted the base speaks for it: a log that holds the base has applied it.
    let known = committed.index.max(node.log.base().index);
    if committed.index > Index(0)
        && !is_listed
        && let Some(configured) = node.log.id_at(known)
    {
        node.send(vec![from], Body::Removed { configured });
    }
}

/// Whether a log that ends with `last` is at least as up to date as this machine's: the later term decides, and within a
/// term the longer log (§5.4.1).
fn is_up_to_date(node: &Node, last: EntryId) -> bool {
    last >= node.log.last()
}
