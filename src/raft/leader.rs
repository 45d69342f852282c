//! Leading: taking proposals into the log, replicating it, committing it, and confirming reads.

use std::collections::BTreeMap;

use crate::lease::Lease;
use crate::node::Node;
use crate::priority::Preference;
use crate::progress::Progress;
use crate::raft::Turn;
use crate::read::Confirmation;
use crate::reconfiguration::Leaving;
use crate::shares::Shares;
use crate::{
    Body, Entry, EntryId, Index, MachineId, Machines, Payload, Proposal, ReadId, ReadMode, Refusal,
    Time,
};

/// A machine that leads.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Leader {
    /// All to whom the leader sends: every other member, and those who leave.
    pub(crate) followers: BTreeMap<MachineId, Progress>,
    pub(crate) leaving: BTreeMap<MachineId, Leaving>,
    pub(crate) confirmation: Confirmation,
    pub(crate) lease: Lease,
    pub(crate) preference: Preference,
    /// When the next heartbeat is due.
    heartbeat_at: Time,
    /// The index of this leader's first entry: once it is committed, so is all before it (§5.4.2, §8).
    pub(crate) first: Index,
    /// What is open, by the machine whose clients proposed it.
    shares: Shares,
    /// When this machine's own disk last had nothing to do, or did something, or came to have space.
    pub(crate) disk_moved: Time,
    /// Whether it tried to hand over because its disk is full.
    pub(crate) gave_way: bool,
}

impl Leader {
    /// Begins to lead: an entry of the new term goes into the log, because entries of earlier terms are committed only with it
    /// (§5.4.2, §8). It is empty, or it holds the configuration with which the domain began, if no entry does yet: a machine
    /// that joins knows only what the log tells.
    pub(crate) fn new(node: &mut Node) -> Leader {
        let last = node.log.last().index;
        let local = node.config.local;
        let others = node.configuration().members().into_iter();
        let mut leader = Leader {
            followers: others
                .filter(|&machine| machine != local)
                .map(|machine| (machine, Progress::new(last, node.now)))
                .collect(),
            leaving: BTreeMap::new(),
            confirmation: Confirmation::default(),
            lease: Lease::new(&node.config),
            preference: Preference::new(node.now),
            heartbeat_at: node.now,
            first: last.next(),
            shares: Shares::in_log(&node.log, node.applicable()),
            disk_moved: node.now,
            gave_way: false,
        };
        leader.take_over_leaving(node);
        let configured = node.configurations.latest();
        let payload = if configured.index == Index(0) {
            Payload::Configuration {
                request: None,
                configuration: Box::new(configured.configuration.clone()),
            }
        } else {
            Payload::Empty
        };
        leader.append(node, payload);
        leader
    }

    /// Takes proposals into the log, as many as the limit on open bytes allows and this machine's share of it; the rest is refused,
    /// so that their order is kept and memory is bounded. With nothing open, any one proposal is taken, however large.
    pub(crate) fn propose(&mut self, node: &mut Node, from: MachineId, proposals: Vec<Proposal>) {
        self.shares.settle(node.log.end_at(node.applicable()));
        if !self.has_space_to_propose(node) {
            node.refuse(from, &proposals, Refusal::NoSpace);
            return;
        }
        if let Some(reason) = node.refuses_proposals() {
            node.refuse(from, &proposals, reason);
            return;
        }
        let start = node.log.end_at_last();
        let (mut open, mut held) = (node.open_bytes(), self.shares.of(from));
        let mut proposals = proposals.into_iter();
        while let Some(proposal) = proposals.as_slice().first() {
            let size = proposal.size();
            if open > 0 && open + held + size > node.config.uncommitted_bytes_max {
                node.refuse(from, proposals.as_slice(), Refusal::Overloaded);
                break;
            }
            if let Some(proposal) = proposals.next() {
                self.append(node, Payload::Command(proposal));
                (open, held) = (open + size, held + size);
            }
        }
        self.shares.take(from, start, node.log.end_at_last());
    }

    /// Puts an entry of the present term at the end of the log. From the first on that the disk owes it is judged, however
    /// long it had nothing to do.
    pub(crate) fn append(&mut self, node: &mut Node, payload: Payload) {
        let last = node.log.last().index;
        if node.log.durable() == last {
            self.disk_moved = node.now;
        }
        let id = EntryId {
            term: node.term,
            index: last.next(),
        };
        node.append(Entry { id, payload });
    }

