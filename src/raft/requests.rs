//! What the clients of this machine wait for: proposals and changes on their way to the leader and their refusals, and reads.

use crate::node::Node;
use crate::{
    Body, ChangeRefused, Effect, Index, MachineId, Proposal, ReadId, ReadMode, Refusal, RequestId,
};

impl Node {
    /// Answers proposals of any machine that will not enter the log.
    pub(crate) fn refuse(&mut self, from: MachineId, proposals: &[Proposal], reason: Refusal) {
        let requests: Vec<RequestId> = proposals.iter().map(|proposal| proposal.request).collect();
        if requests.is_empty() {
            return;
        }
        if from == self.config.local {
            self.answer(Effect::Refused { requests, reason });
        } else {
            self.send(from, Body::ProposeRefused { requests, reason });
        }
    }

    /// Answers a change of any machine's client that is not begun.
    pub(crate) fn refuse_change(
        &mut self,
        from: MachineId,
        request: RequestId,
        reason: ChangeRefused,
    ) {
        if from == self.config.local {
            self.answer(Effect::ChangeRefused { request, reason });
        } else {
            self.send(from, Body::ChangeRefused { request, reason });
        }
    }

    /// Sends the proposals of this machine's clients to the leader, in as few messages as their size allows.
    pub(crate) fn forward_proposals(&mut self, leader: MachineId) {
        while !self.proposals.is_empty() {
            let mut bytes = 0;
            let fitting = self.proposals.iter().take_while(|proposal| {
                bytes += proposal.size();
                bytes <= self.config.append_bytes_max
            });
            let count = fitting.count().max(1);
            let proposals = self.proposals.drain(..count).collect();
            self.send(leader, Body::Propose { proposals });
        }
    }

    /// Refuses the proposals that no leader could be sent.
    pub(crate) fn refuse_waiting_proposals(&mut self) {
        let orphans = std::mem::take(&mut self.proposals);
        self.refuse(self.config.local, &orphans, Refusal::NoLeader);
    }

    /// Hands another machine's refusal to this machine's clients.
    pub(crate) fn refused_elsewhere(&mut self, mut requests: Vec<RequestId>, reason: Refusal) {
        let local = self.config.local;
        requests.retain(|request| request.machine == local);
        if !requests.is_empty() {
            self.answer(Effect::Refused { requests, reason });
        }
    }

    /// Hands another machine's refusal of a change to this machine's client.
    pub(crate) fn change_refused_elsewhere(&mut self, request: RequestId, reason: ChangeRefused) {
        if request.machine == self.config.local {
            self.answer(Effect::ChangeRefused { request, reason });
        }
    }

    /// Takes a read of this machine's clients. It waits at most the longest election timeout: by then a leader is there,
    /// or the client had better hear that none is.
    pub(crate) fn read(&mut self, read: ReadId, mode: ReadMode) {
        if self.reads.len() < self.config.reads_max {
            let deadline = self.now.after(self.config.election_timeout * 2);
            self.reads.push(read, mode, deadline);
        } else {
            self.refuse_read(read, Refusal::Overloaded);
        }
    }

    fn refuse_read(&mut self, read: ReadId, reason: Refusal) {
        self.answer(Effect::ReadRefused { read, reason });
    }

    /// Gives up the reads that waited too long.
    pub(crate) fn expire_reads(&mut self, reason: Refusal) {
        for read in self.reads.take_expired(self.now) {
            self.refuse_read(read, reason);
        }
    }

    /// Answers this read and all that came before it, of those that are content with what confirmed it. What a full disk kept
    /// out of this machine's log it cannot apply: whoever must see that is told so, and not left to wait.
    pub(crate) fn answer_reads(&mut self, read: ReadId, index: Index, confirmed_by: ReadMode) {
        let out_of_reach = self.is_full() && index > self.log.durable();
        for read in self.reads.take_through(read, confirmed_by) {
            if out_of_reach {
                self.refuse_read(read, Refusal::NoSpace);
            } else {
                self.answer(Effect::Readable { read, index });
            }
        }
    }
}
