//! The line of those whose passwords are to be looked at, which takes a thread for a while, on purpose.
//!
//! Whoever guesses passwords may ask as often as it likes, so that the turns go round by where the requests come from, and where there are
//! too many in the line, those leave it from where there are most: guessing holds up nobody elsewhere.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::port::Refusal;

/// Where a client is: its address, or by IPv6 its network, in which it may have any address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin(IpAddr);

/// The bits of an address that tell the network of a site from others (RFC 4291, section 2.5.4).
const NETWORK: u128 = !0 << 64;

impl From<IpAddr> for Origin {
    fn from(address: IpAddr) -> Origin {
        Origin(match address.to_canonical() {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & NETWORK).into(),
        })
    }
}

impl Origin {
    /// That of all of whom it is not known.
    pub const UNKNOWN: Origin = Origin(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
}

/// The line.
#[derive(Clone)]
pub(crate) struct Line(Arc<Mutex<State>>);

struct State {
    /// Turns that nobody has.
    free: usize,
    waiting_max: usize,
    /// Those who wait, by where they are, in the order in which these have their turns. None of the queues is empty.
    waiting: VecDeque<(Origin, VecDeque<oneshot::Sender<Turn>>)>,
}

/// The turn of one. It is the next one's when it is dropped.
pub(crate) struct Turn(Line);

impl Line {
    /// In which so many have their turn at a time, and so many may wait.
    pub(crate) fn new(turns: usize, waiting_max: usize) -> Line {
        Line(Arc::new(Mutex::new(State {
            free: turns,
            waiting_max,
            waiting: VecDeque::new(),
        })))
    }

