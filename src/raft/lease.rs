//! Leases (dissertation 6.4.1): for how long a leader may answer reads without asking whether it still leads, and the promise
//! of the other machines on which that rests.

use std::time::Duration;

use crate::leader::Leader;
use crate::node::Node;
use crate::{Body, Config, MachineId, ReadId, ReadMode, Time};

/// A leader's lease.
///
/// A majority that answered a round had heard the leader after the round was sent, and gives no vote for an election
/// timeout from then. So nobody else can lead before that has passed since the moment of sending; by this machine's clock,
/// which may be the slower one, somewhat less.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Lease {
    /// How long it lasts from the moment when a round was sent; none where leases are off.
    span: Option<Duration>,
    until: Time,
    forfeited: bool,
}

impl Lease {
    /// A lease that does not hold yet.
    pub(crate) fn new(config: &Config) -> Lease {
        let percent = config.lease_drift_percent;
        Lease {
            span: percent.map(|drift| config.election_timeout * (100 - u32::from(drift)) / 100),
            until: Time::default(),
            forfeited: false,
        }
    }

    /// Whether rounds are to be sent for it though no read waits.
    pub(crate) fn wants_rounds(&self) -> bool {
        self.span.is_some() && !self.forfeited
    }

    /// A majority has answered a round that was sent at this moment.
    pub(crate) fn confirmed(&mut self, sent: Time) {
        if let Some(span) = self.span {
            self.until = self.until.max(sent.after(span));
        }
    }

    /// Whether this machine is still the only one that can lead.
    pub(crate) fn holds(&self, now: Time) -> bool {
        !self.forfeited && self.span.is_some() && now < self.until
    }

    /// Visits every moment that it keeps.
    pub(crate) fn each_moment(&mut self, visit: &mut dyn FnMut(&mut Time)) {
        visit(&mut self.until);
    }

    /// Ends it for good: another machine was told to campaign at once.
    pub(crate) fn forfeit(&mut self) {
        self.forfeited = true;
    }
}

impl Leader {
    /// Answers the reads of this machine's clients that are content with a lease, if there is one.
    pub(crate) fn answer_by_lease(&self, node: &mut Node) {
        if self.may_answer_by_lease(node)
            && let Some(read) = node.reads.newest_of(ReadMode::Lease)
        {
            node.answer_reads(read, node.commit, ReadMode::Lease);
        }
    }

    /// The same for another machine's read; false if it must wait for a round.
    pub(crate) fn answered_by_lease(&self, node: &mut Node, from: MachineId, read: ReadId) -> bool {
        let may = self.may_answer_by_lease(node);
        if may {
            let index = Some(node.commit);
            node.send(vec![from], Body::ReadIndexResponse { read, index });
        }
        may
    }

    /// The read came before `now` was read from the clock: all that was committed by then is known here. No round begins, and
    /// so no lease, before an entry of this leader's own term is committed.
    fn may_answer_by_lease(&self, node: &Node) -> bool {
        self.lease.holds(node.now)
    }
}

/// What the other machines' leases rest on: for an election timeout since it heard a leader this machine votes for no
/// other, whatever term it enters meanwhile. Since its process forgets, it also waits that long after it starts.
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
            until: now.after(config.election_timeout),
        }
    }

    /// Visits every moment that it keeps.
    pub(crate) fn each_moment(&mut self, visit: &mut dyn FnMut(&mut Time)) {
        visit(&mut self.until);
    }
}

impl Node {
    /// Promises the leader, which was heard at this moment, to vote for no other.
    pub(crate) fn promise_loyalty(&mut self, leader: MachineId) {
        self.loyalty = Promise {
            leader: Some(leader),
            until: self.now.after(self.config.election_timeout),
        };
    }

    /// Whether a lease of another machine than this one may rest on this machine's not voting.
    pub(crate) fn is_loyal_besides(&self, machine: MachineId) -> bool {
        self.config.lease_drift_percent.is_some()
            && self.now < self.loyalty.until
            && self.loyalty.leader != Some(machine)
    }
}
