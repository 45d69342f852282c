//! The messages of which only a part has come, and which of them gives way.

use std::collections::BTreeMap;
use std::task::Waker;
use std::time::{Duration, Instant};

use super::Claim;
use crate::connection::Cutoff;

/// Each message has a number; the one that began first has the least.
#[derive(Debug, Default)]
pub(super) struct Begun {
    /// By their claims.
    classes: [Parts; 3],
    /// Those that gave way and are held until whoever holds them hears of it.
    leaving: Parts,
    /// Those of which the connections were cut.
    cut: Parts,
    /// What is whole of streams.
    resting: Parts,
    next: u64,
}

#[derive(Debug, Default)]
struct Parts {
    parts: BTreeMap<u64, Part>,
    /// What has come of all of them.
    bytes: usize,
}

/// What has come of one message.
#[derive(Debug, Default)]
struct Part {
    bytes: usize,
    /// Whoever waits for the rest.
    waker: Option<Waker>,
    /// What closes the connection that it comes on.
    connection: Option<Cutoff>,
    /// Since when it has given way, or is whole.
    since: Option<Instant>,
}

impl Begun {
    /// What is held of all messages, but for those that gave way.
    pub(super) fn bytes(&self) -> usize {
        self.classes.iter().map(|parts| parts.bytes).sum()
    }

    /// What is held of those with a share that a message of that claim may not take, up to that share.
    pub(super) fn spared(&self, claim: Claim, share: usize) -> usize {
        let above = self.above(claim).iter();
        above.map(|parts| parts.bytes.min(share)).sum()
    }

    /// What gave way and is held all the same.
    pub(super) fn leaving_bytes(&self) -> usize {
        self.leaving.bytes + self.cut.bytes
    }

    /// A message begins.
    pub(super) fn begin(&mut self, connection: Option<Cutoff>) -> u64 {
        let number = self.next;
        self.next += 1;
        let part = Part {
            connection,
            ..Part::default()
        };
        self.classes[Claim::Small as usize].insert(number, part);
        number
    }

    /// So many bytes of a message have come by now, and that is its claim.
    ///
    /// # Errors
    /// It has given way.
    pub(super) fn has_come(
        &mut self,
        number: u64,
        bytes: usize,
        claim: Claim,
    ) -> Result<(), GaveWay> {
        let part = Part {
            bytes,
            ..self.take(number).ok_or(GaveWay)?
        };
        self.classes[claim as usize].insert(number, part);
        Ok(())
    }

    /// Has whoever waits for the rest of a message woken when it gives way.
    ///
    /// # Errors
    /// It has given way.
    pub(super) fn wait(&mut self, number: u64, waker: &Waker) -> Result<(), GaveWay> {
        let mut classes = self.classes.iter_mut();
        let part = classes.find_map(|class| class.parts.get_mut(&number));
        part.ok_or(GaveWay)?.waker = Some(waker.clone());
        Ok(())
    }

    /// The message is whole, or held no more: how much of it there was.
    ///
    /// # Errors
    /// It has given way, which whoever held it has heard by now.
    pub(super) fn end(&mut self, number: u64) -> Result<usize, GaveWay> {
        match self.take(number) {
            Some(part) => Ok(part.bytes),
            None => {
                self.leaving
                    .remove(number)
                    .or_else(|| self.cut.remove(number));
                Err(GaveWay)
            }
        }
    }

    /// Whether it has not given way.
    pub(super) fn contains(&self, number: u64) -> bool {
        let mut classes = self.classes.iter();
        classes.any(|class| class.parts.contains_key(&number))
    }

    /// The one that began first gives way to a message of that claim; of those with a share that it may not take only where they hold more
    /// than that. `false` if there is none.
    pub(super) fn give_way(&mut self, claim: Claim, share: usize) -> bool {
        let above = self.above(claim).iter().filter(|parts| parts.bytes > share);
        let may_have_to = self.classes[..=claim as usize].iter().chain(above);
        let first = may_have_to.filter_map(Parts::first).min();
        first.is_some_and(|number| self.has_to_leave(number))
    }

    /// A message gives way, and whoever waits for the rest of it hears of that. `false` if it has done so before.
    pub(super) fn has_to_leave(&mut self, number: u64) -> bool {
        let Some(mut part) = self.take(number) else {
            return false;
        };
        if let Some(waker) = part.waker.take() {
            waker.wake();
        }
        part.since = Some(Instant::now());
        self.leaving.insert(number, part);
        true
    }

    /// Where more than so much of what gave way is held, cuts the connections of those that have been leaving for so long.
    pub(super) fn cut_leaving(&mut self, bytes_max: usize, time: Duration) {
        while self.leaving.bytes > bytes_max
            && let Some((number, part)) = self.leaving.take_older(time)
        {
            part.cut();
            self.cut.insert(number, part);
        }
    }

    /// So much of a stream is whole, until its service asks for more. It bears this number.
    pub(super) fn rest(&mut self, bytes: usize, connection: Option<Cutoff>) -> u64 {
        let number = self.next;
        self.next += 1;
        let part = Part {
            bytes,
            connection,
            since: Some(Instant::now()),
            ..Part::default()
        };
        self.resting.insert(number, part);
        number
    }

    /// The service of a stream has asked for more.
    pub(super) fn done(&mut self, number: u64) {
        self.resting.remove(number);
    }

    /// Where more than so much is whole of streams, cuts the connections of those that have rested for so long: who takes no answer
    /// keeps its service from asking for more.
    pub(super) fn cut_resting(&mut self, bytes_max: usize, time: Duration) {
        while self.resting.bytes > bytes_max
            && let Some((_, part)) = self.resting.take_older(time)
        {
            part.cut();
        }
    }

    fn above(&self, claim: Claim) -> &[Parts] {
        &self.classes[claim as usize + 1..]
    }

    fn take(&mut self, number: u64) -> Option<Part> {
        let mut classes = self.classes.iter_mut();
        classes.find_map(|parts| parts.remove(number))
    }
}

impl Part {
    fn cut(&self) {
        if let Some(connection) = &self.connection {
            connection.cut();
        }
    }
}

impl Parts {
    fn first(&self) -> Option<u64> {
        self.parts.keys().next().copied()
    }

    /// The first of them, if it is there for so long.
    fn take_older(&mut self, time: Duration) -> Option<(u64, Part)> {
        let (&number, part) = self.parts.first_key_value()?;
        let is_older = part.since.is_some_and(|at| at.elapsed() >= time);
        is_older.then_some(())?;
        Some((number, self.remove(number)?))
    }

    fn insert(&mut self, number: u64, part: Part) {
        self.bytes += part.bytes;
        self.parts.insert(number, part);
    }

    fn remove(&mut self, number: u64) -> Option<Part> {
        let part = self.parts.remove(&number)?;
        self.bytes -= part.bytes;
        Some(part)
    }
}

/// A message has given way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GaveWay;
