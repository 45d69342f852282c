//! One machine's Raft core: takes inputs, keeps the role, and hands out effects.

use std::time::Duration;

use crate::candidate::Candidate;
use crate::follower::Follower;
use crate::leader::Leader;
use crate::node::Node;
use crate::{
    Body, ChangeRefused, Config, ConfigError, Durable, Effect, EntryId, HardState, Input,
    MachineId, Message, Refusal, Snapshot, Term, Time, TransferOutcome, vote,
};

/// The Raft core of one machine.
///
/// A driver gives it all inputs that wait, one by one, to [`Raft::step`]; then asks once for the [`Raft::effects`] and
/// performs them in order. The same inputs always give the same effects.
#[derive(Clone, Debug, Hash)]
pub struct Raft {
    pub(crate) node: Node,
    pub(crate) state: State,
}

/// The role, with what belongs to it.
#[derive(Clone, Debug, Hash)]
pub(crate) enum State {
    Follower(Follower),
    Candidate(Candidate),
    Leader(Leader),
}

/// What role a machine takes after an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// The one it has.
    Stay,
    /// Follower, in the same term, without a leader.
    Follow,
    /// Candidate for a pre-vote.
    PreCampaign,
    /// Candidate in a new term.
    Campaign {
        /// This machine itself led until a moment ago.
        leader_gave_way: bool,
    },
    /// Leader of the present term.
    Lead,
}

impl Raft {
    /// A core that starts as a follower, with what Storage found durable. Entries that were durable before are not in
    /// memory; what it needs of them it asks for by [`Effect::ReadEntries`], and those that are to be applied it leaves to
    /// the state machine to read.
    ///
    /// # Errors
    /// A config that cannot work, or durable state that contradicts itself.
    pub fn new(config: Config, durable: Durable, now: Time) -> Result<Raft, ConfigError> {
        config.check()?;
        durable.check()?;
        let mut node = Node::new(config, durable, now);
        let state = State::Follower(Follower::new(&mut node, None));
        Ok(Raft { node, state })
    }

    /// Takes an input that came at `now`. What is to be done about it comes out of [`Raft::effects`].
    pub fn step(&mut self, now: Time, input: Input) {
        self.node.now = self.node.now.max(now);
        match input {
            Input::Propose(proposals) => match &mut self.state {
                State::Leader(leader) => {
                    let local = self.node.config.local;
                    leader.propose(&mut self.node, local, proposals);
                }
                _ => self.node.proposals.extend(proposals),
            },
            Input::Change { request, change } => self.change(request, change),
            Input::Read { read, mode } => self.node.read(read, mode),
            Input::Received { from, message } => self.received(from, message),
            Input::Persisted { hard_state, last } => self.persisted(hard_state, last),
            Input::EntriesRead { entries } => {
                if let State::Leader(leader) = &mut self.state {
                    leader.entries_read(&mut self.node, entries);
                }
            }
            Input::Space { full } => {
                self.node.space(full);
                self.lead(Leader::space_changed);
            }
            Input::Checkpointed { applied } => self.node.checkpointed(applied),
            Input::SnapshotMoves { to, number } => {
                self.lead(|leader, node| leader.snapshot_moves(node, to, number));
            }
            Input::SnapshotEnded { to, number } => {
                self.lead(|leader, node| leader.snapshot_ended(node, to, number));
            }
            Input::SnapshotReceived {
                from,
                term,
                snapshot,
            } => self.snapshot_received(from, term, snapshot),
            Input::Installed(snapshot) => self.installed(&snapshot),
            Input::InstallFailed(snapshot) => self.node.install_failed(&snapshot),
            Input::Elapsed => self.elapsed(),
            Input::PeerGone(machine) => {
                if let State::Follower(follower) = &mut self.state {
                    follower.peer_gone(&mut self.node, machine);
                }
            }
            Input::Campaign => {
                if !matches!(self.state, State::Leader(_)) && self.node.may_campaign() {
                    self.turn(Turn::Campaign {
                        leader_gave_way: true,
                    });
                }
            }
            Input::Transfer { to } => match &mut self.state {
                State::Leader(leader) => leader.transfer(&mut self.node, to),
                _ => self.node.transferred(to, TransferOutcome::NotLeader),
            },
            Input::Prefer(priorities) => self.node.config.priorities = priorities,
        }
        self.node.settle_transfer(self.leader());
        self.check();
    }

