//! Following a leader, or waiting for one: appending what it sends, and forwarding what clients ask.

use std::time::Duration;

use crate::node::Node;
use crate::raft::Turn;
use crate::{Body, Entries, EntryId, Index, MachineId, ReadId, ReadMode, Time};

/// A machine that follows.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Follower {
    /// The leader of the present term, if it is known.
    leader: Option<MachineId>,
    /// When that leader was last heard.
    heard: Time,
    /// How long to wait for it, drawn at random when this machine became a follower.
    timeout: Duration,
    /// When to stand for election.
    deadline: Time,
    /// An acknowledgement that is owed.
    acknowledgement: Option<Acknowledgement>,
    /// The round of a heartbeat that is to be answered.
    heartbeat: Option<u64>,
    /// The round of the last heartbeat that was answered, and when.
    answered: Option<(u64, Time)>,
    /// The newest reads for which the leader was asked, and when: of those that need a quorum, and of those that are
    /// content with a lease.
    asked: [Option<(ReadId, Time)>; 2],
}

/// What this machine may tell the leader once it is durable.
#[derive(Clone, Copy, Debug, Default, Hash)]
struct Acknowledgement {
    /// Up to where appends proved the logs to match.
    proved: Index,
    /// The latest round among them.
    round: u64,
}

impl Follower {
    /// A follower that waits a new random timeout before it stands for election.
    pub(crate) fn new(node: &mut Node, leader: Option<MachineId>) -> Follower {
        let timeout = node.draw_election_timeout();
        // Alone, there is nobody to wait for.
        let patience = if node.is_alone() {
            Duration::ZERO
        } else {
            timeout
        };
        Follower {
            leader,
            heard: node.now,
            timeout,
            deadline: node.now.after(patience),
            acknowledgement: None,
            heartbeat: None,
            answered: None,
            asked: [None; 2],
        }
    }

    /// Enters a later term, of which no leader is known yet. Whoever brought the new term does not push this machine's own
    /// election away: it may be unable to win (§5.4.1).
    pub(crate) fn enter_term(&mut self, node: &mut Node) {
        let deadline = self.deadline;
        *self = Follower::new(node, None);
        self.deadline = self.deadline.min(deadline);
    }

