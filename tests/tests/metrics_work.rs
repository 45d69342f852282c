//! What the page for Prometheus counts of the work of a machine, as etcd counts it where it does, and of that with its peers.

use rm_proto::etcdserverpb::request_op::Request as Operation;
use rm_proto::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, SnapshotRequest, TxnRequest,
};
use rm_tests::client::operation;
use rm_tests::curl::{curl, get};
use rm_tests::prometheus::Page;
use rm_tests::raw::Raw;
use rm_tests::{Behind, Client, Cluster, LoneEtcd, Settings, leases, until};

/// Counts of which etcd and a machine make the same.
const ALIKE: [&str; 8] = [
    "etcd_mvcc_put_total",
    "etcd_mvcc_delete_total",
    "etcd_mvcc_range_total",
    "etcd_debugging_mvcc_total_put_size_in_bytes",
    "etcd_debugging_lease_granted_total",
    "etcd_debugging_lease_revoked_total",
    "etcd_debugging_lease_ttl_total_sum",
    "etcd_debugging_lease_ttl_total_count",
];

/// What a compaction has removed.
const REMOVED: &str = "etcd_debugging_mvcc_db_compaction_keys_total";

fn put(key: &'static str) -> PutRequest {
    PutRequest {
        key: key.into(),
        value: "value".into(),
        ..PutRequest::default()
    }
}

fn range(key: &'static str) -> RangeRequest {
    RangeRequest {
        key: key.into(),
        ..RangeRequest::default()
    }
}

fn delete(key: &'static str) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: key.into(),
        ..DeleteRangeRequest::default()
    }
}

/// Something of everything that is counted.
async fn work(client: &Client) {
    for key in ["a", "b", "a"] {
        client.kv(0).put(put(key)).await.expect("it is taken");
    }
    client.kv(0).range(range("a")).await.expect("it is read");
    client
        .kv(0)
        .delete_range(delete("b"))
        .await
        .expect("it is taken");
    let operations = vec![
        operation(Operation::RequestPut(put("c"))),
        operation(Operation::RequestPut(put("d"))),
        operation(Operation::RequestRange(range("c"))),
        operation(Operation::RequestDeleteRange(delete("a"))),
    ];
    let reads = vec![
        operation(Operation::RequestRange(range("c"))),
        operation(Operation::RequestRange(range("d"))),
    ];
    for success in [operations, reads] {
        let txn = TxnRequest {
            success,
            ..TxnRequest::default()
        };
        client.kv(0).txn(txn).await.expect("it is taken");
    }
    leases::grant(client, 7, 60).await;
    leases::grant(client, 8, 1_000).await;
    leases::put(client, "leased/a", 7).await;
    leases::put(client, "leased/b", 7).await;
    leases::revoke(client, 0, 7).await.expect("it is there");
    client.kv(0).put(put("last")).await.expect("it is taken");
}

async fn compact(client: &Client) {
    let newest = client.status(0).await.expect("it answers").header;
    let newest = newest.expect("it has a header").revision;
    client
        .compact_on(0, newest, false)
        .await
        .expect("it can be read");
}

