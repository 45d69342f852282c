//! What late watchers missed: chosen from a stretch of the history that is walked once for all of them, from memory, or from the state
//! as of its last checkpoint.

use std::collections::HashMap;
use std::sync::Arc;

use rm_kv::{Event, KvError};

use super::WatcherId;
use super::audience::Audience;
use super::recent::Recent;
use crate::states::InForce;
use crate::watching::{Delivery, Interest};

/// How many bytes of changes are read at a time.
const READ_BYTES: usize = 1 << 20;

/// About how many bytes a watcher is told at a time where there is room: what is read at a time, as it is and as it is sent.
pub(super) const PART_BYTES: usize = 2 * READ_BYTES;

/// How many parts are read at a time where they are smaller than that.
const READ_PARTS: usize = 4;

/// A watcher that is to be told what it missed.
#[derive(Clone, Debug)]
pub(super) struct Late {
    pub(super) watcher: WatcherId,
    pub(super) interest: Interest,
    /// The first revision of which it was not told.
    pub(super) next: i64,
    /// About how many bytes it may be told, as they count where they wait.
    pub(super) bytes_max: usize,
}

/// What a watcher is told next.
#[derive(Clone, Debug)]
pub(super) struct Part {
    /// None where nothing happened that it wants.
    pub(super) events: Option<Arc<Delivery>>,
    /// The first revision of which it is not told with that.
    pub(super) next: i64,
}

impl Part {
    /// The same, and what follows on it.
    fn with(&self, more: &Part) -> Part {
        let events = match (&self.events, &more.events) {
            (Some(first), Some(second)) => {
                let events = [&first.events[..], &second.events[..]].concat();
                Delivery::new(events, second.revision)
            }
            (Some(first), None) => Delivery::new(first.events.clone(), more.next - 1),
            (None, second) => second.clone(),
        };
        Part {
            events,
            next: more.next,
        }
    }

    fn bytes(&self) -> usize {
        self.events.as_ref().map_or(0, |events| events.bytes)
    }

    /// Where its events are, by which it is known that two are the same.
    fn place(&self) -> (usize, i64) {
        let place = self.events.as_ref().map(Arc::as_ptr);
        (place.map_or(0, |place| place.addr()), self.next)
    }
}

/// Adds what memory has of what follows on it, as far as there is room for more: who was late is told all at once then, and as of the
/// newest revision, wherever the disk ends and memory begins.
pub(super) fn add_recent(mut read: Vec<(Late, &mut Part)>, recent: &Recent, compacted: i64) {
    read.retain(|(late, part)| recent.start() <= part.next && part.bytes() < late.bytes_max);
    let late = |(late, part): &(Late, &mut Part)| Late {
        bytes_max: late.bytes_max - part.bytes(),
        ..late.clone()
    };
    let late: Vec<Late> = read.iter().map(late).collect();
    let Some(from) = late.iter().map(|late| late.next).min() else {
        return;
    };
    let more = parts(recent.from(from), recent.next(), compacted, &late);
    // Those who want the same go on sharing it.
    let mut made = HashMap::new();
    for ((_, part), more) in read.into_iter().zip(more) {
        let whole = made.entry((part.place(), more.place()));
        *part = whole.or_insert_with(|| part.with(&more)).clone();
    }
}

/// What was found on the disk for a late watcher.
#[derive(Debug)]
pub(super) enum Found {
    Part(Part),
    /// What it wants is removed, and the key space is compacted up to this revision.
    Compacted(i64),
    /// It wants what lies before or after what was read.
    Elsewhere,
}

/// What those who want the same from the same revision on are told.
#[derive(Debug)]
struct Want {
    from: i64,
    events: Vec<Arc<Event>>,
    bytes: usize,
    bytes_max: usize,
    /// The revision with which it would become too much.
    end: Option<i64>,
}

impl Want {
    fn add(&mut self, event: &Arc<Event>) {
        if event.revision() < self.from || self.end.is_some() {
            return;
        }
        let is_new = self.events.last().map(|last| last.revision()) != Some(event.revision());
        if is_new && self.bytes >= self.bytes_max {
            self.end = Some(event.revision());
        } else {
            self.bytes += Delivery::bytes_of(event);
            self.events.push(event.clone());
        }
    }
}

