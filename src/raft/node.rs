//! What every role has: term, vote, log and commit index, and the effects that wait to be handed out.

use std::time::Duration;

use smallvec::smallvec;

use crate::configuration::Configurations;
use crate::lease::Promise;
use crate::log::Log;
use crate::quorum::Quorum;
use crate::random::Random;
use crate::read::WaitingReads;
use crate::transfer::Transfer;
use crate::{
    Body, Config, Configuration, Configured, Durable, Effect, Entries, Entry, EntryId, HardState,
    Index, MachineId, Machines, Member, Message, Payload, Persist, Proposal, Snapshot, Term, Time,
};

/// The promises that may wait for the disk; beyond it the oldest are dropped, as if the network had lost them.
const PROMISES_MAX: usize = 1024;

/// The base of all roles.
///
/// Invariants: `term`, `vote` within a term, `commit` and `handed` never go back; `handed <= commit <= last`, and what is
/// handed to the state machine is durable; `base <= checkpoint <= commit`, and nothing is handed over while a snapshot is being
/// installed.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Node {
    pub(crate) config: Config,
    /// The configurations of the log; the latest is in force (§6).
    pub(crate) configurations: Configurations,
    /// Those who decide by it.
    pub(crate) quorum: Quorum,
    /// All voters but this machine, sorted.
    pub(crate) others: Vec<MachineId>,
    /// The committed entry by which this machine takes part no more, as others told: its own log does not hold it. Forgotten when
    /// a leader sends to this machine.
    pub(crate) removed_by: Option<EntryId>,
    /// The latest moment that an input brought.
    pub(crate) now: Time,
    /// The latest term this machine has seen (figure 2).
    pub(crate) term: Term,
    /// Whom it voted for in that term (figure 2).
    pub(crate) vote: Option<MachineId>,
    pub(crate) log: Log,
    /// Up to where the log is known to be committed.
    pub(crate) commit: Index,
    /// Up to where it was handed to the state machine.
    pub(crate) handed: Index,
    /// Up to where the state machine's state is known to be durable.
    pub(crate) checkpoint: Index,
    /// Up to where followers have the log that are catching up with this leader.
    pub(crate) awaited: Option<Index>,
    /// Numbers the snapshots that were sent.
    snapshots_sent: u64,
    /// The snapshot that the driver is installing.
    pub(crate) installing: Option<Snapshot>,
    /// The term and vote that Storage was last asked to make durable.
    asked: (Term, Option<MachineId>),
    /// The term and vote that are durable.
    durable: (Term, Option<MachineId>),
    /// Since when this machine's disk is full, if it is.
    pub(crate) full_since: Option<Time>,
    /// Whom this machine has promised not to vote against, and until when.
    pub(crate) loyalty: Promise,
    /// The transfer of leadership that this machine began and that is not decided.
    pub(crate) transfer: Option<Transfer>,
    /// Reads of this machine's clients that have no answer yet.
    pub(crate) reads: WaitingReads,
    /// Proposals of this machine's clients that are to go to the leader.
    pub(crate) proposals: Vec<Proposal>,
    /// Messages that promise the present term and vote, to be sent when these are durable.
    promises: Vec<(MachineId, Message)>,
    /// Effects that wait for nothing, messages first.
    sends: Vec<Effect>,
    answers: Vec<Effect>,
    random: Random,
}

impl Node {
    /// A node with what was found durable.
    pub(crate) fn new(config: Config, durable: Durable, now: Time) -> Node {
        let HardState { term, vote, commit } = durable.hard_state;
        let mut node = Node {
            configurations: Configurations::new(config.local, durable.configurations),
            others: Vec::new(),
            removed_by: None,
            quorum: Quorum::new(&Configuration::default()),
            now,
            term,
            vote,
            log: Log::new(durable.base, durable.terms, durable.last),
            // What was applied is committed, and with it what was compacted, though the hard state may not say so.
            commit: commit.max(durable.applied),
            handed: durable.applied,
            checkpoint: durable.base.index,
            awaited: None,
            snapshots_sent: 0,
            installing: None,
            asked: (term, vote),
            durable: (term, vote),
            full_since: None,
            loyalty: Promise::at_start(&config, now),
            transfer: None,
            reads: WaitingReads::default(),
            proposals: Vec::new(),
            promises: Vec::new(),
            sends: Vec::new(),
            answers: Vec::new(),
            random: Random::new(config.seed ^ config.local.0.rotate_left(32)),
            config,
        };
        node.configure();
        // A leader that left a machine alone has stopped by the time that this is known to be committed.
        if node.is_alone() && node.configurations.latest().index <= node.commit {
            node.loyalty = Promise::to_nobody();
        }
        node
    }

    /// The configuration in force.
    pub(crate) fn configuration(&self) -> &Configuration {
        &self.configurations.latest().configuration
    }

    /// Puts the latest configuration of the log in force, be it committed or not (§6).
    pub(crate) fn configure(&mut self) {
        let configuration = &self.configurations.latest().configuration;
        self.quorum = Quorum::new(configuration);
        let local = self.config.local;
        let mut others = configuration.members();
        others.retain(|&machine| machine != local && configuration.has_vote(machine));
        self.others = others;
    }

