//! What is written: the values that make the state large, and the clients that are measured.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rm_tests::Client;
use tokio::task::JoinSet;

/// The size of a value that makes the state large.
const LARGE_BYTES: usize = 64 << 10;

/// The size of a value of the load that is measured.
pub(crate) const SMALL_BYTES: usize = 256;

/// How many clients put at the same time.
pub(crate) const CLIENTS: usize = 64;

/// Writes so many bytes of distinct keys.
pub(crate) async fn fill(client: &Client, leader: usize, bytes: usize) {
    let next = Arc::new(AtomicU64::new(0));
    let count = (bytes / LARGE_BYTES) as u64;
    let mut writers = JoinSet::new();
    for _ in 0..CLIENTS / 4 {
        let (client, next) = (client.clone(), next.clone());
        writers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return;
                }
                // Not the same bytes everywhere, which a file system might fold.
                let value = number.to_be_bytes().repeat(LARGE_BYTES / 8);
                let key = format!("large/{number}");
                let put = client.put_on(leader, key, value).await;
                put.expect("each put is acknowledged");
            }
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer.expect("a writer does not panic");
    }
}

/// Clients that put as fast as they are answered.
pub(crate) struct Load {
    shared: Arc<Shared>,
    clients: Mutex<JoinSet<()>>,
}

#[derive(Default)]
struct Shared {
    puts: AtomicU64,
    failed: AtomicU64,
    longest_us: AtomicU64,
    stop: AtomicBool,
}

impl Load {
    pub(crate) fn start(client: &Client, leader: usize) -> Load {
        let shared = Arc::<Shared>::default();
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            clients.spawn(put(client.clone(), leader, number, shared.clone()));
        }
        Load {
            shared,
            clients: Mutex::new(clients),
        }
    }

    /// How many were acknowledged.
    pub(crate) fn puts(&self) -> u64 {
        self.shared.puts.load(Ordering::Relaxed)
    }

    /// Puts a second over some time, whose longest put is forgotten.
    pub(crate) async fn over(&self, span: Duration) -> f64 {
        let (began, puts) = (Instant::now(), self.puts());
        tokio::time::sleep(span).await;
        self.shared.longest_us.store(0, Ordering::Relaxed);
        (self.puts() - puts) as f64 / began.elapsed().as_secs_f64()
    }

    /// How many were not.
    pub(crate) fn failed(&self) -> u64 {
        self.shared.failed.load(Ordering::Relaxed)
    }

    /// The longest since.
    pub(crate) fn longest(&self) -> Duration {
        Duration::from_micros(self.shared.longest_us.load(Ordering::Relaxed))
    }

    /// Has the clients end, and waits for them.
    pub(crate) async fn stop(&self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let clients = std::mem::take(&mut *self.clients.lock().expect("nobody panics with it"));
        clients.join_all().await;
    }
}

async fn put(client: Client, leader: usize, number: usize, shared: Arc<Shared>) {
    let mut round = 0_u64;
    while !shared.stop.load(Ordering::Relaxed) {
        round += 1;
        let key = format!("small/{number}/{}", round % 1_000);
        let asked = Instant::now();
        let put = client.put_on(leader, key, vec![b'v'; SMALL_BYTES]).await;
        let took = asked.elapsed().as_micros() as u64;
        shared.longest_us.fetch_max(took, Ordering::Relaxed);
        let counter = match put {
            Ok(_) => &shared.puts,
            Err(_) => &shared.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