/// Their parts of a stretch of the history, in their order. The stretch holds all from where the first of them is up to the revision
/// `end`, which is not in it; the key space is compacted up to the revision `compacted`.
pub(super) fn parts<'e>(
    events: impl Iterator<Item = &'e Arc<Event>>,
    end: i64,
    compacted: i64,
    late: &[Late],
) -> Vec<Part> {
    let mut wants: Vec<Want> = Vec::new();
    let mut audience = Audience::default();
    let mut numbers = HashMap::new();
    let numbers: Vec<usize> = late
        .iter()
        .map(|late| {
            *numbers
                .entry((&late.interest, late.next, late.bytes_max))
                .or_insert_with(|| {
                    wants.push(Want {
                        from: late.next,
                        events: Vec::new(),
                        bytes: 0,
                        bytes_max: late.bytes_max,
                        end: None,
                    });
                    let number = wants.len() - 1;
                    audience.join(&late.interest, number);
                    number
                })
        })
        .collect();
    for event in events {
        let event = as_it_reads(event, compacted);
        for group in audience.groups_of(&event) {
            for &number in &audience.group(group).members {
                wants[number].add(&event);
            }
        }
    }
    let part = |want: Want| {
        // One may want only what lies beyond the stretch.
        let next = want.end.unwrap_or(end).max(want.from);
        let events = Delivery::new(want.events, next - 1);
        Part { events, next }
    };
    let parts: Vec<Part> = wants.into_iter().map(part).collect();
    numbers
        .iter()
        .map(|&number| parts[number].clone())
        .collect()
}

/// An event without what was before, where that is compacted: so all machines tell it, whatever each has in memory.
fn as_it_reads(event: &Arc<Event>, compacted: i64) -> Arc<Event> {
    if event.revision() > compacted || event.prev_kv.is_none() {
        return event.clone();
    }
    Arc::new(Event {
        prev_kv: None,
        ..Event::clone(event)
    })
}

/// Reads the history once for all of them, from where the first of them is. What was found stands in their order.
pub(super) fn read(state: &InForce, late: Vec<Late>) -> Result<Vec<(WatcherId, Found)>, KvError> {
    let Some(first) = late.first() else {
        return Ok(Vec::new());
    };
    let from = first.next;
    // Where little may be told at a time, no more is read than those who want different things may be told of.
    let bytes = first.bytes_max.saturating_mul(READ_PARTS).min(READ_BYTES);
    let history = rm_kv::history(&state.environment, from, bytes)?;
    let events: Vec<Arc<Event>> = history.events.into_iter().map(Arc::new).collect();
    let is_here = |late: &Late| late.next >= history.from && late.next < history.next;
    let here: Vec<Late> = late.iter().filter(|late| is_here(late)).cloned().collect();
    let parts = parts(events.iter(), history.next, history.compacted, &here);
    let mut parts = parts.into_iter();
    let found = late.into_iter().map(|late| {
        let found = match is_here(&late).then(|| parts.next()).flatten() {
            Some(part) => Found::Part(part),
            // One that was there before the compaction is told what is compacted, as long as that is whole.
            None if late.next < history.whole_from => Found::Compacted(history.compacted),
            None => Found::Elsewhere,
        };
        (late.watcher, found)
    });
    Ok(found.collect())
}

#[cfg(test)]
mod tests {
    use rm_kv::KeyValue;

    use super::*;
    use crate::message::{Ask, Happened};
    use crate::watcher::StreamId;

    fn event(revision: i64, key: &'static str, bytes: usize) -> Arc<Event> {
        Arc::new(Event {
            is_delete: false,
            kv: KeyValue {
                key: key.into(),
                value: vec![0; bytes].into(),
                mod_revision: revision,
                ..KeyValue::default()
            },
            prev_kv: None,
        })
    }

    fn late(number: u64, key: &'static str, range_end: &'static str, next: i64) -> Late {
        Late {
            watcher: WatcherId {
                stream: StreamId(1),
                number,
            },
            interest: Interest {
                key: key.into(),
                range_end: range_end.into(),
                ..Interest::default()
            },
            next,
            bytes_max: PART_BYTES,
        }
    }

    fn told(parts: &[Part]) -> Vec<(Vec<i64>, i64)> {
        let revisions = |part: &Part| {
            let events = part.events.iter().flat_map(|delivery| &delivery.events);
            events.map(|event| event.revision()).collect()
        };
        parts
            .iter()
            .map(|part| (revisions(part), part.next))
            .collect()
    }

    /// What happened from a revision on to before another, as the Applier told it.
    fn in_memory(from: i64, next: i64, events: &[Arc<Event>]) -> Recent {
        let happened = Happened {
            from,
            next,
            events: events.to_vec(),
            ask: Ask {
                watcher: 1,
                number: 1,
            },
            checkpointed: from - 1,
        };
        let mut recent = Recent::new(&happened, usize::MAX);
        recent.extend(&happened);
        recent
    }

