//! A machine is down while the others write and compact a gibibyte, and comes back: what it takes the leader's clients, how much
//! memory, and how late heartbeats are, while a snapshot brings it up to date. Exit code 1 when that is too much. Run by hand:
//!
//!     cargo build --release --bin raft-machine
//!     RM_BINARY=$PWD/target/release/raft-machine cargo run --release -p rm-tests --bin catch-up -- 1024

use std::fs;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rm_tests::host::Host;
use rm_tests::{Client, Cluster, Settings, until_within};
use tokio::task::JoinSet;

/// The size of a value that makes the state large.
const LARGE_BYTES: usize = 64 << 10;

/// The size of a value of the load that is measured.
const SMALL_BYTES: usize = 256;

/// How many clients put at the same time.
const CLIENTS: usize = 64;

/// How long the throughput before is measured.
const BEFORE: Duration = Duration::from_secs(15);

/// How long the whole may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// How much of its throughput a leader must keep.
const RATIO_MIN: f64 = 0.7;

/// For how long a machine may hear nothing of its leader: two heartbeats are due within that time, so that one may come late.
const SILENCE_MAX_MS: u64 = 200;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let mebibytes: usize = match std::env::args().nth(1).map(|text| text.parse()) {
        None => 1_024,
        Some(Ok(mebibytes)) => mebibytes,
        Some(Err(error)) => panic!("the argument is the size of the state in MiB: {error}"),
    };
    // The timings of an operator, not the short ones of the tests.
    let settings = Settings::trio()
        .with_timings_of_an_operator()
        .with("supervision.hang_ms", 2_000);
    let mut cluster = Cluster::start(settings).await;
    let client = cluster.client();
    let leader = cluster.leader().await;
    let follower = (leader + 1) % cluster.machines.len();
    let last = info(&client, follower).await.last_index;
    cluster.machines[follower].kill();
    fill(&client, leader, mebibytes << 20).await;

    let load = Load::start(&client, leader);
    until_within(PATIENCE, "the leader has compacted", async || {
        let first = info(&client, leader).await.first_index;
        (first > last + 1).then_some(()).ok_or(format!("{first}"))
    })
    .await;
    let term = info(&client, leader).await.term;
    let other = (0..3).find(|place| ![leader, follower].contains(place));
    let other = other.expect("one of three");
    // So that its silences from before do not count.
    let killed = client.kill_actor(other, "logic_center", "stop").await;
    killed.expect("the config allows it");
    let host = Host::watch_processors();
    let before = load.over(BEFORE).await;

    cluster.machines[follower].start();
    let (began, puts) = (Instant::now(), load.puts());
    let mut peaks = [Peak::default(), Peak::default()];
    let mut sent_at = None;
    until_within(PATIENCE, "the machine has caught up", async || {
        let places = [leader, follower];
        for (peak, place) in peaks.iter_mut().zip(places) {
            peak.look(cluster.machines[place].process().0);
        }
        let goal = info(&client, leader).await;
        if sent_at.is_none() && !goal.sending.is_empty() {
            sent_at = Some(began.elapsed());
        }
        let applied = match client.info(follower).await {
            Ok(info) if info.first_index > last + 1 => info.applied_index,
            _ => return Err("no snapshot is in force".to_owned()),
        };
        if applied + 1_000 >= goal.commit_index {
            return Ok(());
        }
        Err(format!("{applied} of {} applied", goal.commit_index))
    })
    .await;
    let took = began.elapsed();
    let during = (load.puts() - puts) as f64 / took.as_secs_f64();
    load.stop().await;
    let stood_still = host.stood_still().whole;

    println!("state of {mebibytes} MiB, {CLIENTS} clients that put {SMALL_BYTES} bytes");
    println!("before: {before:.0} puts/s over {BEFORE:?}");
    println!("during: {during:.0} puts/s over {took:.1?}, the snapshot leaves after {sent_at:.1?}");
    println!("ratio: {:.2}", during / before);
    let mut silences = Vec::new();
    for (name, place) in [("machine that catches up", follower), ("third", other)] {
        let silence = info(&client, place).await.leader_silence_ms;
        println!("longest silence of the leader, to the {name} (ms): {silence:?}");
        silences.push(silence);
    }
    println!("the host stood still for {stood_still:.0?} in all");
    println!("longest put while it lasted: {:.1?}", load.longest());
    for (name, peak) in ["leader", "follower"].iter().zip(peaks) {
        println!(
            "peak memory of the {name}: {} MiB anonymous, {} MiB with mapped pages of files",
            peak.anonymous_kib >> 10,
            peak.resident_kib >> 10
        );
    }
    let after = info(&client, leader).await.term;
    println!("term before and after: {term}, {after}");
    cluster.same_history_everywhere().await;
    println!("all machines hold the same");
    let faults = faults(during / before, &silences, term != after);
    for fault in &faults {
        eprintln!("{fault}");
    }
    match faults[..] {
        [] => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// What was too much, given which part of its throughput the leader kept, and how long the others heard nothing of it: a number of
/// milliseconds, or none of a machine that follows nobody.
fn faults(ratio: f64, silences: &[Option<u64>], was_election: bool) -> Vec<String> {
    let mut faults = Vec::new();
    // Not a number when there was no put before.
    if ratio.is_nan() || ratio < RATIO_MIN {
        faults.push(format!(
            "the leader kept {ratio:.2} of its throughput, at least {RATIO_MIN} is right"
        ));
    }
    for silence in silences {
        match silence {
            None => faults.push("one of the other machines follows nobody in the end".to_owned()),
            Some(ms) if *ms > SILENCE_MAX_MS => faults.push(format!(
                "the leader was silent for {ms} ms, at most {SILENCE_MAX_MS} is right"
            )),
            Some(_) => {}
        }
    }
    if was_election {
        faults.push("there was an election".to_owned());
    }
    faults
}

async fn info(client: &Client, machine: usize) -> rm_proto::raftmachine::v1::InfoResponse {
    until_within(PATIENCE, "the machine answers", async || {
        let info = client.info(machine).await;
        info.map_err(|status| status.to_string())
    })
    .await
}

/// Writes so many bytes of distinct keys.
async fn fill(client: &Client, leader: usize, bytes: usize) {
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
                while client
                    .put_on(leader, key.clone(), value.clone())
                    .await
                    .is_err()
                {}
            }
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer.expect("a writer does not panic");
    }
}

