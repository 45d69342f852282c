//! The end of the log, in memory: in pieces that are shared with whoever writes, sends or applies them.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::ops::Range;

use crate::{Entries, Entry};

/// From so many bytes of entries that came one by one on they make a piece; what came together in an append is a piece of its own
/// size. A piece stays in memory while any of its entries is wanted, so that this is what may stay too much.
const PIECE_BYTES: u64 = 1 << 20;

/// The last entries of a log, by their place in the window.
///
/// Invariants: `ends` has one place for each entry of `pieces` and `open`, in their order, and never falls; no piece is empty.
#[derive(Clone, Debug, Default)]
pub(crate) struct Window {
    /// What has been shared, or came that way.
    pieces: VecDeque<Entries>,
    /// What follows, and nobody has asked for yet.
    open: Vec<Entry>,
    /// The bytes of all entries up to and with this one, from an arbitrary start: differences give the size of any range.
    ends: VecDeque<u64>,
    /// What that sum is just before the window.
    start: u64,
    /// What it is just before `open`.
    open_start: u64,
}

impl Window {
    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The sum of the bytes of all entries before the window.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// The same of all.
    pub(crate) fn end(&self) -> u64 {
        self.ends.back().copied().unwrap_or(self.start)
    }

    /// The same of all up to and with the one at this place.
    pub(crate) fn end_at(&self, place: usize) -> Option<u64> {
        self.ends.get(place).copied()
    }

    /// The same of each, in their order.
    pub(crate) fn ends(&self) -> impl Iterator<Item = u64> {
        self.ends.iter().copied()
    }

    /// How many of the first entries there are whose end the predicate holds for, which must be so for none after one for which it
    /// does not.
    pub(crate) fn count_by_end(&self, predicate: impl Fn(u64) -> bool) -> usize {
        self.ends.partition_point(|&end| predicate(end))
    }

    /// The last entry.
    pub(crate) fn last(&self) -> Option<&Entry> {
        self.open
            .last()
            .or_else(|| self.pieces.back().and_then(|piece| piece.last()))
    }

    /// The entries from this place on.
    pub(crate) fn iter_from(&self, place: usize) -> impl Iterator<Item = &Entry> {
        let pieces = self.pieces.iter().flatten();
        pieces.chain(&self.open).skip(place)
    }

    /// Adds an entry at the end.
    pub(crate) fn push(&mut self, entry: Entry) {
        let end = self.end();
        if end - self.open_start >= PIECE_BYTES {
            self.close();
        }
        self.ends.push_back(end + entry.size() as u64);
        self.open.push(entry);
    }

    /// Adds entries at the end that others hold, too.
    pub(crate) fn extend(&mut self, entries: Entries) {
        self.close();
        let mut end = self.end();
        for entry in &entries {
            end += entry.size() as u64;
            self.ends.push_back(end);
        }
        self.open_start = end;
        if !entries.is_empty() {
            self.pieces.push_back(entries);
        }
    }

    /// The entries of a range of places, all of which there are: without a copy where they lie in one piece.
    pub(crate) fn entries(&mut self, range: Range<usize>) -> Entries {
        self.close();
        if range.is_empty() {
            return Entries::default();
        }
        // What is asked for is nearly always at the end.
        let mut start = self.len();
        let mut first = self.pieces.len();
        while start > range.start {
            first -= 1;
            start -= self.pieces[first].len();
        }
        let (from, to) = (range.start - start, range.end - start);
        if to <= self.pieces[first].len() {
            return self.pieces[first].part(from..to);
        }
        let entries = self.pieces.range(first..).flatten();
        entries.skip(from).take(to - from).cloned().collect()
    }

    /// Removes all but the first `count` entries.
    pub(crate) fn truncate(&mut self, count: usize) {
        self.close();
        let mut surplus = self.len().saturating_sub(count);
        self.ends.truncate(count);
        while let Some(piece) = self.pieces.back_mut()
            && surplus > 0
        {
            let kept = piece.len().saturating_sub(surplus);
            surplus -= piece.len() - kept;
            piece.truncate(kept);
            if piece.is_empty() {
                self.pieces.pop_back();
            }
        }
        self.open_start = self.end();
    }

