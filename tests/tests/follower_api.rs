//! Every machine takes every request of the key space, and answers as etcd does: a look at each option.

use bytes::Bytes;
use rm_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use rm_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use rm_proto::etcdserverpb::{
    Compare, DeleteRangeRequest, MemberListRequest, PutRequest, RangeRequest, RangeResponse,
    TxnRequest, request_op::Request as Operation, response_op::Response,
};
use rm_tests::client::operation;
use rm_tests::wait::PATIENCE;
use rm_tests::{Client, Cluster, Settings, until};
use serde_json::json;
use tonic::{Code, Status, Streaming};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_machine_takes_every_request() {
    let cluster = Cluster::start(Settings::trio()).await;
    let client = cluster.client();
    for machine in 0..client.machines() {
        let prefix = format!("machine {machine}/");
        puts(&client, machine, &prefix).await;
        ranges(&client, machine, &prefix).await;
        transactions(&client, machine, &prefix).await;
        deletes(&client, machine, &prefix).await;
        members(&client, machine).await;
    }
    cluster.same_everywhere().await;
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_machine_acknowledged_every_other_reads_at_once() {
    let cluster = Cluster::start(Settings::trio()).await;
    let client = cluster.client();
    for number in 0..30 {
        let value = number.to_string();
        client
            .put_on(number % 3, "key", value.clone())
            .await
            .expect("a write succeeds");
        for machine in 0..3 {
            let pair = client
                .get_on(machine, "key", false)
                .await
                .expect("a read succeeds");
            assert_eq!(
                pair.expect("it was written").value,
                value,
                "machine {machine}"
            );
        }
    }
}

/// The services of which a client may ask.
const SERVICES: [&str; 12] = [
    "etcdserverpb.Auth",
    "etcdserverpb.Cluster",
    "etcdserverpb.KV",
    "etcdserverpb.Lease",
    "etcdserverpb.Maintenance",
    "etcdserverpb.Watch",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "raftmachine.v1.Admin",
    "v3electionpb.Election",
    "v3lockpb.Lock",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_is_told_and_a_loss_of_the_majority_is_told_to_who_watches() {
    let mut cluster = Cluster::start(Settings::trio()).await;
    let client = cluster.client();
    for machine in 0..client.machines() {
        for service in ["", "etcdserverpb.KV"] {
            assert_healthy(&client, machine, service).await;
        }
        let unknown = health(&client, machine, "etcdserverpb.Nothing").await;
        assert_eq!(unknown.expect_err("no such service").code(), Code::NotFound);
    }
    let request = HealthCheckRequest::default();
    let watch = HealthClient::new(client.channel(0)).watch(request).await;
    let mut statuses = watch.expect("it can be watched").into_inner();
    await_status(&mut statuses, ServingStatus::Serving).await;
    cluster.machines[1].kill();
    cluster.machines[2].kill();
    await_status(&mut statuses, ServingStatus::NotServing).await;
    cluster.machines[1].start();
    await_status(&mut statuses, ServingStatus::Serving).await;
}

/// Reads what a watch tells until it is this.
async fn await_status(statuses: &mut Streaming<HealthCheckResponse>, wanted: ServingStatus) {
    let told = async {
        while let Some(status) = statuses.message().await.expect("the watch goes on") {
            if status.status() == wanted {
                return;
            }
        }
        panic!("the watch has ended");
    };
    let told = tokio::time::timeout(PATIENCE, told).await;
    told.unwrap_or_else(|_| panic!("a watch does not tell {wanted:?}"));
}

async fn health(client: &Client, machine: usize, service: &str) -> Result<ServingStatus, Status> {
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    let mut service = HealthClient::new(client.channel(machine));
    Ok(service.check(request).await?.into_inner().status())
}

async fn assert_healthy(client: &Client, machine: usize, service: &str) {
    until("a machine is healthy", async || {
        match health(client, machine, service).await {
            Ok(ServingStatus::Serving) => Ok(()),
            other => Err(format!("{machine}, {service:?}: {other:?}")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reflection_lists_what_is_served_and_describes_it() {
    let cluster = Cluster::start(Settings::solo()).await;
    let ask = async |question| {
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(question),
        };
        let client = cluster.client();
        let answers = ServerReflectionClient::new(client.channel(0))
            .server_reflection_info(tokio_stream::once(request))
            .await;
        let mut answers = answers.expect("there is reflection").into_inner();
        let answer = answers.message().await.expect("it answers");
        answer.and_then(|answer| answer.message_response)
    };
    let services = ask(MessageRequest::ListServices(String::new())).await;
    let Some(MessageResponse::ListServicesResponse(services)) = services else {
        panic!("no list of services: {services:?}");
    };
    let mut names: Vec<String> = services.service.into_iter().map(|it| it.name).collect();
    names.sort();
    assert_eq!(names, SERVICES);
    for name in names {
        let file = ask(MessageRequest::FileContainingSymbol(name.clone())).await;
        let described = matches!(file, Some(MessageResponse::FileDescriptorResponse(_)));
        assert!(described, "{name}: {file:?}");
    }
}

/// Each word of the header by which a client chooses what a read rests on, through a machine that does not lead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_header_of_a_read_is_heeded_by_a_follower() {
    let reads = json!({ "clock_drift_percent": 10 });
    let mut cluster = Cluster::start(Settings::trio().with("reads", reads)).await;
    let client = cluster.client();
    let leader = cluster.leader().await;
    let (follower, other) = ((leader + 1) % 3, (leader + 2) % 3);
    for mode in ["quorum", "lease", "serializable"] {
        client.put(mode, mode).await;
        cluster.converged().await;
        assert_eq!(
            read(&client, follower, mode, mode).await,
            Ok(mode.to_owned())
        );
    }
    let refused = read(&client, follower, "quorum", "fast").await;
    assert_eq!(refused, Err(Code::InvalidArgument));

    // Alone, the follower still has what it has, and says that it cannot make sure.
    cluster.machines[leader].kill();
    cluster.machines[other].kill();
    let alone = read(&client, follower, "quorum", "serializable").await;
    assert_eq!(alone, Ok("quorum".to_owned()));
    for mode in ["quorum", "lease"] {
        let refused = read(&client, follower, "quorum", mode).await;
        assert!(refused.is_err(), "{mode}: {refused:?}");
    }
}

/// Reads a key with this word in the header: its value.
async fn read(client: &Client, machine: usize, key: &str, word: &str) -> Result<String, Code> {
    let answer = client.get_by(machine, word, key.to_owned()).await;
    let pair = answer.map_err(|status| status.code())?;
    let pair = pair.expect("it was written");
    Ok(String::from_utf8_lossy(&pair.value).into_owned())
}

async fn puts(client: &Client, machine: usize, prefix: &str) {
    let key = format!("{prefix}put");
    let first = put(client, machine, &key, "one").await;
    let second = put(client, machine, &key, "two").await;
    assert_eq!(second, first + 1, "a write is one revision");

    let request = PutRequest {
        key: key.clone().into(),
        ignore_value: true,
        prev_kv: true,
        ..Default::default()
    };
    let answer = client
        .kv(machine)
        .put(request)
        .await
        .expect("it is there")
        .into_inner();
    let before = answer.prev_kv.expect("it was asked for");
    assert_eq!(
        (&before.value[..], before.version, before.mod_revision),
        (&b"two"[..], 2, second)
    );

    let now = client
        .get_on(machine, key, false)
        .await
        .expect("a read succeeds");
    let now = now.expect("it was written");
    assert_eq!((&now.value[..], now.version), (&b"two"[..], 3));
    assert_eq!((now.create_revision, now.mod_revision), (first, second + 1));
}

async fn ranges(client: &Client, machine: usize, prefix: &str) {
    let prefix = format!("{prefix}range/");
    let first = put(client, machine, &format!("{prefix}a"), "3").await;
    put(client, machine, &format!("{prefix}b"), "2").await;
    let last = put(client, machine, &format!("{prefix}c"), "1").await;
    let all = RangeRequest {
        key: prefix.clone().into(),
        range_end: format!("{}0", prefix.trim_end_matches('/')).into(),
        ..Default::default()
    };
    let read = async |request: RangeRequest| {
        client
            .range_on(machine, request)
            .await
            .expect("a read succeeds")
    };
    let values = |answer: &RangeResponse| -> Vec<Bytes> {
        answer.kvs.iter().map(|pair| pair.value.clone()).collect()
    };

    assert_eq!(values(&read(all.clone()).await), ["3", "2", "1"]);
    let limited = read(RangeRequest {
        limit: 2,
        ..all.clone()
    })
    .await;
    assert_eq!(
        (values(&limited), limited.more, limited.count),
        (vec!["3".into(), "2".into()], true, 3)
    );
    let counted = read(RangeRequest {
        count_only: true,
        ..all.clone()
    })
    .await;
    assert_eq!((counted.kvs.len(), counted.count), (0, 3));
    let keys = read(RangeRequest {
        keys_only: true,
        ..all.clone()
    })
    .await;
    assert!(keys.kvs.iter().all(|pair| pair.value.is_empty()));
    let sorted = read(RangeRequest {
        sort_target: SortTarget::Value.into(),
        sort_order: SortOrder::Ascend.into(),
        limit: 2,
        ..all.clone()
    });
    assert_eq!(values(&sorted.await), ["1", "2"]);
    let old = read(RangeRequest {
        revision: first,
        ..all.clone()
    })
    .await;
    assert_eq!(values(&old), ["3"]);
    let new = read(RangeRequest {
        min_mod_revision: last,
        ..all.clone()
    })
    .await;
    assert_eq!(values(&new), ["1"]);
    let created = read(RangeRequest {
        max_create_revision: first,
        ..all.clone()
    })
    .await;
    assert_eq!(values(&created), ["3"]);
}

async fn transactions(client: &Client, machine: usize, prefix: &str) {
    let key = Bytes::from(format!("{prefix}transaction"));
    let absent = Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Version.into(),
        key: key.clone(),
        target_union: Some(TargetUnion::Version(0)),
        ..Default::default()
    };
    let write = operation(Operation::RequestPut(PutRequest {
        key: key.clone(),
        value: "written".into(),
        ..Default::default()
    }));
    let read = operation(Operation::RequestRange(RangeRequest {
        key: key.clone(),
        ..Default::default()
    }));
    let inner = operation(Operation::RequestTxn(TxnRequest {
        success: vec![read.clone()],
        ..Default::default()
    }));
    let request = TxnRequest {
        compare: vec![absent],
        success: vec![write, inner],
        failure: vec![read],
    };
    let first = client
        .kv(machine)
        .txn(request.clone())
        .await
        .expect("a transaction succeeds");
    let first = first.into_inner();
    assert!(first.succeeded);
    let Some(Response::ResponseTxn(inner)) = &first.responses[1].response else {
        panic!("a transaction inside is answered as one: {first:?}")
    };
    let Some(Response::ResponseRange(seen)) = &inner.responses[0].response else {
        panic!("a read inside is answered as one: {first:?}")
    };
    assert_eq!(
        &seen.kvs[0].value[..],
        b"written",
        "it sees the write before it"
    );

    let second = client
        .kv(machine)
        .txn(request)
        .await
        .expect("a transaction succeeds");
    assert!(!second.into_inner().succeeded, "the key is there now");
}

async fn deletes(client: &Client, machine: usize, prefix: &str) {
    let key = format!("{prefix}put");
    let request = DeleteRangeRequest {
        key: key.clone().into(),
        prev_kv: true,
        ..Default::default()
    };
    let mut kv = client.kv(machine);
    let first = kv
        .delete_range(request.clone())
        .await
        .expect("a delete succeeds")
        .into_inner();
    assert_eq!(
        (first.deleted, &first.prev_kvs[0].value[..]),
        (1, &b"two"[..])
    );
    let second = kv
        .delete_range(request)
        .await
        .expect("a delete succeeds")
        .into_inner();
    assert_eq!(second.deleted, 0);
    let revision =
        |header: Option<rm_proto::etcdserverpb::ResponseHeader>| header.map(|h| h.revision);
    assert_eq!(
        revision(second.header),
        revision(first.header),
        "nothing was changed"
    );
    assert_eq!(
        client
            .get_on(machine, key, true)
            .await
            .expect("a read succeeds"),
        None
    );
}

async fn members(client: &Client, machine: usize) {
    let request = MemberListRequest { linearizable: true };
    let list = client
        .cluster(machine)
        .member_list(request)
        .await
        .expect("a list is answered");
    let mut names: Vec<String> = list
        .into_inner()
        .members
        .into_iter()
        .map(|m| m.name)
        .collect();
    // They are listed by their ids.
    names.sort();
    assert_eq!(names, ["RM.01", "RM.02", "RM.03"]);
}

/// Writes, and gives back the revision.
async fn put(client: &Client, machine: usize, key: &str, value: &'static str) -> i64 {
    let answer = client
        .put_on(machine, key.to_owned(), value)
        .await
        .expect("a write succeeds");
    answer.header.expect("every answer has a header").revision
}