    #[test]
    fn what_was_read_is_told_with_what_follows_on_it_in_memory() {
        let events = [2, 3, 4, 5, 6].map(|revision| event(revision, "a", 10));
        let recent = in_memory(4, 7, &events[2..]);
        let all = [
            late(1, "a", "", 2),
            late(2, "a", "", 2),
            late(3, "b", "", 2),
            // It was read up to before what is in memory.
            late(4, "a", "", 2),
        ];
        let mut read = parts(events[..2].iter(), 4, -1, &all);
        read[3].next = 3;
        let with_recent = |read: &[Part], bytes_max| {
            let mut read = read.to_vec();
            let follow_on = all.iter().zip(&mut read).map(|(late, part)| {
                let next = part.next;
                (
                    Late {
                        next,
                        bytes_max,
                        ..late.clone()
                    },
                    part,
                )
            });
            add_recent(follow_on.collect(), &recent, -1);
            read
        };
        let whole = with_recent(&read, PART_BYTES);
        let all_of_it = (vec![2, 3, 4, 5, 6], 7);
        let expected = [all_of_it.clone(), all_of_it, (vec![], 7), (vec![2, 3], 3)];
        assert_eq!(told(&whole), expected);
        let [first, second] = [0, 1].map(|number| whole[number].events.as_ref());
        let (first, second) = (first.expect("events"), second.expect("events"));
        assert!(Arc::ptr_eq(first, second) && first.revision == 6);
        let unchanged = told(&with_recent(&read, 1));
        assert_eq!(unchanged[..2], told(&read)[..2], "there is enough of it");
    }

    #[test]
    fn each_is_told_what_it_wants_from_where_it_is() {
        let events = [
            event(2, "a", 1),
            event(3, "b", 1),
            event(3, "a", 1),
            event(4, "c", 1),
        ];
        let all = [
            late(1, "a", "", 2),
            late(2, "a", "", 3),
            late(3, "a", "c", 3),
            late(4, "x", "", 2),
            late(5, "a", "", 3),
            late(6, "a", "", 9),
        ];
        let parts = parts(events.iter(), 6, -1, &all);
        let expected = [
            (vec![2, 3], 6),
            (vec![3], 6),
            (vec![3, 3], 6),
            (vec![], 6),
            (vec![3], 6),
            (vec![], 9),
        ];
        assert_eq!(told(&parts), expected);
        let shared = |place: usize| parts[place].events.clone().expect("it has events");
        assert!(Arc::ptr_eq(&shared(1), &shared(4)), "the same is shared");
    }

    #[test]
    fn a_part_that_would_be_too_large_ends_before_a_revision() {
        // A value counts as it is, and as it is sent.
        let half = PART_BYTES / 4;
        let events = [
            event(2, "a", half),
            event(3, "a", half),
            event(3, "b", half),
            event(5, "a", half),
            event(6, "z", half),
        ];
        let all = [late(1, "a", "c", 2), late(2, "z", "", 2)];
        for (bytes_max, expected) in [
            (PART_BYTES, [(vec![2, 3, 3], 5), (vec![6], 7)]),
            (1, [(vec![2], 3), (vec![6], 7)]),
        ] {
            let all = all.clone().map(|late| Late { bytes_max, ..late });
            let parts = parts(events.iter(), 7, -1, &all);
            assert_eq!(told(&parts), expected);
        }
    }

    #[test]
    fn a_part_is_no_larger_where_it_waits_than_it_may_be_but_for_one_revision() {
        const BYTES_MAX: usize = 100_000;
        let events: Vec<_> = (2..40)
            .map(|revision| event(revision, "a", 10_000))
            .collect();
        let most = BYTES_MAX + Delivery::bytes_of(&events[0]);
        let wanted = [Late {
            bytes_max: BYTES_MAX,
            ..late(1, "a", "", 2)
        }];
        let from_disk = &parts(events.iter(), 40, -1, &wanted)[0];
        assert!(from_disk.next < 40 && from_disk.bytes() < most);

        // The first two are on the disk, and the others in memory.
        let recent = in_memory(4, 40, &events[2..]);
        let both = &mut parts(events[..2].iter(), 4, -1, &wanted)[0];
        let [wanted] = wanted;
        let follow_on = Late {
            next: both.next,
            ..wanted
        };
        add_recent(vec![(follow_on, both)], &recent, -1);
        assert_eq!(
            (both.next, both.bytes()),
            (from_disk.next, from_disk.bytes())
        );
    }

    #[test]
    fn what_was_before_is_told_from_memory_as_long_as_it_can_be_read() {
        let with_before = |revision| {
            let event = Event::clone(&event(revision, "a", 1));
            let prev_kv = Some(event.kv.clone());
            Arc::new(Event { prev_kv, ..event })
        };
        let events = [with_before(4), with_before(5), with_before(6)];
        let parts = parts(events.iter(), 7, 5, &[late(1, "a", "", 4)]);
        let told = parts[0].events.as_ref().expect("it has events");
        let with_before = |event: &Arc<Event>| (event.revision(), event.prev_kv.is_some());
        let told: Vec<(i64, bool)> = told.events.iter().map(with_before).collect();
        assert_eq!(told, [(4, false), (5, false), (6, true)]);
    }
}
