//! Writers that write each key once, and remember what was acknowledged.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rm_proto::mvccpb::KeyValue;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::client::Client;
use crate::wait::until;

/// How often each writer writes at most, so that long scenarios stay small.
const PACE: Duration = Duration::from_millis(2);

/// The most keys that one writer writes.
const KEYS_MAX: usize = 100_000;

/// Writers at work.
#[derive(Debug)]
pub struct Writers {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    count: AtomicUsize,
    acknowledged: Mutex<BTreeMap<String, String>>,
}

impl Writers {
    /// Starts `count` writers, which go from machine to machine when one does not answer.
    pub fn start(client: &Client, count: usize) -> Self {
        let shared = Arc::<Shared>::default();
        let tasks = (0..count)
            .map(|writer| tokio::spawn(write(client.clone(), writer, Arc::clone(&shared))))
            .collect();
        Writers { shared, tasks }
    }

    /// Waits until this many more writes are acknowledged.
    ///
    /// # Panics
    ///
    /// When they are not in time.
    pub async fn progress(&self, more: usize) {
        let goal = self.shared.count.load(Ordering::Relaxed) + more;
        until("writes are acknowledged", async || {
            match self.shared.count.load(Ordering::Relaxed) {
                count if count >= goal => Ok(()),
                count => Err(format!("{count} of {goal}")),
            }
        })
        .await;
    }

    /// Lets the writers end, and gives back what was acknowledged: each key with its value.
    ///
    /// # Panics
    ///
    /// When a writer has panicked.
    pub async fn finish(self) -> BTreeMap<String, String> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("a writer does not panic");
        }
        std::mem::take(&mut *self.shared.acknowledged.lock().expect("no writer panicked"))
    }
}

async fn write(client: Client, writer: usize, shared: Arc<Shared>) {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut machine = writer;
    for number in 0..KEYS_MAX {
        let (key, value) = (
            format!("written/{writer}/{number:06}"),
            format!("{writer}-{number}"),
        );
        loop {
            if shared.stop.load(Ordering::Relaxed) {
                return;
            }
            pace.tick().await;
            let place = machine % client.machines();
            match client.put_on(place, key.clone(), value.clone()).await {
                Ok(_) => break,
                Err(_) => machine += 1,
            }
        }
        let mut acknowledged = shared.acknowledged.lock().expect("no writer panicked");
        acknowledged.insert(key, value);
        shared.count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Proves that everything acknowledged is among the pairs.
///
/// # Panics
///
/// When something is lost, with the first that is.
pub fn assert_nothing_lost(acknowledged: &BTreeMap<String, String>, pairs: &[KeyValue]) {
    let held: BTreeMap<&[u8], &[u8]> = pairs.iter().map(|p| (&p.key[..], &p.value[..])).collect();
    let lost: Vec<&String> = acknowledged
        .iter()
        .filter(|(key, value)| held.get(key.as_bytes()) != Some(&value.as_bytes()))
        .map(|(key, _)| key)
        .collect();
    assert!(
        lost.is_empty(),
        "{} of {} acknowledged writes are lost, the first is {}",
        lost.len(),
        acknowledged.len(),
        lost[0]
    );
}
