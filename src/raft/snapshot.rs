//! Snapshots: what stands for the log up to an entry (§7), and how a machine that lacks entries takes one in the place of them.

use crate::node::Node;
use crate::{Configured, Effect, EntryId, Index, Term};

/// What a snapshot is, without its content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Snapshot {
    /// The last entry that its state has applied.
    pub last: EntryId,
    /// The configuration as of that entry.
    pub configured: Configured,
}

impl Snapshot {
    /// Whether a leader of `term` could have sent it.
    pub(crate) fn is_sound(&self, term: Term) -> bool {
        let Snapshot { last, configured } = self;
        term < Term::LIMIT
            && last.index < Index::LIMIT
            && last.term <= term
            && configured.index <= last.index
            && !configured.configuration.voters.is_empty()
            && configured.configuration.check().is_ok()
    }
}

impl Node {
    /// Whether a snapshot is being installed: until it is, nothing is applied and nothing appended.
    pub(crate) fn is_installing(&self) -> bool {
        self.installing.is_some()
    }

    /// Takes a snapshot of this term's leader, unless another one is being installed; true if this machine already has all that
    /// it stands for. An older snapshot would take the state back (§7).
    pub(crate) fn offered(&mut self, snapshot: Snapshot) -> bool {
        let has_all = snapshot.last.index <= self.commit;
        if has_all || self.is_installing() {
            self.discard(snapshot);
        } else {
            self.installing = Some(snapshot.clone());
            // The same one may have come a moment ago from a leader of an earlier term; now its content is in use.
            self.withdraw(&Effect::Discard(snapshot.clone()));
            self.answer(Effect::Install(snapshot));
        }
        has_all
    }

    /// Has the content of a snapshot thrown away, unless it is in use: it is the one that is being installed.
    pub(crate) fn discard(&mut self, snapshot: Snapshot) {
        if self.installing.as_ref() != Some(&snapshot) {
            self.answer(Effect::Discard(snapshot));
        }
    }

    /// The driver could not install a snapshot: the leader finds that it is still lacking, and sends it again.
    pub(crate) fn install_failed(&mut self, snapshot: &Snapshot) {
        self.installing.take_if(|awaited| awaited == snapshot);
    }

    /// The driver installed a snapshot; false if it is not the one that this core waits for.
    pub(crate) fn installed(&mut self, snapshot: &Snapshot) -> bool {
        let awaited = self.installing.take_if(|awaited| awaited == snapshot);
        if awaited.is_none() {
            return false;
        }
        let last = snapshot.last;
        let keeps_suffix = self.log.holds(last);
        self.configurations
            .install(&snapshot.configured, last.index, keeps_suffix, self.commit);
        self.configure();
        self.log.install(last, self.term);
        self.commit_to(last.index);
        self.handed = self.handed.max(last.index);
        self.checkpoint = self.checkpoint.max(last.index);
        true
    }
}