    /// Hands out what is to be done about all inputs since the last time, in this order: at most one `Persist`, then messages,
    /// reads from Storage and snapshots to send, at most one `Apply`, at most one `Compact`, then answers to reads, proposals and
    /// snapshots that came.
    pub fn effects(&mut self, now: Time) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.effects_into(now, &mut effects);
        effects
    }

    /// The same, at the end of a list that the driver keeps from one time to the next, so that its memory is kept, too.
    pub fn effects_into(&mut self, now: Time, effects: &mut Vec<Effect>) {
        self.node.now = self.node.now.max(now);
        self.node.awaited = None;
        match &mut self.state {
            State::Leader(leader) => {
                if !self.node.proposals.is_empty() {
                    let waiting = std::mem::take(&mut self.node.proposals);
                    let local = self.node.config.local;
                    leader.propose(&mut self.node, local, waiting);
                }
                leader.flush(&mut self.node);
                self.node.awaited = leader.awaited(&self.node);
                if leader.has_left(&self.node) {
                    leader.leave_to_successor(&mut self.node);
                    self.turn(Turn::Follow);
                }
            }
            State::Follower(follower) => follower.flush(&mut self.node),
            State::Candidate(_) => {}
        }
        self.node.refuse_waiting_proposals();
        self.node.drain_into(effects);
        self.check();
    }

    /// When [`Input::Elapsed`] is needed at the latest.
    pub fn next_deadline(&self) -> Time {
        let role = match &self.state {
            State::Follower(follower) => follower.next_deadline(&self.node),
            State::Candidate(candidate) => candidate.next_deadline(),
            State::Leader(leader) => leader.next_deadline(),
        };
        let reads = self.node.reads.next_deadline();
        let transfer = self.node.transfer_deadline();
        reads.into_iter().chain(transfer).fold(role, Time::min)
    }

    pub(crate) fn leader(&self) -> Option<MachineId> {
        match &self.state {
            State::Follower(follower) => follower.leader(),
            State::Candidate(_) => None,
            State::Leader(_) => Some(self.node.config.local),
        }
    }

    /// Takes a message: first the rule for terms, then what it says.
    fn received(&mut self, from: MachineId, message: Message) {
        let heard = from != self.node.config.local && self.concerns(from, &message);
        if heard && message.is_sound() && self.settle_term(from, &message) {
            self.perform(from, message);
        }
    }

    /// The rule for terms (§5.1), for all messages and all roles: whoever sees a later term enters it as a follower, and
    /// whoever asks in an earlier one is told the later. False if there is nothing left to do about the message.
    ///
    /// Exceptions: a pre-vote asks about a term that nobody is in yet, so its request and its grant change no term
    /// (dissertation 9.6); a vote request does not either at a machine that hears a live leader, unless that leader gave way
    /// (dissertation 4.2.3, 3.10).
    fn settle_term(&mut self, from: MachineId, message: &Message) -> bool {
        let (theirs, ours) = (message.term, self.node.term);
        match &message.body {
            Body::PreVoteRequest { .. } | Body::PreVoteResponse { granted: true } => true,
            // What they ask, or tell of a request, holds in any term.
            Body::Propose { .. }
            | Body::ProposeRefused { .. }
            | Body::ProposeChange { .. }
            | Body::ChangeRefused { .. }
            | Body::ReadIndexRequest { .. }
            | Body::Removed { .. }
                if theirs <= ours =>
            {
                true
            }
            Body::VoteRequest {
                leader_gave_way: false,
                ..
            } if theirs > ours && self.hears_leader_besides(from) => false,
            _ if theirs > ours => {
                self.enter_term(theirs);
                true
            }
            _ if theirs == ours => true,
            Body::VoteRequest { .. } => {
                let body = Body::VoteResponse { granted: false };
                self.node.promise(from, body);
                false
            }
            Body::AppendRequest { .. } | Body::Heartbeat { .. } => {
                self.tell_later_term(from);
                false
            }
            _ => false,
        }
    }

    /// Does what a message says, whose term is settled.
    fn perform(&mut self, from: MachineId, message: Message) {
        let Message { term, body } = message;
        match body {
            Body::PreVoteRequest { last } => {
                let hears_leader = self.hears_leader_besides(from);
                vote::pre_vote_requested(&mut self.node, from, term, last, hears_leader);
                vote::tell_removed(&mut self.node, from);
            }
            Body::VoteRequest {
                last,
                leader_gave_way,
            } => {
                let loyal = !leader_gave_way && self.node.is_loyal_besides(from);
                let knows_leader = loyal || self.leader().is_some();
                let given = vote::vote_requested(&mut self.node, from, last, knows_leader);
                match &mut self.state {
                    State::Follower(follower) if given => follower.voted(&self.node),
                    State::Candidate(candidate) => candidate.rivalled(&mut self.node),
                    _ => {}
                }
                vote::tell_removed(&mut self.node, from);
            }
            Body::PreVoteResponse { granted } => {
                if granted && term == self.node.term.next() {
                    self.candidate(|candidate, node| candidate.pre_vote_answered(node, from));
                }
            }
            Body::VoteResponse { granted } => {
                if granted {
                    self.candidate(|candidate, node| candidate.vote_granted(node, from));
                }
            }
            Body::AppendRequest {
                previous,
                entries,
                commit,
                round,
            } => {
                if let Some((follower, node)) = self.follow(from) {
                    follower.append(node, from, previous, entries, commit, round);
                }
            }
            Body::Heartbeat { commit, round } => {
                if let Some((follower, node)) = self.follow(from) {
                    follower.heartbeat(node, commit, round);
                }
            }
            Body::Propose { proposals } => match &mut self.state {
                State::Leader(leader) => leader.propose(&mut self.node, from, proposals),
                _ => self.node.refuse(from, &proposals, Refusal::NotLeader),
            },
            Body::ProposeRefused { requests, reason } => {
                self.node.refused_elsewhere(requests, reason);
            }
            Body::ProposeChange { request, change } => match &mut self.state {
                State::Leader(leader) => leader.change(&mut self.node, from, request, &change),
                _ => {
                    let reason = ChangeRefused::NotLeader;
                    self.node.refuse_change(from, request, reason);
                }
            },
            Body::ChangeRefused { request, reason } => {
                self.node.change_refused_elsewhere(request, reason);
            }
            Body::Removed { committed } => self.told_removed(committed),
            Body::ReadIndexRequest { read, mode } => match &mut self.state {
                State::Leader(leader) => {
                    leader.read_index_requested(&mut self.node, from, read, mode);
                }
                _ => {
                    let body = Body::ReadIndexResponse { read, index: None };
                    self.node.send(from, body);
                }
            },
            Body::ReadIndexResponse { read, index } => {
                // Without an index the read goes on waiting: for the same leader, or for another one.
                if let (Some(index), Some(mode)) = (index, self.node.reads.mode_of(read)) {
                    self.node.answer_reads(read, index, mode);
                }
            }
            Body::Appended { matched, round } => {
                self.lead(|leader, node| leader.appended(node, from, matched, round));
            }
            Body::AppendRejected {
                previous,
                hint,
                round,
            } => self.lead(|leader, node| leader.rejected(node, from, previous, hint, round)),
            Body::CampaignNow => {
                // Only the leader itself can give way.
                if self.leader() == Some(from) && self.node.may_campaign() {
                    self.turn(Turn::Campaign {
                        leader_gave_way: true,
                    });
                }
            }
            Body::HeartbeatResponse {
                round,
                last,
                full,
                loyal,
            } => self.lead(|leader, node| {
                leader.promised(from, round, loyal);
                leader.heartbeat_answered(node, from, round, last, full);
            }),
        }
    }

    /// Lets the leader act, if this machine leads.
    fn lead(&mut self, act: impl FnOnce(&mut Leader, &mut Node)) {
        if let State::Leader(leader) = &mut self.state {
            act(leader, &mut self.node);
        }
    }

    /// Lets the candidate act, if this machine is one.
    fn candidate(&mut self, act: impl FnOnce(&mut Candidate, &Node) -> Turn) {
        if let State::Candidate(candidate) = &mut self.state {
            let turn = act(candidate, &self.node);
            self.turn(turn);
        }
    }

    /// Follows the machine that proved to lead the present term. None if this machine leads itself: there is one leader a
    /// term (§5.2), so the message is nonsense.
    fn follow(&mut self, leader: MachineId) -> Option<(&mut Follower, &mut Node)> {
        if let State::Candidate(_) = self.state {
            self.turn(Turn::Follow);
        }
        match &mut self.state {
            State::Follower(follower) if follower.leader().is_none_or(|known| known == leader) => {
                follower.follow(&mut self.node, leader);
                Some((follower, &mut self.node))
            }
            _ => None,
        }
    }

    /// Takes a snapshot: first the rule for terms, then its content, if the leader of this term sent it. Whatever becomes of it,
    /// the driver is told, since it holds the content.
    fn snapshot_received(&mut self, from: MachineId, term: Term, snapshot: Snapshot) {
        // Whoever leads may be unknown to a machine that joins, or whose log lags, as with appends.
        if from == self.node.config.local || term == Term(0) || !snapshot.is_sound(term) {
            return self.node.discard(snapshot);
        }
        if term > self.node.term {
            self.enter_term(term);
        }
        if term < self.node.term {
            self.node.discard(snapshot);
            return self.tell_later_term(from);
        }
        let last = snapshot.last.index;
        match self.follow(from) {
            Some((follower, node)) => {
                if node.offered(snapshot) {
                    follower.owe(last);
                }
            }
            None => self.node.discard(snapshot),
        }
    }

    /// The driver installed a snapshot.
    fn installed(&mut self, snapshot: &Snapshot) {
        if self.node.installed(snapshot)
            && let State::Follower(follower) = &mut self.state
        {
            follower.owe(snapshot.last.index);
        }
    }

    /// A leader of an earlier term learns of the later one, and stops.
    fn tell_later_term(&mut self, leader: MachineId) {
        let body = Body::HeartbeatResponse {
            round: 0,
            last: self.node.log.durable(),
            full: self.node.is_full(),
            loyal: Duration::ZERO,
        };
        self.node.promise(leader, body);
    }

    fn persisted(&mut self, hard_state: HardState, last: EntryId) {
        let durable_before = self.node.log.durable();
        self.node.persisted(hard_state, last);
        match &mut self.state {
            State::Follower(_) => {}
            State::Candidate(_) => self.candidate(Candidate::persisted),
            State::Leader(leader) => leader.persisted(&mut self.node, durable_before),
        }
    }

    fn elapsed(&mut self) {
        let reason = match self.leader() {
            Some(_) => Refusal::NotLeader,
            None => Refusal::NoLeader,
        };
        self.node.expire_reads(reason);
        let turn = match &mut self.state {
            State::Follower(follower) => follower.elapsed(&self.node),
            State::Candidate(candidate) => candidate.elapsed(&mut self.node),
            State::Leader(leader) => leader.elapsed(&mut self.node),
        };
        self.turn(turn);
    }

    /// Enters a later term as a follower.
    fn enter_term(&mut self, term: Term) {
        self.node.enter_term(term);
        match &mut self.state {
            State::Follower(follower) => follower.enter_term(&mut self.node),
            State::Candidate(_) | State::Leader(_) => self.turn(Turn::Follow),
        }
    }

    /// Takes a role.
    pub(crate) fn turn(&mut self, turn: Turn) {
        let state = match turn {
            Turn::Stay => return,
            Turn::Follow => State::Follower(Follower::new(&mut self.node, None)),
            Turn::PreCampaign => State::Candidate(Candidate::pre_vote(&mut self.node)),
            Turn::Campaign { leader_gave_way } => {
                State::Candidate(Candidate::vote(&mut self.node, leader_gave_way))
            }
            Turn::Lead => State::Leader(Leader::new(&mut self.node)),
        };
        if let State::Leader(leader) = std::mem::replace(&mut self.state, state) {
            leader.step_down(&mut self.node);
        }
        // Alone, a pre-vote is won as soon as it is begun.
        if let State::Candidate(candidate) = &self.state {
            let turn = candidate.count(&self.node);
            self.turn(turn);
        }
    }

    /// Asserts the invariants of the core and its role. They are cheap, and stay on: a core that broke one must not go on.
    fn check(&self) {
        self.node.check();
        if let State::Leader(leader) = &self.state {
            leader.check(&self.node);
        }
    }
}