    /// Storage made something durable here; this machine counts as a replica only up to there.
    pub(crate) fn persisted(&mut self, node: &mut Node, durable_before: Index) {
        if node.log.durable() > durable_before {
            self.disk_moved = node.now;
            self.commit(node);
        }
    }

    /// A follower acknowledged.
    pub(crate) fn appended(
        &mut self,
        node: &mut Node,
        from: MachineId,
        matched: Index,
        round: u64,
    ) {
        let Some(follower) = self.hear(node, from, round) else {
            return;
        };
        if matched <= node.log.last().index {
            follower.appended(matched, node.commit, node.now);
            self.commit(node);
        }
        self.finish_round(node);
    }

    /// A follower's log does not hold the entry at `previous`. No entry after the hint can match, and where this machine's
    /// log is of a later term than the hint, it cannot match either.
    pub(crate) fn rejected(
        &mut self,
        node: &mut Node,
        from: MachineId,
        previous: Index,
        hint: EntryId,
        round: u64,
    ) {
        let meeting = node.log.last_compatible(hint);
        if let Some(follower) = self.hear(node, from, round) {
            // Where they meet may be compacted; then what the follower lacks is, too.
            let meeting = meeting.map_or(Index(0), |entry| entry.index);
            follower.rejected(previous, meeting);
        }
        self.finish_round(node);
    }

    /// A follower answered a heartbeat.
    pub(crate) fn heartbeat_answered(
        &mut self,
        node: &mut Node,
        from: MachineId,
        round: u64,
        last: Index,
        full: bool,
    ) {
        if let Some(follower) = self.hear(node, from, round) {
            follower.full = full;
            follower.heartbeat_answered(last, node.now, node.config.heartbeat_interval);
        }
        self.finish_round(node);
    }

    /// More of a snapshot has arrived at a follower.
    pub(crate) fn snapshot_moves(&mut self, node: &mut Node, to: MachineId, number: u64) {
        if let Some(follower) = self.followers.get_mut(&to) {
            follower.snapshot_moves(number, node.now.after(node.config.snapshot_timeout));
        }
    }

    /// The driver no longer sends a snapshot to a follower: it arrived, or it failed.
    pub(crate) fn snapshot_ended(&mut self, node: &mut Node, to: MachineId, number: u64) {
        let pause = node.config.election_timeout;
        if let Some(follower) = self.followers.get_mut(&to) {
            follower.snapshot_ended(number, node.now.after(pause));
        }
    }

    /// Another machine asks up to where it must apply before it answers its reads.
    pub(crate) fn read_index_requested(
        &mut self,
        node: &mut Node,
        from: MachineId,
        read: ReadId,
        mode: ReadMode,
    ) {
        if mode == ReadMode::Lease && self.answered_by_lease(node, from, read) {
            return;
        }
        let limit = node.config.reads_max;
        if !self.confirmation.push(from, read, limit) {
            node.send(from, Body::ReadIndexResponse { read, index: None });
        }
    }

    /// Time has passed. A leader that hears no quorum within an election timeout steps down (dissertation 6.2), and so does
    /// one whose disk does nothing for too long: others may be able to lead with theirs. Of a full disk that is known, so that
    /// it gives way only to others that have space.
    pub(crate) fn elapsed(&mut self, node: &mut Node) -> Turn {
        let patience = node.config.election_timeout;
        let heard = node.quorum.reached(|machine| {
            let follower = self.followers.get(&machine);
            follower.map_or(node.now, |follower| follower.heard)
        });
        let unheard = heard.is_some_and(|heard| node.now.since(heard) >= patience);
        let too_long = |since: Time| node.now.since(since) >= node.config.disk_patience;
        let disk_owes = node.log.durable() < node.log.last().index;
        let stalled = !node.is_full() && disk_owes && too_long(self.disk_moved);
        if (unheard || stalled) && !node.is_alone() {
            return Turn::Follow;
        }
        if node.full_since.is_some_and(too_long) && self.others_have_space(node) {
            return self.give_way(node);
        }
        self.prefer(node);
        Turn::Stay
    }

    /// When time alone makes it act.
    pub(crate) fn next_deadline(&self) -> Time {
        self.heartbeat_at
    }

