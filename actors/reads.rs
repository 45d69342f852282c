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

    /// Has every read wait for this index at least: the state fell back behind what was shown.
    pub(crate) fn hold(&mut self, floor: Index) {
        let later = self.parked.split_off(&floor);
        let earlier = std::mem::replace(&mut self.parked, later).into_values();
        let held: Vec<Read> = earlier.flatten().chain(self.ready.drain(..)).collect();
        if !held.is_empty() {
            self.park(floor, held);
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
    use crate::port::Refusal;
    use crate::replies::{Answered, Making, Replies, ReplyRoom};
    use rm_config::Limits;
    use tokio::sync::oneshot;

    type Client = oneshot::Receiver<Result<Option<Answered>, Refusal>>;

    /// A read, and who waits for it.
    fn read() -> (Read, Client) {
        let (answer, client) = oneshot::channel();
        let replies = Replies::new(&Limits::default());
        let making = Making::new(replies, 1, ReplyRoom::default());
        let query = None;
        let read = Read {
            query,
            making,
            answer,
        };
        (read, client)
    }

    #[test]
    fn a_read_is_ready_when_its_index_is_applied_and_gone_when_nobody_waits() {
        let mut reads = Reads::default();
        let mut clients = Vec::new();
        for index in [3, 1, 2] {
            let (read, client) = read();
            reads.park(Index(index), vec![read]);
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

    #[test]
    fn no_read_is_answered_by_a_state_that_fell_back_behind_what_was_shown() {
        let mut reads = Reads::default();
        let mut clients = Vec::new();
        for index in [1, 2, 4, 6] {
            let (read, client) = read();
            reads.park(Index(index), vec![read]);
            clients.push(client);
        }
        reads.free(Index(3));
        reads.hold(Index(5));
        assert!(!reads.any_ready(), "what was ready waits again");
        reads.free(Index(4));
        assert!(!reads.any_ready(), "and so does what waited for less");
        reads.free(Index(5));
        for _ in 0..3 {
            assert!(reads.next().is_some());
        }
        assert!(reads.next().is_none(), "what waits for more goes on to");
        reads.free(Index(6));
        assert!(reads.next().is_some());
    }
}
