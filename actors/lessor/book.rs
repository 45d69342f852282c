//! The book of the lessor that leads: when each lease ends.
//!
//! A lease is *free*, or something about it is on its way through the log: its *end*, or a *note* of what is left of it. One that somebody
//! asks to be renewed is *reserved* from then until that is decided: nothing is done about it meanwhile, so that the answer is true of
//! a lease that lives.

use std::collections::{BTreeSet, HashMap};

use rm_kv::{Grant, Lease, LeaseTime};

/// All leases. Times are in milliseconds by the clock of leases.
#[derive(Debug)]
pub(crate) struct Book {
    leases: HashMap<i64, Counted>,
    /// The free ones, by when they end.
    due: BTreeSet<(u64, i64)>,
    /// The free ones that are longer than `note_ms`, by when that was last looked at.
    notable: BTreeSet<(u64, i64)>,
    /// How many renewals of an id are being decided.
    reserved: HashMap<i64, usize>,
    /// How long a lease is not renewed until it is noted what is left of it.
    note_ms: u64,
    /// Whether all leases are in it.
    is_whole: bool,
}

#[derive(Clone, Copy, Debug)]
struct Counted {
    entry: u64,
    /// For how long it was granted, in seconds.
    ttl: i64,
    /// When it ends.
    end_ms: u64,
    /// When it was renewed, or noted, last.
    since_ms: u64,
    is_free: bool,
}

/// It cannot be told yet how it stands with a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Undecided;

impl Book {
    /// An empty one, of a lessor that notes what is left of leases after so long.
    pub(crate) fn new(note_ms: u64) -> Book {
        Book {
            leases: HashMap::new(),
            due: BTreeSet::new(),
            notable: BTreeSet::new(),
            reserved: HashMap::new(),
            note_ms,
            is_whole: false,
        }
    }

    /// How many leases there are.
    pub(crate) fn len(&self) -> usize {
        self.leases.len()
    }

    /// All leases are in the book from now on, but for those that are granted later.
    pub(crate) fn complete(&mut self) {
        self.is_whole = true;
    }

    /// Takes a lease in, unless it is known. A later grant of the same id takes the place of an earlier one.
    pub(crate) fn add(&mut self, lease: &Lease, now_ms: u64, extension_ms: u64) {
        let Lease {
            grant,
            ttl,
            remaining,
        } = *lease;
        let known = self.leases.get(&grant.id);
        if known.is_some_and(|known| known.entry >= grant.entry) {
            return;
        }
        let left_ms = millis(remaining.unwrap_or(ttl)).saturating_add(extension_ms);
        self.set(
            grant.id,
            Counted {
                entry: grant.entry,
                ttl,
                end_ms: now_ms.saturating_add(left_ms),
                since_ms: now_ms,
                is_free: true,
            },
        );
    }

    /// Strikes a lease out.
    pub(crate) fn strike(&mut self, grant: Grant) {
        if let Some(counted) = self.of(grant) {
            self.unlist(grant.id, &counted);
            self.leases.remove(&grant.id);
        }
    }

    /// Reserves the leases of these ids, until [`Book::unreserve`]: those about which nothing is being decided. Tells of each whether it is.
    pub(crate) fn reserve(&mut self, ids: &[i64]) -> Vec<bool> {
        let mut are_reserved = Vec::with_capacity(ids.len());
        for id in ids {
            let is_free = self.leases.get(id).is_none_or(|counted| counted.is_free);
            if is_free {
                *self.reserved.entry(*id).or_default() += 1;
            }
            are_reserved.push(is_free);
        }
        are_reserved
    }

    /// Gives back what was reserved.
    pub(crate) fn unreserve(&mut self, id: i64) {
        if let Some(count) = self.reserved.get_mut(&id) {
            *count -= 1;
            if *count == 0 {
                self.reserved.remove(&id);
            }
        }
    }

    /// Gives a lease that is reserved its whole time again; how much that is, in milliseconds.
    ///
    /// # Errors
    /// It is another grant than the book knows, or has ended meanwhile.
    pub(crate) fn renew(&mut self, lease: &Lease, now_ms: u64) -> Result<u64, Undecided> {
        if !self.is_whole {
            // It may not have been read yet.
            self.add(lease, now_ms, 0);
        }
        let counted = self.of(lease.grant).ok_or(Undecided)?;
        let left_ms = millis(counted.ttl);
        self.set(
            lease.grant.id,
            Counted {
                end_ms: now_ms.saturating_add(left_ms),
                since_ms: now_ms,
                ..counted
            },
        );
        Ok(left_ms)
    }

