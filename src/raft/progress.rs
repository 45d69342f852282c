//! What a leader knows of one follower's log, and how it sends: probing for where the logs meet, then replicating
//! with many requests on their way at once, or waiting for a snapshot to arrive.

use std::collections::VecDeque;
use std::time::Duration;

use crate::{Config, FollowerStatus, Index, MachineId, Time};

/// A leader's view of one follower (§5.3, figure 2).
///
/// Invariants: `matched < next`; what is in flight lies between them, in order and without a gap, and only while replicating. While
/// a snapshot is on its way, `next` is an entry that is compacted, or was lately acknowledged.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Progress {
    /// Up to where the follower's durable log is known to match; never goes back.
    pub(crate) matched: Index,
    /// The next entry to send. While replicating it runs ahead of what is acknowledged.
    pub(crate) next: Index,
    state: State,
    /// When the follower was last heard in this term.
    pub(crate) heard: Time,
    /// Whether its disk was full when it last told.
    pub(crate) full: bool,
    /// The latest round of confirmation that it answered.
    pub(crate) round: u64,
    /// Until when, by the leader's clock, it votes for no other machine at least.
    pub(crate) loyal_until: Time,
    /// The commit index that it was last told, as far as it can take it.
    pub(crate) told_commit: Index,
    /// When Storage was asked for the entry `next`.
    pub(crate) reading: Option<Time>,
    /// What the follower's last heartbeat response said of its durable log.
    reported: Index,
    /// When its log was last seen to move, or when the wait for an answer began, if that was later.
    moved: Time,
    /// Whether it was sent a snapshot and has not had the whole log since.
    catches_up: bool,
    /// Whether to send an append without entries, for the follower to confirm or deny all that was sent.
    inquire: bool,
}

#[derive(Clone, Debug, Hash)]
enum State {
    /// Where the logs meet is not known: one request at a time.
    Probe {
        /// Whether a request is on its way.
        sent: bool,
    },
    /// The logs met: requests follow each other without waiting.
    Replicate {
        /// The last index and the bytes of each request on its way.
        inflight: VecDeque<(Index, usize)>,
        /// The bytes of all of them.
        bytes: usize,
    },
    /// What it lacks is compacted: a snapshot is on its way, and nothing else (§7).
    Snapshot {
        /// Tells this sending from earlier ones.
        number: u64,
        /// The least that the snapshot has applied.
        at_least: Index,
        /// When to ask the follower what became of it.
        until: Time,
    },
}

/// What to send to a follower now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing.
    Nothing,
    /// An append that carries no entries.
    Empty,
    /// An append that carries entries, as many as fit.
    Entries,
}

impl Progress {
    /// A follower of which a new leader, whose log ends with `last`, knows nothing. It counts as heard at the election.
    pub(crate) fn new(last: Index, now: Time) -> Progress {
        Progress {
            matched: Index(0),
            next: last.next(),
            state: State::Probe { sent: false },
            heard: now,
            full: false,
            round: 0,
            loyal_until: Time::default(),
            told_commit: Index(0),
            reading: None,
            reported: Index(0),
            moved: now,
            catches_up: false,
            inquire: false,
        }
    }

    /// What to send, given the leader's last index.
    pub(crate) fn next_to_send(&self, last: Index, config: &Config) -> Next {
        match &self.state {
            State::Probe { sent: false } if self.inquire => Next::Empty,
            State::Probe { sent: false } => Next::Entries,
            State::Probe { sent: true } | State::Snapshot { .. } => Next::Nothing,
            State::Replicate { .. } if self.inquire => Next::Empty,
            State::Replicate { inflight, bytes } => {
                let room = inflight.len() < config.inflight_requests_max
                    && *bytes < config.inflight_bytes_max;
                if room && self.next <= last.min(self.window_end(config)) {
                    Next::Entries
                } else {
                    Next::Nothing
                }
            }
        }
    }

    /// The last entry that may be on its way now: a window beyond what is acknowledged. What a probe carries is all that counts of
    /// what is on its way, so that it has a window of its own.
    pub(crate) fn window_end(&self, config: &Config) -> Index {
        let entries_max = config.inflight_entries_max as u64;
        let before = match self.state {
            State::Replicate { .. } => self.matched,
            State::Probe { .. } | State::Snapshot { .. } => self.next.previous(),
        };
        Index(before.0.saturating_add(entries_max))
    }

