//! How a leader changes who takes part: begins a change, leaves the joint state, and sees off those who leave.

use crate::leader::Leader;
use crate::membership::{Change, ChangeRefused};
use crate::node::Node;
use crate::progress::Progress;
use crate::{Configuration, Index, MachineId, Payload, RequestId, Time};

/// For how many election timeouts a leader goes on sending to a machine that was removed, once that is committed. No answer says
/// that it knows: what told it may be lost while an earlier heartbeat is answered. Whoever was away longer learns of it when it
/// asks for a pre-vote, or its driver asks the members.
const FAREWELL: u32 = 2;

/// A machine that takes part no more, and is to learn of it.
#[derive(Clone, Copy, Debug, Hash)]
pub(crate) struct Leaving {
    /// The entry that removes it.
    index: Index,
    /// When it is given up: not before the entry is committed.
    until: Option<Time>,
}

impl Leaving {
    /// Visits every moment that it keeps.
    pub(crate) fn each_moment(&mut self, visit: &mut dyn FnMut(&mut Time)) {
        if let Some(until) = &mut self.until {
            visit(until);
        }
    }
}

impl Leader {
    /// Begins a change, or says why not.
    pub(crate) fn change(
        &mut self,
        node: &mut Node,
        from: MachineId,
        request: RequestId,
        change: &Change,
    ) {
        match self.plan(node, change) {
            Ok(next) => self.configure(node, Some(request), next),
            Err(reason) => node.refuse_change(from, request, reason),
        }
    }

    /// The configuration that the change leads to, if it may begin now.
    fn plan(&self, node: &Node, change: &Change) -> Result<Configuration, ChangeRefused> {
        // Until a leader has committed in its own term, a change of an earlier one may be committed without its knowledge, and
        // two changes at once could find majorities that do not meet (dissertation 4.1, the correction of July 2015).
        if node.commit < self.first {
            return Err(ChangeRefused::LeaderIsNew);
        }
        // Whatever entered the log now, the target of a transfer would have to wait for.
        if node.transfer.is_some() {
            return Err(ChangeRefused::Transferring);
        }
        let present = node.configurations.latest();
        if present.index > node.commit || present.configuration.is_joint() {
            return Err(ChangeRefused::UnderWay);
        }
        if change.based_on.is_some_and(|index| index != present.index) {
            return Err(ChangeRefused::Outdated);
        }
        let next = change.apply(&present.configuration)?;
        if !change.force {
            for machine in Change::promoted(&present.configuration, &next) {
                self.check_caught_up(node, machine)?;
            }
            self.check_quorum(node, &next)?;
        }
        Ok(next)
    }

    /// A learner that is to vote lacks no more than may be on its way at once, so that it does not hold up the commit
    /// (dissertation 4.2.1).
    fn check_caught_up(&self, node: &Node, machine: MachineId) -> Result<(), ChangeRefused> {
        let matched = self.followers.get(&machine).map_or(Index(0), |f| f.matched);
        let in_memory = matched.next() >= node.log.first_in_memory();
        let last = node.log.last().index;
        let lacks = (last.0 - matched.0) as usize;
        if self.is_followed_by(node, machine)
            && in_memory
            && lacks <= node.config.inflight_entries_max
            && node.log.bytes_after(matched) <= node.config.inflight_bytes_max
        {
            return Ok(());
        }
        Err(ChangeRefused::NotCaughtUp {
            machine,
            matched,
            last,
        })
    }

    /// A majority of the new voters can be there, or the change could neither be committed nor taken back.
    fn check_quorum(&self, node: &Node, next: &Configuration) -> Result<(), ChangeRefused> {
        let voters = next.voters.iter();
        let heard = voters
            .filter(|&&id| id == node.config.local || self.is_followed_by(node, id))
            .count();
        let needed = next.voters.len() / 2 + 1;
        if heard < needed {
            return Err(ChangeRefused::QuorumAtRisk { heard, needed });
        }
        Ok(())
    }

    /// Whether a machine acknowledged something in this term, and was heard within an election timeout.
    fn is_followed_by(&self, node: &Node, machine: MachineId) -> bool {
        let follower = self.followers.get(&machine);
        let acknowledged = follower.is_some_and(|follower| follower.matched > Index(0));
        acknowledged && self.heard_lately(node, machine)
    }

    /// Puts a configuration into the log, from where it is in force at once (§6).
    fn configure(
        &mut self,
        node: &mut Node,
        request: Option<RequestId>,
        configuration: Configuration,
    ) {
        let payload = Payload::Configuration {
            request,
            configuration: Box::new(configuration),
        };
        let last = node.log.last().index;
        self.append(node, payload);
        let members = node.configuration().members();
        let index = last.next();
        for &machine in members.iter().filter(|&&id| id != node.config.local) {
            let begins_anew = self.leaving.remove(&machine).is_some();
            if begins_anew || !self.followers.contains_key(&machine) {
                self.followers
                    .insert(machine, Progress::new(last, node.now));
            }
        }
        for &machine in self.followers.keys() {
            if members.binary_search(&machine).is_err() {
                let leaving = Leaving { index, until: None };
                self.leaving.entry(machine).or_insert(leaving);
            }
        }
    }

    /// A new leader sends also to those whom the latest configuration removes, be it committed or not: they are to learn it, and
    /// whether the leader before told them nobody knows.
    pub(crate) fn take_over_leaving(&mut self, node: &Node) {
        let latest = node.configurations.latest();
        if latest.index == Index(0) {
            return;
        }
        let before = node.configurations.committed(latest.index.previous());
        for machine in before.configuration.members() {
            if machine != node.config.local && !latest.configuration.contains(machine) {
                let progress = Progress::new(node.log.last().index, node.now);
                self.followers.insert(machine, progress);
                let index = latest.index;
                self.leaving.insert(machine, Leaving { index, until: None });
            }
        }
    }

    /// Goes on with a change as far as what is committed allows: leaves the joint state (§6), and gives up those who left long
    /// ago.
    pub(crate) fn complete_change(&mut self, node: &mut Node) {
        let latest = node.configurations.latest();
        // Like any change, this one waits for a commit in the leader's own term.
        let is_committed = node.commit >= latest.index.max(self.first);
        if is_committed && latest.configuration.is_joint() {
            let next = latest.configuration.without_outgoing();
            self.configure(node, None, next);
        }
        let (now, commit) = (node.now, node.commit);
        let patience = node.config.election_timeout * FAREWELL;
        let followers = &mut self.followers;
        self.leaving.retain(|machine, leaving| {
            if leaving.index > commit {
                return true;
            }
            let stays = now < *leaving.until.get_or_insert(now.after(patience));
            if !stays {
                followers.remove(machine);
            }
            stays
        });
    }

    /// Whether this leader has led its own departure to the end: the configuration without its vote is committed
    /// (dissertation 4.2.2), and no joint one, since nobody else may have an interest in leaving that.
    pub(crate) fn has_left(&self, node: &Node) -> bool {
        let latest = node.configurations.latest();
        let is_committed = latest.index <= node.commit;
        is_committed && !latest.configuration.is_joint() && !node.is_voter()
    }
}
