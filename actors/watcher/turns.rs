//! The turns of late watchers that are told what they missed from the same place, from memory or from the disk.
//!
//! The turns are the streams': however many late watchers a stream has, it has one place in line, and so many of them have their turn
//! together.

use std::collections::{HashMap, HashSet, VecDeque};

use super::{StreamId, WatcherId};

/// How many late watchers are told something in one turn.
const TURN_WATCHERS: usize = 512;
/// How many of one stream before another stream has its share.
const SHARE_WATCHERS: usize = 64;

/// Late watchers that wait for their turn.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Streams with late watchers and room to tell them, in the order of their turns.
    line: VecDeque<StreamId>,
    waiting: HashMap<StreamId, Waiting>,
}

/// Those of one stream; there is one at least.
#[derive(Debug, Default)]
struct Waiting {
    /// In the order of their turns.
    watchers: VecDeque<WatcherId>,
    /// Whether the stream has its place in the line.
    in_line: bool,
}

impl Turns {
    /// A watcher waits, behind the others of its stream.
    pub(super) fn wait(&mut self, watcher: WatcherId) {
        let waiting = self.waiting.entry(watcher.stream).or_default();
        waiting.watchers.push_back(watcher);
    }

    /// A stream takes its place in the line, if any of its watchers waits and there is room to tell them.
    pub(super) fn line_up(&mut self, id: StreamId, has_room: impl FnOnce() -> bool) {
        if let Some(waiting) = self.waiting.get_mut(&id)
            && !waiting.in_line
            && has_room()
        {
            waiting.in_line = true;
            self.line.push_back(id);
        }
    }

    /// Whether it is anybody's turn.
    pub(super) fn is_due(&self) -> bool {
        !self.line.is_empty()
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        let waiting = self.waiting.values();
        waiting.map(|waiting| waiting.watchers.len()).sum()
    }

    /// The watchers whose turn it is, but for those that are no more. They leave their places.
    pub(super) fn next(
        &mut self,
        is_there: impl Fn(&WatcherId) -> bool,
        has_room: impl Fn(StreamId) -> bool,
    ) -> Vec<WatcherId> {
        let mut next = Vec::new();
        while next.len() < TURN_WATCHERS
            && let Some(id) = self.line.pop_front()
        {
            let Some(waiting) = self.waiting.get_mut(&id) else {
                continue; // it was closed
            };
            waiting.in_line = false;
            let count = waiting.watchers.len().min(SHARE_WATCHERS);
            next.extend(waiting.watchers.drain(..count).filter(&is_there));
            if waiting.watchers.is_empty() {
                self.waiting.remove(&id);
            } else {
                self.line_up(id, || has_room(id));
            }
        }
        next
    }

    /// Those who were passed over have the places before all others again, in their order. But the stream of whoever was the first has
    /// had its turn: else one with many watchers that have to be told one by one would be the first for ever.
    pub(super) fn pass_over(
        &mut self,
        watchers: &[WatcherId],
        first: StreamId,
        has_room: impl Fn(StreamId) -> bool,
    ) {
        for watcher in watchers.iter().rev() {
            let waiting = self.waiting.entry(watcher.stream).or_default();
            waiting.watchers.push_front(*watcher);
        }
        self.line_up(first, || has_room(first));
        let mut seen = HashSet::from([first]);
        let mut streams: Vec<StreamId> = watchers.iter().map(|watcher| watcher.stream).collect();
        streams.retain(|id| seen.insert(*id));
        seen.remove(&first);
        self.line.retain(|id| !seen.contains(id));
        for id in streams.into_iter().rev() {
            if let Some(waiting) = self.waiting.get_mut(&id) {
                waiting.in_line = has_room(id);
                if waiting.in_line {
                    self.line.push_front(id);
                }
            }
        }
    }

