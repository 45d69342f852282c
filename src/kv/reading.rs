//! A query that is answered in slices, so that nobody waits behind it for long. Each slice sees the key space as it was when the query
//! began.

use crate::command::{Range, Reply};
use crate::error::{Failure, KvError, RequestError};
use crate::progress::Turn;
use crate::range::RangeReading;
use crate::room::ReplyMemory;
use crate::tally::Tally;
use crate::txn::{Outline, Plan};
use crate::view::View;

/// So many keys are sorted as a part of a slice.
const SORTED_AT_ONCE_MAX: usize = 1_024;

/// How far a query is. What was read of one that comes to nothing is given back, since it may take long only to let go of its memory.
#[derive(Debug)]
pub enum Slice {
    /// It is answered.
    Answered(Reply),
    /// All that it asks for is read, and is many keys that are yet to be sorted: anybody may do that, on any thread.
    Unsorted(Unsorted),
    /// There is more to read.
    Unfinished(Reading),
    /// The key space was compacted beyond what was being read, which is of no more use. Whoever asks again is answered as of then, or
    /// refused if the revision was named.
    Overtaken(Reading),
    /// It cannot be answered, for want of room for the reply.
    Refused(Reading, RequestError),
}

/// A query, or a transaction that only reads, of which a part is read.
///
/// Invariant: what is read follows from the query and the key space as it was when the reading began, so it is good for that key space
/// and for any other that has applied the same entries.
#[derive(Debug)]
pub struct Reading {
    /// That of the key space when it began, and the one that the reply tells: whoever watches from the next one on misses nothing.
    revision: i64,
    outline: Outline,
    ranges: Vec<RangeReading>,
    /// How many of them are read.
    read: usize,
    /// How many bytes the reply may still take.
    reply_bytes_left: usize,
}

impl Reading {
    /// Begins with a range that stands alone.
    pub(crate) fn range(view: &View, range: &Range) -> Result<Reading, RequestError> {
        let ranges = vec![RangeReading::begin(view, range)?];
        Ok(Reading::new(view, Outline::Range, ranges))
    }

    /// Begins with the ranges of a transaction that only reads.
    pub(crate) fn txn(view: &View, plan: &Plan) -> Reading {
        let mut ranges = Vec::new();
        let outline = plan.outline(&mut ranges);
        let ranges = ranges
            .into_iter()
            .map(|range| RangeReading::begin_checked(view, range));
        Reading::new(view, outline, ranges.collect())
    }

    fn new(view: &View, outline: Outline, ranges: Vec<RangeReading>) -> Reading {
        Reading {
            revision: view.revision,
            outline,
            ranges,
            read: 0,
            reply_bytes_left: view.room.left(),
        }
    }

    pub(crate) fn reply_bytes_left(&self) -> usize {
        self.reply_bytes_left
    }

    /// What it counts for when it is done.
    pub(crate) fn tally(&self) -> Tally {
        Tally {
            ranges: self.ranges.len() as u64,
            txns: match self.outline {
                Outline::Range => 0,
                Outline::Txn { .. } => 1,
            },
            ..Tally::default()
        }
    }

    /// Reads for as long as the turn lasts.
    pub(crate) fn read(
        mut self,
        view: &View,
        turn: &Turn,
        memory: &dyn ReplyMemory,
    ) -> Result<Slice, KvError> {
        let mut left = self.ranges[self.read..].iter();
        if left.any(|range| range.is_compacted(view.compact_revision)) {
            return Ok(Slice::Overtaken(self));
        }
        while let Some(range) = self.ranges.get_mut(self.read) {
            // A transaction may be of many short ranges.
            let outcome = match turn.is_over() {
                true => Ok(false),
                false => range.read(view, turn),
            };
            match outcome {
                Ok(true) => self.read += 1,
                Ok(false) => {
                    self.reply_bytes_left = view.room.left();
                    return Ok(Slice::Unfinished(self));
                }
                Err(Failure::Request(error)) => return Ok(Slice::Refused(self, error)),
                Err(Failure::Store(error)) => return Err(error),
            }
        }
        let unsorted: usize = self.ranges.iter().map(RangeReading::unsorted).sum();
        let unsorted_is_much = unsorted > SORTED_AT_ONCE_MAX;
        let made = Unsorted(self);
        Ok(match unsorted_is_much {
            true => Slice::Unsorted(made),
            false => Slice::Answered(made.sort(memory)),
        })
    }
}

/// A reply that is whole but for the order of its keys.
#[derive(Debug)]
pub struct Unsorted(Reading);

impl Unsorted {
    /// Sorts the keys, and gives back the memory that only the order needed.
    pub fn sort(self, memory: &dyn ReplyMemory) -> Reply {
        let Reading {
            revision,
            outline,
            ranges,
            ..
        } = self.0;
        let give_back = |bytes| memory.give_back(bytes);
        let mut ranges = ranges.into_iter().map(|range| range.finish(&give_back));
        outline.fill(revision, &mut ranges)
    }
}
