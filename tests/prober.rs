//! Measures for how long each machine of a domain serves no write: many small ones through every machine, none of which waits for
//! another.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval};

use crate::client::Client;
use crate::host::Host;
use crate::wait::until;

/// How often a write is sent to each machine.
const PACE: Duration = Duration::from_millis(10);

/// The most writes that one machine may owe an answer. Sent at that pace they last for longer than any gap that a test bears, so
/// that writes which were lost with a leader hold up none that the next one would serve.
const UNANSWERED_MAX: usize = 256;

/// Writes that are sent to every machine, and when each acknowledged one last.
#[derive(Debug)]
pub struct Prober {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    host: Host,
    stop: AtomicBool,
    /// Of each machine that should serve, by its place.
    seen: Mutex<BTreeMap<usize, Seen>>,
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, BTreeMap<usize, Seen>> {
        self.seen.lock().expect("no prober panicked")
    }
}

#[derive(Debug)]
struct Seen {
    acknowledged_at: Instant,
    /// Whether one was acknowledged at all since the machine is to serve.
    has_served: bool,
    /// For how long the host had stood still by then.
    stood_still: Duration,
    longest: Gap,
}

/// The most of a gap that the host may be to blame for: half an election timeout of an operator's timings. Else a gap could hide in it.
const EXCUSED_MAX: Duration = Duration::from_millis(500);

/// A time in which a machine acknowledged no write.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gap {
    /// Which machine, by its place.
    pub machine: usize,
    /// How long it was.
    pub whole: Duration,
    /// For how much of it the host let nobody do anything.
    pub stood_still: Duration,
}

impl Gap {
    /// Whether it says anything about the machines: not where the host stood still for most of what they are allowed.
    pub fn can_be_judged(&self) -> bool {
        self.stood_still <= EXCUSED_MAX
    }

    /// What of it the machines answer for.
    pub fn own(&self) -> Duration {
        self.whole.saturating_sub(self.stood_still)
    }

    /// Whichever of the two the machines answer for longer.
    fn or(self, other: Gap) -> Gap {
        if other.own() > self.own() {
            other
        } else {
            self
        }
    }
}

impl Seen {
    /// Of a machine that is to serve from this moment on.
    fn begin(machine: usize, stood_still: Duration) -> Seen {
        Seen {
            acknowledged_at: Instant::now(),
            has_served: false,
            stood_still,
            longest: Gap {
                machine,
                ..Gap::default()
            },
        }
    }

    /// The gap that is open now, by a host that has stood still for so long in all.
    fn open(&self, stood_still: Duration) -> Gap {
        Gap {
            machine: self.longest.machine,
            whole: self.acknowledged_at.elapsed(),
            stood_still: stood_still.saturating_sub(self.stood_still),
        }
    }

    fn close(&mut self, stood_still: Duration) {
        self.longest = self.longest.or(self.open(stood_still));
        self.acknowledged_at = Instant::now();
        self.has_served = true;
        self.stood_still = stood_still;
    }

    /// The longest gap since this was asked last.
    fn take_longest(&mut self, stood_still: Duration) -> Gap {
        let longest = self.longest.or(self.open(stood_still));
        self.longest = Gap {
            machine: longest.machine,
            ..Gap::default()
        };
        longest
    }
}

impl Prober {
    /// Begins to write through all machines, of which these should serve, and to watch the host by a file in this folder.
    ///
    /// # Panics
    ///
    /// When the folder cannot be written.
    pub fn start(
        client: &Client,
        folder: &Path,
        serving: impl IntoIterator<Item = usize>,
    ) -> Prober {
        let host = Host::watch_disk(folder);
        let stood_still = host.stood_still().whole;
        let seen = serving.into_iter();
        let seen = seen.map(|machine| (machine, Seen::begin(machine, stood_still)));
        let shared = Arc::new(Shared {
            host,
            stop: AtomicBool::new(false),
            seen: Mutex::new(seen.collect()),
        });
        let tasks = (0..client.machines())
            .map(|machine| tokio::spawn(probe(client.clone(), machine, Arc::clone(&shared))))
            .collect();
        Prober { shared, tasks }
    }

