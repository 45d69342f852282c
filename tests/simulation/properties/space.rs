//! A leader that knows that its disk is full takes no proposals: what space is left is kept for votes (rule 21).

use rm_raft::{Body, Input, Message, Role, Status};

use super::{Check, require};

/// Whether an input asks for a new command in the log.
pub(crate) fn proposes(input: &Input) -> bool {
    let forwarded = |message: &Message| matches!(message.body, Body::Propose { .. });
    match input {
        Input::Propose(_) => true,
        Input::Received { message, .. } => forwarded(message),
        _ => false,
    }
}

/// Checks what a core with a full disk made of a proposal.
pub(crate) fn took(before: &Status, after: &Status) -> Check {
    let grew = after.last.index > before.last.index;
    require(
        before.role != Role::Leader || !grew,
        "a full leader takes no proposals",
        || {
            format!(
                "the log grew from {} to {} on a disk that was known to be full",
                before.last, after.last
            )
        },
    )
}
