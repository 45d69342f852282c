//! The state of a machine is written anew while it serves, and is whole whatever happens on the way.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rm_proto::etcdserverpb::{DefragmentRequest, RangeRequest};
use rm_tests::etcd::{etcdctl, text};
use rm_tests::rmctl::{done, refused};
use rm_tests::writers::assert_nothing_lost;
use rm_tests::{Client, Cluster, Settings, Workload, Writers, until};
use tonic::Code;

/// The size of each value that makes the state large, and how many of them.
const VALUE_BYTES: usize = 256 << 10;
const VALUES: usize = 64;

/// Writes a state of which most is free pages: its size.
async fn left_with_holes(client: &Client) -> i64 {
    for number in 0..VALUES {
        client.put("large", vec![number as u8; VALUE_BYTES]).await;
    }
    let last = client.put("large", "small").await;
    let revision = last.header.expect("it has one").revision;
    client
        .compact_on(0, revision, true)
        .await
        .expect("it is compacted");
    for machine in 0..client.machines() {
        until("all machines have free pages", async || {
            match client.status(machine).await {
                Ok(status) if status.db_size_in_use < status.db_size / 4 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }
    client.status(0).await.expect("it answers").db_size
}

/// The folders of the states in a data directory.
fn states(data: &Path) -> Vec<String> {
    let entries = fs::read_dir(data).expect("it is there");
    let names = entries.map(|entry| entry.expect("it can be read").file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    let mut states: Vec<String> = names.filter(|name| name.starts_with("state")).collect();
    states.sort();
    states
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_machine_gives_its_free_space_back_while_clients_go_on() {
    let cluster = Cluster::start(Settings::trio()).await;
    let client = cluster.client();
    let before = left_with_holes(&client).await;
    let writers = Writers::start(&client, 2);
    let workload = Workload::start(&client);
    workload.progress(20).await;
    let said = done(&cluster.endpoints(), &["defrag"]);
    assert_eq!(said.lines().count(), 3, "{said}");
    assert!(said.lines().all(|line| line.contains("->")), "{said}");
    workload.progress(20).await;
    writers.progress(20).await;
    for machine in 0..3 {
        let status = client.status(machine).await.expect("it answers");
        assert!(
            status.db_size < before / 2,
            "{before} bytes have become {status:?}"
        );
        assert_eq!(states(&cluster.machines[machine].data), ["state-1"]);
    }
    let again = etcdctl(&cluster.endpoints(), "simple", &["defrag"], "");
    assert!(again.status.success(), "{}", text(&again));
    assert!(
        text(&again).contains("Finished defragmenting"),
        "{}",
        text(&again)
    );
    let operations = workload.finish().await;
    let acknowledged = writers.finish().await;
    assert_nothing_lost(&acknowledged, &cluster.same_everywhere().await);
    println!("{operations} operations linearizable");
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_is_acknowledged_while_the_state_is_copied() {
    // The log keeps next to nothing, but for what the copy lacks.
    let settings = Settings::solo()
        .with("storage.checkpoint_interval_ms", 50)
        .with("storage.compaction_keep_entries", 5)
        .with("storage.compaction_step_entries", 5);
    let cluster = Cluster::start(settings).await;
    let client = cluster.client();
    left_with_holes(&client).await;
    for number in 0..VALUES / 8 {
        let key = format!("kept {number}");
        client.put(key, vec![number as u8; VALUE_BYTES]).await;
    }
    // The copy takes many seconds, unless it is told otherwise.
    client
        .arm_fault(0, "sender", "copy", "delay:200", u64::MAX)
        .await;
    let mut maintenance = client.maintenance(0);
    let defragmenting =
        tokio::spawn(async move { maintenance.defragment(DefragmentRequest {}).await });
    until("the copy is begun", async || {
        match states(&cluster.machines[0].data).len() {
            2 => Ok(()),
            _ => Err("there is one state".to_owned()),
        }
    })
    .await;
    let writers = Writers::start(&client, 4);
    writers.progress(200).await;
    assert!(!defragmenting.is_finished(), "it is copied still");
    let refused = client.maintenance(0).defragment(DefragmentRequest {}).await;
    let refused = refused.expect_err("one at a time");
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    client.arm_fault(0, "sender", "copy", "delay:0", 0).await;
    until("it is done", async || {
        match cluster.machines[0]
            .log()
            .contains("the state is defragmented")
        {
            true => Ok(()),
            false => Err("its log does not say so".to_owned()),
        }
    })
    .await;
    let acknowledged = writers.finish().await;
    assert_nothing_lost(&acknowledged, &cluster.same_everywhere().await);
    defragmenting.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_reader_sees_the_state_go_back_when_the_copy_takes_its_place() {
    let cluster = Cluster::start(Settings::solo()).await;
    let client = cluster.client();
    let stop = Arc::new(AtomicBool::new(false));
    let writers = Writers::start(&client, 16);
    let tasks = (0..4).map(|_| {
        let (client, stop) = (client.clone(), stop.clone());
        tokio::spawn(async move {
            let mut newest = 0;
            while !stop.load(Ordering::Relaxed) {
                let request = RangeRequest {
                    key: b"key 0".as_slice().into(),
                    serializable: true,
                    ..Default::default()
                };
                let read = client.range_on(0, request).await.expect("it is answered");
                let revision = read.header.expect("it has one").revision;
                assert!(revision >= newest, "{revision} after {newest}");
                newest = revision;
            }
        })
    });
    let tasks: Vec<_> = tasks.collect();
    for _ in 0..2 {
        // By then it lacks more than the Applier applies at once.
        client
            .arm_fault(0, "logic_center", "prepare", "delay:3000", 1)
            .await;
        done(&cluster.endpoints(), &["defrag"]);
    }
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.expect("no revision went back");
    }
    writers.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_14685_a_crash_at_any_step_of_a_defragmentation_leaves_one_whole_state() {
    let mut cluster = Cluster::start(Settings::solo()).await;
    let client = cluster.client();
    left_with_holes(&client).await;
    // A step at which the machine is held up, and what is seen once it is there.
    let steps = [
        ("sender", "copy", "the state is written anew"),
        (
            "logic_center",
            "prepare",
            "the copy of the state has caught up",
        ),
        ("storage", "install", "the copy of the state has caught up"),
        (
            "storage",
            "installed",
            "the copy of the state has caught up",
        ),
    ];
    let writers = Writers::start(&client, 2);
    for (actor, point, seen) in steps {
        println!("a crash at {point} of {actor}");
        writers.progress(20).await;
        client.arm_fault(0, actor, point, "delay:60000", 1).await;
        let mut maintenance = client.maintenance(0);
        let asked = tokio::spawn(async move { maintenance.defragment(DefragmentRequest {}).await });
        until("the step is reached", async || {
            match cluster.machines[0].log().contains(seen) {
                true => Ok(()),
                false => Err(format!("its log does not say {seen:?}")),
            }
        })
        .await;
        if actor != "storage" {
            // The machine goes on, and what it acknowledges now is in neither copy.
            writers.progress(20).await;
        }
        cluster.machines[0].kill();
        asked.abort();
        cluster.machines[0].take_log();
        cluster.machines[0].start();
        cluster.leader().await;
        writers.progress(20).await;
        let left = states(&cluster.machines[0].data);
        assert_eq!(left.len(), 1, "{left:?}");
    }
    let acknowledged = writers.finish().await;
    assert_nothing_lost(&acknowledged, &cluster.same_everywhere().await);
    done(&cluster.endpoints(), &["defrag"]);
    assert_nothing_lost(&acknowledged, &cluster.same_everywhere().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_at_any_step_leaves_the_state_as_it_was_or_as_it_is_to_be() {
    let cluster = Cluster::start(Settings::trio()).await;
    let client = cluster.client();
    left_with_holes(&client).await;
    let writers = Writers::start(&client, 2);
    let faults = [
        ("sender", "copy", "io_error"),
        ("logic_center", "prepare", "no_space"),
        ("logic_center", "prepare", "panic"),
        ("storage", "install", "panic"),
        ("storage", "installed", "panic"),
        ("applier", "checkpoint", "panic"),
    ];
    for (actor, point, action) in faults {
        println!("{action} at {point} of {actor}");
        client.arm_fault(1, actor, point, action, 1).await;
        // Whatever it is told, the machine goes on.
        let told = client.maintenance(1).defragment(DefragmentRequest {}).await;
        println!(
            "{:?}",
            told.map(drop).map_err(|status| status.message().to_owned())
        );
        client.arm_fault(1, actor, point, action, 0).await;
        writers.progress(20).await;
        let left = async || match states(&cluster.machines[1].data) {
            left if left.len() == 1 => Ok(()),
            left => Err(format!("{left:?}")),
        };
        until("one state is left", left).await;
    }
    let acknowledged = writers.finish().await;
    assert_nothing_lost(&acknowledged, &cluster.same_everywhere().await);
    let endpoint = cluster.machines[1].client.to_string();
    done(&endpoint, &["defrag"]);
    assert_nothing_lost(&acknowledged, &cluster.same_everywhere().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_ends_though_the_state_was_written_anew_meanwhile() {
    let cluster = Cluster::start(Settings::trio()).await;
    let client = cluster.client();
    let endpoints = cluster.endpoints();
    let granted = etcdctl(&endpoints, "simple", &["lease", "grant", "3"], "");
    let granted = text(&granted);
    let lease = granted.split(' ').nth(1).expect("lease ID granted ..");
    let put = etcdctl(
        &endpoints,
        "simple",
        &["put", "key", "value", "--lease", lease],
        "",
    );
    assert!(put.status.success(), "{}", text(&put));
    done(&endpoints, &["defrag"]);
    let pair = client.get(0, "key").await;
    println!("after it the key is there: {}", pair.is_some());
    until("the lease has ended", async || {
        match client.get(0, "key").await {
            None => Ok(()),
            there => Err(format!("{there:?}")),
        }
    })
    .await;
    cluster.same_everywhere().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_has_no_room_beside_the_reserve_is_refused_by_name() {
    let settings = Settings::solo().with("limits.snapshot_reserve_bytes", 1_u64 << 45);
    let cluster = Cluster::start(settings).await;
    cluster.client().put("key", "value").await;
    let said = refused(&cluster.endpoints(), &["defrag"], 1);
    assert!(said.contains("database space exceeded"), "{said}");
    assert_eq!(states(&cluster.machines[0].data), ["state"]);
    let pair = cluster.client().get(0, "key").await;
    assert_eq!(pair.expect("it is there").value, b"value".as_slice());
}
