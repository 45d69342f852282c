//! The leader is killed again and again under load, and nothing that was acknowledged is lost.
//!
//! `RM_ROUNDS` sets how often; 20 when it is not set. The test prints how long each death was felt.

use std::time::Instant;

use rm_tests::logs::assert_same_without_gaps;
use rm_tests::times::spread;
use rm_tests::writers::assert_nothing_lost;
use rm_tests::{Cluster, Settings, Workload, Writers, rounds, until};

/// How many writes must be acknowledged between two faults.
const PROGRESS: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_write_survives_the_death_of_leader_after_leader() {
    let mut cluster = Cluster::start(Settings::trio()).await;
    let client = cluster.client();
    let writers = Writers::start(&client, 4);
    let workload = Workload::start(&client);
    let (mut elections, mut outages) = (Vec::new(), Vec::new());
    for _ in 0..rounds(20) {
        let leader = cluster.leader().await;
        writers.progress(PROGRESS).await;
        let killed = Instant::now();
        cluster.machines[leader].kill();

        let successor = cluster.leader().await;
        elections.push(killed.elapsed());
        assert_ne!(successor, leader, "a dead machine does not lead");
        client.put("after a death", "taken").await;
        outages.push(killed.elapsed());
        writers.progress(PROGRESS).await;
        cluster.machines[leader].start();
        answers_again(&cluster, leader).await;
    }
    let operations = workload.finish().await;
    let acknowledged = writers.finish().await;
    let pairs = cluster.same_everywhere().await;
    assert_nothing_lost(&acknowledged, &pairs);
    let committed = cluster.converged().await;
    cluster.kill_all();
    let compared = assert_same_without_gaps(&cluster.machines, committed);
    cluster.assert_nobody_panicked();
    println!(
        "\n{} kills of the leader: {} acknowledged writes kept, {operations} operations linearizable, \
         {compared} entries the same in all logs\n\
         | from the kill to | min / median / max (ms) |\n\
         |---|--:|\n\
         | a leader that more than half know | {} |\n\
         | a write acknowledged after that | {} |",
        elections.len(),
        acknowledged.len(),
        spread(&elections),
        spread(&outages)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_missed_much_catches_up() {
    let mut cluster = Cluster::start(Settings::trio()).await;
    let leader = cluster.leader().await;
    let follower = (leader + 1) % cluster.machines.len();
    cluster.machines[follower].kill();
    let writers = Writers::start(&cluster.client(), 4);
    writers.progress(500).await;
    cluster.machines[follower].start();
    writers.progress(PROGRESS).await;
    let acknowledged = writers.finish().await;
    let pairs = cluster.same_everywhere().await;
    assert_nothing_lost(&acknowledged, &pairs);
}

/// Waits until a machine that was started again has the log that the others have committed meanwhile.
async fn answers_again(cluster: &Cluster, machine: usize) {
    let client = cluster.client();
    let other = (machine + 1) % cluster.machines.len();
    let committed = until("the others tell how far they are", async || {
        match client.info(other).await {
            Ok(info) => Ok(info.commit_index),
            Err(status) => Err(status.to_string()),
        }
    })
    .await;
    until(
        "a machine that was started again catches up",
        async || match client.info(machine).await {
            Ok(info) if info.applied_index >= committed => Ok(()),
            Ok(info) => Err(format!("applied {} of {committed}", info.applied_index)),
            Err(status) => Err(status.to_string()),
        },
    )
    .await;
}
