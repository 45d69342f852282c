//! Faults at points inside the actors of real machines, which three survive without a failure that anybody sees.

use std::time::{Duration, Instant};

use rm_tests::writers::assert_nothing_lost;
use rm_tests::{Cluster, Settings, Workload, Writers, until};

/// How many writes must be acknowledged while a fault strikes.
const PROGRESS: usize = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_messages_are_sent_again_and_fail_nobody() {
    let cluster = Cluster::start(patient()).await;
    let client = cluster.client();
    let writers = Writers::start(&client, 2);
    let workload = Workload::start(&client);
    for machine in 0..3 {
        client
            .arm_fault(machine, "sender", "send", "lose", 200)
            .await;
    }
    writers.progress(PROGRESS).await;

    // Of a leader that nobody hears the others make themselves free; that shows that messages are lost at all.
    let deaf_to = cluster.leader().await;
    client
        .arm_fault(deaf_to, "sender", "send", "lose", u64::MAX)
        .await;
    until("another machine leads", async || {
        match cluster.leader().await {
            leader if leader == deaf_to => Err(format!("{leader} leads")),
            _ => Ok(()),
        }
    })
    .await;
    client.arm_fault(deaf_to, "sender", "send", "lose", 0).await;
    writers.progress(PROGRESS).await;
    finish(&cluster, writers, workload).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_disks_delay_writes_and_fail_nobody() {
    let delay = Duration::from_millis(300);
    let slow = format!("delay:{}", delay.as_millis());
    let cluster = Cluster::start(patient()).await;
    let client = cluster.client();
    for machine in 0..3 {
        client
            .arm_fault(machine, "storage", "commit", &slow, 5)
            .await;
    }
    let asked = Instant::now();
    client.put("slowly", "written").await;
    assert!(asked.elapsed() >= delay, "a write waits for a commit");
    let writers = Writers::start(&client, 2);
    let workload = Workload::start(&client);
    writers.progress(PROGRESS).await;
    finish(&cluster, writers, workload).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_fails_as_it_sends_is_replaced() {
    let cluster = Cluster::start(Settings::trio()).await;
    let client = cluster.client();
    let writers = Writers::start(&client, 2);
    for machine in 0..3 {
        for action in ["panic", "delay:20", "hang"] {
            let before = sender_failures(&cluster, machine).await;
            client.arm_fault(machine, "sender", "send", action, 1).await;
            let more = u64::from(action != "delay:20");
            until("the sender is back", async || {
                match sender_failures(&cluster, machine).await {
                    now if now >= before + more => Ok(()),
                    now => Err(format!("{action}: {now} failures")),
                }
            })
            .await;
            writers.progress(PROGRESS).await;
        }
    }
    let acknowledged = writers.finish().await;
    assert_nothing_lost(&acknowledged, &cluster.same_everywhere().await);
}

/// So that a busy host does not look like an actor that hangs.
fn patient() -> Settings {
    Settings::trio().with("supervision.hang_ms", 10_000)
}

async fn sender_failures(cluster: &Cluster, machine: usize) -> u64 {
    let actors = cluster.client().actors(machine).await;
    let sender = actors.iter().find(|actor| actor.name == "sender");
    sender.expect("each machine has one").failures
}

/// Nothing is lost, no read is stale, and no actor has failed.
async fn finish(cluster: &Cluster, writers: Writers, workload: Workload) {
    workload.finish().await;
    let acknowledged = writers.finish().await;
    assert_nothing_lost(&acknowledged, &cluster.same_everywhere().await);
    for machine in 0..3 {
        for actor in cluster.client().actors(machine).await {
            assert_eq!(actor.failures, 0, "machine {machine}: {actor:?}");
        }
    }
}
