//! Priorities: a leader hands over to a voter that is preferred to it, once that voter has proved steady.

use std::time::Duration;

use crate::leader::Leader;
use crate::node::Node;
use crate::{MachineId, Time};

/// For how many election timeouts both this machine must have led and the preferred voter must have been fit: leadership
/// that moves costs more than leadership in the wrong place.
const STEADY: u32 = 3;
/// How many election timeouts to wait after a transfer that failed; doubles with each.
const BACKOFF: u32 = 8;
/// How often that doubles at most.
const DOUBLINGS_MAX: u32 = 6;

/// What a leader knows about the voter that is preferred to it.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Preference {
    /// The preferred voter, if it is fit, and since when; at first this machine's election.
    fit: Option<MachineId>,
    since: Time,
    /// Whether a transfer to it was begun.
    tried: bool,
    failures: u32,
    not_before: Time,
}

impl Preference {
    /// A new leader's.
    pub(crate) fn new(now: Time) -> Preference {
        Preference {
            fit: None,
            since: now,
            tried: false,
            failures: 0,
            not_before: now,
        }
    }

    /// Visits every moment that it keeps.
    pub(crate) fn each_moment(&mut self, visit: &mut dyn FnMut(&mut Time)) {
        visit(&mut self.since);
        visit(&mut self.not_before);
    }
}

impl Leader {
    /// Hands over if it is time to.
    pub(crate) fn prefer(&mut self, node: &mut Node) {
        if node.transfer.is_some() {
            return;
        }
        let (now, timeout) = (node.now, node.config.election_timeout);
        if std::mem::take(&mut self.preference.tried) {
            let doublings = self.preference.failures.min(DOUBLINGS_MAX);
            self.preference.not_before = now.after(timeout * BACKOFF * (1 << doublings));
            self.preference.failures += 1;
        }
        let fit = self.preferred_follower(node);
        if fit != self.preference.fit {
            self.preference.fit = fit;
            self.preference.since = now;
        }
        let steady = now.since(self.preference.since) >= timeout * STEADY;
        if fit.is_some() && steady && now >= self.preference.not_before {
            self.preference.tried = true;
            self.transfer(node, fit);
        }
    }

    /// The voter of the highest priority above this machine's own that answers each heartbeat, has space and takes entries as they
    /// come. It may be a round behind, as it is under load whenever another is faster: the transfer waits for it.
    fn preferred_follower(&self, node: &Node) -> Option<MachineId> {
        let patience: Duration = node.config.heartbeat_interval * 2;
        let own = node.config.priority(node.config.local);
        let fit = self.followers.iter().rev().filter(|&(&machine, follower)| {
            node.quorum.stays(machine)
                && node.config.priority(machine) > own
                && node.now.since(follower.heard) <= patience
                && follower.is_replicating()
                && !follower.full
        });
        fit.max_by_key(|&(&machine, _)| node.config.priority(machine))
            .map(|(&machine, _)| machine)
    }
}
