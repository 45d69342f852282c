//! The book of the lessor that leads: when each lease ends.
//!
//! A lease is *free*, or something about it is on its way through the log: its *end*, or a *note* of what is left of it. Until that is
//! decided nobody may be told that it was renewed.

use std::collections::{BTreeSet, HashMap};

use rm_kv::{Grant, Lease, LeaseTime};

/// All leases. Times are in milliseconds by the clock of leases.
#[derive(Debug, Default)]
pub(crate) struct Book {
    leases: HashMap<i64, Counted>,
    /// The free ones, by when they end.
    due: BTreeSet<(u64, i64)>,
}

#[derive(Clone, Copy, Debug)]
struct Counted {
    entry: u64,
    /// For how long it was granted, in seconds.
    ttl: i64,
    /// When it ends.
    end_ms: u64,
    /// Since when it was not renewed.
    since_ms: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    Ending,
    Noting,
}

/// It cannot be told yet how it stands with a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Undecided;

impl Book {
    /// Takes a lease in, unless it is known. A later grant of the same id takes the place of an earlier one.
    pub(crate) fn add(&mut self, lease: &Lease, now_ms: u64, extension_ms: u64) {
        let Lease {
            grant,
            ttl,
            remaining,
        } = *lease;
        if self
            .leases
            .get(&grant.id)
            .is_some_and(|known| known.entry >= grant.entry)
        {
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
                state: State::Free,
            },
        );
    }

    /// How many leases there are.
    pub(crate) fn len(&self) -> usize {
        self.leases.len()
    }

    /// Strikes a lease out.
    pub(crate) fn strike(&mut self, grant: Grant) {
        if let Some(counted) = self.of(grant) {
            self.due.remove(&(counted.end_ms, grant.id));
            self.leases.remove(&grant.id);
        }
    }

    /// Gives a lease its whole time again; how much that is, in milliseconds.
    ///
    /// # Errors
    /// Something is being decided about it.
    pub(crate) fn renew(&mut self, lease: &Lease, now_ms: u64) -> Result<u64, Undecided> {
        self.add(lease, now_ms, 0);
        let counted = self.of(lease.grant).ok_or(Undecided)?;
        if counted.state != State::Free {
            return Err(Undecided);
        }
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
        let ids: Vec<i64> = over.take(count).map(|(_, id)| *id).collect();
        ids.into_iter()
            .filter_map(|id| self.occupy(id, State::Ending))
            .collect()
    }

    /// Those leases that are longer than `interval_ms` and were not renewed for so long: it is worth a note what is left of them.
    pub(crate) fn worth_noting(&self, now_ms: u64, interval_ms: u64) -> Vec<Grant> {
        let is_worth = |counted: &Counted| {
            let quiet_ms = now_ms.saturating_sub(counted.since_ms);
            counted.state == State::Free
                && millis(counted.ttl) > interval_ms
                && quiet_ms >= interval_ms
        };
        let worth = self.leases.iter().filter(|(_, counted)| is_worth(counted));
        worth.map(|(id, counted)| counted.grant(*id)).collect()
    }

    /// What is left of these leases, in whole seconds, rather too many; without those that were renewed since they were found worth
    /// it. The note is being decided from now on.
    pub(crate) fn begin_to_note(
        &mut self,
        grants: impl Iterator<Item = Grant>,
        now_ms: u64,
        interval_ms: u64,
    ) -> Vec<LeaseTime> {
        let mut times = Vec::new();
        for grant in grants {
            let Some(counted) = self.of(grant).filter(|it| it.state == State::Free) else {
                continue;
            };
            if now_ms.saturating_sub(counted.since_ms) < interval_ms {
                continue;
            }
            let left_ms = counted.end_ms.saturating_sub(now_ms);
            let remaining = i64::try_from(left_ms.div_ceil(1_000)).ok();
            times.push(LeaseTime { grant, remaining });
            self.occupy(grant.id, State::Noting);
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
                        state: State::Free,
                        ..counted
                    },
                );
            }
        }
    }

    fn occupy(&mut self, id: i64, state: State) -> Option<Grant> {
        let counted = *self.leases.get(&id)?;
        self.set(id, Counted { state, ..counted });
        Some(counted.grant(id))
    }

    fn of(&self, grant: Grant) -> Option<Counted> {
        let counted = self.leases.get(&grant.id).copied();
        counted.filter(|counted| counted.entry == grant.entry)
    }

    fn set(&mut self, id: i64, counted: Counted) {
        if let Some(before) = self.leases.insert(id, counted) {
            self.due.remove(&(before.end_ms, id));
        }
        if counted.state == State::Free {
            self.due.insert((counted.end_ms, id));
        }
    }
}

