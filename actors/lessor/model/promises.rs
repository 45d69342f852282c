//! What holders of leases were promised, and what became of it: the naive twin.

use std::collections::HashMap;

use rm_kv::{Grant, LeaseTime};

use super::NOTE_MS;

/// The most that counts of a leap of a clock.
const LEAP_MS: u64 = 300;

/// A moment, and how often clocks had leapt by then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) ms: u64,
    leaps: u64,
}

/// Since when a holder may rely on its lease, and for how long.
#[derive(Clone, Copy)]
struct Promise {
    since: Moment,
    ttl_ms: u64,
}

/// A reign of a life of a machine's lessor.
pub(super) type ReignOf = (usize, u64, u64);

#[derive(Default)]
pub(super) struct Promises {
    promises: HashMap<Grant, Promise>,
    /// When leases ended because their time was over.
    ends: HashMap<Grant, u64>,
    /// When a reign had last noted what is left of a lease, and was not refused.
    notes: HashMap<(ReignOf, Grant), Moment>,
    leaps: u64,
    /// What was seen: renewals that were told, leases that ended by their time, notes.
    pub(super) renewed: usize,
    pub(super) ended: usize,
    pub(super) noted: usize,
}

impl Promises {
    pub(super) fn moment(&self, ms: u64) -> Moment {
        let leaps = self.leaps;
        Moment { ms, leaps }
    }

    /// A clock leaps.
    pub(super) fn leap(&mut self) {
        self.leaps += 1;
    }

    pub(super) fn granted(&mut self, grant: Grant, since: Moment, ttl: i64) {
        let ttl_ms = ttl as u64 * 1_000;
        self.promises.insert(grant, Promise { since, ttl_ms });
    }

    /// A lease ends because its time is over.
    pub(super) fn ended(&mut self, grant: Grant, now_ms: u64) {
        self.ended += 1;
        self.ends.insert(grant, now_ms);
        self.check(grant);
    }

    /// A holder is told that its lease, for which it asked then, was renewed.
    pub(super) fn renewed(&mut self, grant: Grant, asked: Moment) {
        self.renewed += 1;
        let promise = self.promises.get_mut(&grant).expect("it was granted");
        if promise.since.ms < asked.ms {
            promise.since = asked;
        }
        // It may be told so late that the lease has ended.
        self.check(grant);
    }

    /// No lease has ended while its holder could rely on it. Of each leap of a clock a part counts.
    fn check(&self, grant: Grant) {
        let Some(ended_ms) = self.ends.get(&grant) else {
            return;
        };
        let Promise { since, ttl_ms } = self.promises[&grant];
        let lived_ms = ended_ms + self.leapt_ms(since) - since.ms;
        let early_ms = ttl_ms.saturating_sub(lived_ms);
        assert_eq!(early_ms, 0, "{grant:?} ended early");
    }

    /// The most that clocks may run ahead since then.
    fn leapt_ms(&self, since: Moment) -> u64 {
        (self.leaps - since.leaps) * LEAP_MS
    }

    /// A reign wants noted what is left of leases: as often as it is to, and no more often.
    pub(super) fn noted(&mut self, reign: ReignOf, times: &[LeaseTime], now: Moment) {
        self.noted += 1;
        for time in times {
            if let Some(before) = self.notes.insert((reign, time.grant), now) {
                let passed_ms = now.ms - before.ms + self.leapt_ms(before);
                assert!(passed_ms >= NOTE_MS, "noted again after {passed_ms} ms");
            }
        }
    }

    /// It was refused, and may want it again at once.
    pub(super) fn refused(&mut self, reign: ReignOf, times: &[LeaseTime]) {
        for time in times {
            self.notes.remove(&(reign, time.grant));
        }
    }
}
