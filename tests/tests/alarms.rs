//! Alarms: a state that has reached its quota, data that is corrupt, and what is refused while an alarm stands, beside the real etcd.

use heed::CommitOrAbort;
use heed::types::Bytes;
use rm_proto::etcdserverpb::alarm_request::AlarmAction;
use rm_proto::etcdserverpb::lease_client::LeaseClient;
use rm_proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmType, CompactionRequest, Compare, DeleteRangeRequest,
    LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest, TxnRequest,
    request_op::Request as Operation,
};
use rm_store::{DataDirectory, Environment, Era, Identity, Log, Options};
use rm_tests::client::operation;
use rm_tests::curl::get;
use rm_tests::etcd::{Etcd, etcdctl, text};
use rm_tests::rmctl::json;
use rm_tests::{Client, Cluster, Settings, until};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

const QUOTA_BYTES: i64 = 4 << 20;
const VALUE_BYTES: usize = 256 << 10;
const NO_SPACE: &str = "etcdserver: mvcc: database space exceeded";

/// Raises or disarms an alarm, or lists those that stand.
async fn ask(
    client: &Client,
    action: AlarmAction,
    member_id: u64,
    alarm: AlarmType,
) -> Result<Vec<AlarmMember>, Status> {
    let request = AlarmRequest {
        action: action.into(),
        member_id,
        alarm: alarm.into(),
    };
    let answer = client.maintenance(0).alarm(request).await?;
    Ok(answer.into_inner().alarms)
}

fn put_request() -> PutRequest {
    PutRequest {
        key: b"key".as_slice().into(),
        value: b"value".as_slice().into(),
        ..Default::default()
    }
}

fn txn(operations: Vec<Operation>) -> TxnRequest {
    TxnRequest {
        compare: Vec::<Compare>::new(),
        success: Vec::new(),
        failure: operations.into_iter().map(operation).collect(),
    }
}

/// What each request comes to: its code and text.
async fn outcomes(
    client: &Client,
    lease: &mut LeaseClient<Channel>,
) -> Vec<(&'static str, String)> {
    let mut kv = client.kv(0);
    let delete = DeleteRangeRequest {
        key: b"nothing".as_slice().into(),
        ..Default::default()
    };
    let range = |serializable| RangeRequest {
        key: b"key".as_slice().into(),
        serializable,
        ..Default::default()
    };
    let compaction = CompactionRequest {
        revision: 1_000_000,
        physical: false,
    };
    let grant = LeaseGrantRequest { ttl: 600, id: 0 };
    let nested = |inner| txn(vec![Operation::RequestTxn(inner)]);
    let put = Operation::RequestPut(put_request());
    let delete_in_txn = Operation::RequestDeleteRange(delete.clone());
    let range_in_txn = Operation::RequestRange(range(false));
    let told = |outcome: Result<(), Status>| match outcome {
        Ok(()) => "done".to_owned(),
        Err(status) => format!("{:?} {}", status.code(), status.message()),
    };
    vec![
        ("put", told(kv.put(put_request()).await.map(drop))),
        ("delete", told(kv.delete_range(delete).await.map(drop))),
        (
            "txn that may put",
            told(kv.txn(txn(vec![put])).await.map(drop)),
        ),
        (
            "txn that deletes",
            told(kv.txn(txn(vec![delete_in_txn.clone()])).await.map(drop)),
        ),
        (
            "txn in a txn that deletes",
            told(kv.txn(nested(txn(vec![delete_in_txn]))).await.map(drop)),
        ),
        (
            "txn that reads",
            told(kv.txn(txn(vec![range_in_txn])).await.map(drop)),
        ),
        ("compaction", told(kv.compact(compaction).await.map(drop))),
        ("grant", told(lease.lease_grant(grant).await.map(drop))),
        (
            "revocation",
            told(
                lease
                    .lease_revoke(LeaseRevokeRequest { id: 77 })
                    .await
                    .map(drop),
            ),
        ),
        ("read", told(kv.range(range(false)).await.map(drop))),
        (
            "serializable read",
            told(kv.range(range(true)).await.map(drop)),
        ),
    ]
}

