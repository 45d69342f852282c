//! What the host keeps from everybody: times in which it let no thread run, or in which its disk ended no flush. No machine can be
//! blamed for them, so that a test which measures how long a domain served nobody takes them out.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The pause between two ticks.
const PACE: Duration = Duration::from_millis(5);

/// How much later than that a tick may come on a host that does what it should: a thread waits for its turn, and then for a flush.
const SLACK: Duration = Duration::from_millis(25);

/// A thread that ticks: it sleeps, and has the disk flush a few bytes.
#[derive(Debug)]
pub struct Host {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    ticked_at: Instant,
    /// By how much all ticks up to that one were late.
    stood_still: Duration,
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    /// By how much all ticks were late, and the next one is by now.
    fn stood_still(&self) -> Duration {
        self.stood_still + self.ticked_at.elapsed().saturating_sub(PACE + SLACK)
    }
}

impl Host {
    /// Begins to watch the host, and the disk that this folder is on.
    ///
    /// # Panics
    ///
    /// When the folder cannot be written. In a thread of its own, which then ticks no more: when the disk fails.
    pub fn watch(folder: &Path) -> Host {
        let mut file = File::create(folder.join("flushed")).expect("the folder can be written");
        Host::tick(move || {
            file.write_all(b"a few bytes").expect("there is space");
            file.sync_data().expect("the disk is sound");
        })
    }

    /// Does this at each tick.
    fn tick(mut work: impl FnMut() + Send + 'static) -> Host {
        let seen = Seen {
            ticked_at: Instant::now(),
            stood_still: Duration::ZERO,
        };
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            seen: Mutex::new(seen),
        });
        let ticking = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            while !ticking.stop.load(Ordering::Relaxed) {
                std::thread::sleep(PACE);
                work();
                let mut seen = ticking.seen();
                seen.stood_still = seen.stood_still();
                seen.ticked_at = Instant::now();
            }
        });
        let thread = Some(thread);
        Host { shared, thread }
    }

    /// For how long the host has stood still since it is watched, up to this moment. Of each time that it does, 30 ms are not counted.
    ///
    /// # Panics
    ///
    /// When the disk has failed.
    pub fn stood_still(&self) -> Duration {
        let ticks = self.thread.as_ref().is_some_and(|it| !it.is_finished());
        assert!(ticks, "the disk of the test has failed");
        self.shared.seen().stood_still()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its panic was told where it was asked.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::until;

    #[tokio::test]
    async fn a_flush_that_does_not_end_is_counted_while_it_lasts_and_after_it() {
        let (end, ended) = channel::<()>();
        let began = Instant::now();
        let host = Host::tick(move || {
            // Once the test has let go of its end, nothing is waited for.
            let _ = ended.recv();
        });
        let enough = Duration::from_millis(200);
        until("the flush is late", async || {
            let stood_still = host.stood_still();
            (stood_still > enough)
                .then_some(())
                .ok_or(format!("{stood_still:?}"))
        })
        .await;
        drop(end);
        let ticked_at = host.shared.seen().ticked_at;
        until("the next tick has come", async || {
            let has_come = host.shared.seen().ticked_at > ticked_at;
            has_come.then_some(()).ok_or("not yet".to_owned())
        })
        .await;
        let stood_still = host.shared.seen().stood_still;
        let all = began.elapsed();
        assert!(
            enough < stood_still && stood_still < all,
            "{stood_still:?} of {all:?}"
        );
    }
}
