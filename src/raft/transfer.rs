//! Handing leadership over (dissertation 3.10): the leader takes no more proposals, waits until the target has the whole
//! log, and tells it to campaign at once.

use crate::leader::Leader;
use crate::node::Node;
use crate::{Body, Effect, MachineId, Refusal, Term, Time};

/// A transfer that this machine began while it led.
///
/// It outlives the role: whether the target was elected is seen from the follower's side.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Transfer {
    to: MachineId,
    /// The term that is given up.
    term: Term,
    /// When it counts as failed. Clients must not wait longer for a target that is slow or dead (dissertation 3.10).
    deadline: Time,
    /// When the target was last told to campaign.
    told: Option<Time>,
}

/// How a transfer of leadership ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransferOutcome {
    /// The target leads.
    Done,
    /// A transfer to another machine was asked for meanwhile.
    Replaced,
    /// The target was not elected within an election timeout. If the machine still leads, it takes proposals again.
    TimedOut,
    /// Another machine than the target was elected.
    AnotherLeads,
    /// The machine that was asked does not lead.
    NotLeader,
    /// The target has no vote.
    NotVoter,
    /// The target, or every machine that could be one, was not heard within an election timeout.
    Unheard,
}

impl Transfer {
    /// Visits every moment that it keeps.
    pub(crate) fn each_moment(&mut self, visit: &mut dyn FnMut(&mut Time)) {
        visit(&mut self.deadline);
        if let Some(told) = &mut self.told {
            visit(told);
        }
    }
}

impl Leader {
    /// Begins a transfer. With no target named it goes to the voter whose log reaches furthest, or wherever the transfer
    /// goes that is under way.
    pub(crate) fn transfer(&mut self, node: &mut Node, wanted: Option<MachineId>) {
        if wanted.is_none() && node.transfer.is_some() {
            return;
        }
        let Some(to) = wanted.or_else(|| self.furthest_follower(node)) else {
            node.transferred(None, TransferOutcome::Unheard);
            return;
        };
        if node.transfer.is_some_and(|transfer| transfer.to == to) {
            return;
        }
        if let Err(outcome) = self.check_target(node, to) {
            node.transferred(Some(to), outcome);
            return;
        }
        if let Some(earlier) = node.transfer.take() {
            node.transferred(Some(earlier.to), TransferOutcome::Replaced);
        }
        if to == node.config.local {
            node.transferred(Some(to), TransferOutcome::Done);
            return;
        }
        node.transfer = Some(Transfer {
            to,
            term: node.term,
            deadline: node.now.after(node.config.election_timeout),
            told: None,
        });
    }

    fn check_target(&self, node: &Node, to: MachineId) -> Result<(), TransferOutcome> {
        if !node.quorum.stays(to) {
            return Err(TransferOutcome::NotVoter);
        }
        if to != node.config.local && !self.heard_lately(node, to) {
            return Err(TransferOutcome::Unheard);
        }
        Ok(())
    }

    /// Whether a follower was heard within an election timeout.
    pub(crate) fn heard_lately(&self, node: &Node, machine: MachineId) -> bool {
        let follower = self.followers.get(&machine);
        follower
            .is_some_and(|follower| node.now.since(follower.heard) < node.config.election_timeout)
    }

    /// The voter that is heard, has space, and whose log reaches furthest; of several the first, so that the choice is repeatable.
    fn furthest_follower(&self, node: &Node) -> Option<MachineId> {
        let heard = self.followers.iter().rev();
        let heard = heard.filter(|&(&machine, follower)| {
            node.quorum.stays(machine) && self.heard_lately(node, machine) && !follower.full
        });
        heard
            .max_by_key(|(_, follower)| follower.matched)
            .map(|(&machine, _)| machine)
    }

    /// A leader that has led its own departure to the end tells its best successor, so that nobody waits for an election timeout.
    pub(crate) fn leave_to_successor(&mut self, node: &mut Node) {
        if let Some(successor) = self.furthest_follower(node) {
            self.lease.forfeit();
            node.send(successor, Body::CampaignNow);
        }
    }

    /// Tells the target to campaign once it has the whole log, and again after a while: the message may be lost.
    ///
    /// From here on the target may depose this leader while other machines still keep the promise that a lease rests on.
    /// The message may come late, so that the lease does not come back in this term even if the transfer fails.
    pub(crate) fn hand_over(&mut self, node: &mut Node) {
        let (now, interval) = (node.now, node.config.heartbeat_interval);
        let last = node.log.last().index;
        let Some(transfer) = &mut node.transfer else {
            return;
        };
        let follower = self.followers.get(&transfer.to);
        let has_all = follower.is_some_and(|follower| follower.matched == last);
        let due = transfer.told.is_none_or(|at| now.since(at) >= interval);
        if has_all && due {
            transfer.told = Some(now);
            let to = transfer.to;
            self.lease.forfeit();
            node.send(to, Body::CampaignNow);
        }
    }
}

impl Node {
    /// Tells how a transfer ended.
    pub(crate) fn transferred(&mut self, to: Option<MachineId>, outcome: TransferOutcome) {
        self.answer(Effect::Transferred { to, outcome });
    }

    /// Ends the transfer that is under way, if it is decided, given who leads now.
    pub(crate) fn settle_transfer(&mut self, leader: Option<MachineId>) {
        let Some(transfer) = self.transfer else {
            return;
        };
        let leads_on = leader == Some(self.config.local) && self.term == transfer.term;
        let outcome = match leader {
            Some(leader) if leader == transfer.to => TransferOutcome::Done,
            Some(_) if !leads_on => TransferOutcome::AnotherLeads,
            _ if self.now >= transfer.deadline => TransferOutcome::TimedOut,
            _ => return,
        };
        self.transfer = None;
        self.transferred(Some(transfer.to), outcome);
    }

    /// Why no proposal is taken at the moment though this machine leads: whatever entered the log now, the target would
    /// have to wait for.
    pub(crate) fn refuses_proposals(&self) -> Option<Refusal> {
        self.transfer.map(|_| Refusal::Transferring)
    }

    /// Whether leadership is being handed over to this machine.
    pub(crate) fn transfers_to(&self, machine: MachineId) -> bool {
        self.transfer.is_some_and(|transfer| transfer.to == machine)
    }

    /// When the transfer that is under way counts as failed.
    pub(crate) fn transfer_deadline(&self) -> Option<Time> {
        self.transfer.map(|transfer| transfer.deadline)
    }
}