    /// Removes the first `count` entries, as far as there are so many.
    pub(crate) fn forget(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        self.close();
        let count = count.min(self.len());
        if let Some(last) = self.ends.drain(..count).next_back() {
            self.start = last;
        }
        let mut surplus = count;
        while let Some(piece) = self.pieces.front_mut()
            && surplus > 0
        {
            let gone = piece.len().min(surplus);
            surplus -= gone;
            piece.drop_front(gone);
            if piece.is_empty() {
                self.pieces.pop_front();
            }
        }
    }

    /// Makes a piece of what came one by one.
    fn close(&mut self) {
        if !self.open.is_empty() {
            self.pieces.push_back(self.open.drain(..).collect());
        }
        self.open_start = self.end();
    }
}

/// Where one piece ends and the next begins makes no difference.
impl Hash for Window {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.len().hash(hasher);
        for entry in self.iter_from(0) {
            entry.hash(hasher);
        }
        self.start.hash(hasher);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{EntryId, Index, Payload, Proposal, RequestId, Term};

    #[derive(Clone, Debug)]
    enum Step {
        Push { bytes: usize },
        Extend { count: usize },
        Ask { from: usize, to: usize },
        Truncate { count: usize },
        Forget { count: usize },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => prop_oneof![Just(10), Just(PIECE_BYTES as usize / 2)].prop_map(|bytes| Step::Push { bytes }),
            3 => (0usize..6).prop_map(|count| Step::Extend { count }),
            3 => (0usize..20, 0usize..20).prop_map(|(from, to)| Step::Ask { from, to }),
            1 => (0usize..20).prop_map(|count| Step::Truncate { count }),
            1 => (0usize..6).prop_map(|count| Step::Forget { count }),
        ]
    }

    fn entry(number: u64, bytes: usize) -> Entry {
        Entry {
            id: EntryId {
                term: Term(1),
                index: Index(number),
            },
            payload: Payload::Command(Proposal {
                request: RequestId::default(),
                command: vec![0; bytes].into(),
            }),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_window_is_what_a_list_of_entries_is(steps in prop::collection::vec(step(), 1..60)) {
            let mut window = Window::default();
            let mut twin: Vec<Entry> = Vec::new();
            let mut made = 0..;
            let mut start = 0;
            for step in steps {
                match step {
                    Step::Push { bytes } => {
                        let entry = entry(made.next().expect("no end"), bytes);
                        window.push(entry.clone());
                        twin.push(entry);
                    }
                    Step::Extend { count } => {
                        let entries: Vec<Entry> = made.by_ref().take(count).map(|number| entry(number, 20)).collect();
                        window.extend(entries.clone().into());
                        twin.extend(entries);
                    }
                    Step::Ask { from, to } => {
                        let (from, to) = (from.min(twin.len()), to.min(twin.len()));
                        prop_assert_eq!(&window.entries(from..to)[..], &twin[from..to.max(from)]);
                    }
                    Step::Truncate { count } => {
                        window.truncate(count);
                        twin.truncate(count);
                    }
                    Step::Forget { count } => {
                        window.forget(count);
                        let gone = twin.drain(..count.min(twin.len()));
                        start += gone.map(|entry| entry.size() as u64).sum::<u64>();
                    }
                }
                prop_assert_eq!(window.len(), twin.len());
                prop_assert_eq!(window.last(), twin.last());
                prop_assert_eq!(window.start(), start);
                let mut end = start;
                for (place, entry) in twin.iter().enumerate() {
                    end += entry.size() as u64;
                    prop_assert_eq!(window.end_at(place), Some(end));
                    prop_assert!(window.iter_from(place).eq(&twin[place..]));
                }
                prop_assert_eq!(window.end(), end);
                prop_assert!(window.pieces.iter().all(|piece| !piece.is_empty()));
            }
        }
    }

    #[test]
    fn what_is_asked_for_twice_is_one_piece_of_memory() {
        let mut window = Window::default();
        for number in 1..=3 {
            window.push(entry(number, 10));
        }
        let (all, last) = (window.entries(0..3), window.entries(2..3));
        assert!(std::ptr::eq(&raw const all[2], &raw const last[0]));
    }

    #[test]
    fn no_piece_grows_far_beyond_its_size() {
        let mut window = Window::default();
        for number in 1..=40 {
            window.push(entry(number, PIECE_BYTES as usize / 10));
        }
        window.entries(0..40);
        assert!(window.pieces.iter().all(|piece| piece.len() <= 10));
    }
}
