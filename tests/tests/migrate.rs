//! `rmctl migrate` from the real etcd: what is moved, what is refused, and what a run that was ended leaves to the next.

use bytes::Bytes;
use rm_proto::etcdserverpb::PutRequest;
use rm_tests::lone_etcd::kept;
use rm_tests::rmctl::{Running, done, json, refused};
use rm_tests::{Client, Cluster, LoneEtcd, Settings, leases, until};
use rustix::process::Signal;

async fn put(client: &Client, key: impl Into<Bytes>, value: impl Into<Bytes>, lease: i64) {
    let request = PutRequest {
        key: key.into(),
        value: value.into(),
        lease,
        ..PutRequest::default()
    };
    client.kv(0).put(request).await.expect("it is written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_values_and_leases_are_moved_and_compared() {
    let etcd = LoneEtcd::start().await;
    let source = etcd.client();
    for (id, ttl) in [(0x11, 600), (0x22, 1_200)] {
        leases::grant(&source, id, ttl).await;
    }
    for number in 0..3_000_u32 {
        let lease = if number % 7 == 0 { 0x11 } else { 0 };
        put(
            &source,
            format!("key/{number:05}"),
            number.to_string(),
            lease,
        )
        .await;
    }
    for key in [&b"\0"[..], b"\xff\xff", b"\0\xff"] {
        put(&source, key, &b"\xfe\0"[..], 0).await;
    }
    put(&source, "empty", "", 0x11).await;
    for arguments in [
        &["user", "add", "alice:secret"][..],
        &["role", "add", "reader"],
    ] {
        etcd.done(arguments);
    }
    let cluster = Cluster::start(Settings::trio()).await;
    let report = json(
        &cluster.endpoints(),
        &["migrate", "--from", &etcd.endpoint()],
    );
    etcd.assert_moved_to(&cluster).await;
    assert_eq!(report["keys"], 3_004, "{report}");
    assert_eq!(report["written"], 3_004, "{report}");
    assert_eq!(report["leases"], 2, "{report}");
    assert_eq!(report["users_and_roles"]["users"][0], "alice", "{report}");
    assert_eq!(report["users_and_roles"]["roles"][0], "reader", "{report}");
    let target = cluster.client();
    assert_eq!(leases::list(&target, 0).await, [0x11, 0x22]);
    for (id, ttl) in [(0x11, 600), (0x22, 1_200)] {
        assert_eq!(leases::look(&target, 0, id).await.granted_ttl, ttl);
    }
    let mut keys = leases::look(&source, 0, 0x11).await.keys;
    keys.sort();
    assert!(leases::look(&target, 0, 0x11).await.keys == keys);

    // Again there is nothing to do, and a text says so, too.
    let told = done(
        &cluster.endpoints(),
        &["migrate", "--from", &etcd.endpoint()],
    );
    assert!(told.contains("0 changes by copies"), "{told}");
    assert!(told.contains("users alice; roles reader"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prefix_is_moved_alone_and_to_another_place() {
    let etcd = LoneEtcd::start().await;
    let source = etcd.client();
    leases::grant(&source, 0x33, 600).await;
    leases::grant(&source, 0x44, 600).await;
    for key in ["a/1", "a/a/2", "b/1"] {
        put(&source, key, key, 0).await;
    }
    put(&source, "a/3", "leased", 0x33).await;
    let cluster = Cluster::start(Settings::solo()).await;
    let (endpoints, from, target) = (cluster.endpoints(), etcd.endpoint(), cluster.client());
    put(&target, "other", "stays", 0).await;
    let migrate = ["migrate", "--from", &from, "--prefix", "a/"];
    let keys = async || {
        let keys = kept(target.dump(0).await).into_keys();
        keys.map(|key| String::from_utf8_lossy(&key).into_owned())
            .collect::<Vec<_>>()
    };
    done(
        &endpoints,
        &[&migrate[..], &["--dest-prefix", "z/"]].concat(),
    );
    assert_eq!(keys().await, ["other", "z/1", "z/3", "z/a/2"]);
    assert_eq!(
        leases::list(&target, 0).await,
        [0x33],
        "no key hangs on the other"
    );

    // Without changes in the range only a notice of progress tells that the target has caught up.
    put(&source, "b/2", "elsewhere", 0).await;
    let follow = ["--dest-prefix", "z/", "--follow", "--until-caught-up"];
    let report = json(&endpoints, &[&migrate[..], &follow].concat());
    assert_eq!(
        (&report["keys"], &report["written"]),
        (&3.into(), &0.into()),
        "{report}"
    );

    done(
        &endpoints,
        &[&migrate[..], &["--no-dest-prefix", "--force"]].concat(),
    );
    assert_eq!(
        keys().await,
        ["1", "3", "a/2"],
        "--force makes it the only content"
    );
    put(&source, "a/", "no name would be left", 0).await;
    let told = refused(
        &endpoints,
        &[&migrate[..], &["--no-dest-prefix", "--force"]].concat(),
        2,
    );
    assert!(
        told.contains("the key \"a/\" would have an empty name"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_target_holds_is_left_alone_unless_told_otherwise() {
    let etcd = LoneEtcd::start().await;
    let source = etcd.client();
    leases::grant(&source, 0x55, 600).await;
    for key in ["a", "b", "c"] {
        put(&source, key, "new", 0).await;
    }
    let cluster = Cluster::start(Settings::solo()).await;
    let (endpoints, from, target) = (cluster.endpoints(), etcd.endpoint(), cluster.client());
    put(&target, "b", "old", 0).await;
    put(&target, "mine", "precious", 0).await;
    let before = target.dump(0).await;
    let told = refused(&endpoints, &["migrate", "--from", &from], 1);
    assert!(
        told.contains("the target is not empty: of its keys in the range, 2 are"),
        "{told}"
    );
    assert!(
        told.contains("  b has another value") && told.contains("  mine is not in the source"),
        "{told}"
    );
    assert_eq!(target.dump(0).await, before);
    assert_eq!(leases::list(&target, 0).await, [0; 0]);

    let report = json(&endpoints, &["migrate", "--from", &from, "--force"]);
    assert_eq!(
        report["written"], 4,
        "two are new, one is changed, one goes: {report}"
    );
    etcd.assert_moved_to(&cluster).await;

    leases::revoke(&source, 0, 0x55).await.expect("it is there");
    leases::grant(&source, 0x55, 1_200).await;
    let told = refused(&endpoints, &["migrate", "--from", &from], 1);
    assert!(told.contains("a lease 55 of 600 s"), "{told}");
    leases::revoke(&source, 0, 0x55).await.expect("it is there");
    leases::grant(&source, 0x55, 60).await;
    let told = refused(&endpoints, &["migrate", "--from", &from], 1);
    assert!(told.contains("a lease 55 of 600 s"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_without_a_key_empties_no_target() {
    let etcd = LoneEtcd::start().await;
    let cluster = Cluster::start(Settings::solo()).await;
    let (endpoints, from, target) = (cluster.endpoints(), etcd.endpoint(), cluster.client());
    put(&target, "mine", "precious", 0).await;
    put(&etcd.client(), "b/1", "beside the prefix", 0).await;
    let before = target.dump(0).await;
    let migrate = [
        "migrate",
        "--from",
        &from,
        "--force",
        "--prefix",
        "a/",
        "--no-dest-prefix",
    ];
    let told = refused(&endpoints, &migrate, 1);
    assert!(
        told.contains("the source has no key in its range"),
        "{told}"
    );
    assert_eq!(target.dump(0).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_an_earlier_run_has_left_has_its_whole_time_again() {
    const SECONDS: i64 = 10;
    let cluster = Cluster::start(Settings::solo()).await;
    let etcd = LoneEtcd::start().await;
    let source = etcd.client();
    leases::grant(&source, 0x55, SECONDS).await;
    put(&source, "leased", "value", 0x55).await;
    let (endpoints, from, target) = (cluster.endpoints(), etcd.endpoint(), cluster.client());
    json(&endpoints, &["migrate", "--from", &from]);
    let mut left = SECONDS;
    until("little of its time is left at the target", async || {
        let renewed = leases::renew(&source, 0, 0x55).await;
        renewed.map_err(|status| status.to_string())?;
        left = leases::look(&target, 0, 0x55).await.ttl;
        assert!(left >= 0, "it was moved");
        (left <= SECONDS / 3)
            .then_some(())
            .ok_or(format!("{left} s"))
    })
    .await;
    json(&endpoints, &["migrate", "--from", &from]);
    let now = leases::look(&target, 0, 0x55).await.ttl;
    assert!(now > left, "{now} s, {left} s before");
    etcd.assert_moved_to(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_was_killed_is_gone_on_with_by_the_next() {
    const KEYS: usize = 4_000;
    let etcd = LoneEtcd::start().await;
    let source = etcd.client();
    for number in 0..KEYS {
        put(&source, format!("key/{number:05}"), vec![b'x'; 256], 0).await;
    }
    let cluster = Cluster::start(Settings::trio()).await;
    let (endpoints, from, target) = (cluster.endpoints(), etcd.endpoint(), cluster.client());
    let slowly = ["migrate", "--from", &from, "--max-txn-ops", "1"];
    let mut run = Running::start(&endpoints, &slowly);
    until("some keys are there", async || {
        match target.dump(0).await.len() {
            0 => Err("none is".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    run.signal(Signal::KILL);
    run.end().await;
    cluster.converged().await;
    let moved = target.dump(0).await.len();
    assert!(moved < KEYS, "it was killed amid");
    let report = json(&endpoints, &["migrate", "--from", &from]);
    assert_eq!(report["written"], KEYS - moved, "{report}");
    etcd.assert_moved_to(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_values_move_as_long_as_the_target_takes_them() {
    const LARGE: usize = 1_572_864 - 64;
    let etcd = LoneEtcd::start().await;
    let source = etcd.client();
    for number in 0..12 {
        put(
            &source,
            format!("large/{number:02}"),
            vec![number; LARGE],
            0,
        )
        .await;
    }
    for number in 0..300 {
        put(&source, format!("small/{number:03}"), "v", 0).await;
    }
    let from = etcd.endpoint();
    {
        let cluster = Cluster::start(Settings::solo()).await;
        let report = json(&cluster.endpoints(), &["migrate", "--from", &from]);
        assert_eq!(report["keys"], 312, "{report}");
        let moved = cluster
            .client()
            .get(0, "large/11")
            .await
            .expect("it is there");
        assert!(moved.value == vec![11; LARGE]);
    }
    let narrow = Settings::solo()
        .with("limits.request_bytes_max", 1_024)
        .with("limits.transaction_operations_max", 3);
    let cluster = Cluster::start(narrow).await;
    let endpoints = cluster.endpoints();
    done(
        &endpoints,
        &["migrate", "--from", &from, "--prefix", "small/"],
    );
    assert_eq!(cluster.client().dump(0).await.len(), 300);
    let told = refused(&endpoints, &["migrate", "--from", &from, "--force"], 1);
    assert!(
        told.contains("has 1572808 bytes") && told.contains("raise limits.request_bytes_max"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_is_none_is_refused_with_its_flag() {
    let cluster = Cluster::start(Settings::solo()).await;
    let endpoints = cluster.endpoints();
    let told = refused(&endpoints, &["migrate", "--from", &endpoints], 2);
    assert!(told.contains("are the same cluster"), "{told}");
    let mut etcd = LoneEtcd::start().await;
    etcd.kill();
    let told = refused(&endpoints, &["migrate", "--from", &etcd.endpoint()], 3);
    assert!(
        told.contains("cannot reach the source") && told.contains("with --from"),
        "{told}"
    );
}
