//! What a core tells of itself to whoever asks.

use crate::raft::State;
use crate::{Configured, Raft, Role, Status};

impl Raft {
    /// What can be told about this core.
    pub fn status(&self) -> Status {
        Status {
            role: match &self.state {
                State::Follower(_) => Role::Follower,
                State::Candidate(candidate) => candidate.role(),
                State::Leader(_) => Role::Leader,
            },
            member: self.node.member(),
            term: self.node.term,
            leader: self.leader(),
            base: self.node.log.base(),
            last: self.node.log.last(),
            durable: self.node.log.durable(),
            commit: self.node.commit,
        }
    }

    /// The configuration in force: the latest of the log, committed or not (§6).
    pub fn configured(&self) -> &Configured {
        self.node.configurations.latest()
    }

    /// The latest configuration of the log that is known to be committed: it stays.
    pub fn committed(&self) -> &Configured {
        self.node.configurations.committed(self.node.commit)
    }
}
