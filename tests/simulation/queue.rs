//! What is to happen, by its time; of the same moment, what was planned first comes first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A queue of events. The order depends on nothing but the calls.
#[derive(Debug)]
pub(crate) struct Queue<E> {
    order: BinaryHeap<Reverse<(u64, u64, usize)>>,
    events: Vec<Option<E>>,
    free: Vec<usize>,
    planned: u64,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Queue {
            order: BinaryHeap::new(),
            events: Vec::new(),
            free: Vec::new(),
            planned: 0,
        }
    }
}

impl<E> Queue<E> {
    /// Plans an event, `at` in microseconds.
    pub(crate) fn push(&mut self, at: u64, event: E) {
        let place = self.free.pop().unwrap_or_else(|| {
            self.events.push(None);
            self.events.len() - 1
        });
        self.events[place] = Some(event);
        self.planned += 1;
        self.order.push(Reverse((at, self.planned, place)));
    }

    /// The next event, if it is before `end`.
    pub(crate) fn pop_before(&mut self, end: u64) -> Option<(u64, E)> {
        let &Reverse((at, _, place)) = self.order.peek()?;
        if at >= end {
            return None;
        }
        self.order.pop();
        self.free.push(place);
        let event = self.events[place].take();
        Some((at, event.expect("what is in the order is planned")))
    }
}
