//! The changes of members that wait for their end on the machine that was asked for them.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::message::Answer;
use crate::port::Refusal;

/// The most that wait. Only one can be under way, so more are of no use.
const CHANGES_MAX: usize = 16;

/// By request number, which also is the order of their deadlines.
#[derive(Default)]
pub(crate) struct Changes {
    parked: BTreeMap<u64, (Instant, Answer<()>)>,
}

impl Changes {
    /// Keeps an answer until its deadline. If too many wait, it is given at once: nothing was done.
    pub(crate) fn park(&mut self, number: u64, deadline: Instant, answer: Answer<()>) -> bool {
        let fits = self.parked.len() < CHANGES_MAX;
        if fits {
            self.parked.insert(number, (deadline, answer));
        } else {
            // A client that has gone away needs no answer.
            let _ = answer.send(Err(Refusal::TooManyRequests));
        }
        fits
    }

    /// Answers one, unless it was answered before.
    pub(crate) fn settle(&mut self, number: u64, outcome: Result<(), Refusal>) {
        if let Some((_, answer)) = self.parked.remove(&number) {
            // A client that has gone away needs no answer.
            let _ = answer.send(outcome);
        }
    }

    /// Gives up those whose deadline has come: whether they are carried out is unknown.
    pub(crate) fn expire(&mut self, now: Instant) {
        while let Some(first) = self.parked.first_entry()
            && first.get().0 <= now
        {
            let (_, answer) = first.remove();
            // A client that has gone away needs no answer.
            let _ = answer.send(Err(Refusal::TimedOut));
        }
    }

    /// Whether none waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.parked.is_empty()
    }
}
