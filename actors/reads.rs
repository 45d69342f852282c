//! The reads that wait in the Applier: for their index to be applied, and then for their turn.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use rm_kv::Reading;
use rm_raft::Index;

use crate::answering::aside;
use crate::message::Read;
use crate::replies::Making;

/// So many long reads take turns; the others wait in line behind them. What each has read is held in memory, so of many who all want much
/// some should have all of it before the others get more.
const TURNS_MAX: usize = 8;

/// Those that are not done at once, in the order of their next turns.
struct Turns<T>(VecDeque<T>);

impl<T> Turns<T> {
    fn next(&mut self) -> Option<T> {
        self.0.pop_front()
    }

    /// Has one that had no turn yet wait behind all others.
    fn begin_turns(&mut self, it: T) {
        self.0.push_back(it);
    }

    /// Has one that had a turn wait behind those that take turns with it.
    fn end_turn(&mut self, it: T) {
        let place = self.0.len().min(TURNS_MAX - 1);
        self.0.insert(place, it);
    }
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Turns(VecDeque::new())
    }
}

/// Reads in three steps: parked by the index that they wait for, then ready, and then, if they are long, in turns until they are done.
#[derive(Default)]
pub(crate) struct Reads {
    parked: BTreeMap<Index, Vec<Read>>,
    ready: VecDeque<Read>,
    long: Turns<LongRead>,
}

/// A read of which a part is done.
pub(crate) struct LongRead {
    pub(crate) read: Read,
    pub(crate) reading: Reading,
    pub(crate) began: Instant,
}

impl LongRead {
    /// Whether nobody waits for it any more.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.read.answer.is_closed()
    }

    /// The read as it came, and what was done of it, with the memory that this holds until it is dropped.
    pub(crate) fn begin_anew(mut self) -> (Read, (Reading, Making)) {
        let making = self.read.making.anew();
        let before = std::mem::replace(&mut self.read.making, making);
        (self.read, (self.reading, before))
    }
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

    /// Has every read wait for this index at least: the state fell back behind what was shown, or is another one.
    pub(crate) fn hold(&mut self, floor: Index) {
        let later = self.parked.split_off(&floor);
        let earlier = std::mem::replace(&mut self.parked, later).into_values();
        let long = self.long.0.drain(..).map(|long| {
            let (read, rest) = long.begin_anew();
            aside(move || drop(rest));
            read
        });
        let ready = self.ready.drain(..);
        let held: Vec<Read> = earlier.flatten().chain(long).chain(ready).collect();
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

    /// Has a read that can be answered wait for its turn.
    pub(crate) fn requeue(&mut self, read: Read) {
        self.ready.push_back(read);
    }

    /// The long read whose turn it is.
    pub(crate) fn next_long(&mut self) -> Option<LongRead> {
        self.long.next()
    }

    /// Has a read that turned out to be long wait for its first turn.
    pub(crate) fn begin_turns(&mut self, long: LongRead) {
        self.long.begin_turns(long);
    }

    /// Has a long read that had a turn wait for the next.
    pub(crate) fn end_turn(&mut self, long: LongRead) {
        self.long.end_turn(long);
    }

    /// How many are done in part.
    pub(crate) fn long(&self) -> usize {
        self.long.0.len()
    }

    /// Whether any can be answered.
    pub(crate) fn any_ready(&self) -> bool {
        !self.ready.is_empty() || !self.long.0.is_empty()
    }

    /// Forgets those that nobody waits for any more; how many of them were done in part.
    pub(crate) fn sweep(&mut self) -> usize {
        self.parked.retain(|_, reads| {
            reads.retain(|read| !read.answer.is_closed());
            !reads.is_empty()
        });
        let long = std::mem::take(&mut self.long.0).into_iter();
        let (abandoned, long): (VecDeque<_>, _) = long.partition(LongRead::is_abandoned);
        self.long.0 = long;
        let swept = abandoned.len();
        if swept > 0 {
            aside(move || drop(abandoned));
        }
        swept
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
            overtaken: 0,
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

    #[test]
    fn those_that_take_turns_get_as_many_and_one_more_waits_until_another_is_done() {
        let mut turns = Turns::default();
        (0..=TURNS_MAX).for_each(|number| turns.begin_turns(number));
        let mut had = [0; TURNS_MAX + 1];
        let mut take = |turns: &mut Turns<usize>| {
            let number = turns.next().expect("there are some");
            had[number] += 1;
            (number, had)
        };
        for _ in 0..3 * TURNS_MAX {
            let (number, _) = take(&mut turns);
            turns.end_turn(number);
        }
        // The first is done with this one.
        let (_, had) = take(&mut turns);
        assert_eq!(had[..3], [4, 3, 3]);
        assert_eq!(had[TURNS_MAX - 1..], [3, 0]);
        for _ in 0..TURNS_MAX {
            let (number, _) = take(&mut turns);
            turns.end_turn(number);
        }
        let (_, had) = take(&mut turns);
        assert_eq!(had[TURNS_MAX - 1..], [4, 1]);
    }
}
