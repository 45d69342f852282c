//! What the host keeps from everybody: times in which it let no thread run, or in which its disk ended no flush. No machine can be
//! blamed for them, so that a test which measures how long a domain served nobody takes them out. What the machines themselves used
//! of the processors and of the disk meanwhile is theirs, and is counted against them.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, available_parallelism};
use std::time::{Duration, Instant};

use crate::process::{Reading, Used};

/// The pause between two ticks.
const PACE: Duration = Duration::from_millis(10);

/// How much later than that a tick may come on a host that does what it should, where it waits for a flush.
const FLUSH_SLACK: Duration = Duration::from_millis(20);

/// Through how many threads a tick goes that waits for no disk: as many as a heartbeat, from one machine's Timer to the other's
/// LogicCenter, and each waits for its turn.
const HOPS: usize = 6;

/// What a sound disk takes up in a second, at least. Of a flush that waits behind what the machines wrote, so much is theirs.
const DISK_BYTES_PER_SECOND: f64 = (50_u32 << 20) as f64;

/// A thread that ticks: it sleeps, and has the disk flush a few bytes or other threads run.
#[derive(Debug)]
pub struct Host {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// For how long the host stood still since it is watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoodStill {
    /// In all.
    pub whole: Duration,
    /// At once.
    pub longest: Duration,
}

#[derive(Debug)]
struct Shared {
    stop: AtomicBool,
    resource: Resource,
    /// The folder of the cluster whose machines are watched beside it.
    cluster: PathBuf,
    seen: Mutex<Seen>,
}

/// What a tick needs.
#[derive(Clone, Copy, Debug)]
enum Resource {
    Processors,
    Disk,
}

impl Resource {
    /// How much later than it is due a tick comes on any host.
    fn slack(self) -> Duration {
        match self {
            Resource::Processors => Duration::ZERO,
            Resource::Disk => FLUSH_SLACK,
        }
    }

    /// For how long the machines alone would have kept others waiting with what they used.
    fn busy(self, used: Used, processors: u32) -> Duration {
        let computing = used.processor / processors;
        match self {
            Resource::Processors => computing,
            Resource::Disk => {
                let writing = used.disk_bytes as f64 / DISK_BYTES_PER_SECOND;
                computing + Duration::from_secs_f64(writing)
            }
        }
    }
}

#[derive(Debug)]
struct Seen {
    ticked_at: Instant,
    /// What the machines had used by then.
    used: Reading,
    /// Up to that tick.
    stood_still: StoodStill,
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// With the tick that is due, as late as it is by now.
    fn stood_still(&self, seen: &Seen, used: impl FnOnce() -> Reading) -> StoodStill {
        let late = seen
            .ticked_at
            .elapsed()
            .saturating_sub(PACE + self.resource.slack());
        if late.is_zero() {
            return seen.stood_still;
        }
        let processors = available_parallelism().map_or(1, |it| it.get() as u32);
        let busy = self.resource.busy(used().since(&seen.used), processors);
        let late = late.saturating_sub(busy);
        StoodStill {
            whole: seen.stood_still.whole + late,
            longest: seen.stood_still.longest.max(late),
        }
    }
}

impl Host {
    /// Begins to watch whether the host lets threads run, beside the cluster in this folder.
    pub fn watch_processors(cluster: &Path) -> Host {
        let (first, mut last) = channel::<()>();
        for _ in 0..HOPS {
            let (next, come) = channel();
            let before = std::mem::replace(&mut last, come);
            // It ends when the one before it has.
            std::thread::spawn(move || before.into_iter().try_for_each(|it| next.send(it)));
        }
        Host::tick(Resource::Processors, cluster, move || {
            first
                .send(())
                .expect("the threads live as long as this one");
            last.recv().expect("the threads live as long as this one");
        })
    }

    /// Begins to watch whether it does, and whether the disk that the folder of this cluster is on ends flushes. Of each time that it does
    /// not, 20 ms are not counted.
    ///
    /// # Panics
    ///
    /// When the folder cannot be written. In a thread of its own, which then ticks no more: when the disk fails.
    pub fn watch_disk(cluster: &Path) -> Host {
        let file = tempfile::tempfile_in(cluster).expect("the folder can be written");
        Host::tick(Resource::Disk, cluster, move || {
            // In the same place, so that a flush waits for nothing but these bytes: a longer file is in the file system's journal,
            // and that waits for what others wrote.
            file.write_all_at(b"a few bytes", 0)
                .expect("there is space");
            file.sync_data().expect("the disk is sound");
        })
    }

    /// Does this at each tick.
    fn tick(resource: Resource, cluster: &Path, mut work: impl FnMut() + Send + 'static) -> Host {
        let seen = Seen {
            ticked_at: Instant::now(),
            used: Reading::now(cluster),
            stood_still: StoodStill::default(),
        };
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            resource,
            cluster: cluster.to_owned(),
            seen: Mutex::new(seen),
        });
        let ticking = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            while !ticking.stop.load(Ordering::Relaxed) {
                std::thread::sleep(PACE);
                work();
                let used = Reading::now(&ticking.cluster);
                let mut seen = ticking.seen();
                seen.stood_still = ticking.stood_still(&seen, || used.clone());
                seen.used = used;
                seen.ticked_at = Instant::now();
            }
        });
        let thread = Some(thread);
        Host { shared, thread }
    }

    /// For how long the host has stood still, up to this moment.
    ///
    /// # Panics
    ///
    /// When the disk has failed.
    pub fn stood_still(&self) -> StoodStill {
        let ticks = self.thread.as_ref().is_some_and(|it| !it.is_finished());
        assert!(ticks, "the disk of the test has failed");
        let now = || Reading::now(&self.shared.cluster);
        self.shared.stood_still(&self.shared.seen(), now)
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
    use super::*;
    use crate::until;

    #[tokio::test]
    async fn a_flush_that_does_not_end_is_counted_while_it_lasts_and_after_it() {
        let (end, ended) = channel::<()>();
        let began = Instant::now();
        let host = Host::tick(Resource::Disk, Path::new("nobody's"), move || {
            // Once the test has let go of its end, nothing is waited for.
            let _ = ended.recv();
        });
        let enough = Duration::from_millis(200);
        until("the flush is late", async || {
            let stood_still = host.stood_still();
            (stood_still.longest > enough)
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
            enough < stood_still.longest
                && stood_still.longest <= stood_still.whole
                && stood_still.whole < all,
            "{stood_still:?} of {all:?}"
        );
    }

    #[test]
    fn times_add_up_and_the_longest_is_one_of_them() {
        let shared = Shared {
            stop: AtomicBool::new(false),
            resource: Resource::Processors,
            cluster: PathBuf::new(),
            seen: Mutex::new(Seen {
                ticked_at: Instant::now() - Duration::from_millis(130),
                used: Reading::default(),
                stood_still: StoodStill {
                    whole: Duration::from_secs(7_200),
                    longest: Duration::from_secs(3_600),
                },
            }),
        };
        let now = shared.stood_still(&shared.seen(), Reading::default);
        assert!(now.whole >= Duration::from_millis(7_200_100), "{now:?}");
        assert_eq!(now.longest, Duration::from_secs(3_600));
    }

    #[test]
    fn what_the_machines_used_is_theirs() {
        let used = Used {
            processor: Duration::from_millis(300),
            disk_bytes: 100 << 20,
        };
        let busy = |resource: Resource| resource.busy(used, 2).as_millis();
        assert_eq!(busy(Resource::Processors), 150);
        assert_eq!(busy(Resource::Disk), 2_150);
    }
}
