//! What the log holds, and what must be durable beside it.

use bytes::Bytes;

use crate::{Configuration, EntryId, Index, MachineId, Term};

/// What an entry or a proposal counts for besides its command, in bytes.
const FIXED_BYTES: usize = 48;

/// Names one request of a client for ever: the machine that the client asked, and a number that this
/// machine never gives twice, not even across restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId {
    /// The machine that the client asked, and that will answer.
    pub machine: MachineId,
    /// The number of the request on that machine.
    pub number: u64,
}

/// A command on its way into the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Proposal {
    /// Whose request it is.
    pub request: RequestId,
    /// The command, opaque to Raft.
    pub command: Bytes,
}

impl Proposal {
    /// The bytes that the proposal counts for in every limit, before it is in the log and after: its command and a fixed
    /// share for the rest.
    pub fn size(&self) -> usize {
        FIXED_BYTES + self.command.len()
    }
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Payload {
    /// Nothing: a new leader commits one to learn what is committed (§8).
    Empty,
    /// A command for the state machine.
    Command(Proposal),
    /// Who takes part, from the moment that this entry stands in a log (§6).
    Configuration {
        /// Whose request it is, if anybody waits for it.
        request: Option<RequestId>,
        /// The whole configuration; elsewhere, so that the many entries without one are small.
        configuration: Box<Configuration>,
    },
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Its term and index.
    pub id: EntryId,
    /// What it says.
    pub payload: Payload,
}

impl Entry {
    /// The bytes that the entry counts for in every limit: those of its proposal, or a fixed share and its configuration.
    pub fn size(&self) -> usize {
        match &self.payload {
            Payload::Empty => FIXED_BYTES,
            Payload::Command(proposal) => proposal.size(),
            Payload::Configuration { configuration, .. } => FIXED_BYTES + configuration.size(),
        }
    }
}

/// What a machine must remember across restarts besides its log (figure 2), and how far it knew the log to be
/// committed, which is only a help: it may be older than what the machine knew when it stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct HardState {
    /// The latest term that the machine has seen.
    pub term: Term,
    /// Whom it voted for in that term.
    pub vote: Option<MachineId>,
    /// An index up to which the log is committed.
    pub commit: Index,
}
