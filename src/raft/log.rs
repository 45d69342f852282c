//! The log as one machine's core sees it: what it is compacted up to, a window of entries in memory, the terms of all, and how
//! much is durable.

use std::collections::VecDeque;

use crate::{Entry, EntryId, Index, Term};

/// How many entries that left memory lie between two whose place in the sum of bytes is remembered.
const MARK_EVERY: u64 = 64;

/// The log (§5.3).
///
/// Invariants:
/// - indexes have no gap, and terms never fall from one entry to the next;
/// - `base` is the entry up to which the log is compacted (§7); its term is known, and nothing of what is before it;
/// - `terms` holds the first entry after the base of each term, so that `base`, `terms` and `last` give the term of any index;
/// - the window holds the last entries of the log, all that are not yet durable among them;
/// - `base <= durable <= asked <= last`.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Log {
    /// The last entry that was compacted; the place before the first if none was.
    base: EntryId,
    /// The last entries.
    window: VecDeque<Slot>,
    /// What `Slot::end` is just before the window.
    window_start: u64,
    /// What `Slot::end` was at some of the entries that left memory.
    marks: VecDeque<(Index, u64)>,
    /// The first entry after the base of each term.
    terms: Vec<EntryId>,
    last: EntryId,
    /// Up to where Storage was asked to make the log durable.
    asked: Index,
    /// Up to where the log is known to be durable here.
    durable: Index,
    /// The machine's term when it last truncated the log. A notice of what was durable before that says nothing of what
    /// was written since.
    truncated_in: Term,
}

/// An entry of the window.
#[derive(Clone, Debug, Hash)]
struct Slot {
    entry: Entry,
    /// The bytes of all entries up to and with this one, from an arbitrary start: differences give the size of any range.
    end: u64,
}

impl Log {
    /// The log that was found durable; nothing of it is in memory.
    pub(crate) fn new(base: EntryId, terms: Vec<EntryId>, last: EntryId) -> Log {
        Log {
            base,
            window: VecDeque::new(),
            window_start: 0,
            marks: VecDeque::new(),
            terms,
            last,
            asked: last.index,
            durable: last.index,
            truncated_in: Term(0),
        }
    }

    /// The entry up to which the log is compacted.
    pub(crate) fn base(&self) -> EntryId {
        self.base
    }

    /// The last entry.
    pub(crate) fn last(&self) -> EntryId {
        self.last
    }

    /// Up to where the log is known to be durable.
    pub(crate) fn durable(&self) -> Index {
        self.durable
    }

    /// The first index that is in memory; the one after the last if none is.
    pub(crate) fn first_in_memory(&self) -> Index {
        Index(self.last.index.0 + 1 - self.window.len() as u64)
    }