    /// How much is left of a lease, in milliseconds; of one that is not in the book yet, what was noted.
    pub(crate) fn left(&self, lease: &Lease, now_ms: u64) -> u64 {
        match self.of(lease.grant) {
            Some(counted) => counted.end_ms.saturating_sub(now_ms),
            None => millis(lease.remaining.unwrap_or(lease.ttl)),
        }
    }

    /// Leases whose time is over, at most so many. Their end is being decided from now on.
    pub(crate) fn begin_to_end(&mut self, now_ms: u64, count: usize) -> Vec<Grant> {
        let over = self.due.iter().take_while(|(end_ms, _)| *end_ms <= now_ms);
        let unreserved = over.filter(|(_, id)| !self.reserved.contains_key(id));
        let ids: Vec<i64> = unreserved.take(count).map(|(_, id)| *id).collect();
        ids.into_iter().filter_map(|id| self.occupy(id)).collect()
    }

    /// What is left, in whole seconds and rather too many, of leases that are long and were not renewed for so long that it is worth
    /// a note; of at most so many. The note is being decided from now on.
    pub(crate) fn begin_to_note(&mut self, now_ms: u64, count: usize) -> Vec<LeaseTime> {
        let looked_at = now_ms.checked_sub(self.note_ms);
        let is_due = |since_ms: u64| looked_at.is_some_and(|looked_at| since_ms <= looked_at);
        let due = self
            .notable
            .iter()
            .take_while(|(since_ms, _)| is_due(*since_ms));
        let unreserved = due.filter(|(_, id)| !self.reserved.contains_key(id));
        let ids: Vec<i64> = unreserved.take(count).map(|(_, id)| *id).collect();
        let mut times = Vec::with_capacity(ids.len());
        for id in ids {
            let end_ms = self.leases.get(&id).map_or(0, |counted| counted.end_ms);
            let left_ms = end_ms.saturating_sub(now_ms);
            if let Some(grant) = self.occupy(id) {
                times.push(LeaseTime {
                    grant,
                    remaining: i64::try_from(left_ms.div_ceil(1_000)).ok(),
                });
            }
        }
        times
    }

    /// Nothing about these leases is being decided any more.
    pub(crate) fn release(&mut self, grants: impl Iterator<Item = Grant>) {
        for grant in grants {
            if let Some(counted) = self.of(grant) {
                self.set(
                    grant.id,
                    Counted {
                        is_free: true,
                        ..counted
                    },
                );
            }
        }
    }

    /// The same, once it was noted what is left of them.
    pub(crate) fn noted(&mut self, grants: impl Iterator<Item = Grant>, now_ms: u64) {
        for grant in grants {
            if let Some(counted) = self.of(grant) {
                self.set(
                    grant.id,
                    Counted {
                        is_free: true,
                        since_ms: now_ms,
                        ..counted
                    },
                );
            }
        }
    }

    fn occupy(&mut self, id: i64) -> Option<Grant> {
        let counted = *self.leases.get(&id)?;
        self.set(
            id,
            Counted {
                is_free: false,
                ..counted
            },
        );
        let entry = counted.entry;
        Some(Grant { id, entry })
    }

    fn of(&self, grant: Grant) -> Option<Counted> {
        let counted = self.leases.get(&grant.id).copied();
        counted.filter(|counted| counted.entry == grant.entry)
    }

    fn set(&mut self, id: i64, counted: Counted) {
        if let Some(before) = self.leases.insert(id, counted) {
            self.unlist(id, &before);
        }
        if counted.is_free {
            self.due.insert((counted.end_ms, id));
            if millis(counted.ttl) > self.note_ms {
                self.notable.insert((counted.since_ms, id));
            }
        }
    }

    fn unlist(&mut self, id: i64, counted: &Counted) {
        self.due.remove(&(counted.end_ms, id));
        self.notable.remove(&(counted.since_ms, id));
    }
}

