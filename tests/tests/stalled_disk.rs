//! A disk that stalls: a follower's holds up nobody, and a leader's takes the lead from it within the time that the config says.

use std::time::{Duration, Instant};

use rm_tests::host::Host;
use rm_tests::rmctl::{done, json};
use rm_tests::writers::assert_nothing_lost;
use rm_tests::{Client, Cluster, Prober, Settings, Writers, until};
use serde_json::Value;
use tokio::task::JoinSet;

/// How long a leader's disk may do nothing; longer than the domain bears to hear nothing of its leader.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// How long each commit takes while the disk stalls: much longer than that, and not as long as Storage may hang.
const STALL: Duration = Duration::from_secs(6);
/// The shortest election timeout.
const ELECTION_TIMEOUT: Duration = Duration::from_millis(300);
/// That of an operator.
const USUAL_ELECTION_TIMEOUT: Duration = Duration::from_millis(1_000);

/// What may be on its way to one machine, as these tests set it: far less than is written while a follower's disk stalls.
const REQUESTS_MAX: u64 = 16;
const ENTRIES_MAX: u64 = 256;
const BYTES_MAX: u64 = 1 << 20;
/// The entries of one append, which may begin while there is room for some of it.
const APPEND_BYTES_MAX: u64 = 256 << 10;

/// What is written then: so many values, each so large, by so many clients.
const VALUES: usize = 1_024;
const VALUE_BYTES: usize = 32 << 10;
const CLIENTS: usize = 8;

/// How much more memory the leader may take for all that is written then: half of it.
const MEMORY_BYTES_MAX: u64 = (VALUES * VALUE_BYTES / 2) as u64;

/// How many times as long it may take then as when no disk stalls, before or after, whichever is shorter: if each value waited for the
/// stalled disk, it would be a hundred times.
const RATIO_MAX: f64 = 2.0;

/// How many times as long as before it may take in any of them.
const RATIO_TO_BEFORE_MAX: f64 = 5.0;

/// How often it is tried, since the host's disk may be slow in one of these times and not in the others.
const TRIES: usize = 3;