/// A sample without labels.
fn value(page: &str, name: &str) -> f64 {
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{name} ")));
    let value = line.unwrap_or_else(|| panic!("there is no {name}"));
    value.parse().expect("it is a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_work_is_counted_as_etcd_counts_it() {
    let etcd = LoneEtcd::start().await;
    let cluster = Cluster::start(Settings::solo()).await;
    let ours = cluster.machines[0].client.to_string();
    let mut all = Vec::new();
    for (client, endpoint) in [(etcd.client(), etcd.endpoint()), (cluster.client(), ours)] {
        let url = format!("http://{endpoint}/metrics");
        let before = get(&url).body;
        work(&client).await;
        let now = get(&url).body;
        let rise = |name| value(&now, name) - value(&before, name);
        let mut counts: Vec<_> = ALIKE.map(|name| (name, rise(name))).into();
        compact(&client).await;
        // Both remove what is forgotten a little later.
        let removed = until("what is forgotten is removed", async || {
            let now = get(&url).body;
            match (
                value(
                    &now,
                    "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds_count",
                ),
                value(&now, REMOVED),
            ) {
                (0.0, _) => Err("not yet".to_owned()),
                (_, removed) => Ok(removed),
            }
        })
        .await;
        counts.push((REMOVED, removed));
        all.push(counts);
    }
    assert_eq!(all[0], all[1], "etcd's before ours");
    for (name, rise) in &all[1] {
        assert!(*rise > 0.0, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_applied_again_after_a_failure_is_counted_once() {
    let cluster = Cluster::start(Settings::solo()).await;
    let client = cluster.client();
    let before = Page::of(&cluster.machines[0]);
    for _ in 0..20 {
        client.kv(0).put(put("key")).await.expect("it is taken");
    }
    client
        .kill_actor(0, "applier", "panic")
        .await
        .expect("faults are allowed");
    client.put("key", "value").await;
    let after = Page::of(&cluster.machines[0]);
    let applier = [("actor", "applier")];
    let failures = after.value("raft_machine_actor_failures_total", &applier);
    assert_eq!(failures, 1.0);
    let rise = |name: &str| after.value(name, &[]) - before.value(name, &[]);
    assert_eq!(rise("etcd_mvcc_put_total"), 21.0);
    let puts = [("op", "Put"), ("success", "true"), ("version", "v3")];
    let timed = after.value("etcd_server_apply_duration_seconds_count", &puts);
    assert_eq!(timed, 21.0);
    assert_eq!(after.fallen_since(&before), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_done_with_the_state_as_a_whole_is_timed() {
    let cluster = Cluster::start(Settings::solo()).await;
    let client = cluster.client();
    client.put("key", "value").await;
    client.hash_kv(0, 0).await;
    client.hash_whole(0).await;
    let mut maintenance = client.maintenance(0);
    let snapshot = maintenance.snapshot(SnapshotRequest {}).await;
    let mut snapshot = snapshot.expect("it begins").into_inner();
    while snapshot.message().await.expect("it comes").is_some() {}
    let defragmented = maintenance.defragment(rm_proto::etcdserverpb::DefragmentRequest {});
    defragmented.await.expect("there is room");
    let page = Page::of(&cluster.machines[0]);
    for name in [
        "etcd_mvcc_hash_rev_duration_seconds",
        "etcd_mvcc_hash_duration_seconds",
        "etcd_disk_backend_snapshot_duration_seconds",
        "etcd_disk_backend_defrag_duration_seconds",
    ] {
        assert_eq!(page.value(&format!("{name}_count"), &[]), 1.0, "{name}");
        assert!(page.value(&format!("{name}_sum"), &[]) > 0.0, "{name}");
    }
    assert_eq!(page.value("etcd_disk_defrag_inflight", &[]), 0.0);
    assert!(page.value("etcd_disk_wal_write_bytes_total", &[]) > 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_are_counted_by_their_messages_and_by_what_their_clients_say_of_themselves() {
    let cluster = Cluster::start(Settings::solo()).await;
    let raw = Raw::connect(cluster.machines[0].client).await;
    let version = [("client-api-version", "3.6")];
    let mut get = raw
        .call("/etcdserverpb.KV/Range", &version, b"\x0a\x01k")
        .await;
    get.message().await.expect("it is answered");
    // A watcher, which is answered and stays, and then a message that is none.
    for (message, is_read) in [(&b"\x0a\x03\x0a\x01k"[..], true), (b"\xff\xff", false)] {
        let mut watch = raw
            .open("/etcdserverpb.Watch/Watch", &version, message)
            .await;
        assert_eq!(watch.message().await.is_ok(), is_read);
    }
    let page = until("the streams have ended", async || {
        let page = Page::of(&cluster.machines[0]);
        let broken = [("API", "watch"), ("Type", "receive")];
        match page.value("etcd_network_server_stream_failures_total", &broken) {
            1.0 => Ok(page),
            other => Err(other.to_string()),
        }
    })
    .await;
    let requests = |kind| {
        let labels = [("client_api_version", "3.6"), ("type", kind)];
        page.value("etcd_server_client_requests_total", &labels)
    };
    assert_eq!((requests("unary"), requests("stream")), (1.0, 2.0));
    let watch = [
        ("grpc_method", "Watch"),
        ("grpc_service", "etcdserverpb.Watch"),
        ("grpc_type", "bidi_stream"),
    ];
    assert_eq!(page.value("grpc_server_msg_received_total", &watch), 2.0);
    assert_eq!(page.value("grpc_server_msg_sent_total", &watch), 1.0);
    let get = [
        ("grpc_method", "Range"),
        ("grpc_service", "etcdserverpb.KV"),
        ("grpc_type", "unary"),
    ];
    assert!(page.value("grpc_server_handling_seconds_count", &get) >= 1.0);
    assert!(page.value("grpc_server_msg_sent_total", &get) >= 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn promotions_and_reads_that_come_to_nothing_are_counted_by_the_reason() {
    let cluster = Cluster::start(Settings::trio()).await;
    let client = cluster.client();
    client.put("key", "value").await;
    let follower = (cluster.leader().await + 1) % 3;
    let url = format!(
        "http://{}/v3/cluster/member/promote",
        cluster.machines[follower].client
    );
    assert_ne!(curl(&["--data", r#"{"ID":"1"}"#, &url]).status, 200);
    let page = Page::of(&cluster.machines[follower]);
    let refused = |reason| {
        let labels = [("Reason", reason)];
        page.value("etcd_server_learner_promote_failures", &labels)
    };
    assert_eq!(refused("etcdserver: member not found"), 1.0);
    assert_eq!(refused("other"), 0.0);

    // It hears the others, and nobody hears that it wants to read.
    let slow = || {
        let page = Page::of(&cluster.machines[follower]);
        page.value("etcd_server_slow_read_indexes_total", &[])
    };
    let before = slow();
    client
        .arm_fault(follower, "sender", "send", "lose", 1_000_000)
        .await;
    let read = client.get_on(follower, "key", false).await;
    read.expect_err("nobody confirms it");
    // A machine may have reads of its own.
    assert!(slow() > before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_late_with_its_heartbeats_counts_it() {
    let settings = Settings::trio().with("timings.election_timeout_ms", 3_000);
    let cluster = Cluster::start(settings).await;
    let client = cluster.client();
    client.put("key", "value").await;
    let leader = cluster.leader().await;
    let late = |machine: usize| {
        let page = Page::of(&cluster.machines[machine]);
        page.value("etcd_server_heartbeat_send_failures_total", &[])
    };
    let before = late(leader);
    client
        .arm_fault(leader, "logic_center", "handler", "delay:200", 1)
        .await;
    until("it is counted", async || match late(leader) - before {
        0.0 => Err("not yet".to_owned()),
        _ => Ok(()),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_from_the_peers_is_counted_by_whoever_hears_it() {
    let cluster = Cluster::start(Settings::trio()).await;
    let client = cluster.client();
    client.put("key", vec![7; 100_000]).await;
    cluster.converged().await;
    let leader = cluster.leader().await;
    let follower = (leader + 1) % 3;
    let mut ids = Vec::new();
    for machine in [leader, follower] {
        let info = client.info(machine).await.expect("it answers");
        ids.push(format!("{:x}", info.machine_id));
    }
    let both = [("Local", ids[1].as_str()), ("Remote", ids[0].as_str())];
    // From whomever: another may have led.
    let heard = |page: &Page| -> f64 {
        let name = "etcd_network_peer_received_bytes_total";
        let family = page.0.get(name);
        family.map_or(0.0, |family| family.samples.values().sum())
    };
    let before = until("what came is counted", async || {
        let page = Page::of(&cluster.machines[follower]);
        match heard(&page) {
            bytes if bytes >= 100_000.0 => Ok(page),
            bytes => Err(format!("{bytes} bytes")),
        }
    })
    .await;
    assert_eq!(before.value("etcd_network_known_peers", &both), 1.0);
    assert_eq!(before.value("etcd_network_active_peers", &both), 1.0);
    let lost = |page: &Page| page.value("etcd_network_disconnected_peers_total", &both);
    let to = [("To", ids[0].as_str())];
    let round_trips = "etcd_network_peer_round_trip_time_seconds_count";
    assert!(before.value(round_trips, &to) >= 1.0);

    // Both halves are built anew, and count anew.
    for actor in ["listener", "sender"] {
        let killed = client.kill_actor(follower, actor, "stop").await;
        killed.expect("faults are allowed");
    }
    until("it is heard again and the loss is told", async || {
        let now = Page::of(&cluster.machines[follower]);
        assert_eq!(now.fallen_since(&before), [""; 0]);
        match heard(&now) > heard(&before) && lost(&now) > lost(&before) {
            true => Ok(()),
            false => Err(format!("{} lost", lost(&now))),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_is_counted_at_both_of_its_ends() {
    let mut cluster = Cluster::start(Settings::trio().with_short_logs()).await;
    let client = cluster.client();
    let behind = Behind::by(&mut cluster, &client, (16, 4 << 10)).await;
    cluster.machines[behind.place].start();
    behind.caught_up(&cluster, &client).await;
    let counted = |machine: usize, name: &str| {
        let page = Page::of(&cluster.machines[machine]);
        let family = page.0.get(name);
        family.map_or(0.0, |family| family.samples.values().sum())
    };
    let received = "etcd_network_snapshot_receive_success";
    assert!(counted(behind.place, received) >= 1.0);
    // One that leads no more breaks off what it sends, also where all of it has arrived.
    let ends = [
        "etcd_network_snapshot_send_success",
        "etcd_network_snapshot_send_failures",
    ];
    until("whoever sent it counts it", async || {
        let by = |machine| ends.map(|name| counted(machine, name));
        match (0..3).flat_map(by).sum::<f64>() {
            0.0 => Err("nobody does".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    let made = "etcd_disk_backend_snapshot_duration_seconds";
    let page = |machine: usize| Page::of(&cluster.machines[machine]);
    let copies: f64 = (0..3)
        .map(|machine| page(machine).value(&format!("{made}_count"), &[]))
        .sum();
    assert!(copies >= 1.0);
}
