//! What an entry of the log does to a copy of the state, whoever applies it.

use rm_kv::{Keyspace, KvError, Outcome, ReplyMemory, StateMachine};
use rm_raft::{Entry, Payload};

/// Applies an entry, and notes a configuration that it holds: what every copy of the state comes to by the same log. A reply is made only
/// where there is memory for one.
pub(crate) fn apply_entry(
    keyspace: &mut Keyspace,
    entry: &Entry,
    answer: Option<&dyn ReplyMemory>,
) -> Result<Outcome, KvError> {
    match &entry.payload {
        Payload::Empty => keyspace.apply(entry.id, None, false),
        Payload::Configuration { configuration, .. } => {
            keyspace.apply(entry.id, None, false)?;
            let bytes = rm_store::encode_configuration(configuration);
            keyspace.set_configuration(entry.id.index, bytes)?;
            Ok(None)
        }
        Payload::Command(proposal) => {
            keyspace.apply_within(entry.id, Some(&proposal.command), answer)
        }
    }
}
