//! Has leadership handed over each second, and counts how often that is done.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rm_proto::raftmachine::v1::TransferRequest;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::client::Client;
use crate::wait::until;

/// How often whoever leads is asked to hand over.
const PACE: Duration = Duration::from_secs(1);

/// The pause before it is asked again, where nobody has done so.
const AGAIN: Duration = Duration::from_millis(50);

/// Whoever has leadership move to whichever machine is fittest.
#[derive(Debug)]
pub struct Mover {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    /// Who has it keeps leadership where it is.
    turn: tokio::sync::Mutex<()>,
    counted: Mutex<Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    recent: Moves,
    all: u32,
}

/// How leadership moved for some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moves {
    /// The seconds in which it was to move.
    pub asked: u32,
    /// Those in which another machine came to lead.
    pub done: u32,
}

impl Shared {
    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock().expect("nobody panics with it")
    }
}

impl Mover {
    /// Begins with it.
    pub fn start(client: &Client) -> Mover {
        let shared = Arc::<Shared>::default();
        let task = tokio::spawn(work(client.clone(), Arc::clone(&shared)));
        Mover { shared, task }
    }

    /// Keeps leadership where it is, as far as this is what moves it, until the guard is dropped.
    pub async fn hold(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.shared.turn.lock().await
    }

    /// Waits until leadership has moved once more.
    ///
    /// # Panics
    ///
    /// When it does not in time.
    pub async fn progress(&self) {
        let before = self.shared.counted().all;
        until("leadership moves", async || {
            let all = self.shared.counted().all;
            (all > before)
                .then_some(())
                .ok_or(format!("{all} times so far"))
        })
        .await;
    }

    /// How it moved since this was asked last.
    pub fn take(&self) -> Moves {
        std::mem::take(&mut self.shared.counted().recent)
    }

    /// Ends it: how often leadership moved in all.
    ///
    /// # Panics
    ///
    /// When it has panicked.
    pub async fn finish(self) -> u32 {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the mover does not panic");
        self.shared.counted().all
    }
}

async fn work(client: Client, shared: Arc<Shared>) {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !shared.stop.load(Ordering::Relaxed) {
        pace.tick().await;
        let end = Instant::now() + PACE;
        let mut has_moved = false;
        while !has_moved && Instant::now() < end {
            let turn = shared.turn.lock().await;
            has_moved = hand_over(&client).await;
            drop(turn);
            if !has_moved {
                sleep(AGAIN).await;
            }
        }
        let mut counted = shared.counted();
        counted.recent.asked += 1;
        if has_moved {
            counted.recent.done += 1;
            counted.all += 1;
        }
    }
}

/// Whether a machine handed over. Who does not lead refuses, and so does who has nobody fit.
async fn hand_over(client: &Client) -> bool {
    for machine in 0..client.machines() {
        let request = TransferRequest { to: 0 };
        if client.admin(machine).transfer(request).await.is_ok() {
            return true;
        }
    }
    false
}