/// The machine that this one takes for the leader, and the term.
async fn leader_by(client: &Client, machine: usize) -> (u64, u64) {
    let status = client.status(machine).await.expect("it answers");
    (status.leader, status.raft_term)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_disk_stalls_gives_up_the_lead_in_time_and_writes_go_on() {
    let settings = Settings::trio().with("timings.disk_patience_ms", PATIENCE.as_millis() as u64);
    let cluster = Cluster::start(settings).await;
    let client = cluster.client();
    client.put("before", "kept").await;
    cluster.converged().await;
    let stalled = cluster.leader().await;
    let witness = (stalled + 1) % 3;
    let before = leader_by(&client, witness).await;
    let writers = Writers::start(&client, 3);
    writers.progress(20).await;

    let stall = format!("delay:{}", STALL.as_millis());
    let host = Host::watch_disk(&cluster.folder());
    // It stalls at some moment after this one.
    let since = Instant::now();
    client
        .arm_fault(stalled, "storage", "commit", &stall, u64::MAX)
        .await;
    // The others hold what is written durably, so that a majority does.
    writers.progress(20).await;
    let held = leader_by(&client, witness).await;
    assert!(
        held == before || since.elapsed() > PATIENCE,
        "heartbeats go on, so nobody else stands before the time"
    );
    let led_on = until("another machine leads", async || {
        match leader_by(&client, witness).await {
            (leader, _) if leader != 0 && leader != before.0 => Ok(since.elapsed()),
            other => Err(format!("{other:?}, as before: {before:?}")),
        }
    })
    .await;
    println!(
        "another machine led {led_on:?} after the disk stalled, with a patience of {PATIENCE:?}"
    );
    assert!(led_on >= PATIENCE, "not before the time: {led_on:?}");
    // Twice the election timeout until somebody stands, and as much again for a busy host.
    let limit = PATIENCE + 8 * ELECTION_TIMEOUT;
    let own = led_on.saturating_sub(host.stood_still().whole);
    assert!(own < limit.min(STALL), "soon after it: {own:?}");
    writers.progress(50).await;
    assert_ne!(leader_by(&client, witness).await.0, before.0);

    client
        .arm_fault(stalled, "storage", "commit", "delay:0", 0)
        .await;
    writers.progress(20).await;
    let acknowledged = writers.finish().await;
    assert_nothing_lost(&acknowledged, &cluster.same_everywhere().await);
    cluster.assert_nobody_panicked();
}

/// What is on its way from the leader to a follower, as `rmctl info` tells it.
#[derive(Debug, Default)]
struct InFlight {
    matched: u64,
    requests: u64,
    entries: u64,
    bytes: u64,
}

impl InFlight {
    /// Asks the machine at this endpoint, which leads.
    fn of(leader: &str, follower: &str) -> InFlight {
        let rows = json(leader, &["info"]);
        let told = rows.as_array().into_iter().flatten();
        let leader = told.clone().find(|row| row["role"] == "leader");
        let followers = leader.and_then(|row| row["followers"].as_array());
        let of_it = |told: &&Value| told["peer"] == follower;
        let found = followers.into_iter().flatten().find(of_it);
        let found = found.unwrap_or_else(|| panic!("no leader tells of {follower}: {rows}"));
        let number = |key: &str| found[key].as_u64().expect("a number");
        InFlight {
            matched: number("matched_index"),
            requests: number("inflight_requests"),
            entries: number("inflight_entries"),
            bytes: number("inflight_bytes"),
        }
    }

    fn assert_within_its_window(&self) {
        let is_within = self.requests <= REQUESTS_MAX
            && self.entries <= ENTRIES_MAX
            && self.bytes < BYTES_MAX + APPEND_BYTES_MAX;
        assert!(is_within, "beyond its window: {self:?}");
    }

    fn fills_its_window(&self) -> bool {
        self.requests == REQUESTS_MAX || self.entries == ENTRIES_MAX || self.bytes >= BYTES_MAX
    }
}

/// Writes all that is to be written through the first machine, the same few keys again and again.
fn write_much(client: &Client) -> JoinSet<()> {
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let client = client.clone();
        clients.spawn(async move {
            for round in 0..VALUES / CLIENTS {
                let value = vec![round as u8; VALUE_BYTES];
                let put = client.put_on(0, format!("large/{number}"), value).await;
                put.expect("no write fails");
            }
        });
    }
    clients
}

/// What was seen while all that is to be written was.
struct Rush {
    /// How long it took, without the times in which the host stood still.
    took: Duration,
    /// The most memory of the leader, in bytes, that is its own.
    memory: u64,
    /// Whether all was on its way to the follower that may be.
    filled: bool,
}

