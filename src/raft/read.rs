//! Linearizable reads by read index (dissertation 6.4): those that wait on this machine, and the rounds by which a
//! leader makes sure that it still leads.

use std::collections::VecDeque;

use crate::{Index, MachineId, ReadId, ReadMode, Time};

/// The reads of this machine's clients that have no answer yet, in order of arrival.
///
/// An index that is safe for one read is safe for every read that came before it, so one answer serves all of those; but a
/// lease serves only who trusts it.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct WaitingReads {
    queue: VecDeque<WaitingRead>,
}

#[derive(Clone, Debug, Hash)]
struct WaitingRead {
    read: ReadId,
    mode: ReadMode,
    deadline: Time,
}

impl WaitingReads {
    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Adds a read, to be given up at `deadline`, which is not before the deadlines of earlier ones.
    pub(crate) fn push(&mut self, read: ReadId, mode: ReadMode, deadline: Time) {
        self.queue.push_back(WaitingRead {
            read,
            mode,
            deadline,
        });
    }

    /// The one that came last.
    pub(crate) fn newest(&self) -> Option<ReadId> {
        self.queue.back().map(|waiting| waiting.read)
    }

    /// The one of this mode that came last.
    pub(crate) fn newest_of(&self, mode: ReadMode) -> Option<ReadId> {
        let mut newest = self.queue.iter().rev();
        newest
            .find(|waiting| waiting.mode == mode)
            .map(|it| it.read)
    }

    /// What a read that waits is content with.
    pub(crate) fn mode_of(&self, read: ReadId) -> Option<ReadMode> {
        let waiting = self.queue.iter().find(|waiting| waiting.read == read);
        waiting.map(|waiting| waiting.mode)
    }

    /// Takes out this read and all that came before it and are content with what confirmed it; none if it no longer waits.
    pub(crate) fn take_through(&mut self, read: ReadId, confirmed_by: ReadMode) -> Vec<ReadId> {
        let place = self.queue.iter().position(|waiting| waiting.read == read);
        let rest = self.queue.split_off(place.map_or(0, |place| place + 1));
        let (content, waiting): (VecDeque<_>, _) = self
            .queue
            .drain(..)
            .partition(|waiting| confirmed_by == ReadMode::Quorum || waiting.mode == confirmed_by);
        self.queue = waiting;
        self.queue.extend(rest);
        content.into_iter().map(|waiting| waiting.read).collect()
    }

    /// Takes out the reads whose deadline has come.
    pub(crate) fn take_expired(&mut self, now: Time) -> Vec<ReadId> {
        let count = self
            .queue
            .partition_point(|waiting| waiting.deadline <= now);
        self.queue
            .drain(..count)
            .map(|waiting| waiting.read)
            .collect()
    }

    /// Visits every moment that it keeps.
    pub(crate) fn each_moment(&mut self, visit: &mut dyn FnMut(&mut Time)) {
        for waiting in &mut self.queue {
            visit(&mut waiting.deadline);
        }
    }

    /// When the first of them is given up.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.queue.front().map(|waiting| waiting.deadline)
    }
}

/// A leader's rounds of confirmation: at most one is under way, and reads that come meanwhile wait for the next, because
/// only answers to what was sent after a read came can confirm it.
#[derive(Clone, Debug, Default, Hash)]
pub(crate) struct Confirmation {
    /// The latest round; it stands in every heartbeat and append.
    round: u64,
    /// The round that is under way.
    current: Option<Round>,
    /// Reads of other machines that wait for the next round.
    waiting: Vec<(MachineId, ReadId)>,
}

/// Reads that are confirmed once a majority answers to their round.
#[derive(Clone, Debug, Hash)]
pub(crate) struct Round {
    /// The commit index when the round began.
    pub(crate) index: Index,
    /// The newest read of this machine's own clients at that time.
    pub(crate) local: Option<ReadId>,
    /// The reads of other machines.
    pub(crate) remote: Vec<(MachineId, ReadId)>,
}

impl Confirmation {
    /// The latest round.
    pub(crate) fn round(&self) -> u64 {
        self.round
    }

    /// Whether a round is under way.
    pub(crate) fn is_under_way(&self) -> bool {
        self.current.is_some()
    }

    /// Adds another machine's read, unless it waits already; false if `reads_max` wait.
    pub(crate) fn push(&mut self, from: MachineId, read: ReadId, reads_max: usize) -> bool {
        if self.waiting.contains(&(from, read)) {
            return true;
        }
        let fits = self.waiting.len() < reads_max;
        if fits {
            self.waiting.push((from, read));
        }
        fits
    }

    /// Begins the next round if none is under way and something waits for it: the read `local`, another machine's, or a lease.
    pub(crate) fn begin(&mut self, index: Index, local: Option<ReadId>, for_lease: bool) -> bool {
        let wanted = for_lease || local.is_some() || !self.waiting.is_empty();
        if self.current.is_some() || !wanted {
            return false;
        }
        self.round += 1;
        self.current = Some(Round {
            index,
            local,
            remote: std::mem::take(&mut self.waiting),
        });
        true
    }

    /// Ends the round under way if a majority has answered to it.
    pub(crate) fn finish(&mut self, reached: u64) -> Option<Round> {
        self.current.take_if(|_| reached >= self.round)
    }

    /// All reads of other machines that have no answer yet.
    pub(crate) fn into_remote(self) -> impl Iterator<Item = (MachineId, ReadId)> {
        let current = self.current.map(|round| round.remote).unwrap_or_default();
        current.into_iter().chain(self.waiting)
    }
}
