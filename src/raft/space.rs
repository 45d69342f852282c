//! What a leader does about full disks: its own, and its followers'.
//!
//! It takes proposals only while machines with space suffice to commit them, and goes on leading all the same, so that
//! reads go on where no disk has space. What is in the log by then reaches every machine that still finds room for it.

use crate::MachineId;
use crate::leader::Leader;
use crate::node::Node;
use crate::raft::Turn;

impl Leader {
    /// Whether a proposal could be made durable here and committed.
    pub(crate) fn has_space_to_propose(&self, node: &Node) -> bool {
        !node.is_full() && self.quorum_has_space(node)
    }

    /// Whether a quorum lives and has space.
    fn quorum_has_space(&self, node: &Node) -> bool {
        node.quorum.agrees(|machine| {
            let is_local = machine == node.config.local;
            self.has_space(node, machine) || (is_local && !node.is_full())
        })
    }

    /// Whether a quorum lives and has space that this machine is not part of.
    pub(crate) fn others_have_space(&self, node: &Node) -> bool {
        node.quorum.agrees(|machine| self.has_space(node, machine))
    }

    fn has_space(&self, node: &Node, machine: MachineId) -> bool {
        let follower = self.followers.get(&machine);
        follower.is_some_and(|follower| !follower.full) && self.heard_lately(node, machine)
    }

    /// Whether a follower is sent nothing for its log. While others suffice to commit, what is left of a full disk is kept for
    /// votes and for the day without them; but one that is to lead gets all it needs.
    pub(crate) fn is_spared(&self, node: &Node, machine: MachineId) -> bool {
        let follower = self.followers.get(&machine);
        follower.is_some_and(|follower| follower.full)
            && !node.transfers_to(machine)
            && self.quorum_has_space(node)
    }

    /// This machine's disk became full, or has space again: whether it does nothing is judged anew.
    pub(crate) fn space_changed(&mut self, node: &mut Node) {
        self.disk_moved = node.now;
        self.gave_way = false;
    }

    /// Hands over to a machine that has space, so that nobody waits an election timeout for a new leader. If nothing comes of
    /// that it steps down.
    pub(crate) fn give_way(&mut self, node: &mut Node) -> Turn {
        if node.transfer.is_some() {
            return Turn::Stay;
        }
        if self.gave_way {
            return Turn::Follow;
        }
        self.gave_way = true;
        self.transfer(node, None);
        Turn::Stay
    }
}
