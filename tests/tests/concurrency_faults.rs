//! Locks and elections on real machines that die, or parts of which fail: one holds at a time, and nobody waits in vain.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};

use rm_tests::leases::{grant, revoke};
use rm_tests::lines::{Lines, in_time, standing};
use rm_tests::{Client, Cluster, Settings, rounds, until};
use tonic::{Code, Status};

/// How many want to hold.
const WORKERS: i64 = 6;

/// How often somebody must have held between two faults.
const TURNS: usize = 6;

/// What the workers know of each other. It is a lock that nothing can break.
#[derive(Debug, Default)]
struct Truth {
    /// The lease of whoever holds; zero for nobody.
    holder: AtomicI64,
    held: AtomicUsize,
    failed: AtomicUsize,
    is_over: AtomicBool,
}

/// Holds again and again, each time with another lease: by a lock and by an election in turn, which share a line.
async fn work(client: Client, lines: Lines, worker: i64, truth: Arc<Truth>) {
    for turn in 0.. {
        if truth.is_over.load(Ordering::SeqCst) {
            return;
        }
        let lease = 1 + turn * WORKERS + worker;
        let machine = (turn + worker) as usize % client.machines();
        grant(&client, lease, 600).await;
        let held = async {
            match (turn + worker) % 2 {
                0 => lines.lock(machine, "name", lease).await,
                _ => {
                    let won = lines.campaign(machine, "name", lease, "value").await;
                    won.map(|leader| leader.key)
                }
            }
        };
        match in_time("it holds, or is told that it does not", held).await {
            Ok(key) => {
                let other = truth.holder.swap(lease, Ordering::SeqCst);
                assert_eq!(other, 0, "{other} holds, and so does {lease}");
                // Whoever would hold as well has time to show it.
                client.put("holder", lease.to_string()).await;
                let after = truth.holder.swap(0, Ordering::SeqCst);
                assert_eq!(after, lease, "{after} has come to hold beside {lease}");
                until("it is unlocked", async || {
                    let unlocked = lines.unlock(machine, key.clone()).await;
                    unlocked.map_err(|status| status.to_string())
                })
                .await;
                truth.held.fetch_add(1, Ordering::SeqCst);
            }
            Err(status) => {
                let lost = ["mutex: session is expired", "election: not leader"];
                assert!(!lost.contains(&status.message()), "{lease} lives: {status}");
                truth.failed.fetch_add(1, Ordering::SeqCst);
            }
        }
        // Where the outcome is unknown it may stand in line for ever, as its lease lives.
        until("a lease has ended", async || {
            match revoke(&client, machine, lease).await {
                Err(status) if status.code() != Code::NotFound => Err(status.to_string()),
                _ => Ok(()),
            }
        })
        .await;
    }
}

async fn fail(client: &Client, actor: &str, how: &str) {
    for machine in 0..client.machines() {
        // Its answer may be lost with the actor.
        let failed: Result<(), Status> = client.kill_actor(machine, actor, how).await;
        if let Err(status) = failed {
            assert!(matches!(status.code(), Code::Unavailable), "{status}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_holds_at_a_time_and_nobody_waits_in_vain_whichever_machine_or_actor_dies() {
    tokio::task::LocalSet::new().run_until(exclude()).await;
}

async fn exclude() {
    let mut cluster = Cluster::start(Settings::trio()).await;
    let client = cluster.client();
    let lines = Lines::new(cluster.machines.iter().map(|machine| machine.client));
    let truth = Arc::new(Truth::default());
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let work = work(client.clone(), lines.clone(), worker, truth.clone());
            tokio::task::spawn_local(work)
        })
        .collect();
    let faults = rounds(18);
    for fault in 0..faults {
        let before = truth.held.load(Ordering::SeqCst);
        until("locks were held", async || {
            assert!(
                !workers.iter().any(|it| it.is_finished()),
                "a worker failed"
            );
            let held = truth.held.load(Ordering::SeqCst) - before;
            (held >= TURNS).then_some(()).ok_or(format!("{held}"))
        })
        .await;
        match fault % 9 {
            0 | 4 => {
                let leader = cluster.leader().await;
                cluster.machines[leader].kill();
                cluster.leader().await;
                cluster.machines[leader].start();
            }
            1 => fail(&client, "watcher", "panic").await,
            2 => fail(&client, "watcher", "hang").await,
            3 => fail(&client, "applier", "panic").await,
            5 => fail(&client, "logic_center", "panic").await,
            6 => fail(&client, "gate", "panic").await,
            7 => fail(&client, "storage", "panic").await,
            _ => {
                let leader = cluster.leader().await;
                let follower = (leader + 1) % cluster.machines.len();
                cluster.machines[follower].kill();
                cluster.machines[follower].start();
            }
        }
        cluster.leader().await;
    }
    truth.is_over.store(true, Ordering::SeqCst);
    for worker in workers {
        worker.await.expect("each has held alone");
    }
    assert_eq!(standing(&client, 0, "name").await, [""; 0]);
    cluster.same_everywhere().await;
    let (held, failed) = (&truth.held, &truth.failed);
    println!(
        "\n{faults} faults: held {held:?} times by one at a time, {failed:?} told that they do not"
    );
}
