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
    /// machine (so committed, and durable here) and is durable in its state. Nor, within a bound, beyond what followers need that
    /// are catching up: else they would be in need of another snapshot by the time they have the one on its way.
    fn compactable(&self) -> Index {
        let config = &self.config;
        let before_tail =
            self.before_tail(config.compaction_keep_entries, config.compaction_keep_bytes);
        let held = match self.awaited {
            // What is compacted is space, which a full disk needs more.
            Some(index) if !self.is_full() => index.max(
                self.before_tail(config.compaction_wait_entries, config.compaction_wait_bytes),
            ),
            _ => before_tail,
        };
        before_tail.min(held).min(self.checkpoint).min(self.handed)
    }

    /// The entry before the last ones of the log that are no more than `entries`, and of about no more than `bytes`.
    fn before_tail(&self, entries: usize, bytes: usize) -> Index {
        let by_entries = self.log.last().index.0.saturating_sub(entries as u64);
        Index(by_entries).max(self.log.tail_start(bytes))
    }
}

impl Leader {
    /// Up to where the slowest of the followers that are catching up by a snapshot, and are heard, has the log.
    pub(crate) fn awaited(&self, node: &Node) -> Option<Index> {
        let awaited = self.followers.iter().filter_map(|(&machine, follower)| {
            let index = follower.awaited()?;
            self.heard_lately(node, machine).then_some(index)
        });
        awaited.min()
    }
}
