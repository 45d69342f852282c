//! The log as one machine's core sees it: what it is compacted up to, a window of entries in memory, the terms of all, and how
//! much is durable.

use std::collections::VecDeque;

use crate::window::Window;
use crate::{Entries, Entry, EntryId, Index, Term};

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
    window: Window,
    /// The sum of bytes at some of the entries that left memory.
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

impl Log {
    /// The log that was found durable; nothing of it is in memory.
    pub(crate) fn new(base: EntryId, terms: Vec<EntryId>, last: EntryId) -> Log {
        Log {
            base,
            window: Window::default(),
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
        self.follow_on(entry.id);
        self.window.push(entry);
    }

    /// Appends entries that came together; the first must follow on the last one, and each on the one before.
    pub(crate) fn append_all(&mut self, entries: Entries) {
        for entry in &entries {
            self.follow_on(entry.id);
        }
        self.window.extend(entries);
    }

    fn follow_on(&mut self, id: EntryId) {
        assert_eq!(
            id.index,
            self.last.index.next(),
            "an entry follows on the last"
        );
        assert!(id.term >= self.last.term, "terms never fall");
        if self.terms.is_empty() || id.term > self.last.term {
            self.terms.push(id);
        }
        self.last = id;
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
    pub(crate) fn take_unasked(&mut self) -> Entries {
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
    pub(crate) fn entries(&mut self, from: Index, up_to: Index) -> Entries {
        let first = self.first_in_memory();
        let start = from.0.saturating_sub(first.0) as usize;
        let end = (up_to.next().0.saturating_sub(first.0) as usize).min(self.window.len());
        self.window.entries(start.min(end)..end)
    }

    /// The entries after `index`, as far as they are in memory.
    pub(crate) fn in_memory_after(&self, index: Index) -> impl Iterator<Item = &Entry> {
        let gone = index.0.saturating_sub(self.first_in_memory().previous().0) as usize;
        self.window.iter_from(gone)
    }

    /// The last index such that the entries from `from`, which is in memory, up to it have at most `bytes_max` bytes; at
    /// least `from` itself, so that a large entry travels alone.
    pub(crate) fn chunk_end(&self, from: Index, bytes_max: usize) -> Index {
        let limit = self
            .end_at(from.previous())
            .saturating_add(bytes_max as u64);
        // Nearly always all that follows fits.
        if self.end_at_last() <= limit {
            return self.last.index;
        }
        let fitting = self.window.count_by_end(|end| end <= limit) as u64;
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
        let keep_from = self.end_at_last().saturating_sub(bytes_max as u64);
        if self.window.start() >= keep_from {
            return;
        }
        let first = self.first_in_memory().0;
        let may_go = up_to.next().0.saturating_sub(first);
        // Each that is counted is forgotten, so that the count costs no more than that, however much must stay.
        let ends = self.window.ends().take(may_go as usize);
        let surplus = 1 + ends.take_while(|&end| end < keep_from).count() as u64;
        let gone = surplus.min(may_go);
        let next_mark = first.next_multiple_of(MARK_EVERY);
        for index in (next_mark..first + gone).step_by(MARK_EVERY as usize) {
            self.marks
                .push_back((Index(index), self.end_at(Index(index))));
        }
        self.window.forget(gone as usize);
    }

    /// A place such that the entries after it have at most `bytes_max` bytes: the first such place that is known. The sizes of
    /// entries that were durable before this machine started are not known, and count for nothing.
    pub(crate) fn tail_start(&self, bytes_max: usize) -> Index {
        let limit = self.end_at_last().saturating_sub(bytes_max as u64);
        if limit == 0 {
            return self.base.index;
        }
        let before = self.marks.partition_point(|&(_, end)| end < limit);
        if let Some(&(index, _)) = self.marks.get(before) {
            return index;
        }
        let before = self.window.count_by_end(|end| end < limit) as u64;
        let in_window = Index(self.first_in_memory().0 + before).min(self.last.index);
        if self.window.start() >= limit {
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
        let compacted = up_to.next().0.saturating_sub(self.first_in_memory().0);
        self.window.forget(compacted as usize);
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
        self.window.end()
    }

    /// The same of all up to `index`, as far as they are in memory.
    pub(crate) fn end_at(&self, index: Index) -> u64 {
        let first = self.first_in_memory();
        if index < first {
            return self.window.start();
        }
        self.window
            .end_at((index.0 - first.0) as usize)
            .unwrap_or(self.end_at_last())
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
        if let Some(entry) = self.window.last() {
            assert_eq!(entry.id, self.last, "the window ends with the log");
        }
    }
}

#[cfg(test)]
mod tests;
