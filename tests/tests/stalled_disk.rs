//! A disk that stalls: a follower's holds up nobody, and a leader's takes the lead from it within the time that the config says.

use std::time::{Duration, Instant};

use rm_tests::writers::assert_nothing_lost;
use rm_tests::{Client, Cluster, Settings, Writers, until};

/// How long a leader's disk may do nothing; longer than the domain bears to hear nothing of its leader.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// How long each commit takes while the disk stalls: much longer than that, and not as long as Storage may hang.
const STALL: Duration = Duration::from_secs(6);
/// The shortest election timeout.
const ELECTION_TIMEOUT: Duration = Duration::from_millis(300);

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

    client
        .arm_fault(
            stalled,
            "storage",
            "commit",
            &format!("delay:{}", STALL.as_millis()),
            u64::MAX,
        )
        .await;
    let since = Instant::now();
    // The others hold what is written durably, so that a majority does.
    writers.progress(20).await;
    let held = leader_by(&client, witness).await;
    assert!(
        held == before || since.elapsed() > PATIENCE,
        "heartbeats go on, so nobody else stands before the time"
    );
    let led_on = until("another machine leads", async || {
        let elapsed = since.elapsed();
        match leader_by(&client, witness).await {
            (leader, _) if leader != 0 && leader != before.0 => Ok(elapsed),
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
    assert!(led_on < limit.min(STALL), "soon after it: {led_on:?}");
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