impl Rush {
    /// Writes all that is to be written, and looks at the leader meanwhile.
    async fn of(
        cluster: &Cluster,
        client: &Client,
        leader: usize,
        in_flight: impl Fn() -> InFlight,
    ) -> Rush {
        let host = Host::watch_disk(&cluster.folder());
        let began = Instant::now();
        let mut much = write_much(client);
        let (mut memory, mut filled) = (0, false);
        while !much.is_empty() {
            let now = in_flight();
            now.assert_within_its_window();
            filled |= now.fills_its_window();
            memory = cluster.machines[leader]
                .process()
                .anonymous_bytes()
                .max(memory);
            while let Some(ended) = much.try_join_next() {
                ended.expect("no write fails");
            }
        }
        Rush {
            took: began.elapsed().saturating_sub(host.stood_still().whole),
            memory,
            filled,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_whose_disk_stalls_holds_up_nobody_and_catches_up_when_it_answers() {
    let settings = Settings::trio()
        .with_timings_of_an_operator()
        .with("limits.inflight_requests_max", REQUESTS_MAX)
        .with("limits.inflight_entries_max", ENTRIES_MAX)
        .with("limits.inflight_bytes_max", BYTES_MAX)
        .with("limits.append_bytes_max", APPEND_BYTES_MAX)
        // So that what the leader's memory is full of is not this.
        .with("limits.log_cache_bytes_max", 2 << 20)
        .with("storage.checkpoint_bytes", 2 << 20);
    let cluster = Cluster::start(settings).await;
    let leader = cluster.leader().await;
    let (stalled, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let sound = [leader, other].map(|place| cluster.machines[place].client);
    let client = Client::new(sound);
    let endpoint = |place: usize| cluster.machines[place].client.to_string();
    let in_flight = || InFlight::of(&endpoint(leader), &cluster.machines[stalled].name);
    let writers = Writers::start(&client, 3);
    let prober = Prober::start(&client, &cluster.folder(), 0..2);
    writers.progress(20).await;
    let term = leader_by(&client, 0).await;
    let mut ratios: Vec<f64> = Vec::new();
    while ratios.last().is_none_or(|&ratio| ratio >= RATIO_MAX) {
        assert!(
            ratios.len() < TRIES,
            "{ratios:.2?} times as long as without, less than {RATIO_MAX} is right"
        );
        // With the same company as later, and so much is written that memory is as it is then.
        let before = Rush::of(&cluster, &client, leader, in_flight).await;
        prober.longest();

        let stall = format!("delay:{}", STALL.as_millis());
        let point = ["fault", "arm", "storage", "commit", &stall];
        let often = ["--times", "1000000"];
        done(&endpoint(stalled), &[&point[..], &often].concat());
        let during = Rush::of(&cluster, &client, leader, in_flight).await;
        writers.progress(200).await;
        let (now, log) = (in_flight(), client.info(0).await.expect("it answers"));
        assert!(
            during.filled || now.fills_its_window(),
            "more would be sent: {now:?}"
        );
        assert!(
            now.matched + VALUES as u64 <= log.commit_index,
            "its disk does not stall: {now:?} of {}",
            log.commit_index
        );
        let gap = prober.longest();
        println!(
            "while {} of {} entries were at the stalled disk, no write for at most {gap:?}; {VALUES} large ones took {:.1?}, {:.1?} before; memory of the leader {} and then up to {} bytes",
            now.matched, log.commit_index, during.took, before.took, before.memory, during.memory
        );
        assert!(gap.own() < USUAL_ELECTION_TIMEOUT, "no write for {gap:?}");
        let more = during.memory.saturating_sub(before.memory);
        assert!(more < MEMORY_BYTES_MAX, "{more} bytes more than before");
        assert_eq!(leader_by(&client, 0).await, term, "nobody stood");

        done(
            &endpoint(stalled),
            &["fault", "disarm", "storage", "commit"],
        );
        let goal = client.info(0).await.expect("it answers").commit_index;
        until("it has what it lacked", async || {
            let now = in_flight();
            (now.matched >= goal)
                .then_some(())
                .ok_or(format!("{now:?}"))
        })
        .await;
        let after = Rush::of(&cluster, &client, leader, in_flight).await;
        // Whatever else the host does.
        let to_before = during.took.div_duration_f64(before.took);
        assert!(
            to_before < RATIO_TO_BEFORE_MAX,
            "{to_before:.1} times as long as before, less than {RATIO_TO_BEFORE_MAX} is right"
        );
        let ratio = during.took.div_duration_f64(before.took.min(after.took));
        println!(
            "it took {ratio:.2} times as long as before ({:.1?}) or after ({:.1?})",
            before.took, after.took
        );
        ratios.push(ratio);
    }
    prober.finish().await;
    writers.progress(200).await;
    let acknowledged = writers.finish().await;
    cluster.same_history_everywhere().await;
    let pairs = client.dump(0).await;
    assert_nothing_lost(&acknowledged, &pairs);
    until("nothing is on its way", async || {
        let now = in_flight();
        match (now.requests, now.entries, now.bytes) {
            (0, 0, 0) => Ok(()),
            _ => Err(format!("{now:?}")),
        }
    })
    .await;
    assert_eq!(leader_by(&client, 0).await, term, "nobody stood");
    cluster.assert_nobody_panicked();
}
