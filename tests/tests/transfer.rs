//! Leadership is handed over under load, by hand and before a stop, and lease reads are never stale though leaders pause.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rm_proto::etcdserverpb::MoveLeaderRequest;
use rm_proto::raftmachine::v1::TransferRequest;
use rm_tests::rmctl::done;
use rm_tests::times::spread;
use rm_tests::writers::assert_nothing_lost;
use rm_tests::{Client, Cluster, Prober, Settings, Workload, Writers, rounds, until};
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval};
use tonic::Code;

/// How many operations must be answered between two faults.
const PROGRESS: usize = 50;

/// Election timeouts long enough to be told from a transfer.
const ELECTION_TIMEOUT: Duration = Duration::from_millis(2_000);

/// The election timeout of an operator.
const USUAL_ELECTION_TIMEOUT: Duration = Duration::from_millis(1_000);

/// How often an operator asks for another leader.
const HAND_OVER_PACE: Duration = Duration::from_secs(1);

/// Asks the leader to hand over, whoever leads, until one does: who leads then.
async fn transfer(cluster: &Cluster, to: u64) -> u64 {
    let client = cluster.client();
    until("leadership is handed over", async || {
        let leader = cluster.leader().await;
        let answer = client.admin(leader).transfer(TransferRequest { to }).await;
        match answer {
            Ok(answer) => Ok(answer.into_inner().leader),
            Err(status) => Err(status.to_string()),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_that_moves_again_and_again_breaks_no_history() {
    let cluster = Cluster::start(Settings::trio()).await;
    let client = cluster.client();
    let workload = Workload::start(&client);
    for round in 0..rounds(20) {
        workload.progress(PROGRESS).await;
        let target = client.info(round % 3).await.expect("all machines run");
        assert_eq!(
            transfer(&cluster, target.machine_id).await,
            target.machine_id
        );
    }
    let operations = workload.finish().await;
    cluster.same_everywhere().await;
    cluster.assert_nobody_panicked();
    println!("{operations} operations linearizable");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rmctl_moves_leadership_every_second_under_load_and_nobody_waits_for_an_election() {
    let cluster = Cluster::start(Settings::trio().with_timings_of_an_operator()).await;
    let (client, endpoints) = (cluster.client(), cluster.endpoints());
    let (writers, workload) = (Writers::start(&client, 3), Workload::start(&client));
    let prober = Prober::start(&client, &cluster.folder(), 0..3);
    writers.progress(PROGRESS).await;
    prober.longest();
    let mut gaps = Vec::new();
    let mut pace = interval(HAND_OVER_PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace.tick().await;
    for round in 0..rounds(10) {
        let leader = cluster.leader().await;
        let to = &cluster.machines[(leader + 1 + round % 2) % 3].name;
        let told = done(&endpoints, &["transfer", to]);
        assert_eq!(told.trim(), format!("{to} leads"));
        pace.tick().await;
        let gap = prober.longest();
        if !gap.can_be_judged() {
            println!("nothing can be said of {gap:?}");
            continue;
        }
        // Nobody stands by itself sooner than that.
        assert!(
            gap.own() < USUAL_ELECTION_TIMEOUT,
            "no write for {gap:?} while {} handed over to {to}",
            cluster.machines[leader].name
        );
        gaps.push(gap.own());
    }
    assert!(
        gaps.len() * 2 >= rounds(10),
        "the host stood still in most hand-overs: run it again where less goes on"
    );
    prober.finish().await;
    let operations = workload.finish().await;
    let acknowledged = writers.finish().await;
    assert_nothing_lost(&acknowledged, &cluster.same_everywhere().await);
    cluster.assert_nobody_panicked();
    println!(
        "{} hand-overs, {operations} operations linearizable, {} writes kept; the longest time without a write at each (min / median / max, ms): {}",
        gaps.len(),
        acknowledged.len(),
        spread(&gaps)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcds_move_leader_moves_it_and_refuses_in_etcds_words() {
    let cluster = Cluster::start(Settings::trio()).await;
    let client = cluster.client();
    let leader = cluster.leader().await;
    let follower = (leader + 1) % 3;
    let target_id = client.info(follower).await.expect("it runs").machine_id;
    for (machine, target_id, text) in [
        (follower, target_id, "etcdserver: not leader"),
        (leader, 9, "etcdserver: bad leader transferee"),
    ] {
        let request = MoveLeaderRequest { target_id };
        let refusal = client.maintenance(machine).move_leader(request).await;
        let refusal = refusal.expect_err("it cannot be");
        assert_eq!(
            (refusal.code(), refusal.message()),
            (Code::FailedPrecondition, text)
        );
    }
    let request = MoveLeaderRequest { target_id };
    let moved = client.maintenance(leader).move_leader(request).await;
    moved.expect("the follower is fit");
    assert_eq!(cluster.leader().await, follower);
}

/// Writes one key after the other through one machine until it is told to stop: how long the longest took. No write may fail.
async fn write_on(client: Client, machine: usize, stop: Arc<AtomicBool>) -> Duration {
    let mut longest = Duration::ZERO;
    let mut number = 0u64;
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let asked = Instant::now();
        let key = format!("through/{machine}");
        let written = client.put_on(machine, key, number.to_string()).await;
        written.expect("no write fails");
        longest = longest.max(asked.elapsed());
    }
    longest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_told_to_stop_hands_over_and_no_write_fails() {
    let timeout = ELECTION_TIMEOUT.as_millis() as u64;
    let settings = Settings::trio().with("timings.election_timeout_ms", timeout);
    let mut cluster = Cluster::start(settings).await;
    let mut longest = Vec::new();
    for _ in 0..rounds(3) {
        let leader = cluster.leader().await;
        let client = cluster.client();
        client.put("before the stop", "taken").await;
        let stop = Arc::<AtomicBool>::default();
        let writers: Vec<_> = (0..3)
            .filter(|&machine| machine != leader)
            .map(|machine| tokio::spawn(write_on(client.clone(), machine, Arc::clone(&stop))))
            .collect();
        let status = cluster.machines[leader].terminate().await;
        assert!(status.success(), "a stop that was asked for: {status}");
        let log = cluster.machines[leader].log();
        assert!(log.contains("leadership is handed over"));
        client.put("after the stop", "taken").await;
        stop.store(true, Ordering::Relaxed);
        for writer in writers {
            longest.push(writer.await.expect("a writer does not panic"));
        }
        cluster.machines[leader].take_log();
        cluster.machines[leader].start();
        cluster.converged().await;
    }
    let spread = spread(&longest);
    println!("the longest write while the leader stops (min / median / max, ms): {spread}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_paused_serves_no_stale_read_by_its_lease() {
    let reads = json!({ "default": "lease", "clock_drift_percent": 10 });
    let cluster = Cluster::start(Settings::trio().with("reads", reads)).await;
    let workload = Workload::start(&cluster.client());
    for _ in 0..rounds(10) {
        let leader = cluster.leader().await;
        workload.progress(PROGRESS).await;
        cluster.machines[leader].pause();
        let others: Vec<usize> = (0..3).filter(|&machine| machine != leader).collect();
        let client = Client::new(others.iter().map(|&place| cluster.machines[place].client));
        // Acknowledged by others than the one that still takes itself for the leader.
        client.put("while the leader is paused", "taken").await;
        cluster.machines[leader].resume();
        workload.progress(PROGRESS).await;
    }
    let operations = workload.finish().await;
    cluster.same_everywhere().await;
    println!("{operations} operations linearizable");
}
