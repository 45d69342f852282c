//! Measures for how long a domain serves no write: many small ones through every machine, none of which waits for another.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::client::Client;
use crate::host::Host;

/// How often a write is sent to each machine.
const PACE: Duration = Duration::from_millis(10);

/// The most writes that one machine may owe an answer. Sent at that pace they last for longer than any gap that a test bears, so
/// that writes which were lost with a leader hold up none that the next one would serve.
const UNANSWERED_MAX: usize = 256;

/// Writes that are sent to every machine, and when one was acknowledged last.
#[derive(Debug)]
pub struct Prober {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    host: Host,
    stop: AtomicBool,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    acknowledged_at: Instant,
    /// For how long the host had stood still by then.
    stood_still: Duration,
    longest: Gap,
}

/// A time in which no write was acknowledged.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gap {
    /// How long it was.
    pub whole: Duration,
    /// For how much of it the host let nobody do anything.
    pub stood_still: Duration,
}

impl Gap {
    /// What of it the machines answer for.
    pub fn own(&self) -> Duration {
        self.whole.saturating_sub(self.stood_still)
    }
}

impl Seen {
    /// The gap that is open now, by a host that has stood still for so long in all.
    fn open(&self, stood_still: Duration) -> Gap {
        Gap {
            whole: self.acknowledged_at.elapsed(),
            stood_still: stood_still.saturating_sub(self.stood_still),
        }
    }

    fn close(&mut self, stood_still: Duration) {
        self.longest = self.longest.or(self.open(stood_still));
        self.acknowledged_at = Instant::now();
        self.stood_still = stood_still;
    }
}

impl Gap {
    /// Whichever of the two the machines answer for longer.
    fn or(self, other: Gap) -> Gap {
        if other.own() > self.own() {
            other
        } else {
            self
        }
    }
}

impl Prober {
    /// Begins to write, and to watch the host by a file in this folder.
    ///
    /// # Panics
    ///
    /// When the folder cannot be written.
    pub fn start(client: &Client, folder: &Path) -> Prober {
        let host = Host::watch_disk(folder);
        let seen = Seen {
            acknowledged_at: Instant::now(),
            stood_still: host.stood_still().whole,
            longest: Gap::default(),
        };
        let shared = Arc::new(Shared {
            host,
            stop: AtomicBool::new(false),
            seen: Mutex::new(seen),
        });
        let tasks = (0..client.machines())
            .map(|machine| tokio::spawn(probe(client.clone(), machine, Arc::clone(&shared))))
            .collect();
        Prober { shared, tasks }
    }

    /// The longest gap since this was asked last, the one that is open among them.
    ///
    /// # Panics
    ///
    /// When the disk of the test has failed.
    pub fn longest(&self) -> Gap {
        let stood_still = self.shared.host.stood_still().whole;
        let mut seen = self.shared.seen.lock().expect("no prober panicked");
        let open = seen.open(stood_still);
        std::mem::take(&mut seen.longest).or(open)
    }

    /// Ends it.
    ///
    /// # Panics
    ///
    /// When a task of it has panicked.
    pub async fn finish(self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("a prober does not panic");
        }
    }
}

/// Sends writes to one machine.
async fn probe(client: Client, machine: usize, shared: Arc<Shared>) {
    let unanswered = Arc::new(Semaphore::new(UNANSWERED_MAX));
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !shared.stop.load(Ordering::Relaxed) {
        pace.tick().await;
        let Ok(permit) = Arc::clone(&unanswered).try_acquire_owned() else {
            continue;
        };
        let (client, shared) = (client.clone(), Arc::clone(&shared));
        tokio::spawn(async move {
            let key = format!("probe/{machine}");
            if client.put_on(machine, key, "probed").await.is_ok() {
                let stood_still = shared.host.stood_still().whole;
                let mut seen = shared.seen.lock().expect("no prober panicked");
                seen.close(stood_still);
            }
            drop(permit);
        });
    }
}
