//! Whom a machine hears, what becomes of a change that its client wants, and how it learns that it takes part no more.

use crate::raft::{State, Turn};
use crate::{Body, Change, ChangeRefused, EntryId, MachineId, Message, Raft, RequestId};

impl Raft {
    /// Whether what a machine says concerns this one. Whoever leads or stands may be unknown to a machine whose log lags
    /// (dissertation 4.2.2); all else is between members. Those who leave may say how far they are, but bring no later term.
    pub(crate) fn concerns(&self, from: MachineId, message: &Message) -> bool {
        match &message.body {
            Body::PreVoteRequest { .. }
            | Body::VoteRequest { .. }
            | Body::AppendRequest { .. }
            | Body::Heartbeat { .. } => true,
            _ if self.node.configuration().contains(from) => true,
            _ if message.term > self.node.term => false,
            _ => match &self.state {
                State::Leader(leader) => leader.followers.contains_key(&from),
                State::Follower(follower) => follower.leader() == Some(from),
                State::Candidate(_) => false,
            },
        }
    }

    /// Whether this machine hears a live leader other than `machine` (§6, dissertation 4.2.3, 9.6), or may have, where leases
    /// rest on that.
    pub(crate) fn hears_leader_besides(&self, machine: MachineId) -> bool {
        if self.node.is_loyal_besides(machine) {
            return true;
        }
        match &self.state {
            State::Follower(follower) => follower.hears_leader_besides(&self.node, machine),
            State::Candidate(_) => false,
            State::Leader(_) => true,
        }
    }

    /// Takes a change that a client of this machine wants.
    pub(crate) fn change(&mut self, request: RequestId, change: Change) {
        let local = self.node.config.local;
        let known = self.leader();
        match (&mut self.state, known) {
            (State::Leader(leader), _) => leader.change(&mut self.node, local, request, &change),
            (_, Some(leader)) => {
                let body = Body::ProposeChange { request, change };
                self.node.send(leader, body);
            }
            (_, None) => {
                let reason = ChangeRefused::NotLeader;
                self.node.refuse_change(local, request, reason);
            }
        }
    }

    /// Another machine told that this one takes part no more, by what it knows to be committed. A leader that sends to this machine
    /// knows better. If its own log holds that entry, it is committed (as when a heartbeat names it), and the log tells the rest.
    /// If its log ends before it, this machine lacks what is committed and cannot win (§5.4), so that nothing is lost when it stands no more, even if the
    /// other is out of date.
    pub(crate) fn told_removed(&mut self, committed: EntryId) {
        if self.leader().is_some() {
            return;
        }
        if self.node.log.holds(committed) {
            self.node.commit_to(committed.index);
        } else if committed > self.node.log.last() {
            self.node.removed_by = Some(committed);
        }
        if !self.node.may_campaign() && matches!(self.state, State::Candidate(_)) {
            self.turn(Turn::Follow);
        }
    }
}