async fn lease_client(address: &str) -> LeaseClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("a URI");
    LeaseClient::new(endpoint.connect().await.expect("it listens"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_while_an_alarm_stands_is_what_etcd_refuses() {
    let cluster = Cluster::start(Settings::solo()).await;
    let etcd = Etcd::start().await;
    let ours = cluster.client();
    let theirs = Client::new(
        etcd.endpoints
            .iter()
            .map(|it| it.parse().expect("an address")),
    );
    let mut our_lease = lease_client(&cluster.machines[0].client.to_string()).await;
    let mut their_lease = lease_client(&etcd.endpoints[0]).await;
    for client in [&ours, &theirs] {
        client
            .put_on(0, "key", "value")
            .await
            .expect("nothing is wrong yet");
    }
    for alarm in [AlarmType::Nospace, AlarmType::Corrupt] {
        for client in [&ours, &theirs] {
            let raised = ask(client, AlarmAction::Activate, 5, alarm).await;
            let expected = vec![AlarmMember {
                member_id: 5,
                alarm: alarm.into(),
            }];
            assert_eq!(raised.expect("it is raised"), expected);
            let listed = ask(client, AlarmAction::Get, 0, AlarmType::None).await;
            assert_eq!(listed.expect("they are listed"), expected);
        }
        let we = outcomes(&ours, &mut our_lease).await;
        let they = outcomes(&theirs, &mut their_lease).await;
        println!("{alarm:?}: {they:#?}");
        assert_eq!(we, they, "{alarm:?}");
        for client in [&ours, &theirs] {
            for stands in [true, false] {
                let disarmed = ask(client, AlarmAction::Deactivate, 5, alarm).await;
                assert_eq!(disarmed.expect("it is told").len(), usize::from(stands));
            }
            client
                .put_on(0, "key", "value")
                .await
                .expect("it is disarmed");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_at_its_quota_is_written_again_once_it_is_compacted_defragmented_and_disarmed() {
    let settings = Settings::trio()
        .with("limits.quota_bytes", QUOTA_BYTES)
        .with("storage.checkpoint_interval_ms", 50);
    let mut cluster = Cluster::start(settings).await;
    let client = cluster.client();
    let refused = until("a put is refused", async || {
        match client.put_on(1, "large", vec![7; VALUE_BYTES]).await {
            Err(status) if status.code() == Code::ResourceExhausted => Ok(status),
            Err(status) => Err(status.to_string()),
            Ok(_) => Err("it was taken".to_owned()),
        }
    })
    .await;
    assert_eq!(refused.message(), NO_SPACE);
    let endpoints = cluster.endpoints();
    for machine in 0..3 {
        let refused = until("every machine refuses", async || {
            match client.put_on(machine, "small", "value").await {
                Err(status) => Ok(status),
                Ok(_) => Err("it was taken".to_owned()),
            }
        });
        assert_eq!(refused.await.message(), NO_SPACE);
        let status = client.status(machine).await.expect("it answers");
        assert_eq!(status.db_size_quota, QUOTA_BYTES);
        let alarms = status.errors.iter();
        assert!(
            alarms.clone().any(|error| error.contains("alarm:NOSPACE")),
            "{:?}",
            status.errors
        );
    }
    let page = metrics(&cluster, 2);
    let sample = page
        .lines()
        .find(|line| line.starts_with("etcd_debugging_server_alarms{"));
    let sample = sample.unwrap_or_else(|| panic!("no alarm in {page}"));
    assert!(sample.contains(r#"alarm_type="NOSPACE""#), "{sample}");
    let listed = etcdctl(&endpoints, "simple", &["alarm", "list"], "");
    assert!(text(&listed).contains("alarm:NOSPACE"), "{}", text(&listed));
    let shown = json(&endpoints, &["alarm", "list"]);
    let shown = shown.as_array().expect("a list");
    let is_one = |alarm: &serde_json::Value| {
        let name = alarm["machine"].as_str().unwrap_or_default();
        alarm["alarm"] == "NOSPACE" && name.starts_with("RM.0")
    };
    assert!(!shown.is_empty() && shown.iter().all(is_one), "{shown:?}");
    // It outlives the processes.
    cluster.kill_all();
    cluster.start_all();
    cluster.leader().await;
    let client = cluster.client();
    let refused = client.put_on(0, "small", "value").await;
    assert_eq!(refused.expect_err("the alarm stands").message(), NO_SPACE);
    let pair = client.get(0, "large").await;
    assert_eq!(pair.expect("it is read").value.len(), VALUE_BYTES);
    let revision = client.info(0).await.expect("it answers").revision;
    let compacted = client.compact_on(0, revision, true).await;
    compacted.expect("a compaction needs no space");
    let deleted = etcdctl(&endpoints, "simple", &["del", "large"], "");
    assert_eq!(text(&deleted).trim(), "1");
    let revision = client.info(0).await.expect("it answers").revision;
    for machine in 0..3 {
        // Each tells when it has removed it, though the first has compacted for all.
        let _ = client.compact_on(machine, revision, true).await;
    }
    let defragmented = etcdctl(&endpoints, "simple", &["defrag"], "");
    assert!(defragmented.status.success(), "{}", text(&defragmented));
    let refused = client.put_on(0, "small", "value").await;
    assert_eq!(
        refused.expect_err("the alarm stands still").message(),
        NO_SPACE
    );
    let disarmed = json(&endpoints, &["alarm", "disarm"]);
    assert!(
        disarmed.as_array().is_some_and(|all| !all.is_empty()),
        "{disarmed}"
    );
    let disarmed = etcdctl(&endpoints, "simple", &["alarm", "disarm"], "");
    assert!(disarmed.status.success(), "{}", text(&disarmed));
    for machine in 0..3 {
        client
            .put_on(machine, "small", "value")
            .await
            .expect("there is space");
    }
    let listed = ask(&client, AlarmAction::Get, 0, AlarmType::None).await;
    assert_eq!(listed.expect("they are listed"), []);
    cluster.same_everywhere().await;
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_negative_quota_is_none() {
    let settings = Settings::solo()
        .with("limits.quota_bytes", -1)
        .with("storage.checkpoint_interval_ms", 50);
    let cluster = Cluster::start(settings).await;
    let client = cluster.client();
    client.put("key", "value").await;
    let status = client.status(0).await.expect("it answers");
    assert_eq!(status.db_size_quota, -1);
    let page = metrics(&cluster, 0);
    assert!(
        page.contains("etcd_server_quota_backend_bytes -1"),
        "{page}"
    );
    assert!(!page.contains("server_alarms"), "{page}");
    assert!(status.errors.is_empty(), "{:?}", status.errors);
}

/// What a machine tells Prometheus.
fn metrics(cluster: &Cluster, machine: usize) -> String {
    let url = format!("http://{}/metrics", cluster.machines[machine].client);
    get(&url).body
}

/// Changes a byte of the newest value in the state of a machine that does not run, and its checksum with it.
fn corrupt(cluster: &Cluster, machine: usize) {
    let data = &cluster.machines[machine].data;
    let told = std::fs::read_to_string(data.join("identity.json")).expect("it is there");
    let told: serde_json::Value =
        serde_json::from_str(told.lines().next().expect("a line")).expect("JSON");
    let identity = Identity {
        domain: told["domain"].as_str().expect("text").to_owned(),
        machine: told["machine"].as_str().expect("text").to_owned(),
        id: rm_raft::MachineId(told["id"].as_u64().expect("a number")),
        joined: None,
        era: Era::FIRST,
    };
    let options = Options::default();
    let directory = DataDirectory::open(data, &identity).expect("it is free");
    let log = Environment::open(&directory, "log", &options).expect("it is sound");
    let generation = Log::open(&log).and_then(|log| log.generation());
    let state = Environment::open_state(&directory, generation.expect("it is told"), &options);
    let state = state.expect("it is sound");
    let env = state.env();
    let txn = env.read_txn().expect("a transaction");
    let opened = env.open_databases_and_commit(txn, |opener, txn| {
        let table = opener.open_database::<Bytes, Bytes>(txn, Some("revision"))?;
        Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(table))
    });
    let table = opened
        .expect("it opens")
        .commit()
        .flatten()
        .expect("it is there");
    let mut txn = env.write_txn().expect("a transaction");
    let last = table.last(&txn).expect("it is read").expect("there is one");
    let (key, mut value) = (last.0.to_vec(), last.1.to_vec());
    *value.last_mut().expect("a value") ^= 1;
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&key), &value[4..]);
    value[..4].copy_from_slice(&checksum.to_le_bytes());
    table.put(&mut txn, &key, &value).expect("it is written");
    state.commit(txn).expect("it is durable");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_whose_data_is_another_is_found_and_nothing_is_written_any_more() {
    let settings = Settings::trio().with("storage.corruption_check_seconds", 1);
    let mut cluster = Cluster::start(settings).await;
    let client = cluster.client();
    client.put("key", "value").await;
    cluster.converged().await;
    until(
        "the data is compared, and found to be the same",
        async || {
            let logs = cluster.machines.iter().map(|machine| machine.log());
            let agree =
                logs.filter(|log| log.contains("the data is what the machine that leads has"));
            match agree.count() {
                3 => Ok(()),
                count => Err(format!("{count} of 3 say so")),
            }
        },
    )
    .await;
    let follower = (cluster.leader().await + 1) % 3;
    // It writes its state down.
    assert!(cluster.machines[follower].terminate().await.success());
    corrupt(&cluster, follower);
    cluster.machines[follower].start();
    let id = until("the machine answers", async || {
        let info = client.info(follower).await;
        info.map_err(|status| status.to_string())
    });
    let id = id.await.machine_id;
    let alarm = AlarmMember {
        member_id: id,
        alarm: AlarmType::Corrupt.into(),
    };
    until("the machine is found", async || {
        match ask(&client, AlarmAction::Get, 0, AlarmType::Corrupt).await {
            Ok(alarms) if alarms == [alarm] => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    for machine in 0..3 {
        let refused = until("every machine refuses", async || {
            match client.put_on(machine, "key", "another").await {
                Err(status) => Ok(status),
                Ok(_) => Err("it was taken".to_owned()),
            }
        })
        .await;
        assert_eq!(refused.code(), Code::DataLoss, "{refused}");
        assert_eq!(refused.message(), "etcdserver: corrupt cluster");
    }
    assert!(
        cluster.machines[follower]
            .log()
            .contains("THE DATA IS CORRUPT")
    );
}
