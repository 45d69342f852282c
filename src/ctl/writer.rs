//! The demonstration's clients: they put keys without rest, turn to the next machine when one fails, and keep count.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::client::Endpoints;
use crate::proto::PutRequest;

/// How many clients write at the same time.
const CLIENTS: usize = 4;
/// The keys that each of them writes, over and over.
const KEYS: u64 = 1_000;
/// How long a client waits before it turns to the next machine.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(20);

/// What the clients have seen so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Count {
    /// Puts that were acknowledged.
    pub(crate) acknowledged: u64,
    /// Puts that were not, or with an error.
    pub(crate) failed: u64,
    /// The longest time in which none was acknowledged, the one that still lasts included.
    pub(crate) longest_pause: Duration,
    last: Instant,
}

/// Clients that write until they are dropped.
pub(crate) struct Writers {
    count: Arc<Mutex<Count>>,
    _tasks: JoinSet<()>,
}

impl Writers {
    /// Starts them.
    pub(crate) fn start(endpoints: &Endpoints) -> Self {
        let count = Arc::new(Mutex::new(Count::new()));
        let mut tasks = JoinSet::new();
        for client in 0..CLIENTS {
            tasks.spawn(write(client, endpoints.clone(), count.clone()));
        }
        Writers {
            count,
            _tasks: tasks,
        }
    }

    /// What they have seen so far.
    pub(crate) fn count(&self) -> Count {
        let mut count = *locked(&self.count);
        count.longest_pause = count.longest_pause.max(count.last.elapsed());
        count
    }
}

async fn write(client: usize, endpoints: Endpoints, count: Arc<Mutex<Count>>) {
    for machine in (0..endpoints.list.len()).cycle().skip(client) {
        let Ok(link) = endpoints.connect(&endpoints.list[machine]).await else {
            sleep(PAUSE_AFTER_FAILURE).await;
            continue;
        };
        let mut kv = link.kv();
        for number in (0..KEYS).cycle() {
            let put = PutRequest {
                key: format!("demo/{client}/{number:04}").into(),
                value: format!("{} acknowledged before", locked(&count).acknowledged).into(),
                ..Default::default()
            };
            let answer = kv.put(put).await;
            locked(&count).add(answer.is_ok());
            if answer.is_err() {
                sleep(PAUSE_AFTER_FAILURE).await;
                break;
            }
        }
    }
}

impl Count {
    /// Nothing yet, from now on.
    pub(crate) fn new() -> Self {
        Count {
            acknowledged: 0,
            failed: 0,
            longest_pause: Duration::ZERO,
            last: Instant::now(),
        }
    }

    fn add(&mut self, acknowledged: bool) {
        if !acknowledged {
            self.failed += 1;
            return;
        }
        self.acknowledged += 1;
        self.longest_pause = self.longest_pause.max(self.last.elapsed());
        self.last = Instant::now();
    }
}

fn locked(count: &Mutex<Count>) -> MutexGuard<'_, Count> {
    // Plain numbers: whoever panicked while holding them left nothing half done.
    count.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::Fake;

    #[tokio::test]
    async fn writers_go_on_with_the_machines_that_are_left() {
        let fake = Fake::start();
        let endpoints = Endpoints::plain(
            vec![Fake::absent(), fake.endpoint()],
            Duration::from_secs(5),
        );
        let writers = Writers::start(&endpoints);
        while writers.count().acknowledged < 20 {
            tokio::task::yield_now().await;
        }
        assert!(fake.keys().keys().all(|key| key.starts_with(b"demo/")));
        assert_eq!(writers.count().failed, 0);
    }
}
