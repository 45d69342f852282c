//! The page for Prometheus on real machines: in its format, with counts that only go up, and that count what was done.

use rm_proto::etcdserverpb::RangeRequest;
use rm_tests::curl::{curl, get};
use rm_tests::prometheus::Page;
use rm_tests::watching::{Watching, everything, prefix};
use rm_tests::{Cluster, Settings, until};

fn page(cluster: &Cluster, machine: usize) -> Page {
    Page::of(&cluster.machines[machine])
}

fn handled(page: &Page, method: &str, code: &str) -> f64 {
    let labels = [
        ("grpc_code", code),
        ("grpc_method", method),
        ("grpc_service", "etcdserverpb.KV"),
        ("grpc_type", "unary"),
    ];
    page.value("grpc_server_handled_total", &labels)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_machine_tells_of_itself_and_one_of_them_leads() {
    let cluster = Cluster::start(Settings::trio()).await;
    cluster.client().put("key", "value").await;
    cluster.converged().await;
    // The pages are taken one after the other, so that there may be an election between them.
    let pages = until("one leads and all know it", async || {
        let pages = [0, 1, 2].map(|machine| page(&cluster, machine));
        let count = |name: &str| pages.iter().map(|page| page.value(name, &[])).sum::<f64>();
        match (
            count("etcd_server_is_leader"),
            count("etcd_server_has_leader"),
        ) {
            (1.0, 3.0) => Ok(pages),
            (leaders, led) => Err(format!("{leaders} lead, {led} have a leader")),
        }
    })
    .await;
    for page in &pages {
        assert!(page.value("etcd_server_leader_changes_seen_total", &[]) >= 1.0);
        assert!(page.value("etcd_mvcc_db_total_size_in_bytes", &[]) > 0.0);
        assert!(page.value("process_resident_memory_bytes", &[]) > 1e6);
        assert_eq!(page.value("etcd_debugging_mvcc_current_revision", &[]), 2.0);
        assert_eq!(page.value("etcd_debugging_mvcc_keys_total", &[]), 1.0);
    }
    let head = curl(&[
        "--head",
        &format!("http://{}/metrics", cluster.machines[0].client),
    ]);
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_counted_is_what_was_done_and_no_count_ever_falls() {
    let cluster = Cluster::start(Settings::solo()).await;
    let client = cluster.client();
    client.put("key", "value").await;
    let before = page(&cluster, 0);
    for _ in 0..10 {
        client.put_on(0, "key", "value").await.expect("it is taken");
    }
    let empty = client.kv(0).range(RangeRequest::default()).await;
    empty.expect_err("a key must be given");
    let after = page(&cluster, 0);
    assert_eq!(after.fallen_since(&before), [""; 0]);
    let rise = |name: &str| after.value(name, &[]) - before.value(name, &[]);
    assert_eq!(
        handled(&after, "Put", "OK") - handled(&before, "Put", "OK"),
        10.0
    );
    assert_eq!(handled(&after, "Range", "InvalidArgument"), 1.0);
    assert_eq!(rise("etcd_debugging_mvcc_current_revision"), 10.0);
    // A machine has entries of its own, too.
    assert!(rise("etcd_server_proposals_applied_total") >= 10.0);
    let commits = rise("etcd_disk_wal_fsync_duration_seconds_count");
    assert!(commits >= 10.0, "each write waits for a commit: {commits}");
    assert!(rise("etcd_disk_wal_fsync_duration_seconds_sum") > 0.0);
    assert!(rise("etcd_network_client_grpc_received_bytes_total") > 10.0 * 13.0);
    assert!(rise("etcd_network_client_grpc_sent_bytes_total") > 0.0);
    assert!(after.value("raft_machine_client_connections", &[]) >= 1.0);
    assert_eq!(rise("etcd_server_proposals_failed_total"), 0.0);
    // It is posted just after the answers have left.
    until("no write waits", async || {
        match page(&cluster, 0).value("etcd_server_proposals_pending", &[]) {
            0.0 => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .await;
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_and_who_is_restarted_is_counted() {
    let mut cluster = Cluster::start(Settings::trio()).await;
    let client = cluster.client();
    client.put("key", "value").await;
    let before = page(&cluster, 0);
    let restarts = |page: &Page, actor: &str| {
        page.value("raft_machine_actor_restarts_total", &[("actor", actor)])
    };
    assert_eq!(restarts(&before, "timer"), 0.0);
    client
        .kill_actor(0, "timer", "stop")
        .await
        .expect("faults are allowed");
    until(
        "the timer is restarted and counted",
        async || match restarts(&page(&cluster, 0), "timer") {
            1.0 => Ok(()),
            other => Err(other.to_string()),
        },
    )
    .await;
    let timer = [("actor", "timer")];
    let now = page(&cluster, 0);
    assert_eq!(now.value("raft_machine_actor_incarnation", &timer), 2.0);
    assert_eq!(now.value("raft_machine_actor_failures_total", &timer), 1.0);
    assert_eq!(restarts(&now, "gate"), 0.0);
    assert_eq!(now.fallen_since(&before), [""; 0]);

    cluster.machines[1].kill();
    cluster.machines[2].kill();
    client
        .put_on(0, "key", "value")
        .await
        .expect_err("there is no majority");
    client
        .get_on(0, "key", false)
        .await
        .expect_err("there is no majority");
    let now = page(&cluster, 0);
    let rise = |name: &str| now.value(name, &[]) - before.value(name, &[]);
    assert_eq!(rise("etcd_server_proposals_failed_total"), 1.0);
    assert_eq!(rise("etcd_server_read_indexes_failed_total"), 1.0);
    until("the leader is given up", async || {
        match page(&cluster, 0).value("etcd_server_has_leader", &[]) {
            0.0 => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .await;
    assert_eq!(handled(&now, "Put", "Unavailable"), 1.0);
    let unwell = format!("http://{}/health", cluster.machines[0].client);
    assert_eq!(get(&unwell).status, 503);
    let ready = format!("http://{}/readyz", cluster.machines[0].client);
    assert_eq!(get(&ready).status, 503);
    let now = page(&cluster, 0);
    assert_eq!(now.value("etcd_server_health_failures", &[]), 1.0);
    let check = |name| [("name", name), ("type", "readyz")];
    let holds = |name| now.value("etcd_server_healthcheck", &check(name));
    assert_eq!(holds("serializable_read"), 1.0);
    assert_eq!(holds("linearizable_read"), 0.0);
    assert_eq!(now.fallen_since(&before), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_are_counted_while_they_are_there_and_their_events_for_good() {
    let cluster = Cluster::start(Settings::solo()).await;
    let client = cluster.client();
    let numbers = || {
        let page = page(&cluster, 0);
        let value = |name: &str| page.value(&format!("etcd_debugging_mvcc_{name}"), &[]);
        (
            value("watch_stream_total"),
            value("watcher_total"),
            value("events_total"),
        )
    };
    let told = async |wanted: (f64, f64, f64)| {
        until(
            &format!("streams, watchers and events are {wanted:?}"),
            async || match numbers() {
                numbers if numbers == wanted => Ok(()),
                numbers => Err(format!("{numbers:?}")),
            },
        )
        .await;
    };
    told((0.0, 0.0, 0.0)).await;
    let mut watching = Watching::open(&client, 0).await.expect("it can be watched");
    watching.create(everything()).await;
    watching.create(prefix("a")).await;
    for key in ["a", "b"] {
        client.put_on(0, key, "value").await.expect("it is taken");
    }
    watching.events(3).await;
    told((1.0, 2.0, 3.0)).await;
    let watch = |name: &str, code: Option<&str>| {
        let mut labels = vec![
            ("grpc_method", "Watch"),
            ("grpc_service", "etcdserverpb.Watch"),
            ("grpc_type", "bidi_stream"),
        ];
        labels.extend(code.map(|code| ("grpc_code", code)));
        page(&cluster, 0).value(name, &labels)
    };
    assert_eq!(watch("grpc_server_started_total", None), 1.0);
    assert_eq!(watch("grpc_server_handled_total", Some("OK")), 0.0);
    drop(watching);
    told((0.0, 0.0, 3.0)).await;
    assert_eq!(watch("grpc_server_handled_total", Some("Canceled")), 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ways_to_the_others_are_told_and_a_leader_tells_how_far_each_is() {
    let mut cluster = Cluster::start(Settings::trio()).await;
    let client = cluster.client();
    client.put("key", "value").await;
    cluster.converged().await;
    let leader = cluster.leader().await;
    let other = (leader + 1) % 3;
    let name = cluster.machines[other].name.clone();
    let peer = [("peer", name.as_str())];
    let to = client.info(other).await.expect("it answers").machine_id;
    let to = format!("{to:x}");
    let to = [("To", to.as_str())];
    let sent = |page: &Page| page.value("etcd_network_peer_sent_bytes_total", &to);
    let before = until("what was sent is counted", async || {
        let page = page(&cluster, leader);
        match page.0.contains_key("etcd_network_peer_sent_bytes_total") && sent(&page) > 0.0 {
            true => Ok(page),
            false => Err("not yet".to_owned()),
        }
    })
    .await;
    assert_eq!(before.value("raft_machine_peer_connected", &peer), 1.0);
    assert!(before.value("raft_machine_peer_round_trip_seconds", &peer) > 0.0);
    until("the follower has all that the leader has", async || {
        let page = page(&cluster, leader);
        let matched = page.value("raft_machine_follower_matched_index", &peer);
        let last = page.value("raft_machine_log_last_index", &[]);
        match matched == last {
            true => Ok(()),
            false => Err(format!("{matched} of {last}")),
        }
    })
    .await;
    let follower = page(&cluster, other);
    assert!(
        !follower
            .0
            .contains_key("raft_machine_follower_matched_index")
    );
    let silence = follower.value("raft_machine_leader_silence_seconds", &[]);
    assert!(silence.is_finite());

    // A Sender that is built anew counts anew, and dials anew.
    let connections = |page: &Page| page.value("raft_machine_peer_connections_total", &peer);
    client
        .kill_actor(leader, "sender", "stop")
        .await
        .expect("faults are allowed");
    until(
        "the peer is dialled again and that is counted",
        async || {
            let now = page(&cluster, leader);
            assert_eq!(now.fallen_since(&before), [""; 0]);
            match connections(&now) > connections(&before) && sent(&now) > sent(&before) {
                true => Ok(()),
                false => Err(format!("{} connections", connections(&now))),
            }
        },
    )
    .await;
    cluster.machines[other].kill();
    until("the lost connection is told", async || {
        match page(&cluster, leader).value("raft_machine_peer_connected", &peer) {
            0.0 => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_are_counted_and_so_are_those_whose_time_is_over() {
    let cluster = Cluster::start(Settings::solo()).await;
    let post = |path: &str, body: &str| {
        let url = format!("http://{}{path}", cluster.machines[0].client);
        let answer = curl(&["--data", body, &url]);
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    let told = async |wanted: (f64, f64)| {
        until(
            &format!("leases and expired ones are {wanted:?}"),
            async || {
                let page = page(&cluster, 0);
                let leases = page.value("raft_machine_leases", &[]);
                let expired = page.value("etcd_debugging_server_lease_expired_total", &[]);
                match (leases, expired) {
                    numbers if numbers == wanted => Ok(()),
                    numbers => Err(format!("{numbers:?}")),
                }
            },
        )
        .await;
    };
    post("/v3/lease/grant", r#"{"ID":1,"TTL":1000}"#);
    post("/v3/lease/grant", r#"{"ID":2,"TTL":1000}"#);
    told((2.0, 0.0)).await;
    post("/v3/lease/revoke", r#"{"ID":2}"#);
    post("/v3/lease/grant", r#"{"ID":3,"TTL":1}"#);
    told((1.0, 1.0)).await;
    cluster.assert_nobody_panicked();
}