    /// The term at this index, if it is known: that of a place before the base is not, nor is there one beyond the last entry. The
    /// place before the first entry has term zero.
    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        if index < self.base.index || index > self.last.index {
            return None;
        }
        // Nearly all questions are about the latest term.
        if let Some(latest) = self.terms.last().filter(|latest| latest.index <= index) {
            return Some(latest.term);
        }
        let runs = self.terms.partition_point(|first| first.index <= index);
        runs.checked_sub(1).map(|run| self.terms[run].term)
    }

    /// The entry's full name at this index, if it is known.
    pub(crate) fn id_at(&self, index: Index) -> Option<EntryId> {
        self.term_at(index).map(|term| EntryId { term, index })
    }

    /// Whether this very entry is known to stand in the log, or to be the base.
    pub(crate) fn holds(&self, id: EntryId) -> bool {
        self.term_at(id.index) == Some(id.term)
    }

    /// The last entry that is neither after `limit.index` nor of a later term than `limit.term`: no entry between it and
    /// `limit` can stand in a log that has `limit` (§5.3, the accelerated backtracking; a term a round trip). None if it lies
    /// before the base.
    pub(crate) fn last_compatible(&self, limit: EntryId) -> Option<EntryId> {
        let by_index = self.terms.partition_point(|run| run.index <= limit.index);
        let by_term = self.terms.partition_point(|run| run.term <= limit.term);
        let runs = by_index.min(by_term);
        let Some(run) = runs.checked_sub(1) else {
            let reaches_base = self.base.index <= limit.index && self.base.term <= limit.term;
            return reaches_base.then_some(self.base);
        };
        let end = match self.terms.get(runs) {
            Some(next) => next.index.previous(),
            None => self.last.index,
        };
        Some(EntryId {
            term: self.terms[run].term,
            index: end.min(limit.index),
        })
    }

    /// Appends an entry, which must follow on the last one.
    pub(crate) fn append(&mut self, entry: Entry) {
        assert_eq!(
            entry.id.index,
            self.last.index.next(),
            "an entry follows on the last"
        );
        assert!(entry.id.term >= self.last.term, "terms never fall");
        if self.terms.is_empty() || entry.id.term > self.last.term {
            self.terms.push(entry.id);
        }
        self.last = entry.id;
        let end = self.end_at_last() + entry.size() as u64;
        self.window.push_back(Slot { entry, end });
    }

    /// Removes the entry at `from` and all after it, because a leader of `term` has another one there (§5.3).
    pub(crate) fn truncate(&mut self, from: Index, term: Term) {
        assert!(
            from > self.base.index && from <= self.last.index,
            "only entries are removed, and none that is compacted"
        );
        let in_memory = self.first_in_memory();
        let before = from.previous();
        self.window
            .truncate(before.0.saturating_sub(in_memory.previous().0) as usize);
        self.last = self
            .id_at(before)
            .expect("the place before an entry has a term");
        while self.terms.last().is_some_and(|run| run.index >= from) {
            self.terms.pop();
        }
        self.asked = self.asked.min(before);
        self.durable = self.durable.min(before);
        self.truncated_in = term;
    }

    /// Whether there are entries that Storage was not asked to make durable.
    pub(crate) fn has_unasked(&self) -> bool {
        self.asked < self.last.index
    }

    /// The entries that Storage was not asked to make durable; it now is.
    pub(crate) fn take_unasked(&mut self) -> Vec<Entry> {
        let from = self.asked.next();
        self.asked = self.last.index;
        self.entries(from, self.last.index)
    }

    /// Takes Storage's notice, from when this machine was in `term`, that the log is durable up to `last`.
    ///
    /// It counts only if that very entry still stands in the log, and was not removed and written anew meanwhile, which
    /// takes another term (the ABA case: the notice is then of the entry's first life, and its second may yet be lost).
    pub(crate) fn persisted(&mut self, term: Term, last: EntryId) {
        if term >= self.truncated_in && last.index <= self.asked && self.holds(last) {
            self.durable = self.durable.max(last.index);
        }
    }

    /// The entries from `from` to `up_to`, as far as they are in memory.
    pub(crate) fn entries(&self, from: Index, up_to: Index) -> Vec<Entry> {
        let first = self.first_in_memory();
        let start = from.0.saturating_sub(first.0) as usize;
        let end = (up_to.next().0.saturating_sub(first.0) as usize).min(self.window.len());
        self.window
            .range(start.min(end)..end)
            .map(|slot| slot.entry.clone())
            .collect()
    }

    /// The entries after `index`, as far as they are in memory.
    pub(crate) fn in_memory_after(&self, index: Index) -> impl Iterator<Item = &Entry> {
        let gone = index.0.saturating_sub(self.first_in_memory().previous().0) as usize;
        self.window.iter().skip(gone).map(|slot| &slot.entry)
    }

    /// The last index such that the entries from `from`, which is in memory, up to it have at most `bytes_max` bytes; at
    /// least `from` itself, so that a large entry travels alone.
    pub(crate) fn chunk_end(&self, from: Index, bytes_max: usize) -> Index {
        let limit = self
            .end_at(from.previous())
            .saturating_add(bytes_max as u64);
        let fitting = self.window.partition_point(|slot| slot.end <= limit) as u64;
        let end = Index((self.first_in_memory().0 + fitting).saturating_sub(1));
        end.max(from).min(self.last.index)
    }

    /// The bytes of the entries after `index` up to `up_to`, as far as they are in memory.
    pub(crate) fn bytes_between(&self, index: Index, up_to: Index) -> usize {
        self.end_at(up_to).saturating_sub(self.end_at(index)) as usize
    }

    /// The bytes of the entries after `index`, as far as they are in memory.
    pub(crate) fn bytes_after(&self, index: Index) -> usize {
        self.bytes_between(index, self.last.index)
    }

    /// Forgets entries up to `up_to`, oldest first, while the window has more than `bytes_max` bytes. Only what is
    /// durable can be forgotten: Storage is asked for it when it is needed again.
    pub(crate) fn evict(&mut self, up_to: Index, bytes_max: usize) {
        let up_to = up_to.min(self.durable);
        while let Some(oldest) = self.window.front()
            && oldest.entry.id.index <= up_to
            && self.end_at_last() - self.window_start > bytes_max as u64
        {
            if oldest.entry.id.index.0.is_multiple_of(MARK_EVERY) {
                self.marks.push_back((oldest.entry.id.index, oldest.end));
            }
            self.window_start = oldest.end;
            self.window.pop_front();
        }
    }

    /// A place such that the entries after it have at most `bytes_max` bytes: the first such place that is known. The sizes of
    /// entries that were durable before this machine started are not known, and count for nothing.
    pub(crate) fn tail_start(&mut self, bytes_max: usize) -> Index {
        let limit = self.end_at_last().saturating_sub(bytes_max as u64);
        if limit == 0 {
            return self.base.index;
        }
        // What is before the tail is not asked for again: the end of the log only grows beyond it.
        while self.marks.front().is_some_and(|&(_, end)| end < limit) {
            self.marks.pop_front();
        }
        if let Some(&(index, _)) = self.marks.front() {
            return index;
        }
        let before = self.window.partition_point(|slot| slot.end < limit) as u64;
        let in_window = Index(self.first_in_memory().0 + before).min(self.last.index);
        if self.window_start >= limit {
            self.first_in_memory().previous()
        } else {
            in_window
        }
    }

    /// Forgets all entries up to `up_to`, which becomes the base: a state that is durable holds what they did (§7).
    pub(crate) fn compact(&mut self, up_to: Index) {
        assert!(
            up_to <= self.durable,
            "only what is durable here is compacted"
        );
        let base = self
            .id_at(up_to)
            .expect("what is compacted stands in the log");
        let next = self.id_at(up_to.next());
        let runs = self.terms.partition_point(|run| run.index <= up_to.next());
        self.terms.splice(..runs, next);
        self.base = base;
        while let Some(oldest) = self.window.front()
            && oldest.entry.id.index <= up_to
        {
            self.window_start = oldest.end;
            self.window.pop_front();
        }
        while self.marks.front().is_some_and(|&(index, _)| index <= up_to) {
            self.marks.pop_front();
        }
    }

    /// Takes a snapshot that ends with `last`, and that is durable, in the place of all entries up to it. What follows on that
    /// entry is kept, if the log holds it; if not, the whole log goes (§7). `term` is the machine's own at that moment.
    pub(crate) fn install(&mut self, last: EntryId, term: Term) {
        if self.holds(last) {
            self.asked = self.asked.max(last.index);
            self.durable = self.durable.max(last.index);
            self.compact(last.index);
        } else {
            assert!(
                last.index > self.base.index,
                "what is compacted is committed, and no snapshot contradicts it"
            );
            *self = Log::new(last, Vec::new(), last);
            // Notices of what was written before tell nothing of what will be written in its place.
            self.truncated_in = term;
        }
    }

    /// The sum of the bytes of all entries, from an arbitrary start.
    pub(crate) fn end_at_last(&self) -> u64 {
        self.window
            .back()
            .map_or(self.window_start, |slot| slot.end)
    }

    /// The same of all up to `index`, as far as they are in memory.
    pub(crate) fn end_at(&self, index: Index) -> u64 {
        let first = self.first_in_memory();
        if index < first {
            return self.window_start;
        }
        self.window
            .get((index.0 - first.0) as usize)
            .map_or(self.end_at_last(), |slot| slot.end)
    }

    /// Asserts the invariants that take no walk through the log.
    pub(crate) fn check(&self) {
        assert!(
            self.base.index <= self.durable
                && self.durable <= self.asked
                && self.asked <= self.last.index,
            "base <= durable <= asked <= last"
        );
        assert!(
            self.first_in_memory() <= self.durable.next(),
            "what is not durable is in memory"
        );
        match self.terms.last() {
            Some(latest) => {
                assert!(latest.term == self.last.term && latest.index <= self.last.index)
            }
            None => assert_eq!(self.last, self.base, "an empty log has no terms"),
        }
        if let Some(first) = self.terms.first() {
            assert!(
                first.index == self.base.index.next() && first.term >= self.base.term,
                "the terms begin after the base"
            );
        }
        if let Some(slot) = self.window.back() {
            assert_eq!(slot.entry.id, self.last, "the window ends with the log");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Payload;

    /// The naive twin: all entries in a vector, those that are compacted too, and what is durable counted by the letter of the
    /// rule.
    #[derive(Default)]
    struct Twin {
        entries: Vec<EntryId>,
        base: usize,
        durable: usize,
    }

    impl Twin {
        fn term_at(&self, index: u64) -> Option<Term> {
            match index {
                _ if index < self.base as u64 => None,
                0 => Some(Term(0)),
                _ => self.entries.get(index as usize - 1).map(|id| id.term),
            }
        }

        fn last_compatible(&self, limit: EntryId) -> Option<EntryId> {
            let compatible = |id: &&EntryId| id.index <= limit.index && id.term <= limit.term;
            let last = self.entries.iter().rfind(compatible).copied();
            let last = last.unwrap_or_default();
            (last.index.0 >= self.base as u64).then_some(last)
        }
    }

    /// What may happen to a log.
    #[derive(Clone, Debug)]
    enum Step {
        Append {
            count: u64,
            later_term: bool,
        },
        Truncate {
            share: u64,
        },
        Ask,
        Persist,
        Evict {
            bytes_max: usize,
        },
        Compact {
            share: u64,
        },
        /// A snapshot that ends at an entry of the log.
        InstallKnown {
            share: u64,
        },
        /// A snapshot that ends beyond the log.
        InstallBeyond {
            gap: u64,
        },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (1u64..5, any::<bool>()).prop_map(|(count, later_term)| Step::Append { count, later_term }),
            1 => (0u64..100).prop_map(|share| Step::Truncate { share }),
            3 => Just(Step::Ask),
            3 => Just(Step::Persist),
            2 => (0usize..300).prop_map(|bytes_max| Step::Evict { bytes_max }),
            1 => (0u64..=100).prop_map(|share| Step::Compact { share }),
            1 => (0u64..=100).prop_map(|share| Step::InstallKnown { share }),
            1 => (0u64..5).prop_map(|gap| Step::InstallBeyond { gap }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_log_is_what_its_naive_twin_is(steps in prop::collection::vec(step(), 1..60)) {
            let mut log = Log::new(EntryId::default(), Vec::new(), EntryId::default());
            let mut twin = Twin::default();
            let mut term = Term(1);
            // What Storage was asked and has not said to be done: the machine's term then, and the last entry.
            let mut asked: VecDeque<(Term, EntryId, usize)> = VecDeque::new();
            for step in steps {
                match step {
                    Step::Append { count, later_term } => {
                        if later_term {
                            term = term.next();
                        }
                        for _ in 0..count {
                            let id = EntryId { term, index: log.last().index.next() };
                            log.append(Entry { id, payload: Payload::Empty });
                            twin.entries.push(id);
                        }
                    }
                    Step::Truncate { share } => {
                        let keep = twin.base + (twin.entries.len() - twin.base) * share as usize / 100;
                        if keep < twin.entries.len() {
                            term = term.next();
                            log.truncate(Index(keep as u64 + 1), term);
                            twin.entries.truncate(keep);
                            twin.durable = twin.durable.min(keep);
                            // What was asked before no longer tells about what is written after, and a leader
                            // truncates only to put something else there.
                            for (_, _, proves) in &mut asked {
                                *proves = (*proves).min(keep);
                            }
                            let index = log.last().index.next();
                            let id = EntryId { term, index };
                            let payload = Payload::Empty;
                            log.append(Entry { id, payload });
                            twin.entries.push(id);
                        }
                    }
                    Step::Ask => {
                        log.take_unasked();
                        asked.push_back((term, log.last(), twin.entries.len()));
                    }
                    Step::Persist => {
                        if let Some((then, last, proves)) = asked.pop_front() {
                            log.persisted(then, last);
                            // The log may know less than the twin, never more: it counts only whole notices.
                            prop_assert!(log.durable().0 as usize <= twin.durable.max(proves));
                            if proves as u64 == last.index.0 {
                                twin.durable = twin.durable.max(proves);
                            }
                            if asked.is_empty() && !log.has_unasked() && proves as u64 == last.index.0 {
                                prop_assert_eq!(log.durable(), last.index.max(log.base().index));
                            }
                        }
                    }
                    Step::Evict { bytes_max } => log.evict(log.durable(), bytes_max),
                    Step::Compact { share } => {
                        let up_to = twin.base + (log.durable().0 as usize - twin.base) * share as usize / 100;
                        log.compact(Index(up_to as u64));
                        twin.base = up_to;
                    }
                    Step::InstallKnown { share } => {
                        // Storage was asked for all of it before the snapshot was installed, and does things in order.
                        log.take_unasked();
                        asked.push_back((term, log.last(), twin.entries.len()));
                        let up_to = twin.base + (twin.entries.len() - twin.base) * share as usize / 100;
                        let last = log.id_at(Index(up_to as u64)).expect("it is known");
                        log.install(last, term);
                        twin.base = up_to;
                        twin.durable = twin.durable.max(up_to);
                    }
                    Step::InstallBeyond { gap } => {
                        term = term.next();
                        let index = Index(log.last().index.0 + 1 + gap);
                        let id = EntryId { term, index };
                        log.install(id, term);
                        twin.base = index.0 as usize;
                        twin.durable = twin.base;
                        // What the snapshot stands for has no names but that of its last entry.
                        twin.entries = vec![EntryId::default(); twin.base - 1];
                        twin.entries.push(id);
                        for (_, _, proves) in &mut asked {
                            *proves = 0;
                        }
                    }
                }
                log.check();
                compare(&log, &twin)?;
                prop_assert_eq!(log.base().index.0 as usize, twin.base);
            }
        }
    }

    fn compare(log: &Log, twin: &Twin) -> Result<(), TestCaseError> {
        let last = twin.entries.len() as u64;
        for index in 0..last + 3 {
            prop_assert_eq!(log.term_at(Index(index)), twin.term_at(index));
        }
        for index in 0..last + 2 {
            for term in 0..last + 2 {
                let limit = EntryId {
                    term: Term(term),
                    index: Index(index),
                };
                prop_assert_eq!(log.last_compatible(limit), twin.last_compatible(limit));
            }
        }
        let first = log.first_in_memory();
        let in_memory = log.entries(first, Index(last));
        let ids: Vec<EntryId> = in_memory.iter().map(|entry| entry.id).collect();
        prop_assert_eq!(&ids[..], &twin.entries[first.0 as usize - 1..]);
        for entry in &in_memory {
            let index = entry.id.index;
            let bytes: usize = in_memory
                .iter()
                .filter(|e| e.id.index > index)
                .map(Entry::size)
                .sum();
            prop_assert_eq!(log.bytes_after(index), bytes);
            let end = log.chunk_end(index, 2 * entry.size());
            prop_assert_eq!(end, index.next().min(Index(last)));
            prop_assert_eq!(log.chunk_end(index, 1), index);
        }
        Ok(())
    }

    #[test]
    fn a_notice_of_an_entrys_first_life_does_not_count() {
        let entry = |term, index| Entry {
            id: EntryId {
                term: Term(term),
                index: Index(index),
            },
            payload: Payload::Empty,
        };
        let mut log = Log::new(EntryId::default(), Vec::new(), EntryId::default());
        log.append(entry(2, 1));
        log.take_unasked();
        log.truncate(Index(1), Term(3));
        log.append(entry(3, 1));
        log.take_unasked();
        log.truncate(Index(1), Term(4));
        log.append(entry(2, 1));
        log.take_unasked();
        log.persisted(Term(2), entry(2, 1).id);
        assert_eq!(log.durable(), Index(0));
        log.persisted(Term(4), entry(2, 1).id);
        assert_eq!(log.durable(), Index(1));
    }

    #[test]
    fn a_notice_from_before_an_install_does_not_count() {
        let entry = |term, index| Entry {
            id: EntryId {
                term: Term(term),
                index: Index(index),
            },
            payload: Payload::Empty,
        };
        let mut log = Log::new(EntryId::default(), Vec::new(), EntryId::default());
        log.append(entry(1, 1));
        log.append(entry(1, 2));
        log.take_unasked();
        log.install(entry(2, 4).id, Term(3));
        assert_eq!(log.durable(), Index(4));
        log.append(entry(2, 5));
        log.take_unasked();
        log.persisted(Term(2), entry(1, 2).id);
        log.persisted(Term(2), entry(2, 5).id);
        assert_eq!(log.durable(), Index(4));
        log.persisted(Term(3), entry(2, 5).id);
        assert_eq!(log.durable(), Index(5));
    }

    #[test]
    fn the_tail_is_known_for_entries_that_left_memory() {
        let size = Entry {
            id: EntryId::default(),
            payload: Payload::Empty,
        }
        .size();
        let mut log = Log::new(EntryId::default(), Vec::new(), EntryId::default());
        for index in 1..=500 {
            let id = EntryId {
                term: Term(1),
                index: Index(index),
            };
            log.append(Entry {
                id,
                payload: Payload::Empty,
            });
        }
        log.take_unasked();
        log.persisted(Term(1), log.last());
        assert_eq!(log.tail_start(1000 * size), Index(0));
        assert_eq!(log.tail_start(400 * size), Index(100));
        log.evict(Index(500), 10 * size);
        // To the next mark, and exactly in memory.
        assert_eq!(log.tail_start(400 * size), Index(128));
        assert_eq!(log.tail_start(10 * size), Index(490));
        assert_eq!(log.tail_start(3 * size), Index(497));
        assert_eq!(log.tail_start(0), Index(500));
    }
}
