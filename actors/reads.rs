//! The reads that wait in the Applier: for their index to be applied, and then for their turn.

use std::collections::{BTreeMap, VecDeque};

use rm_raft::Index;

use crate::message::Read;

/// Reads in two steps: parked by the index that they wait for, then ready.
#[derive(Default)]
pub(crate) struct Reads {
    parked: BTreeMap<Index, Vec<Read>>,
    ready: VecDeque<Read>,
}

impl Reads {
    /// Keeps reads until this index is applied.
    pub(crate) fn park(&mut self, index: Index, reads: Vec<Read>) {
        self.parked.entry(index).or_default().extend(reads);
    }

    /// Lets those go on whose index is applied.
    pub(crate) fn free(&mut self, applied: Index) {
        while let Some(first) = self.parked.first_entry() {
            if *first.key() > applied {
                return;
            }
            self.ready.extend(first.remove());
        }
    }

    /// The next that can be answered and that somebody still waits for.
    pub(crate) fn next(&mut self) -> Option<Read> {
        while let Some(read) = self.ready.pop_front() {
            if !read.answer.is_closed() {
                return Some(read);
            }
        }
        None
    }

    /// Whether any can be answered.
    pub(crate) fn any_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Forgets those that nobody waits for any more.
    pub(crate) fn sweep(&mut self) {
        self.parked.retain(|_, reads| {
            reads.retain(|read| !read.answer.is_closed());
            !reads.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[test]
    fn a_read_is_ready_when_its_index_is_applied_and_gone_when_nobody_waits() {
        let mut reads = Reads::default();
        let mut clients = Vec::new();
        for index in [3, 1, 2] {
            let (answer, client) = oneshot::channel();
            let query = None;
            reads.park(Index(index), vec![Read { query, answer }]);
            clients.push(client);
        }
        reads.free(Index(0));
        assert!(!reads.any_ready());
        reads.free(Index(2));
        clients.remove(1); // the one that waits for index 1
        assert!(reads.next().is_some());
        assert!(reads.next().is_none());
        clients.clear();
        reads.sweep();
        reads.free(Index(3));
        assert!(!reads.any_ready());
    }
}
