//! Machines end and start again in every way, and keep what they acknowledged.

use std::time::Duration;

use rm_tests::panics::assert_refusal;
use rm_tests::ports::{Port, claim};
use rm_tests::writers::assert_nothing_lost;
use rm_tests::{Client, Cluster, Machine, Settings, Workload, Writers, rounds, until};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tonic::Status;

/// How many more rounds than asked for there may be until one proves something.
const EXTRA_ROUNDS: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_killed_at_once_keeps_everything() {
    let settings = Settings::trio().with("storage.checkpoint_interval_ms", 100);
    let mut cluster = Cluster::start(settings).await;
    let client = cluster.client();
    let writers = Writers::start(&client, 4);
    let workload = Workload::start(&client);
    for _ in 0..rounds(3) {
        writers.progress(100).await;
        cluster.kill_all();
        cluster.start_all();
        cluster.leader().await;
    }
    writers.progress(100).await;
    workload.finish().await;
    let acknowledged = writers.finish().await;
    assert_nothing_lost(&acknowledged, &cluster.same_everywhere().await);
}

/// etcd #14370: a cluster of one acknowledged a write before it was durable.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_14370_a_machine_alone_loses_nothing_acknowledged() {
    let mut cluster = Cluster::start(Settings::solo()).await;
    let writers = Writers::start(&cluster.client(), 4);
    for _ in 0..rounds(10) {
        writers.progress(50).await;
        cluster.machines[0].kill();
        cluster.machines[0].start();
    }
    writers.progress(50).await;
    let acknowledged = writers.finish().await;
    assert_nothing_lost(&acknowledged, &cluster.same_everywhere().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_is_asked_to_stop_ends_well_under_load() {
    let mut cluster = Cluster::start(Settings::trio()).await;
    let writers = Writers::start(&cluster.client(), 4);
    for machine in 0..cluster.machines.len() {
        writers.progress(50).await;
        let status = cluster.machines[machine].terminate().await;
        assert_eq!(status.code(), Some(0), "{status}");
        cluster.leader().await;
        cluster.machines[machine].start();
        cluster.leader().await;
    }
    let acknowledged = writers.finish().await;
    assert_nothing_lost(&acknowledged, &cluster.same_everywhere().await);
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_cluster_stops_well_and_comes_back() {
    let mut cluster = Cluster::start(Settings::trio()).await;
    cluster.client().put("key", "value").await;
    for machine in &mut cluster.machines {
        let status = machine.terminate().await;
        assert_eq!(status.code(), Some(0), "{}: {status}", machine.name);
    }
    cluster.start_all();
    cluster.leader().await;
    let pairs = cluster.same_everywhere().await;
    assert_eq!(&pairs[0].value[..], b"value");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_on_the_same_folder_is_refused() {
    let mut cluster = Cluster::start(Settings::solo()).await;
    let ports = claim(2);
    let mut second = on_other_ports(&cluster, &ports);
    second.start();
    let status = second.end().await;
    let log = second.log();
    assert_refusal(status, &log);
    let holder = cluster.machines[0].process().0.to_string();
    let named = log.contains(&format!("process {holder}"));
    assert!(named, "the process {holder} is not named:\n{log}");
    cluster.client().put("key", "value").await;
    assert_eq!(cluster.machines[0].ended(), None);
    cluster.assert_nobody_panicked();
}

/// etcd #20418: a leader that was paused answered a read from its own, old state.
///
/// An error is an honest answer too, but proves nothing: rounds go on until a read that began after the write was answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_20418_a_paused_leader_serves_no_stale_read() {
    let cluster = Cluster::start(Settings::trio()).await;
    let client = cluster.client();
    let workload = Workload::start(&client);
    let rounds = rounds(5);
    let (mut round, mut proofs) = (0, 0);
    let mut before = None;
    while round < rounds || proofs == 0 {
        assert!(round < rounds + EXTRA_ROUNDS, "no late read was answered");
        let leader = cluster.leader().await;
        let other = (leader + 1) % cluster.machines.len();
        workload.progress(50).await;
        cluster.machines[leader].pause();
        // The read waits in the paused machine's socket, and is the first thing that it sees when it goes on.
        let early = read_paused(&client, leader);
        let value = format!("round {round}");
        until("the others have a leader of their own", async || {
            let put = client.put_on(other, "paused", value.clone());
            match tokio::time::timeout(Duration::from_secs(1), put).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(status)) => Err(status.to_string()),
                Err(late) => Err(late.to_string()),
            }
        })
        .await;
        let late = read_paused(&client, leader);
        cluster.machines[leader].resume();
        let after = Some(value);
        // The late read began after the write was acknowledged, the early one before.
        if let Ok(seen) = late.await.expect("a read does not panic") {
            assert_eq!(seen, after, "a stale read");
            proofs += 1;
        }
        if let Ok(seen) = early.await.expect("a read does not panic") {
            assert!(seen == before || seen == after, "{seen:?} is stale");
        }
        before = after;
        round += 1;
    }
    println!("{proofs} of {round} late reads were answered");
    workload.finish().await;
    cluster.same_everywhere().await;
    cluster.assert_nobody_panicked();
}

/// Begins a linearizable read of the key that the paused leader must not have an old value of.
fn read_paused(client: &Client, machine: usize) -> JoinHandle<Result<Option<String>, Status>> {
    let client = client.clone();
    tokio::spawn(async move {
        let pair = client.get_on(machine, "paused", false).await?;
        Ok(pair.map(|pair| String::from_utf8_lossy(&pair.value).into_owned()))
    })
}

/// The first machine of the cluster once more, so that only its data folder stands against its start.
fn on_other_ports(cluster: &Cluster, ports: &[Port]) -> Machine {
    let ours = &cluster.machines[0];
    let text = std::fs::read_to_string(&ours.config).expect("it was written");
    let mut config: Value = serde_json::from_str(&text).expect("the harness writes JSON");
    let (client, peer) = (ports[0].address, ports[1].address);
    config["machines"][0]["client"] = json!(client);
    config["machines"][0]["peer"] = json!(peer);
    let file = cluster.folder().join("second.json");
    std::fs::write(&file, config.to_string()).expect("the folder can be written");
    let log = cluster.folder().join("second.log");
    Machine::new(
        ours.name.clone(),
        client,
        peer,
        file,
        ours.data.clone(),
        log,
    )
}