    /// Whether this machine has a vote by the configuration in force. It gives its vote without looking, to whoever asks with a
    /// good log: that one may know of a later configuration (dissertation 4.2.2).
    pub(crate) fn is_voter(&self) -> bool {
        self.quorum.contains(self.config.local)
    }

    /// Forgets what chance will bring.
    pub(crate) fn forget_chance(&mut self) {
        self.random = Random::new(0);
    }

    /// Visits every moment that it keeps.
    pub(crate) fn each_moment(&mut self, visit: &mut dyn FnMut(&mut Time)) {
        visit(&mut self.now);
        if let Some(since) = &mut self.full_since {
            visit(since);
        }
        self.loyalty.each_moment(visit);
        if let Some(transfer) = &mut self.transfer {
            transfer.each_moment(visit);
        }
        self.reads.each_moment(visit);
    }

    /// Whether this machine's disk is full.
    pub(crate) fn is_full(&self) -> bool {
        self.full_since.is_some()
    }

    /// Takes notice that the disk became full, or has space again.
    pub(crate) fn space(&mut self, full: bool) {
        self.full_since = full.then(|| self.full_since.unwrap_or(self.now));
    }

    /// Whether this machine may stand for election. One that loses its vote may until that is committed: perhaps it alone holds
    /// the entry, and nobody else can win (dissertation 4.2.2).
    pub(crate) fn may_campaign(&self) -> bool {
        let committed = &self.configurations.committed(self.commit).configuration;
        let has_vote = self.is_voter() || committed.has_vote(self.config.local);
        has_vote && self.removed_by.is_none()
    }

    /// How this machine takes part.
    pub(crate) fn member(&self) -> Member {
        let (local, configuration) = (self.config.local, self.configuration());
        let committed = &self.configurations.committed(self.commit).configuration;
        if self.removed_by.is_some() {
            Member::Removed
        } else if configuration.voters.contains(&local) {
            Member::Voter
        } else if configuration.has_vote(local) {
            Member::Outgoing
        } else if configuration.contains(local) {
            Member::Learner
        } else if committed.contains(local) {
            Member::Outgoing
        } else if self.configurations.took_part() {
            Member::Removed
        } else {
            Member::None
        }
    }

    /// Whether this machine is the only voter.
    pub(crate) fn is_alone(&self) -> bool {
        self.others.is_empty() && self.is_voter()
    }

    /// Appends an entry. A configuration is in force from then on.
    pub(crate) fn append(&mut self, entry: Entry) {
        self.configure_by(&entry);
        self.log.append(entry);
    }

    /// The same for entries that came together.
    pub(crate) fn append_all(&mut self, entries: Entries) {
        for entry in &entries {
            self.configure_by(entry);
        }
        self.log.append_all(entries);
    }

    fn configure_by(&mut self, entry: &Entry) {
        if let Payload::Configuration { configuration, .. } = &entry.payload {
            self.configurations.push(Configured {
                index: entry.id.index,
                configuration: Configuration::clone(configuration),
            });
            self.configure();
        }
    }

    /// Removes the entry at `from` and all after it. If a configuration was among them, the one before is in force again.
    pub(crate) fn truncate(&mut self, from: Index) {
        self.log.truncate(from, self.term);
        if self.configurations.truncate(from) {
            self.configure();
        }
    }

    /// A new random election timeout (§5.2, rule of §9.3: drawn anew for each election).
    pub(crate) fn draw_election_timeout(&mut self) -> Duration {
        let shortest = self.config.election_timeout;
        self.random.span(shortest, shortest * 2)
    }

    /// A new random span in which to stand for election when the leader is known to be gone: short, but wide enough that
    /// seldom two machines stand at once.
    pub(crate) fn draw_gone_timeout(&mut self) -> Duration {
        let longest = self.config.election_timeout / 10;
        self.random.span(longest / 20, longest)
    }

    /// A new random span after which to stand again when another stands in the same term: shorter than an election timeout,
    /// since nobody has won yet, but long enough for the votes to arrive.
    pub(crate) fn draw_rival_timeout(&mut self) -> Duration {
        let timeout = self.config.election_timeout;
        self.random.span(timeout / 10, timeout / 2)
    }

    /// Moves to a later term, in which this machine has not voted.
    pub(crate) fn enter_term(&mut self, term: Term) {
        assert!(term > self.term, "terms only grow");
        self.term = term;
        self.vote = None;
    }

    /// Votes, for once in this term (§5.2).
    pub(crate) fn cast_vote(&mut self, machine: MachineId) {
        assert!(
            self.vote.is_none_or(|vote| vote == machine),
            "one vote a term"
        );
        self.vote = Some(machine);
    }

    /// Takes the log as committed up to `index`, as far as it reaches.
    pub(crate) fn commit_to(&mut self, index: Index) {
        self.commit = self.commit.max(index.min(self.log.last().index));
    }

    /// Up to where the log is both committed and durable here: what the state machine may have (rule: never ahead of the
    /// durable log).
    pub(crate) fn applicable(&self) -> Index {
        self.commit.min(self.log.durable())
    }

