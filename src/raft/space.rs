//! What a leader does about full disks: its own, and its followers'.
//!
//! It takes proposals only while machines with space suffice to commit them, and goes on leading all the same, so that
//! reads go on where no disk has space. What is in the log by then reaches every machine that still finds room for it.

use crate::leader::Leader;
use crate::node::Node;

impl Leader {
    /// Whether a proposal could be made durable here and committed.
    pub(crate) fn has_space_to_propose(&self, node: &Node) -> bool {
        !node.is_full() && self.quorum_has_space(node)
    }

    /// Whether a quorum has space.
    pub(crate) fn quorum_has_space(&self, node: &Node) -> bool {
        node.quorum
            .agrees(|machine| match self.followers.get(&machine) {
                Some(follower) => !follower.full,
                None => !node.is_full(),
            })
    }

    /// Whether a quorum has space that this machine is not part of, and lives.
    pub(crate) fn others_have_space(&self, node: &Node) -> bool {
        node.quorum.agrees(|machine| {
            let follower = self.followers.get(&machine);
            follower.is_some_and(|follower| {
                !follower.full && node.now.since(follower.heard) < node.config.election_timeout
            })
        })
    }

    /// This machine's disk became full, or has space again: whether it does nothing is judged anew.
    pub(crate) fn space_changed(&mut self, node: &mut Node) {
        self.disk_moved = node.now;
    }
}