/// Clients that put as fast as they are answered.
struct Load {
    shared: Arc<Shared>,
    clients: std::sync::Mutex<JoinSet<()>>,
}

#[derive(Default)]
struct Shared {
    puts: AtomicU64,
    longest_us: AtomicU64,
    stop: AtomicBool,
}

impl Load {
    fn start(client: &Client, leader: usize) -> Load {
        let shared = Arc::<Shared>::default();
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            clients.spawn(put(client.clone(), leader, number, shared.clone()));
        }
        Load {
            shared,
            clients: std::sync::Mutex::new(clients),
        }
    }

    fn puts(&self) -> u64 {
        self.shared.puts.load(Ordering::Relaxed)
    }

    /// Puts a second over some time, whose longest put is forgotten.
    async fn over(&self, span: Duration) -> f64 {
        let (began, puts) = (Instant::now(), self.puts());
        tokio::time::sleep(span).await;
        self.shared.longest_us.store(0, Ordering::Relaxed);
        (self.puts() - puts) as f64 / began.elapsed().as_secs_f64()
    }

    fn longest(&self) -> Duration {
        Duration::from_micros(self.shared.longest_us.load(Ordering::Relaxed))
    }

    async fn stop(&self) {
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
        if put.is_ok() {
            shared.puts.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The most memory that a process was seen to take.
#[derive(Clone, Copy, Default)]
struct Peak {
    anonymous_kib: u64,
    resident_kib: u64,
}

impl Peak {
    fn look(&mut self, process: u32) {
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let kib = |key: &str| {
            let line = status.lines().find(|line| line.starts_with(key))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        };
        self.anonymous_kib = self.anonymous_kib.max(kib("RssAnon:").unwrap_or(0));
        self.resident_kib = self.resident_kib.max(kib("VmHWM:").unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_throughput_longer_silences_and_elections_are_faults() {
        let told = |ratio, silences: &[Option<u64>], election| {
            let faults = faults(ratio, silences, election);
            faults.len()
        };
        assert_eq!(told(RATIO_MIN, &[Some(SILENCE_MAX_MS), Some(0)], false), 0);
        assert_eq!(told(RATIO_MIN - 0.01, &[], false), 1);
        assert_eq!(told(f64::NAN, &[], false), 1);
        let silent = [Some(SILENCE_MAX_MS + 1), None, Some(100)];
        assert_eq!(told(1.0, &silent, false), 2);
        assert_eq!(told(1.0, &[], true), 1);
    }
}