    /// Waits until this machine serves, which should do so from then on.
    ///
    /// # Panics
    ///
    /// When it does not in time.
    pub async fn expect(&self, machine: usize) {
        let seen = Seen::begin(machine, self.shared.host.stood_still().whole);
        self.shared.seen().insert(machine, seen);
        let what = format!("the machine {machine} acknowledges a write");
        until(&what, async || {
            let mut all = self.shared.seen();
            let seen = all.get_mut(&machine).ok_or("it is not to serve")?;
            if !seen.has_served {
                return Err("none yet".to_owned());
            }
            seen.take_longest(seen.stood_still);
            Ok(())
        })
        .await;
    }

    /// This machine need not serve from now on.
    ///
    /// # Panics
    ///
    /// When a task has panicked.
    pub fn excuse(&self, machine: usize) {
        self.shared.seen().remove(&machine);
    }

    /// The longest gap of any machine that should serve, since this was asked last, those that are open among them.
    ///
    /// # Panics
    ///
    /// When no machine should serve, or the disk of the test has failed.
    pub fn longest(&self) -> Gap {
        let stood_still = self.shared.host.stood_still().whole;
        let mut seen = self.shared.seen();
        let gaps = seen.values_mut().map(|it| it.take_longest(stood_still));
        gaps.reduce(Gap::or).expect("a machine should serve")
    }

    /// Ends it, when all that was sent is answered.
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

/// Sends writes to one machine, and ends when all of them are answered.
async fn probe(client: Client, machine: usize, shared: Arc<Shared>) {
    let mut unanswered = JoinSet::new();
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !shared.stop.load(Ordering::Relaxed) {
        pace.tick().await;
        while let Some(answered) = unanswered.try_join_next() {
            answered.expect("a write does not panic");
        }
        if unanswered.len() == UNANSWERED_MAX {
            continue;
        }
        let (client, shared) = (client.clone(), Arc::clone(&shared));
        unanswered.spawn(async move {
            let key = format!("probe/{machine}");
            if client.put_on(machine, key, "probed").await.is_ok() {
                let stood_still = shared.host.stood_still().whole;
                if let Some(seen) = shared.seen().get_mut(&machine) {
                    seen.close(stood_still);
                }
            }
        });
    }
    unanswered.join_all().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Much longer than the tests take.
    const LONG: Duration = Duration::from_secs(30);

    /// A prober of machines that never answer, of which these should.
    fn silent(serving: &[usize]) -> (Prober, tempfile::TempDir) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let client = Client::new([]);
        let prober = Prober::start(&client, folder.path(), serving.iter().copied());
        (prober, folder)
    }

    fn acknowledge(prober: &Prober, machine: usize) {
        let stood_still = prober.shared.host.stood_still().whole;
        let mut seen = prober.shared.seen();
        let of_it = seen.get_mut(&machine).expect("it should serve");
        of_it.close(stood_still);
    }

    /// As if the last write of each machine was acknowledged earlier than it was.
    fn pass(prober: &Prober, time: Duration) {
        for seen in prober.shared.seen().values_mut() {
            seen.acknowledged_at -= time;
        }
    }

    #[tokio::test]
    async fn one_machine_that_answers_does_not_hide_another_that_does_not() {
        let (prober, _folder) = silent(&[0, 1]);
        pass(&prober, LONG);
        acknowledge(&prober, 0);
        let gap = prober.longest();
        assert_eq!(gap.machine, 1);
        assert!(gap.own() >= LONG, "{gap:?}");
        prober.excuse(1);
        assert!(prober.longest().own() < LONG);
        prober.finish().await;
    }

    #[tokio::test]
    async fn a_machine_is_judged_from_its_first_acknowledged_write_on() {
        let (prober, _folder) = silent(&[]);
        let serves = prober.expect(3);
        let answers = async {
            until("it should serve", async || {
                let is_expected = prober.shared.seen().contains_key(&3);
                is_expected.then_some(()).ok_or("not yet".to_owned())
            })
            .await;
            pass(&prober, LONG);
            acknowledge(&prober, 3);
        };
        tokio::join!(serves, answers);
        assert!(prober.longest().own() < LONG);
        pass(&prober, LONG);
        assert!(prober.longest().own() >= LONG);
        prober.finish().await;
    }
}
