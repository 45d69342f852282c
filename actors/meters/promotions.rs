//! How often a learner was to be promoted, and what came of it.

use rm_raft::ChangeRefused;

use super::Meter;
use crate::port::Refusal;

/// The promotions that were asked of one machine.
#[derive(Debug, Default)]
pub struct Promotions {
    /// Those that were carried out.
    pub done: Meter,
    /// There is no such member.
    pub no_such_member: Meter,
    /// It votes already.
    pub no_learner: Meter,
    /// It lags too far behind.
    pub not_caught_up: Meter,
    /// Too few machines would be heard.
    pub quorum_at_risk: Meter,
    /// Any other reason.
    pub other: Meter,
}

impl Promotions {
    pub(crate) fn count(&self, outcome: &Result<(), Refusal>) {
        let reason = match outcome {
            Ok(()) => return self.done.add(1),
            Err(Refusal::Change(reason)) => Some(reason),
            Err(_) => None,
        };
        let meter = match reason {
            Some(ChangeRefused::NoSuchMachine(_)) => &self.no_such_member,
            Some(ChangeRefused::AlreadyVoter(_)) => &self.no_learner,
            Some(ChangeRefused::NotCaughtUp { .. }) => &self.not_caught_up,
            Some(ChangeRefused::QuorumAtRisk { .. }) => &self.quorum_at_risk,
            _ => &self.other,
        };
        meter.add(1);
    }
}
