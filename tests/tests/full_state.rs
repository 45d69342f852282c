//! A disk that has no room for the state: checkpoints fail, writes are refused, and reads go on for as long as it lasts.

use std::time::{Duration, Instant};

use rm_tests::writers::assert_nothing_lost;
use rm_tests::{Client, Cluster, Settings, Writers, until};
use tonic::Code;

/// Long enough that no leader is lost to a busy host.
const ELECTION_TIMEOUT: Duration = Duration::from_millis(1_000);

/// What the log says each time that a checkpoint which found no space has cost what was applied since the one before.
const OPENED_AGAIN: &str = "the key space is open again";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_machines_without_space_for_the_state_serve_reads_until_it_comes_back() {
    serves_reads_while_no_state_has_space(Settings::trio()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_alone_without_space_for_the_state_serves_reads_until_it_comes_back() {
    serves_reads_while_no_state_has_space(Settings::solo()).await;
}

/// The limit is small and the load goes on, so that checkpoints are due at once whenever the log is applied again.
async fn serves_reads_while_no_state_has_space(settings: Settings) {
    let timeout_ms = ELECTION_TIMEOUT.as_millis() as u64;
    let settings = settings
        .with("timings.election_timeout_ms", timeout_ms)
        .with("storage.checkpoint_bytes", 64 << 10);
    let cluster = Cluster::start(settings).await;
    let machines = cluster.machines.len();
    let client = cluster.client();
    let writers = Writers::start(&client, 4);
    writers.progress(200).await;
    for machine in 0..machines {
        arm(&client, machine, u64::MAX).await;
    }
    for machine in 0..machines {
        refused(&client, machine).await;
    }
    let mut acknowledged = writers.finish().await;
    let (key, value) = acknowledged.last_key_value().expect("writes went well");
    let since = Instant::now();
    let mut reads = 0;
    while since.elapsed() < 5 * ELECTION_TIMEOUT {
        for machine in 0..machines {
            let pair = client.get(machine, key.clone()).await;
            let pair = pair.expect("it was acknowledged");
            assert_eq!(pair.value, value.as_bytes());
            reads += 1;
        }
    }
    println!("{reads} linearizable reads while no state had space");
    for machine in &cluster.machines {
        let opened = machine.log().matches(OPENED_AGAIN).count();
        assert!(opened <= 1, "{opened} checkpoints were tried in vain");
    }
    for machine in 0..machines {
        arm(&client, machine, 0).await;
    }
    let writers = Writers::start(&client, 2);
    writers.progress(50).await;
    acknowledged.extend(writers.finish().await);
    assert_nothing_lost(&acknowledged, &cluster.same_everywhere().await);
    cluster.assert_nobody_panicked();
}

async fn arm(client: &Client, machine: usize, times: u64) {
    client
        .arm_fault(machine, "applier", "checkpoint", "no_space", times)
        .await;
}

/// Waits until a write is refused for want of space.
async fn refused(client: &Client, machine: usize) {
    until("a write is refused", async || {
        match client.put_on(machine, "refused", "value").await {
            Err(status) if status.code() == Code::ResourceExhausted => Ok(()),
            other => Err(format!("{:?}", other.map(|answer| answer.header))),
        }
    })
    .await;
}
