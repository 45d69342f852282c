//! Leases (dissertation 6.4.1): for how long a leader may answer reads without asking whether it still leads, and the promise
//! of the other machines on which that rests.

use std::collections::VecDeque;
use std::time::Duration;

use crate::leader::Leader;
use crate::node::Node;
use crate::{Body, Config, MachineId, ReadId, ReadMode, Time};

/// Of how many rounds the answers count, however late they come; there is one a heartbeat, and one for reads now and then.
const ROUNDS_MAX: usize = 16;

/// A leader's lease.
///
/// A machine that answered a round had heard the leader after the round was sent, and says for how long from then it votes
/// for no other. So while that lasts on a majority, counted from the moment of sending, nobody else can lead; by this
/// machine's clock, which may be the slower one, it lasts somewhat less.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Lease {
    /// By how many percent the rates of the clocks may differ; none where leases are off.
    drift_percent: Option<u8>,
    /// The longest that a promise counts.
    longest: Duration,
    /// When the latest rounds began, oldest first: no answer to one is to anything that was sent earlier.
    rounds: VecDeque<(u64, Time)>,
    forfeited: bool,
}

impl Lease {
    /// A lease that does not hold yet.
    pub(crate) fn new(config: &Config) -> Lease {
        Lease {
            drift_percent: config.lease_drift_percent,
            longest: config.election_timeout,
            rounds: VecDeque::new(),
            forfeited: false,
        }
    }

    /// Whether rounds are to be sent for it though no read waits.
    pub(crate) fn wants_rounds(&self) -> bool {
        self.drift_percent.is_some() && !self.forfeited
    }

    /// A round begins.
    pub(crate) fn begin(&mut self, round: u64, now: Time) {
        if self.rounds.len() == ROUNDS_MAX {
            self.rounds.pop_front();
        }
        self.rounds.push_back((round, now));
    }

    /// Until when, by this machine's clock, whoever answered a round with this promise is loyal at least.
    fn loyal_until(&self, round: u64, promised: Duration) -> Option<Time> {
        let drift = u32::from(self.drift_percent?);
        let (_, sent) = self.rounds.iter().find(|(number, _)| *number == round)?;
        Some(sent.after(promised.min(self.longest) * (100 - drift) / 100))
    }

    /// Visits every moment that it keeps.
    pub(crate) fn each_moment(&mut self, visit: &mut dyn FnMut(&mut Time)) {
        for (_, moment) in &mut self.rounds {
            visit(moment);
        }
    }

    /// Ends it for good: another machine was told to campaign at once.
    pub(crate) fn forfeit(&mut self) {
        self.forfeited = true;
    }
}

impl Leader {
    /// A follower answered a round, and promised not to vote for others for so long.
    pub(crate) fn promised(&mut self, from: MachineId, round: u64, loyal: Duration) {
        if let Some(until) = self.lease.loyal_until(round, loyal)
            && let Some(follower) = self.followers.get_mut(&from)
        {
            follower.loyal_until = follower.loyal_until.max(until);
        }
    }

    /// Whether this machine is still the only one that can lead, and knows all that is committed: before it has committed in
    /// its own term it does not (dissertation 6.4).
    fn holds_lease(&self, node: &Node) -> bool {
        self.lease.wants_rounds()
            && node.commit >= self.first
            && node.quorum.agrees(|machine| {
                let follower = self.followers.get(&machine);
                machine == node.config.local
                    || follower.is_some_and(|follower| node.now < follower.loyal_until)
            })
    }

    /// Answers the reads of this machine's clients that are content with a lease, if there is one. They came before `now` was
    /// read from the clock, so that all that was committed by then is known here.
    pub(crate) fn answer_by_lease(&self, node: &mut Node) {
        if let Some(read) = node.reads.newest_of(ReadMode::Lease)
            && self.holds_lease(node)
        {
            node.answer_reads(read, node.commit, ReadMode::Lease);
        }
    }

    /// The same for another machine's read; false if it must wait for a round.
    pub(crate) fn answered_by_lease(&self, node: &mut Node, from: MachineId, read: ReadId) -> bool {
        let may = self.holds_lease(node);
        if may {
            let index = Some(node.commit);
            node.send(from, Body::ReadIndexResponse { read, index });
        }
        may
    }
}

/// What the other machines' leases rest on: for an election timeout since it heard a leader this machine votes for no
/// other, itself included, whatever term it enters meanwhile. Since its process forgets, it also waits that long after it
/// starts, though leases may be off by then.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Promise {
    /// Whom it is given to; nobody in particular after a start.
    leader: Option<MachineId>,
    until: Time,
}

impl Promise {
    /// The promise that an earlier life may have given.
    pub(crate) fn at_start(config: &Config, now: Time) -> Promise {
        Promise {
            leader: None,
            until: if config.may_have_promised {
                now.after(config.election_timeout)
            } else {
                Time::default()
            },
        }
    }

    /// That of a machine that nobody else can lead.
    pub(crate) fn to_nobody() -> Promise {
        Promise {
            leader: None,
            until: Time::default(),
        }
    }

    /// Visits every moment that it keeps.
    pub(crate) fn each_moment(&mut self, visit: &mut dyn FnMut(&mut Time)) {
        visit(&mut self.until);
    }
}

impl Node {
    /// For how long this machine promises a leader that it hears to vote for no other: not at all where leases are off.
    pub(crate) fn loyalty_span(&self) -> Duration {
        match self.config.lease_drift_percent {
            Some(_) => self.config.election_timeout,
            None => Duration::ZERO,
        }
    }

    /// Promises the leader, which was heard at this moment, to vote for no other. What is promised to another runs on.
    pub(crate) fn promise_loyalty(&mut self, leader: MachineId) {
        let until = self.now.after(self.loyalty_span());
        if until >= self.loyalty.until {
            let leader = Some(leader);
            self.loyalty = Promise { leader, until };
        }
    }

    /// Until when a lease of another machine may rest on this machine's not standing. Where that machine gives way itself, it
    /// has given up its lease.
    pub(crate) fn loyal_until(&self) -> Time {
        self.loyalty.until
    }

    /// Whether a lease of another machine than this one may rest on this machine's not voting.
    pub(crate) fn is_loyal_besides(&self, machine: MachineId) -> bool {
        self.now < self.loyalty.until && self.loyalty.leader != Some(machine)
    }
}
