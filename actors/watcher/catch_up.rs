//! What watchers missed, read from the state as of its last checkpoint, on a thread that may block.

use std::collections::HashMap;
use std::sync::Arc;

use rm_kv::{Event, KvError};

use super::WatcherId;
use crate::states::InForce;
use crate::watching::{Delivery, Interest};

/// How many bytes of changes are read at a time.
const READ_BYTES: usize = 1 << 20;

/// A watcher that is behind.
#[derive(Debug)]
pub(super) struct Late {
    pub(super) watcher: WatcherId,
    pub(super) interest: Interest,
    /// The first revision of which it was not told.
    pub(super) next: i64,
}

/// What one that was behind has missed.
#[derive(Debug)]
pub(super) struct Caught {
    pub(super) watcher: WatcherId,
    /// From which revision on it was read.
    pub(super) from: i64,
    pub(super) missed: Missed,
}

#[derive(Debug)]
pub(super) enum Missed {
    /// All up to a revision, which is not in it.
    Events {
        events: Option<Arc<Delivery>>,
        next: i64,
    },
    /// What it wants is compacted, up to this revision.
    Compacted(i64),
    /// It lies before or after what was read: it has to wait for another turn.
    Elsewhere,
}

/// Reads the history once for all of them, from where the first of them is.
pub(super) fn catch_up(state: &InForce, late: Vec<Late>) -> Result<Vec<Caught>, KvError> {
    let from = late.first().map_or(0, |first| first.next);
    let history = rm_kv::history(&state.environment, from, READ_BYTES)?;
    let events: Vec<Arc<Event>> = history.events.iter().cloned().map(Arc::new).collect();
    let mut deliveries = HashMap::new();
    Ok(late
        .into_iter()
        .map(|late| {
            // One that was there before the compaction may be told what is compacted, as long as it is there.
            let missed = if late.next < history.whole_from {
                Missed::Compacted(history.compacted)
            } else if late.next < history.from || late.next >= history.next {
                Missed::Elsewhere
            } else {
                let key = (late.interest.clone(), late.next);
                let delivery = deliveries.entry(key);
                let delivery = delivery.or_insert_with(|| select(&events, &late, history.next - 1));
                Missed::Events {
                    events: delivery.clone(),
                    next: history.next,
                }
            };
            Caught {
                watcher: late.watcher,
                from: late.next,
                missed,
            }
        })
        .collect())
}

/// Of these events, which are all up to a revision, those that a watcher wants.
fn select(events: &[Arc<Event>], late: &Late, up_to: i64) -> Option<Arc<Delivery>> {
    let Late { interest, next, .. } = late;
    let first = events.partition_point(|event| event.revision() < *next);
    let span = interest.span();
    let wanted = events[first..]
        .iter()
        .filter(|event| span.contains(&event.kv.key) && interest.wants(event));
    Delivery::new(wanted.cloned().collect(), up_to)
}