    /// An append with the entries from `next` up to `up_to` goes out, `bytes` large; without entries if `up_to` is
    /// before `next`.
    pub(crate) fn sent(&mut self, up_to: Index, bytes: usize, now: Time) {
        // More of what already waits for an answer does not put off the question what became of it.
        if self.inquire || !self.waits_for_answer() {
            self.moved = now;
        }
        self.inquire = false;
        match &mut self.state {
            State::Probe { sent } => *sent = true,
            State::Replicate {
                inflight,
                bytes: all,
            } if up_to >= self.next => {
                inflight.push_back((up_to, bytes));
                *all += bytes;
                self.next = up_to.next();
                self.reading = None;
            }
            State::Replicate { .. } | State::Snapshot { .. } => {}
        }
    }

    /// Whether the entry before the next to send is compacted, so that no append can follow on it, and no snapshot is on its
    /// way.
    pub(crate) fn needs_snapshot(&self, base: Index) -> bool {
        self.next <= base && !matches!(self.state, State::Snapshot { .. })
    }

    /// A snapshot of at least this index goes out.
    pub(crate) fn snapshot_sent(&mut self, number: u64, at_least: Index, until: Time) {
        self.state = State::Snapshot {
            number,
            at_least,
            until,
        };
        self.catches_up = true;
        self.inquire = false;
        self.reading = None;
    }

    /// More of the snapshot has arrived: the rest may take until this moment.
    pub(crate) fn snapshot_moves(&mut self, moved: u64, at: Time) {
        if let State::Snapshot { number, until, .. } = &mut self.state
            && *number == moved
        {
            *until = at;
        }
    }

    /// Nothing of the snapshot is on its way any more. The follower's acknowledgement may be; if it does not come, the follower is
    /// asked at this moment, and not at once, since what failed would fail again. The end of an earlier sending tells nothing
    /// of this one.
    pub(crate) fn snapshot_ended(&mut self, ended: u64, at: Time) {
        if let State::Snapshot { number, until, .. } = &mut self.state
            && *number == ended
        {
            *until = at.min(*until);
        }
    }

    /// Up to where a follower has the log, or will have it, that gets a snapshot or has yet to catch up after one.
    pub(crate) fn awaited(&self) -> Option<Index> {
        match self.state {
            State::Snapshot { at_least, .. } => Some(at_least),
            _ => self.catches_up.then_some(self.matched),
        }
    }

    /// Asks a follower whether it holds what all snapshots hold, if what became of its own should be known by now: snapshot or
    /// acknowledgement may be lost.
    pub(crate) fn snapshot_elapsed(&mut self, base: Index, now: Time) {
        if let State::Snapshot { until, .. } = self.state
            && now >= until
        {
            self.next = base.max(self.matched).next();
            self.state = State::Probe { sent: false };
            self.inquire = true;
        }
    }

    /// The follower acknowledged its log up to `matched`, of one that is committed up to `commit`.
    pub(crate) fn appended(&mut self, matched: Index, commit: Index, now: Time) {
        self.catches_up &= matched < commit;
        if matched > self.matched {
            self.matched = matched;
            self.moved = now;
        }
        if self.next <= self.matched {
            self.next = self.matched.next();
            self.reading = None;
        }
        match &mut self.state {
            // An acknowledgement of an older request says nothing about where the logs meet beyond it.
            State::Probe { .. } if matched < self.next.previous() => {}
            State::Snapshot { at_least, .. } if matched < *at_least => {}
            State::Probe { .. } | State::Snapshot { .. } => {
                self.next = self.matched.next();
                self.state = State::Replicate {
                    inflight: VecDeque::new(),
                    bytes: 0,
                };
            }
            State::Replicate { inflight, bytes } => {
                while let Some(&(last, size)) = inflight.front()
                    && last <= self.matched
                {
                    *bytes -= size;
                    inflight.pop_front();
                }
            }
        }
    }

    /// The follower's log does not hold the entry at `previous` that a request named; the logs may meet at `meeting`.
    /// That may be nothing new.
    pub(crate) fn rejected(&mut self, previous: Index, meeting: Index) {
        let stale = match self.state {
            State::Probe { .. } => previous != self.next.previous(),
            State::Replicate { .. } => previous >= self.next,
            State::Snapshot { .. } => true,
        };
        if stale || previous <= self.matched {
            return;
        }
        self.next = meeting.min(previous.previous()).max(self.matched).next();
        self.state = State::Probe { sent: false };
        self.inquire = false;
        self.reading = None;
    }