    /// Waits for a turn, up to a time.
    ///
    /// # Errors
    /// [`Refusal::TooManyRequests`]: it did not come in time, or too many wait.
    pub(crate) async fn turn(&self, of: Origin, patience: Duration) -> Result<Turn, Refusal> {
        let (turn, come) = oneshot::channel();
        {
            let mut state = self.state();
            if state.free > 0 {
                state.free -= 1;
                drop(state);
                return Ok(Turn(self.clone()));
            }
            state.line_up(of, turn);
        }
        let turn = tokio::time::timeout(patience, come).await;
        turn.map_or(Err(Refusal::TooManyRequests), |turn| {
            turn.map_err(|_| Refusal::TooManyRequests)
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes one more, or drops it: then, or if another has to leave for it, whoever waits there is refused.
    fn line_up(&mut self, of: Origin, turn: oneshot::Sender<Turn>) {
        if self.len() >= self.waiting_max {
            self.forget_who_left();
        }
        let own = self.waiting.iter().position(|(origin, _)| *origin == of);
        let own_len = own.map_or(0, |own| self.waiting[own].1.len());
        if self.len() >= self.waiting_max {
            let queues = self.waiting.iter_mut().map(|(_, queue)| queue);
            match queues.max_by_key(|queue| queue.len()) {
                // What is left there is not empty.
                Some(longest) if longest.len() > own_len + 1 => drop(longest.pop_back()),
                _ => return,
            }
        }
        match own {
            Some(own) => self.waiting[own].1.push_back(turn),
            None => self.waiting.push_back((of, VecDeque::from([turn]))),
        }
    }

    fn len(&self) -> usize {
        self.waiting.iter().map(|(_, queue)| queue.len()).sum()
    }

    fn forget_who_left(&mut self) {
        for (_, queue) in &mut self.waiting {
            queue.retain(|turn| !turn.is_closed());
        }
        self.waiting.retain(|(_, queue)| !queue.is_empty());
    }

    /// Whose turn it is; if nobody's, one more is free.
    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        self.forget_who_left();
        let Some((origin, mut queue)) = self.waiting.pop_front() else {
            self.free += 1;
            return None;
        };
        let next = queue.pop_front();
        if !queue.is_empty() {
            self.waiting.push_back((origin, queue));
        }
        next
    }
}

impl Turn {
    /// Does what takes a thread for a while, and keeps the turn. Whoever asked may go away: the work goes on, and has the turn until it is
    /// done.
    ///
    /// # Errors
    /// The work panicked.
    pub(crate) async fn work<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<(T, Turn), Refusal> {
        let done = tokio::task::spawn_blocking(move || (work(), self));
        done.await.map_err(|_| Refusal::Restarted)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let next = self.0.state().next();
        if let Some(next) = next {
            // Whoever has just left hands it on by dropping it.
            let _ = next.send(Turn(self.0.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::future::BoxFuture;

    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    fn host(number: u8) -> Origin {
        IpAddr::from([10, 0, 0, number]).into()
    }

    type Waits = BoxFuture<'static, Result<Turn, Refusal>>;

    /// Whoever waits for a turn, in the line.
    fn wait(line: &Line, of: Origin) -> Waits {
        let line = line.clone();
        let mut waits = async move { line.turn(of, LONG).await }.boxed();
        match (&mut waits).now_or_never() {
            None => waits,
            Some(outcome) => std::future::ready(outcome).boxed(),
        }
    }

    /// Whether the turn has come: none yet, or too many waited.
    fn outcome(waits: &mut Waits) -> Option<Result<Turn, Refusal>> {
        waits.now_or_never()
    }

    fn come(waits: &mut Waits) -> Turn {
        match outcome(waits) {
            Some(Ok(turn)) => turn,
            Some(Err(refusal)) => panic!("{refusal}"),
            None => panic!("it waits"),
        }
    }

    fn is_refused(waits: &mut Waits) -> bool {
        matches!(outcome(waits), Some(Err(Refusal::TooManyRequests)))
    }

    #[tokio::test]
    async fn turns_go_round_by_where_those_are_who_wait() {
        let line = Line::new(1, 10);
        let turn = come(&mut wait(&line, host(1)));
        let mut many: Vec<Waits> = (0..3).map(|_| wait(&line, host(1))).collect();
        let mut other = wait(&line, host(2));
        drop(turn);
        let turn = come(&mut many[0]);
        assert!(outcome(&mut other).is_none());
        drop(turn);
        let turn = come(&mut other);
        drop(turn);
        let turn = come(&mut many[1]);
        drop((turn, many, other));
        come(&mut wait(&line, host(3)));
    }

    #[tokio::test]
    async fn where_the_line_is_full_those_leave_it_from_where_there_are_most() {
        let line = Line::new(1, 4);
        let _turn = come(&mut wait(&line, host(1)));
        let mut many: Vec<Waits> = (0..4).map(|_| wait(&line, host(1))).collect();
        assert!(is_refused(&mut wait(&line, host(1))));
        let mut other = wait(&line, host(2));
        let mut another = wait(&line, host(2));
        assert!(outcome(&mut other).is_none() && outcome(&mut another).is_none());
        for (place, waits) in many.iter_mut().enumerate() {
            assert_eq!(is_refused(waits), place >= 2, "{place}");
        }
        // Each has as many.
        assert!(is_refused(&mut wait(&line, host(1))));
        assert!(is_refused(&mut wait(&line, host(2))));
    }

    #[tokio::test]
    async fn whoever_went_away_has_no_place_and_no_turn() {
        let line = Line::new(1, 2);
        let turn = come(&mut wait(&line, host(1)));
        let gone = [wait(&line, host(1)), wait(&line, host(1))];
        assert!(is_refused(&mut wait(&line, host(1))));
        drop(gone);
        let mut waits = wait(&line, host(1));
        assert!(outcome(&mut waits).is_none());
        drop(turn);
        let turn = come(&mut waits);
        let mut given = wait(&line, host(1));
        drop(turn);
        // It is given the turn, and goes away before it knows.
        let mut waits = wait(&line, host(1));
        assert!(outcome(&mut waits).is_none());
        drop(std::mem::replace(
            &mut given,
            std::future::pending().boxed(),
        ));
        come(&mut waits);
    }

    #[tokio::test]
    async fn whoever_has_the_turn_keeps_it_for_all_its_work() {
        let line = Line::new(1, 1);
        let mut turn = come(&mut wait(&line, host(1)));
        let mut other = wait(&line, host(2));
        for work in 0..2 {
            let done;
            (done, turn) = turn.work(move || work).await.expect("no panic");
            assert_eq!(done, work);
            assert!(outcome(&mut other).is_none(), "{work}");
        }
        drop(turn);
        come(&mut other);
    }

    #[test]
    fn an_origin_is_an_address_or_a_network() {
        let origin = |text: &str| Origin::from(text.parse::<IpAddr>().expect("an address"));
        assert_eq!(origin("::ffff:10.0.0.1"), host(1));
        assert_ne!(host(1), host(2));
        assert_eq!(origin("2001:db8::1"), origin("2001:db8::ffff:1"));
        assert_ne!(origin("2001:db8::1"), origin("2001:db8:0:1::1"));
    }
}