    /// Visits every moment that it keeps.
    pub(crate) fn each_moment(&mut self, visit: &mut dyn FnMut(&mut Time)) {
        visit(&mut self.heartbeat_at);
        visit(&mut self.disk_moved);
        self.lease.each_moment(visit);
        self.preference.each_moment(visit);
        for follower in self.followers.values_mut() {
            follower.each_moment(visit);
        }
        for leaving in self.leaving.values_mut() {
            leaving.each_moment(visit);
        }
    }

    /// Stops leading: other machines learn that their reads have no answer here.
    pub(crate) fn step_down(self, node: &mut Node) {
        for (machine, read) in self.confirmation.into_remote() {
            node.send(machine, Body::ReadIndexResponse { read, index: None });
        }
    }

    /// Sends each follower what it needs: one append with all that came since the last effects, and one heartbeat.
    pub(crate) fn flush(&mut self, node: &mut Node) {
        self.answer_by_lease(node);
        let heartbeat_due = node.now >= self.heartbeat_at;
        let for_lease = heartbeat_due && self.lease.wants_rounds();
        // A leader that has not committed in its own term does not know what is committed (dissertation 6.4).
        let new_round = node.commit >= self.first
            && self
                .confirmation
                .begin(node.commit, node.reads.newest(), for_lease);
        if new_round {
            self.lease.begin(self.confirmation.round(), node.now);
        }
        self.finish_round(node);
        self.complete_change(node);
        self.replicate(node);
        self.hand_over(node);
        if new_round || heartbeat_due {
            self.heartbeat_at = node.now.after(node.config.heartbeat_interval);
            self.heartbeat(node, self.followers.keys().copied().collect());
        } else {
            let uninformed = self.followers.iter().filter(|(_, follower)| {
                follower.told_commit < node.commit && follower.matched >= node.commit
            });
            let to = uninformed.map(|(&machine, _)| machine).collect();
            self.heartbeat(node, to);
        }
    }

    /// Notes that a follower was heard.
    fn hear(&mut self, node: &Node, from: MachineId, round: u64) -> Option<&mut Progress> {
        let latest = self.confirmation.round();
        let follower = self.followers.get_mut(&from)?;
        follower.heard = node.now;
        follower.round = follower.round.max(round.min(latest));
        Some(follower)
    }

    /// Commits what a majority holds durably, if it is of this leader's own term; what is before it is committed with it
    /// (§5.3, §5.4.2, figure 8).
    fn commit(&mut self, node: &mut Node) {
        let reached = node.quorum.reached(|machine| {
            let follower = self.followers.get(&machine);
            follower.map_or(node.log.durable(), |follower| follower.matched)
        });
        if let Some(index) = reached.filter(|&index| index >= self.first) {
            node.commit_to(index);
        }
    }

    /// Answers the reads of the round under way, if a majority has confirmed it.
    fn finish_round(&mut self, node: &mut Node) {
        if !self.confirmation.is_under_way() {
            return;
        }
        let latest = self.confirmation.round();
        let reached = node.quorum.reached(|machine| {
            let follower = self.followers.get(&machine);
            follower.map_or(latest, |follower| follower.round)
        });
        let Some(round) = self.confirmation.finish(reached.unwrap_or_default()) else {
            return;
        };
        if let Some(read) = round.local {
            node.answer_reads(read, round.index, ReadMode::Quorum);
        }
        for (machine, read) in round.remote {
            let index = Some(round.index);
            node.send(machine, Body::ReadIndexResponse { read, index });
        }
    }

    fn heartbeat(&mut self, node: &mut Node, to: Machines) {
        let Some(commit) = node.log.id_at(node.commit) else {
            return;
        };
        for machine in &to {
            if let Some(follower) = self.followers.get_mut(machine) {
                follower.told_commit = node.commit;
            }
        }
        let round = self.confirmation.round();
        node.send_to_all(to, Body::Heartbeat { commit, round });
    }

    /// Asserts the invariants: of each follower's progress, and that none is ahead of the leader.
    pub(crate) fn check(&self, node: &Node) {
        for follower in self.followers.values() {
            follower.check();
            assert!(
                follower.matched <= node.log.last().index,
                "a leader has what a follower matched"
            );
        }
    }
}