    /// Forgets how long it drew to wait, and waits this long.
    pub(crate) fn forget_chance(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Visits every moment that it keeps.
    pub(crate) fn each_moment(&mut self, visit: &mut dyn FnMut(&mut Time)) {
        visit(&mut self.heard);
        visit(&mut self.deadline);
        if let Some((_, at)) = &mut self.answered {
            visit(at);
        }
        for (_, at) in self.asked.iter_mut().flatten() {
            visit(at);
        }
    }

    /// The leader of the present term, if it is known.
    pub(crate) fn leader(&self) -> Option<MachineId> {
        self.leader
    }

    /// Whether a live leader other than `machine` was heard within an election timeout (§6, dissertation 4.2.3).
    pub(crate) fn hears_leader_besides(&self, node: &Node, machine: MachineId) -> bool {
        self.leader.is_some_and(|leader| leader != machine)
            && node.now.since(self.heard) < node.config.election_timeout
    }

    /// Follows the machine that proved to lead the present term.
    pub(crate) fn follow(&mut self, node: &mut Node, leader: MachineId) {
        // A leader that sends knows better than whoever said that this machine takes part no more.
        node.removed_by = None;
        if self.leader != Some(leader) {
            self.leader = Some(leader);
            self.asked = [None; 2];
        }
        self.heard = node.now;
        node.promise_loyalty(leader);
        self.deadline = node.now.after(self.timeout);
    }

    /// A vote was given: its receiver gets time to win.
    pub(crate) fn voted(&mut self, node: &Node) {
        self.deadline = node.now.after(self.timeout);
    }

    /// The process of a machine ended. If it led, it is no longer waited for, nor does its life speak against others.
    pub(crate) fn peer_gone(&mut self, node: &mut Node, machine: MachineId) {
        if self.leader == Some(machine) && node.config.trust_peer_gone {
            self.leader = None;
            let soon = node.now.after(node.draw_gone_timeout());
            self.deadline = self.deadline.min(soon);
        }
    }

    /// The leader wants entries in the log (§5.3).
    pub(crate) fn append(
        &mut self,
        node: &mut Node,
        leader: MachineId,
        mut previous: EntryId,
        mut entries: Entries,
        commit: Index,
        round: u64,
    ) {
        // What comes is as good as lost, and comes again: the snapshot may take the place of all that it follows on.
        if node.is_installing() {
            return;
        }
        let base = node.log.base();
        if previous.index < base.index {
            // The request is older than the snapshot that took the place of these entries. They are committed, so the leader
            // has them too (§5.4), and only what is after them can be new.
            let known = ((base.index.0 - previous.index.0) as usize).min(entries.len());
            if entries[..known]
                .last()
                .is_some_and(|entry| entry.id.index == base.index && entry.id != base)
            {
                return; // No leader contradicts what is committed (§5.4): the request is nonsense.
            }
            entries.drop_front(known);
            previous = base;
        }
        if !node.log.holds(previous) {
            let hint = node.log.last_compatible(previous).unwrap_or(base);
            let previous = previous.index;
            let body = Body::AppendRejected {
                previous,
                hint,
                round,
            };
            node.promise(leader, body);
            return;
        }
        // A disk that stalls must not fill the memory: what comes is as good as lost, and comes again.
        let waiting = node.log.bytes_after(node.log.durable());
        if waiting > 2 * node.config.inflight_bytes_max && !entries.is_empty() {
            return;
        }
        let proved = Index(previous.index.0 + entries.len() as u64);
        // Entries that stand in the log already are left alone, with all that follows them: the request may be an old one that
        // comes late (§5.3).
        let standing = entries.iter().take_while(|entry| node.log.holds(entry.id));
        entries.drop_front(standing.count());
        if let Some(first) = entries.first() {
            let first = first.id.index;
            if first <= node.commit {
                return; // No leader contradicts what is committed (§5.4): the request is nonsense.
            }
            if first <= node.log.last().index {
                // What is owed stays true: the leader of a term only adds to its log (§5.3), so that nothing goes of what it
                // proved in that term.
                node.truncate(first);
            }
            node.append_all(entries);
        }
        node.commit_to(commit.min(proved));
        self.owe(proved);
        if let Some(owed) = &mut self.acknowledgement {
            owed.round = owed.round.max(round);
        }
    }

    /// The leader is to hear that the logs match up to `proved`, when it is durable.
    pub(crate) fn owe(&mut self, proved: Index) {
        let owed = self.acknowledgement.get_or_insert_default();
        owed.proved = owed.proved.max(proved);
    }

    /// The leader made itself heard.
    pub(crate) fn heartbeat(&mut self, node: &mut Node, commit: EntryId, round: u64) {
        if node.log.holds(commit) {
            node.commit_to(commit.index);
        }
        self.heartbeat = self.heartbeat.max(Some(round));
    }

    /// Time has passed.
    pub(crate) fn elapsed(&self, node: &Node) -> Turn {
        if node.now < self.stands_at(node) {
            Turn::Stay
        } else if node.may_campaign() {
            Turn::PreCampaign
        } else {
            // It waits for a leader to come, and holds to none that is silent.
            Turn::Follow
        }
    }

    /// When time alone makes it act.
    pub(crate) fn next_deadline(&self, node: &Node) -> Time {
        let stands_at = self.stands_at(node);
        let asked = self.asked.iter().flatten().map(|(_, at)| *at).min();
        match (self.leader, asked) {
            (Some(_), Some(at)) if node.reads.len() > 0 => {
                stands_at.min(at.after(node.config.heartbeat_interval))
            }
            _ => stands_at,
        }
    }

    /// When it stands for election. A machine whose disk is full lets those go first that have space; one that is alone waits
    /// for nobody, and yet keeps what it promised to a leader that is about to leave.
    fn stands_at(&self, node: &Node) -> Time {
        let deadline = if node.is_full() && !node.is_alone() {
            self.deadline.after(node.config.election_timeout)
        } else {
            self.deadline
        };
        deadline.max(node.loyal_until())
    }

    /// Answers and asks the leader, once for all that came since the last effects.
    pub(crate) fn flush(&mut self, node: &mut Node) {
        let Some(leader) = self.leader else {
            return;
        };
        self.acknowledge(node, leader);
        self.answer_heartbeat(node, leader);
        node.forward_proposals(leader);
        self.ask_read_index(node, leader);
    }

    /// Acknowledges what appends proved, when it is durable: with the `Persist` that makes it so, or at once if it is. What
    /// an earlier `Persist` is about to make durable waits for that.
    fn acknowledge(&mut self, node: &mut Node, leader: MachineId) {
        let Some(owed) = self.acknowledgement else {
            return;
        };
        let durable = node.term_is_durable() && owed.proved <= node.log.durable();
        if durable || node.will_persist() {
            let body = Body::Appended {
                matched: owed.proved,
                round: owed.round,
            };
            node.promise(leader, body);
            self.acknowledgement = None;
        }
    }

    /// Answers the latest heartbeat. Heartbeats also carry news of the commit index; of several in short order that confirm
    /// nothing new, one answer is enough.
    fn answer_heartbeat(&mut self, node: &mut Node, leader: MachineId) {
        if !node.term_is_durable() && !node.will_persist() {
            return;
        }
        let Some(round) = self.heartbeat.take() else {
            return;
        };
        let recent = |at: Time| node.now.since(at) < node.config.heartbeat_interval / 2;
        if self
            .answered
            .is_some_and(|(last, at)| last == round && recent(at))
        {
            return;
        }
        self.answered = Some((round, node.now));
        let body = Body::HeartbeatResponse {
            round,
            last: node.log.durable(),
            full: node.is_full(),
            loyal: node.loyalty_span(),
        };
        node.promise(leader, body);
    }

    /// Asks for the newest read of each mode, whose answer serves all; again after a while, since the request or its answer
    /// may be lost.
    fn ask_read_index(&mut self, node: &mut Node, leader: MachineId) {
        for (asked, mode) in self
            .asked
            .iter_mut()
            .zip([ReadMode::Quorum, ReadMode::Lease])
        {
            let Some(read) = node.reads.newest_of(mode) else {
                *asked = None;
                continue;
            };
            let waits_for_answer = asked.is_some_and(|(asked, at)| {
                asked == read && node.now.since(at) < node.config.heartbeat_interval
            });
            if !waits_for_answer {
                *asked = Some((read, node.now));
                node.send(leader, Body::ReadIndexRequest { read, mode });
            }
        }
    }
}
