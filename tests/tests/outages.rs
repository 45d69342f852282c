//! How long nothing can be written, by how the leader is lost.
//!
//! `RM_ROUNDS` sets how often each; 2 when it is not set. The test prints the times.

use std::time::{Duration, Instant};

use rm_tests::times::spread;
use rm_tests::{Client, Cluster, Settings, rounds};
use tokio::task::JoinSet;

/// How often a new write is tried while none is acknowledged: one that was under way when the leader was lost may be lost too.
const EACH: Duration = Duration::from_millis(5);

/// How a leader is lost.
#[derive(Clone, Copy)]
enum Loss {
    /// Its LogicCenter panics, and the next one campaigns at once.
    LogicCenter,
    /// Its process is killed, which the others are told by their connections.
    Process,
    /// Its process is stopped, of which only an election timeout tells.
    Silence,
}

/// Waits until a write through this machine is acknowledged that was asked for from now on.
async fn a_write(client: &Client, machine: usize) {
    let mut writes = JoinSet::new();
    let mut next = tokio::time::interval(EACH);
    loop {
        tokio::select! {
            _ = next.tick() => {
                let client = client.clone();
                writes.spawn(async move { client.put_on(machine, "after", "the loss").await });
            }
            Some(written) = writes.join_next() => {
                if written.expect("a write does not panic").is_ok() {
                    return;
                }
            }
        }
    }
}

/// Loses the leader and brings it back: how long no write went through a machine that did not lead.
async fn outage(cluster: &mut Cluster, loss: Loss) -> Duration {
    cluster.converged().await;
    let leader = cluster.leader().await;
    let client = cluster.client();
    client.put("before", "the loss").await;
    let lost = Instant::now();
    match loss {
        Loss::LogicCenter => {
            let killed = client.kill_actor(leader, "logic_center", "panic").await;
            killed.expect("it can be killed");
        }
        Loss::Process => cluster.machines[leader].kill(),
        Loss::Silence => cluster.machines[leader].pause(),
    }
    a_write(&client, (leader + 1) % cluster.machines.len()).await;
    let outage = lost.elapsed();
    match loss {
        Loss::LogicCenter => {}
        Loss::Process => cluster.machines[leader].start(),
        Loss::Silence => cluster.machines[leader].resume(),
    }
    outage
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_go_on_however_the_leader_is_lost() {
    let mut cluster = Cluster::start(Settings::trio()).await;
    println!("| the leader is lost because | no write for, min / median / max (ms) |\n|---|--:|");
    for (loss, name) in [
        (Loss::LogicCenter, "its LogicCenter panics"),
        (Loss::Process, "its process is killed"),
        (Loss::Silence, "its process is stopped"),
    ] {
        let mut outages = Vec::new();
        for _ in 0..rounds(2) {
            outages.push(outage(&mut cluster, loss).await);
        }
        println!("| {name} | {} |", spread(&outages));
    }
    cluster.same_everywhere().await;
}