/// Seconds in milliseconds; none is less than nothing.
fn millis(seconds: i64) -> u64 {
    u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTE_MS: u64 = 10_000;

    fn lease(id: i64, entry: u64, ttl: i64) -> Lease {
        Lease {
            grant: Grant { id, entry },
            ttl,
            remaining: None,
        }
    }

    /// A book with these leases.
    fn book(leases: &[Lease]) -> Book {
        let mut book = Book::new(NOTE_MS);
        for lease in leases {
            book.add(lease, 0, 0);
        }
        book.complete();
        book
    }

    fn noted(lease: &Lease, left: i64) -> LeaseTime {
        LeaseTime {
            grant: lease.grant,
            remaining: Some(left),
        }
    }

    #[test]
    fn a_lease_ends_when_its_time_is_over_and_not_before() {
        let (first, second) = (lease(1, 1, 10), lease(2, 2, 20));
        let mut book = Book::new(NOTE_MS);
        book.add(&first, 0, 500);
        book.add(&second, 0, 500);
        book.add(&first, 9_000, 0); // is known
        book.complete();
        assert_eq!(book.begin_to_end(10_499, 9), []);
        assert_eq!(book.left(&first, 10_000), 500);
        assert_eq!(book.renew(&second, 10_000), Ok(20_000));
        assert_eq!(book.begin_to_end(20_500, 9), [first.grant]);
        assert_eq!(book.begin_to_end(20_500, 9), [], "its end is on its way");
        book.release([first.grant].into_iter());
        assert_eq!(book.begin_to_end(30_000, 1), [first.grant]);
        book.strike(first.grant);
        assert_eq!(book.begin_to_end(30_000, 9), [second.grant]);
        book.strike(second.grant);
        assert!(book.leases.is_empty() && book.due.is_empty() && book.notable.is_empty());
    }

    #[test]
    fn a_lease_that_is_to_be_renewed_is_neither_ended_nor_noted_meanwhile() {
        let (due, long) = (lease(1, 1, 10), lease(2, 2, 100));
        let mut book = book(&[due, long]);
        assert_eq!(book.reserve(&[1, 2, 2, 3]), [true; 4]);
        assert_eq!(book.begin_to_end(50_000, 9), []);
        assert_eq!(book.begin_to_note(50_000, 9), []);
        assert_eq!(book.renew(&due, 50_000), Ok(10_000));
        for id in [1, 2, 3] {
            book.unreserve(id);
        }
        assert_eq!(book.begin_to_end(59_999, 9), []);
        assert_eq!(book.begin_to_end(60_000, 9), [due.grant]);
        assert_eq!(
            book.begin_to_note(60_000, 9),
            [],
            "another asks for it still"
        );
        book.unreserve(2);
        assert!(book.reserved.is_empty());
        assert_eq!(book.begin_to_note(60_000, 9), [noted(&long, 40)]);
        // What is on its way must be decided first.
        assert_eq!(book.reserve(&[1, 2, 3]), [false, false, true]);
    }

    #[test]
    fn a_lease_that_has_ended_does_not_come_back_by_a_renewal() {
        let ended = lease(1, 1, 10);
        let mut book = book(&[ended]);
        book.reserve(&[1]);
        book.strike(ended.grant); // revoked by a client
        assert_eq!(book.renew(&ended, 5_000), Err(Undecided));
        assert_eq!(book.len(), 0);
        let mut unread = Book::new(NOTE_MS);
        unread.reserve(&[1]);
        assert_eq!(unread.renew(&ended, 5_000), Ok(10_000));
    }

    #[test]
    fn another_grant_of_an_id_is_another_lease() {
        let (early, late) = (lease(1, 5, 10), lease(1, 9, 60));
        let mut book = book(&[late, early]); // the early one was read before and heard of later
        book.strike(early.grant);
        assert_eq!(book.left(&late, 0), 60_000);
        assert_eq!(book.renew(&early, 0), Err(Undecided));
        assert_eq!(book.begin_to_end(60_000, 9), [late.grant]);
        book.add(&lease(1, 12, 30), 60_000, 0);
        book.release([late.grant].into_iter());
        assert_eq!(book.begin_to_end(80_000, 9), []);
    }

    #[test]
    fn what_is_left_of_a_long_lease_is_noted_if_nobody_renews_it() {
        let (long, busy, short) = (lease(1, 1, 100), lease(2, 2, 100), lease(3, 3, 10));
        let mut book = book(&[long, busy, short]);
        assert_eq!(book.begin_to_note(9_999, 9), []);
        assert_eq!(book.renew(&busy, 9_999), Ok(100_000));
        assert_eq!(book.begin_to_note(10_000, 9), [noted(&long, 90)]);
        assert_eq!(book.begin_to_note(10_000, 9), [], "it is on its way");
        book.noted([long.grant].into_iter(), 10_000);
        assert_eq!(book.left(&long, 10_000), 90_000, "a note renews nothing");
        assert_eq!(book.begin_to_note(19_998, 9), []);
        assert_eq!(book.begin_to_note(20_000, 1), [noted(&busy, 90)]);
        book.release([busy.grant].into_iter()); // was refused, and is worth another
        assert_eq!(
            book.begin_to_note(20_000, 9),
            [noted(&busy, 90), noted(&long, 80)]
        );

        let known = Lease {
            remaining: Some(7),
            ..long
        };
        let mut next = Book::new(NOTE_MS);
        next.add(&known, 0, 1_000);
        assert_eq!(next.left(&known, 0), 8_000);
        assert_eq!(next.renew(&known, 0), Ok(100_000));
    }
}