    /// The bytes of entries that are not yet both committed and durable here.
    pub(crate) fn open_bytes(&self) -> usize {
        self.log.bytes_after(self.applicable())
    }

    /// Whether the present term and vote are durable.
    pub(crate) fn term_is_durable(&self) -> bool {
        self.durable == (self.term, self.vote)
    }

    /// Whether there is something that Storage has not been asked for yet. It will be, with the next effects.
    pub(crate) fn will_persist(&self) -> bool {
        self.asked != (self.term, self.vote) || self.log.has_unasked()
    }

    /// Takes Storage's notice of what is durable.
    pub(crate) fn persisted(&mut self, hard_state: HardState, last: EntryId) {
        let HardState { term, vote, .. } = hard_state;
        let (durable_term, durable_vote) = self.durable;
        let older = term < durable_term
            || (term == durable_term && vote.is_none() && durable_vote.is_some());
        if !older && term <= self.asked.0 {
            self.durable = (term, vote);
        }
        self.log.persisted(term, last);
    }

    /// Sends a message that promises nothing.
    pub(crate) fn send(&mut self, to: MachineId, body: Body) {
        self.send_to_all(smallvec![to], body);
    }

    /// The same to several machines at once, sorted.
    pub(crate) fn send_to_all(&mut self, to: Machines, body: Body) {
        self.send_as(to, self.term, body);
    }

    /// Sends a message of a term that this machine is not in.
    pub(crate) fn send_as(&mut self, to: Machines, term: Term, body: Body) {
        if !to.is_empty() {
            let message = Message { term, body };
            self.sends.push(Effect::Send { to, message });
        }
    }

    /// Sends a message once all that this machine was asked to promise so far is durable (§5.2, figure 2: "updated on
    /// stable storage before responding").
    pub(crate) fn promise(&mut self, to: MachineId, body: Body) {
        self.promise_as(to, self.term, body);
    }

    /// The same for an answer in a term that this machine is not in.
    pub(crate) fn promise_as(&mut self, to: MachineId, term: Term, body: Body) {
        if self.promises.len() == PROMISES_MAX {
            self.promises.remove(0);
        }
        self.promises.push((to, Message { term, body }));
    }

    /// Has a snapshot sent.
    pub(crate) fn send_snapshot(&mut self, to: MachineId, at_least: Index) -> u64 {
        self.snapshots_sent += 1;
        self.sends.push(Effect::SendSnapshot {
            to,
            number: self.snapshots_sent,
            term: self.term,
            at_least,
        });
        self.snapshots_sent
    }

    /// Hands out an effect after all that is to be made durable, sent and applied.
    pub(crate) fn answer(&mut self, effect: Effect) {
        self.answers.push(effect);
    }

    /// Takes back an effect that was not handed out yet.
    pub(crate) fn withdraw(&mut self, effect: &Effect) {
        self.answers.retain(|waiting| waiting != effect);
    }

    /// Asks Storage for entries.
    pub(crate) fn read_entries(&mut self, from: Index, up_to: Index) {
        self.sends.push(Effect::ReadEntries {
            from,
            up_to,
            bytes_max: self.config.append_bytes_max,
        });
    }

    /// Hands out all effects that wait: what is to be made durable, messages, what is to be applied, what is to be compacted,
    /// answers.
    pub(crate) fn drain_into(&mut self, effects: &mut Vec<Effect>) {
        let up_to = self.applicable();
        let (will_persist, will_apply) = (
            self.will_persist(),
            up_to > self.handed && !self.is_installing(),
        );
        let promised = if will_persist { 1 } else { self.promises.len() };
        let others = self.sends.len() + usize::from(will_apply) + self.answers.len();
        effects.reserve(promised + others);
        if will_persist {
            self.asked = (self.term, self.vote);
            effects.push(Effect::Persist(Persist {
                hard_state: HardState {
                    term: self.term,
                    vote: self.vote,
                    commit: self.commit,
                },
                entries: self.log.take_unasked(),
                then: std::mem::take(&mut self.promises),
            }));
        } else if self.term_is_durable() {
            for (to, message) in self.promises.drain(..) {
                let to = smallvec![to];
                effects.push(Effect::Send { to, message });
            }
        }
        effects.append(&mut self.sends);
        if will_apply {
            let entries = self.log.entries(self.handed.next(), up_to);
            self.handed = up_to;
            effects.push(Effect::Apply { up_to, entries });
        }
        effects.extend(self.compact());
        effects.append(&mut self.answers);
        self.log.evict(self.handed, self.config.log_cache_bytes_max);
    }

    /// Asserts the invariants that take no walk through the log.
    pub(crate) fn check(&self) {
        self.log.check();
        assert!(
            self.commit <= self.log.last().index,
            "the log holds all that is committed"
        );
        assert!(
            self.handed <= self.applicable(),
            "only what is committed and durable is applied"
        );
        assert!(
            self.log.base().index <= self.checkpoint && self.checkpoint <= self.commit,
            "a durable state holds what is compacted"
        );
        assert!(
            self.log.last().term <= self.term,
            "no entry is of a later term than the machine"
        );
    }
}
