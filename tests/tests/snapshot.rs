//! Compaction and snapshots between real processes: a machine that lacks what the others' logs no longer hold gets a snapshot,
//! whatever fails on the way, and clients see nothing wrong.
//!
//! `RM_ROUNDS` sets how often each scenario repeats its fault; once when it is not set.

use std::fs;
use std::path::Path;

use rm_proto::raftmachine::v1::TransferRequest;
use rm_tests::writers::assert_nothing_lost;
use rm_tests::{Behind, Client, Cluster, Settings, Workload, Writers, rounds, until};

/// How many values of how many bytes make the state large: 1 MiB a round, which takes a moment to copy and to send at the pace below.
const SMALL: (usize, usize) = (16, 64 << 10);

/// Those of a state that takes seconds to send: some notes of what is durable fit into it, which the receiver makes every 16 MiB.
const HUGE: (usize, usize) = (56, 1 << 20);

/// How much of a snapshot a break may cost.
const NOTE_BYTES: u64 = 16 << 20;

/// Three machines whose logs keep next to nothing, and whose snapshots take their time.
fn settings() -> Settings {
    Settings::trio()
        .with_short_logs()
        .with("limits.snapshot_bytes_per_second", 8 << 20)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_was_down_catches_up_by_a_snapshot_under_load() {
    let mut cluster = Cluster::start(settings()).await;
    let client = cluster.client();
    let behind = Behind::by(&mut cluster, &client, SMALL).await;
    let writers = Writers::start(&client, 2);
    let workload = Workload::start(&client);
    cluster.machines[behind.place].start();
    behind.caught_up(&cluster, &client).await;
    workload.progress(50).await;
    let operations = workload.finish().await;
    let acknowledged = writers.finish().await;
    assert_nothing_lost(&acknowledged, &cluster.same_everywhere().await);
    println!(
        "{} acknowledged writes kept, {operations} operations linearizable",
        acknowledged.len()
    );
    assert_only_the_state_in_force_is_left(&cluster, behind.place).await;
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
            let behind = Behind::by(&mut cluster, &client, SMALL).await;
            cluster.machines[behind.place].start();
            let sender = sender_to(&client, behind.place).await;
            let victim = if receiver_dies { behind.place } else { sender };
            cluster.machines[victim].kill();
            cluster.machines[victim].start();
            behind.caught_up(&cluster, &client).await;
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
    let behind = Behind::by(&mut cluster, &client, HUGE).await;
    let follower = behind.place;
    cluster.machines[follower].start();
    let sender = sender_to(&client, follower).await;

    received(&client, follower, NOTE_BYTES).await;
    cluster.machines[behind.place].pause();
    until("the sender has lost the connection", async || {
        let info = client.info_until(sender).await;
        match info.sending.is_empty() {
            true => Ok(()),
            false => Err(format!("{:?}", info.sending)),
        }
    })
    .await;
    cluster.machines[behind.place].resume();

    received(&client, follower, 2 * NOTE_BYTES).await;
    let before = resumptions(&behind.log(&cluster));
    cluster.machines[behind.place].kill();
    cluster.machines[behind.place].start();
    behind.caught_up(&cluster, &client).await;

    let all = resumptions(&behind.log(&cluster));
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
fn resumptions(log: &str) -> Vec<u64> {
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
            let behind = Behind::by(&mut cluster, &client, SMALL).await;
            cluster.machines[behind.place].start();
            let sender = sender_to(&client, behind.place).await;
            for (machine, how) in [(sender, "panic"), (behind.place, "stop")] {
                // One that is just being restarted has failed, too.
                let _ = client.kill_actor(machine, actor, how).await;
            }
            behind.caught_up(&cluster, &client).await;
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
            let behind = Behind::by(&mut cluster, &client, SMALL).await;
            // Whoever sends and whoever receives: each point strikes where it is passed.
            for machine in (0..cluster.machines.len()).filter(|machine| *machine != behind.place) {
                client.arm_fault(machine, actor, point, action, 1).await;
            }
            cluster.machines[behind.place].start();
            client.info_until(behind.place).await;
            client
                .arm_fault(behind.place, actor, point, action, 1)
                .await;
            behind.caught_up(&cluster, &client).await;
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
        let behind = Behind::by(&mut cluster, &client, SMALL).await;
        cluster.machines[behind.place].start();
        let sender = sender_to(&client, behind.place).await;
        let request = TransferRequest::default();
        client
            .admin(sender)
            .transfer(request)
            .await
            .expect("the other one is fit to lead");
        behind.caught_up(&cluster, &client).await;
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
    let behind = Behind::by(&mut cluster, &client, SMALL).await;
    cluster.machines[behind.place].start();
    client.info_until(behind.place).await;
    // One that is installed slowly is still being installed when more is said of the next.
    client
        .arm_fault(behind.place, "storage", "install", "delay:300", 2)
        .await;
    until("three snapshots were put in force", async || {
        match behind
            .log(&cluster)
            .matches("a snapshot is in force")
            .count()
        {
            count if count >= 3 => Ok(()),
            count => Err(format!("{count} were")),
        }
    })
    .await;
    let acknowledged = writers.finish().await;
    behind.caught_up(&cluster, &client).await;
    assert_nothing_lost(&acknowledged, &cluster.same_everywhere().await);
    assert_only_the_state_in_force_is_left(&cluster, behind.place).await;
    cluster.assert_nobody_panicked();
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
        let maps = fs::read_to_string(format!("/proc/{}/maps", machine.process().0));
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