impl Counted {
    fn grant(&self, id: i64) -> Grant {
        Grant {
            id,
            entry: self.entry,
        }
    }
}

/// Seconds in milliseconds; none is less than nothing.
fn millis(seconds: i64) -> u64 {
    u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(id: i64, entry: u64, ttl: i64) -> Lease {
        Lease {
            grant: Grant { id, entry },
            ttl,
            remaining: None,
        }
    }

    #[test]
    fn a_lease_ends_when_its_time_is_over_and_not_before() {
        let mut book = Book::default();
        let (first, second) = (lease(1, 1, 10), lease(2, 2, 20));
        book.add(&first, 0, 500);
        book.add(&second, 0, 500);
        book.add(&first, 9_000, 0); // is known
        assert_eq!(book.begin_to_end(10_499, 9), []);
        assert_eq!(book.left(&first, 10_000), 500);
        assert_eq!(book.renew(&second, 10_000), Ok(20_000));
        assert_eq!(book.begin_to_end(20_500, 9), [first.grant]);
        assert_eq!(book.renew(&first, 20_500), Err(Undecided));
        assert_eq!(book.begin_to_end(20_500, 9), [], "its end is on its way");
        book.release([first.grant].into_iter());
        assert_eq!(book.begin_to_end(30_000, 1), [first.grant]);
        book.strike(first.grant);
        assert_eq!(book.begin_to_end(30_000, 9), [second.grant]);
        book.strike(second.grant);
        assert!(book.leases.is_empty() && book.due.is_empty());
    }

    #[test]
    fn another_grant_of_an_id_is_another_lease() {
        let mut book = Book::default();
        let (early, late) = (lease(1, 5, 10), lease(1, 9, 60));
        book.add(&late, 0, 0);
        book.add(&early, 0, 0); // was read before and heard of later
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
        let mut book = Book::default();
        let (long, busy, short) = (lease(1, 1, 100), lease(2, 2, 100), lease(3, 3, 10));
        for lease in [&long, &busy, &short] {
            book.add(lease, 0, 0);
        }
        assert_eq!(book.worth_noting(9_999, 10_000), []);
        assert_eq!(book.renew(&busy, 9_999), Ok(100_000));
        assert_eq!(book.worth_noting(10_000, 10_000), [long.grant]);
        let note = |book: &mut Book, now_ms| {
            let worth = [long.grant, busy.grant].into_iter();
            book.begin_to_note(worth, now_ms, 10_000)
        };
        let noted = |left| LeaseTime {
            grant: long.grant,
            remaining: Some(left),
        };
        assert_eq!(note(&mut book, 10_000), [noted(90)]);
        assert_eq!(book.renew(&long, 10_000), Err(Undecided));
        assert_eq!(note(&mut book, 10_000), [], "a note is on its way");
        book.release([long.grant].into_iter());
        assert_eq!(book.left(&long, 10_000), 90_000, "a note renews nothing");
        assert_eq!(note(&mut book, 10_000), [noted(90)]);
        book.release([long.grant].into_iter());
        assert_eq!(book.renew(&long, 10_001), Ok(100_000));
        assert_eq!(note(&mut book, 10_001), [], "it was renewed meanwhile");

        let noted = Lease {
            remaining: Some(7),
            ..long
        };
        let mut next = Book::default();
        next.add(&noted, 0, 1_000);
        assert_eq!(next.left(&noted, 0), 8_000);
        assert_eq!(next.renew(&noted, 0), Ok(100_000));
    }
}