    /// The follower answered a heartbeat; its durable log ends at `last`. If something is on its way and nothing has moved
    /// for as long as `patience`, a request or its answer may be lost. The answers themselves may come in short order, since
    /// each round of confirmation asks for one.
    pub(crate) fn heartbeat_answered(&mut self, last: Index, now: Time, patience: Duration) {
        if last != self.reported {
            self.reported = last;
            self.moved = now;
        }
        if now.since(self.moved) >= patience && self.waits_for_answer() {
            self.inquire = true;
            if let State::Probe { sent } = &mut self.state {
                *sent = false;
            }
        }
    }

    /// Whether something that was sent has no answer yet.
    fn waits_for_answer(&self) -> bool {
        match &self.state {
            State::Probe { sent } => *sent,
            State::Replicate { .. } => self.matched < self.next.previous(),
            State::Snapshot { .. } => false,
        }
    }

    /// What is on its way to this machine, for whoever asks.
    pub(crate) fn status(&self, machine: MachineId) -> FollowerStatus {
        let (requests, entries, bytes) = match &self.state {
            State::Probe { sent } => (usize::from(*sent), 0, 0),
            State::Replicate { inflight, bytes } => {
                let entries = self.next.previous().0 - self.matched.0;
                (inflight.len(), entries as usize, *bytes)
            }
            State::Snapshot { .. } => (0, 0, 0),
        };
        FollowerStatus {
            machine,
            matched: self.matched,
            requests,
            entries,
            bytes,
        }
    }

    /// Whether the follower's log has met the leader's, so that many requests may be on their way.
    pub(crate) fn is_replicating(&self) -> bool {
        matches!(self.state, State::Replicate { .. })
    }

    /// Visits every moment that it keeps.
    pub(crate) fn each_moment(&mut self, visit: &mut dyn FnMut(&mut Time)) {
        visit(&mut self.heard);
        visit(&mut self.loyal_until);
        visit(&mut self.moved);
        if let Some(at) = &mut self.reading {
            visit(at);
        }
        if let State::Snapshot { until, .. } = &mut self.state {
            visit(until);
        }
    }

    /// Asserts the invariants; those that take a walk through what is in flight only in debug builds.
    pub(crate) fn check(&self) {
        assert!(self.matched < self.next, "matched < next");
        if cfg!(debug_assertions)
            && let State::Replicate { inflight, bytes } = &self.state
        {
            let mut ends = inflight.iter().map(|&(last, _)| last);
            assert!(
                ends.clone().is_sorted()
                    && ends
                        .clone()
                        .all(|end| self.matched < end && end < self.next),
                "what is in flight is sent and not acknowledged, in order"
            );
            assert_eq!(
                ends.next_back().unwrap_or(self.matched),
                self.next.previous(),
                "what is not acknowledged is in flight"
            );
            let sum: usize = inflight.iter().map(|&(_, size)| size).sum();
            assert_eq!(*bytes, sum, "the bytes in flight are counted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_its_way_is_what_was_sent_and_is_not_acknowledged() {
        let now = Time::default();
        let told = |follower: &Progress| {
            let status = follower.status(MachineId(2));
            assert_eq!(status.matched, follower.matched);
            (status.requests, status.entries, status.bytes)
        };
        let mut follower = Progress::new(Index(10), now);
        assert_eq!(told(&follower), (0, 0, 0));
        follower.sent(Index(10), 0, now);
        assert_eq!(told(&follower), (1, 0, 0), "a probe is one request");
        follower.appended(Index(10), Index(10), now);
        assert_eq!(told(&follower), (0, 0, 0));
        follower.sent(Index(13), 300, now);
        follower.sent(Index(14), 50, now);
        assert_eq!(told(&follower), (2, 4, 350));
        // An acknowledgement that ends amid a request leaves its bytes on their way.
        follower.appended(Index(11), Index(10), now);
        assert_eq!(told(&follower), (2, 3, 350));
        follower.appended(Index(13), Index(10), now);
        assert_eq!(told(&follower), (1, 1, 50));
        follower.snapshot_sent(1, Index(20), now);
        assert_eq!(told(&follower), (0, 0, 0));
    }
}