    /// A stream is no more.
    pub(super) fn close(&mut self, id: StreamId) {
        self.waiting.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watcher(stream: u64, number: u64) -> WatcherId {
        WatcherId {
            stream: StreamId(stream),
            number,
        }
    }

    impl Turns {
        fn add(&mut self, stream: u64, numbers: impl IntoIterator<Item = u64>) {
            for number in numbers {
                self.wait(watcher(stream, number));
            }
            self.line_up(StreamId(stream), || true);
        }

        /// Whose turn it is, as stream and number. Everybody has room.
        fn all(&mut self) -> Vec<(u64, u64)> {
            let next = self.next(|_| true, |_| true);
            next.iter().map(|it| (it.stream.0, it.number)).collect()
        }

        /// One is told of those whose turn it is, and waits again; the others are passed over.
        fn tell_one(&mut self) -> (u64, u64) {
            let next = self.next(|_| true, |_| true);
            let (first, others) = next.split_first().expect("it is somebody's turn");
            self.add(first.stream.0, [first.number]);
            self.pass_over(others, first.stream, |_| true);
            (first.stream.0, first.number)
        }
    }

    #[test]
    fn streams_have_turns_however_many_watchers_they_have() {
        let share = SHARE_WATCHERS as u64;
        let mut turns = Turns::default();
        turns.add(1, 0..20 * share);
        turns.add(2, 0..1);
        turns.add(3, 0..share + 1);
        assert_eq!(turns.len() as u64, 21 * share + 2);
        let next = turns.all();
        let streams: Vec<u64> = next.chunk_by(|a, b| a.0 == b.0).map(|it| it[0].0).collect();
        assert_eq!(streams, [1, 2, 3, 1, 3, 1]);
        assert!(next.len() >= TURN_WATCHERS && next.len() < TURN_WATCHERS + SHARE_WATCHERS);
        assert!(turns.is_due(), "there are more of the first");
    }

    #[test]
    fn a_stream_without_room_has_no_turn_until_there_is_some() {
        let mut turns = Turns::default();
        turns.wait(watcher(1, 0));
        turns.line_up(StreamId(1), || false);
        assert!(!turns.is_due() && turns.len() == 1);
        turns.line_up(StreamId(1), || true);
        turns.line_up(StreamId(1), || true);
        assert_eq!(turns.all(), [(1, 0)]);
        assert!(!turns.is_due() && turns.len() == 0, "it has one place");
        turns.add(1, 0..2 * SHARE_WATCHERS as u64);
        assert_eq!(turns.next(|_| true, |_| false).len(), SHARE_WATCHERS);
        assert!(!turns.is_due(), "there is no room for the others");
    }

    #[test]
    fn who_is_no_more_has_no_turn() {
        let mut turns = Turns::default();
        turns.add(1, 0..3);
        turns.add(2, 0..3);
        turns.close(StreamId(2));
        let next = turns.next(|watcher| watcher.number != 1, |_| true);
        assert_eq!(next, [watcher(1, 0), watcher(1, 2)]);
        assert_eq!((turns.len(), turns.is_due()), (0, false));
    }

    #[test]
    fn who_is_passed_over_is_told_before_whoever_comes_later() {
        let mut turns = Turns::default();
        turns.add(1, [0]);
        turns.add(2, [0]);
        let told: Vec<u64> = (0..4)
            .map(|round| {
                // One more comes each time.
                turns.add(10 + round, [0]);
                turns.tell_one().0
            })
            .collect();
        assert_eq!(told, [1, 2, 10, 1]);
    }

    #[test]
    fn a_stream_whose_watchers_are_told_one_by_one_is_not_the_first_for_ever() {
        let mut turns = Turns::default();
        turns.add(1, 0..3 * SHARE_WATCHERS as u64);
        turns.add(2, 0..2);
        turns.add(3, 0..1);
        let told: Vec<(u64, u64)> = (0..6).map(|_| turns.tell_one()).collect();
        assert_eq!(told, [(1, 0), (2, 0), (3, 0), (1, 1), (2, 1), (3, 0)]);
    }

    #[test]
    fn who_was_passed_over_and_has_no_room_any_more_leaves_the_line() {
        let mut turns = Turns::default();
        turns.add(1, [0]);
        turns.add(2, [0]);
        turns.add(3, [0]);
        let next = turns.next(|_| true, |_| true);
        turns.pass_over(&next[1..], StreamId(1), |id| id != StreamId(2));
        assert_eq!(turns.all(), [(3, 0)]);
        turns.line_up(StreamId(2), || true);
        assert_eq!(turns.all(), [(2, 0)]);
    }
}
