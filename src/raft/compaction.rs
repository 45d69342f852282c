//! Log compaction (§7): what a durable state holds need not stay in the log, but for a tail from which a follower that is a
//! little behind gets entries instead of a snapshot.

use crate::leader::Leader;
use crate::node::Node;
use crate::{Effect, EntryId, Index};

impl Node {
    /// The state machine's state is durable up to this entry.
    pub(crate) fn checkpointed(&mut self, applied: EntryId) {
        if self.log.holds(applied) && applied.index <= self.commit {
            self.checkpoint = self.checkpoint.max(applied.index);
        }
    }

    /// Compacts the log, if that removes enough to be worth the disk's time.
    pub(crate) fn compact(&mut self) -> Option<Effect> {
        let up_to = self.compactable();
        let step = self.config.compaction_step_entries as u64;
        if self.is_installing() || up_to.0 < self.log.base().index.0.saturating_add(step) {
            return None;
        }
        self.log.compact(up_to);
        let up_to = self.log.base();
        self.configurations.compact(up_to.index);
        Some(Effect::Compact { up_to })
    }

    /// The last entry that need not stay: before the smaller of the two tails, and never beyond what was handed to the state
    /// machine (so committed, and durable here) and is durable in its state.
    fn compactable(&mut self) -> Index {
        let last = self.log.last().index.0;
        let by_entries = Index(last.saturating_sub(self.config.compaction_keep_entries as u64));
        let by_bytes = self.log.tail_start(self.config.compaction_keep_bytes);
        let before_tail = by_entries.max(by_bytes).min(self.held(by_entries));
        before_tail.min(self.checkpoint).min(self.handed)
    }

    /// Up to where followers that are catching up let the log be compacted. The hold is bounded, and a full disk ends it.
    fn held(&self, before_tail: Index) -> Index {
        let most = self.config.compaction_hold_entries as u64;
        let bound = Index(before_tail.0.saturating_sub(most));
        match self.held_by_followers {
            Some(index) if !self.is_full() => index.max(bound),
            _ => Index(u64::MAX),
        }
    }
}

impl Leader {
    /// Holds compaction back to what all followers that answer have. One that receives a snapshot would otherwise need the next
    /// one before it has installed it, and again after that, for as long as clients write.
    pub(crate) fn hold_compaction(&self, node: &mut Node) {
        let is_heard = |heard| node.now.since(heard) < node.config.election_timeout;
        let heard = self.followers.values();
        let heard = heard.filter(|follower| is_heard(follower.heard) && !follower.full);
        node.held_by_followers = heard.map(|follower| follower.matched).min();
    }
}
