//! Compaction and snapshots between real processes: a machine that lacks what the others' logs no longer hold gets a snapshot,
//! whatever fails on the way, and clients see nothing wrong.
//!
//! `RM_ROUNDS` sets how often each scenario repeats its fault; once when it is not set.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rm_proto::raftmachine::v1::{InfoResponse, TransferRequest};
use rm_tests::host::Host;
use rm_tests::rmctl::json;
use rm_tests::writers::assert_nothing_lost;
use rm_tests::{Client, Cluster, Settings, Workload, Writers, rounds, until};

/// The size of each value that makes the state large.
const VALUE_BYTES: usize = 64 << 10;

/// How many of them: 1 MiB a round, which takes a moment to copy and to send at the pace below.
const VALUES: usize = 16;

/// The size of each value of a state that takes seconds to send, and how many of them: some notes of what is durable fit into it,
/// which the receiver makes every 16 MiB.
const HUGE_BYTES: usize = 1 << 20;
const HUGE_VALUES: usize = 56;

/// How much of a snapshot a break may cost.
const NOTE_BYTES: u64 = 16 << 20;

/// Three machines whose logs keep next to nothing, and whose snapshots take their time.
fn settings() -> Settings {
    Settings::trio()
        .with("storage.checkpoint_interval_ms", 50)
        .with("storage.compaction_keep_entries", 5)
        .with("storage.compaction_step_entries", 5)
        .with("limits.snapshot_bytes_per_second", 8 << 20)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_was_down_catches_up_by_a_snapshot_under_load() {
    let mut cluster = Cluster::start(settings()).await;
    let client = cluster.client();
    let (follower, at_least) = left_behind(&mut cluster, &client).await;
    let writers = Writers::start(&client, 2);
    let workload = Workload::start(&client);
    cluster.machines[follower].start();
    caught_up(&cluster, &client, (follower, at_least)).await;
    workload.progress(50).await;
    let operations = workload.finish().await;
    let acknowledged = writers.finish().await;
    assert_nothing_lost(&acknowledged, &cluster.same_everywhere().await);
    println!(
        "{} acknowledged writes kept, {operations} operations linearizable",
        acknowledged.len()
    );
    assert_only_the_state_in_force_is_left(&cluster, follower).await;
    cluster.assert_nobody_panicked();

    for machine in &mut cluster.machines {
        machine.kill();
    }
    for machine in &mut cluster.machines {
        machine.start();
    }
    cluster.leader().await;
    client.put("after", "the restart of all").await;
    assert_nothing_lost(&acknowledged, &cluster.same_everywhere().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_or_receiver_that_is_killed_amid_a_transfer_delays_it_only() {
    let mut cluster = Cluster::start(settings()).await;
    let client = cluster.client();
    let writers = Writers::start(&client, 2);
    for _ in 0..rounds(1) {
        for receiver_dies in [true, false] {
            let (follower, at_least) = left_behind(&mut cluster, &client).await;
            cluster.machines[follower].start();
            let sender = sender_to(&client, follower).await;
            let victim = if receiver_dies { follower } else { sender };
            cluster.machines[victim].kill();
            cluster.machines[victim].start();
            caught_up(&cluster, &client, (follower, at_least)).await;
        }
    }
    let acknowledged = writers.finish().await;
    assert_nothing_lost(&acknowledged, &cluster.same_everywhere().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_goes_on_where_it_was_after_a_lost_connection_and_after_a_crash() {
    // Longer than other tests', so that the sender leads all the while: another would make another snapshot.
    let settings = settings()
        .with("timings.heartbeat_ms", 100)
        .with("timings.election_timeout_ms", 1_000)
        .with("limits.snapshot_bytes_per_second", 16 << 20);
    let mut cluster = Cluster::start(settings).await;
    let client = cluster.client();
    let values = (HUGE_VALUES, HUGE_BYTES);
    let (follower, at_least) = left_behind_by(&mut cluster, &client, values).await;
    cluster.machines[follower].take_log();
    cluster.machines[follower].start();
    let sender = sender_to(&client, follower).await;

    received(&client, follower, NOTE_BYTES).await;
    cluster.machines[follower].pause();
    until("the sender has lost the connection", async || {
        let info = client.info_until(sender).await;
        match info.sending.is_empty() {
            true => Ok(()),
            false => Err(format!("{:?}", info.sending)),
        }
    })
    .await;
    cluster.machines[follower].resume();

    received(&client, follower, 2 * NOTE_BYTES).await;
    let before = resumptions(&cluster, follower);
    cluster.machines[follower].kill();
    cluster.machines[follower].start();
    caught_up(&cluster, &client, (follower, at_least)).await;

    let all = resumptions(&cluster, follower);
    println!("began to receive at the bytes {all:?}");
    let (first, after_pause) = before.split_first().expect("it received");
    let after_crash = &all[before.len()..];
    assert_eq!(*first, 0, "{all:?}");
    for (resumed, at_least) in [(after_pause, NOTE_BYTES), (after_crash, 2 * NOTE_BYTES)] {
        assert!(!resumed.is_empty(), "{all:?}");
        assert!(resumed.iter().all(|&at| at >= at_least), "{all:?}");
    }
    let at = after_crash[after_crash.len() - 1];
    let delivered = format!("Delivered {{ resumed_at: {at} }}");
    until("the sender says so too", async || {
        let log = cluster.machines[sender].log();
        match log.contains(&delivered) {
            true => Ok(()),
            false => Err(delivered.clone()),
        }
    })
    .await;
    cluster.same_history_everywhere().await;
    cluster.assert_nobody_panicked();
}

/// Waits until so much of a snapshot has come to a machine.
async fn received(client: &Client, follower: usize, bytes: u64) {
    until("enough of the snapshot has come", async || {
        let info = client.info_until(follower).await;
        match info.receiving {
            Some(transfer) if transfer.bytes > bytes => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

/// From which byte on a machine was to receive snapshots, in turn, as its log tells.
fn resumptions(cluster: &Cluster, follower: usize) -> Vec<u64> {
    let log = cluster.machines[follower].log();
    let lines = log
        .lines()
        .filter(|line| line.contains("a snapshot is received"));
    let offset = |line: &str| {
        let (_, rest) = line.split_once("resumed_at: ").expect("it says from where");
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
        digits.and_then(|it| it.parse().ok()).expect("a number")
    };
    lines.map(offset).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_actor_that_fails_amid_a_transfer_delays_it_only() {
    let mut cluster = Cluster::start(settings()).await;
    let client = cluster.client();
    let workload = Workload::start(&client);
    for _ in 0..rounds(1) {
        for actor in ["storage", "applier", "logic_center", "sender", "listener"] {
            let (follower, at_least) = left_behind(&mut cluster, &client).await;
            cluster.machines[follower].start();
            let sender = sender_to(&client, follower).await;
            for (machine, how) in [(sender, "panic"), (follower, "stop")] {
                // One that is just being restarted has failed, too.
                let _ = client.kill_actor(machine, actor, how).await;
            }
            caught_up(&cluster, &client, (follower, at_least)).await;
        }
    }
    let operations = workload.finish().await;
    cluster.same_everywhere().await;
    println!("{operations} operations linearizable");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_at_any_step_of_a_snapshot_delays_it_only() {
    let mut cluster = Cluster::start(settings()).await;
    let client = cluster.client();
    let writers = Writers::start(&client, 2);
    let faults = [
        ("sender", "copy", "io_error"),
        ("sender", "send_snapshot", "panic"),
        ("listener", "receive", "no_space"),
        ("listener", "received", "panic"),
        ("logic_center", "prepare", "io_error"),
        ("logic_center", "prepare", "panic"),
        ("storage", "install", "no_space"),
        ("storage", "install", "panic"),
        ("storage", "installed", "panic"),
    ];
    for _ in 0..rounds(1) {
        for (actor, point, action) in faults {
            println!("{action} at {point} of {actor}");
            let (follower, at_least) = left_behind(&mut cluster, &client).await;
            // Whoever sends and whoever receives: each point strikes where it is passed.
            for machine in (0..cluster.machines.len()).filter(|machine| *machine != follower) {
                client.arm_fault(machine, actor, point, action, 1).await;
            }
            cluster.machines[follower].start();
            client.info_until(follower).await;
            client.arm_fault(follower, actor, point, action, 1).await;
            caught_up(&cluster, &client, (follower, at_least)).await;
            for machine in 0..cluster.machines.len() {
                client.arm_fault(machine, actor, point, action, 0).await;
            }
        }
    }
    let acknowledged = writers.finish().await;
    assert_nothing_lost(&acknowledged, &cluster.same_everywhere().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_hands_over_amid_a_transfer_leaves_it_to_the_next() {
    let mut cluster = Cluster::start(settings()).await;
    let client = cluster.client();
    for _ in 0..rounds(1) {
        let (follower, at_least) = left_behind(&mut cluster, &client).await;
        cluster.machines[follower].start();
        let sender = sender_to(&client, follower).await;
        let request = TransferRequest::default();
        client
            .admin(sender)
            .transfer(request)
            .await
            .expect("the other one is fit to lead");
        caught_up(&cluster, &client, (follower, at_least)).await;
    }
    cluster.same_everywhere().await;
    cluster.assert_nobody_panicked();
}

/// What is written while a snapshot is on its way is compacted before that arrives, so that another follows on it at once, again and
/// again until the writers rest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_18055_snapshots_in_short_order_take_the_place_of_each_other() {
    let settings = settings().with("storage.compaction_wait_entries", 0);
    let mut cluster = Cluster::start(settings).await;
    let client = cluster.client();
    let writers = Writers::start(&client, 2);
    let (follower, at_least) = left_behind(&mut cluster, &client).await;
    cluster.machines[follower].start();
    client.info_until(follower).await;
    // One that is installed slowly is still being installed when more is said of the next.
    client
        .arm_fault(follower, "storage", "install", "delay:300", 2)
        .await;
    until("three snapshots were put in force", async || {
        let log = cluster.machines[follower].log();
        match log.matches("a snapshot is in force").count() {
            count if count >= 3 => Ok(()),
            count => Err(format!("{count} were")),
        }
    })
    .await;
    let acknowledged = writers.finish().await;
    caught_up(&cluster, &client, (follower, at_least)).await;
    assert_nothing_lost(&acknowledged, &cluster.same_everywhere().await);
    assert_only_the_state_in_force_is_left(&cluster, follower).await;
    cluster.assert_nobody_panicked();
}

/// How large the state is whose snapshot could delay heartbeats: so many values of so many bytes, 100 MiB.
const LARGE_VALUES: (usize, usize) = (100, 1 << 20);

/// For how long a machine may hear nothing of its leader meanwhile: two heartbeats of an operator's config are due within it, so
/// that one may come late, and five such times are an election timeout.
const SILENCE_MAX: Duration = Duration::from_millis(200);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_snapshot_delays_no_heartbeat() {
    let settings = settings()
        .with_timings_of_an_operator()
        .with("supervision.hang_ms", 2_000)
        // As fast as it goes.
        .with("limits.snapshot_bytes_per_second", 1_u64 << 30);
    let mut cluster = Cluster::start(settings).await;
    let client = cluster.client();
    let (follower, at_least) = left_behind_by(&mut cluster, &client, LARGE_VALUES).await;
    let leader = cluster.leader().await;
    let other = (0..3).find(|place| ![leader, follower].contains(place));
    let other = other.expect("one of three");
    // So that silences from before do not count.
    let life = async |place| {
        let actors = client.actors(place).await;
        let found = actors.into_iter().find(|it| it.name == "logic_center");
        found.expect("every machine has one").incarnation
    };
    let before = life(other).await;
    let killed = client.kill_actor(other, "logic_center", "stop").await;
    killed.expect("faults are allowed");
    until("it follows its leader again", async || {
        let (now, info) = (life(other).await, client.info_until(other).await);
        let again = now > before && info.leader_silence_ms.is_some();
        again.then_some(()).ok_or(format!("{now}: {info:?}"))
    })
    .await;
    let lives = [life(leader).await, life(other).await];
    let term = client.info_until(leader).await.term;

    let host = Host::watch(&cluster.folder());
    cluster.machines[follower].start();
    caught_up(&cluster, &client, (follower, at_least)).await;
    let stood_still = host.stood_still();
    let rows = json(&cluster.endpoints(), &["info"]);
    for place in [follower, other] {
        let (row, name) = (&rows[place], &cluster.machines[place].name);
        let silence = row["leader_silence_ms"].as_u64();
        let silence = silence.unwrap_or_else(|| panic!("{name} follows nobody: {row}"));
        let told = format!(
            "{name} heard nothing of its leader for at most {silence} ms; the host stood still for {stood_still:.0?} in all"
        );
        println!("{told}");
        let bound = SILENCE_MAX + stood_still;
        assert!(Duration::from_millis(silence) <= bound, "{told}");
        assert_eq!(row["term"], term, "an election: {row}");
    }
    // A LogicCenter that was built anew has forgotten what it heard.
    assert_eq!([life(leader).await, life(other).await], lives);
    cluster.assert_nobody_panicked();
}

/// Takes a follower down and has the others write and compact what it would need; its place, and what it will
/// have applied at least when it has caught up.
async fn left_behind(cluster: &mut Cluster, client: &Client) -> (usize, u64) {
    left_behind_by(cluster, client, (VALUES, VALUE_BYTES)).await
}

/// As [`left_behind`], by so many values of so many bytes.
async fn left_behind_by(
    cluster: &mut Cluster,
    client: &Client,
    (values, bytes): (usize, usize),
) -> (usize, u64) {
    let leader = cluster.leader().await;
    let follower = (leader + 1) % cluster.machines.len();
    let last = client.info_until(follower).await.last_index;
    cluster.machines[follower].kill();
    for number in 0..values {
        client
            .put(format!("large/{number}"), vec![b'v'; bytes])
            .await;
    }
    for machine in 0..cluster.machines.len() {
        if machine != follower {
            until("the log is compacted", async || {
                match client.info_until(machine).await.first_index {
                    first if first > last + 1 => Ok(()),
                    first => Err(format!("it begins with {first}, {last} is what is there")),
                }
            })
            .await;
        }
    }
    (follower, last + values as u64)
}

/// Waits until a snapshot is on its way to a machine; whose.
async fn sender_to(client: &Client, follower: usize) -> usize {
    until("a snapshot is on its way", async || {
        for machine in 0..client.machines() {
            if let Ok(info) = client.info(machine).await
                && machine != follower
                && !info.sending.is_empty()
            {
                return Ok(machine);
            }
        }
        Err("nobody sends one".to_owned())
    })
    .await
}

/// Waits until a machine has taken a snapshot and all that follows on it.
async fn caught_up(cluster: &Cluster, client: &Client, (follower, at_least): (usize, u64)) {
    until("the follower has caught up", async || {
        let leader = cluster.leader().await;
        let goal = client.info_until(leader).await.commit_index;
        let info = client.info_until(follower).await;
        match info.applied_index {
            applied if applied >= at_least && applied + 200 >= goal => Ok(()),
            applied => Err(format!("{applied} of {goal} applied: {info:?}")),
        }
    })
    .await;
    let log = cluster.machines[follower].log();
    assert!(
        log.contains("a snapshot is in force"),
        "it caught up without one"
    );
}

/// The state before the snapshot is removed, and no process keeps its space.
async fn assert_only_the_state_in_force_is_left(cluster: &Cluster, machine: usize) {
    let machine = &cluster.machines[machine];
    let states: Vec<String> = names_in(&machine.data)
        .into_iter()
        .filter(|name| name.starts_with("state"))
        .collect();
    assert_eq!(states.len(), 1, "{states:?}");
    assert_ne!(states[0], "state", "a snapshot is in force");
    until("the space of the earlier state is given back", async || {
        let maps = fs::read_to_string(format!("/proc/{}/maps", machine.process()));
        let maps = maps.map_err(|error| error.to_string())?;
        match maps.lines().find(|line| line.ends_with("(deleted)")) {
            Some(line) => Err(line.to_owned()),
            None => Ok(()),
        }
    })
    .await;
    assert_eq!(names_in(&machine.data.join("snapshot")), [""; 0]);
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("the folder is there");
    let name = |entry: std::io::Result<fs::DirEntry>| {
        let entry = entry.expect("the folder can be read");
        entry.file_name().to_string_lossy().into_owned()
    };
    entries.map(name).collect()
}

/// What a machine tells of itself, as soon as it answers.
trait InfoUntil {
    async fn info_until(&self, machine: usize) -> InfoResponse;
}

impl InfoUntil for Client {
    async fn info_until(&self, machine: usize) -> InfoResponse {
        until("the machine answers", async || {
            let info = self.info(machine).await;
            info.map_err(|status| status.to_string())
        })
        .await
    }
}
