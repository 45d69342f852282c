//! The manners of gRPC, and what a call may take: compared with the real etcd where it has them.

use std::net::SocketAddr;
use std::time::Duration;

use prost::Message;
use rm_proto::etcdserverpb::request_op::Request;
use rm_proto::etcdserverpb::{
    AlarmRequest, AuthUserListRequest, CompactionRequest, DeleteRangeRequest, LeaseGrantRequest,
    LeaseKeepAliveRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest, MemberListRequest,
    RangeRequest, SnapshotRequest, TxnRequest,
};
use rm_proto::v3electionpb::{CampaignRequest, LeaderRequest};
use rm_proto::v3lockpb::LockRequest;
use rm_tests::asks::{put, range, watch};
use rm_tests::client::operation;
use rm_tests::raw::{Call, Raw};
use rm_tests::{Cluster, LoneEtcd, Settings, until};
use tokio::net::TcpStream;
use tonic::{Code, Status};

/// What a call is told that waits for longer than it wants to.
const PASSED: (Code, &str) = (Code::DeadlineExceeded, "context deadline exceeded");

/// What a call is told for which there is no place.
const TOO_MANY: (Code, &str) = (Code::ResourceExhausted, "etcdserver: too many requests");

/// Machines that give up no request as long as a test lasts.
fn patient(settings: Settings) -> Settings {
    settings.with("timings.request_timeout_ms", 600_000)
}

/// A machine without a quorum that has seen so, and its cluster: what was under way before that would be given up by itself.
async fn left_alone(settings: Settings) -> (Cluster, SocketAddr) {
    let mut cluster = Cluster::start(settings).await;
    let client = cluster.client();
    // Before it has once heard whether permissions are asked for, a machine keeps all calls waiting.
    client.get(0, "key").await;
    for machine in [1, 2] {
        cluster.machines[machine].kill();
    }
    until("there is no leader", async || {
        let leader = client.info_until(0).await.leader;
        (leader == 0).then_some(()).ok_or(leader.to_string())
    })
    .await;
    let address = cluster.machines[0].client;
    (cluster, address)
}

/// Calls that nobody answers without a quorum, one at least of each service that has some.
fn unanswered() -> Vec<(&'static str, Vec<u8>)> {
    let txn = TxnRequest {
        success: vec![operation(Request::RequestPut(put()))],
        ..Default::default()
    };
    let delete = DeleteRangeRequest {
        key: "key".into(),
        ..Default::default()
    };
    let grant = LeaseGrantRequest { ttl: 60, id: 0 };
    let look = LeaseTimeToLiveRequest { id: 1, keys: false };
    let list = MemberListRequest { linearizable: true };
    let lock = LockRequest {
        name: "lock".into(),
        lease: 1,
    };
    let campaign = CampaignRequest {
        name: "vote".into(),
        lease: 1,
        value: "value".into(),
    };
    vec![
        ("/etcdserverpb.KV/Put", put().encode_to_vec()),
        ("/etcdserverpb.KV/Range", range().encode_to_vec()),
        ("/etcdserverpb.KV/DeleteRange", delete.encode_to_vec()),
        ("/etcdserverpb.KV/Txn", txn.encode_to_vec()),
        (
            "/etcdserverpb.KV/Compact",
            CompactionRequest::default().encode_to_vec(),
        ),
        ("/etcdserverpb.Lease/LeaseGrant", grant.encode_to_vec()),
        (
            "/etcdserverpb.Lease/LeaseRevoke",
            LeaseRevokeRequest { id: 1 }.encode_to_vec(),
        ),
        ("/etcdserverpb.Lease/LeaseTimeToLive", look.encode_to_vec()),
        (
            "/etcdserverpb.Auth/UserList",
            AuthUserListRequest {}.encode_to_vec(),
        ),
        ("/etcdserverpb.Cluster/MemberList", list.encode_to_vec()),
        (
            "/etcdserverpb.Maintenance/Alarm",
            AlarmRequest::default().encode_to_vec(),
        ),
        ("/v3lockpb.Lock/Lock", lock.encode_to_vec()),
        ("/v3electionpb.Election/Campaign", campaign.encode_to_vec()),
        ("/v3electionpb.Election/Leader", leader().encode_to_vec()),
    ]
}

/// Streams that go on until somebody ends them.
fn streams() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("/etcdserverpb.Watch/Watch", watch().encode_to_vec()),
        (
            "/etcdserverpb.Lease/LeaseKeepAlive",
            LeaseKeepAliveRequest { id: 1 }.encode_to_vec(),
        ),
        ("/v3electionpb.Election/Observe", leader().encode_to_vec()),
        ("/grpc.health.v1.Health/Watch", Vec::new()),
    ]
}

/// Calls a method, and leaves the call open to more requests where it takes them.
async fn begin(raw: &Raw, path: &str, headers: &[(&str, &str)], message: &[u8]) -> Call {
    match path {
        "/etcdserverpb.Watch/Watch" | "/etcdserverpb.Lease/LeaseKeepAlive" => {
            raw.open(path, headers, message).await
        }
        _ => raw.call(path, headers, message).await,
    }
}

fn leader() -> LeaderRequest {
    LeaderRequest {
        name: "vote".into(),
    }
}

fn told(status: &Status) -> (Code, &str) {
    (status.code(), status.message())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_ends_at_its_deadline() {
    let (_cluster, address) = left_alone(patient(Settings::trio())).await;
    let raw = Raw::connect(address).await;
    let soon = [("grpc-timeout", "400m")];
    let mut calls: Vec<(&str, Call)> = Vec::new();
    for (path, message) in unanswered().into_iter().chain(streams()) {
        calls.push((path, begin(&raw, path, &soon, &message).await));
    }
    for (path, call) in calls {
        assert_eq!(told(&call.end().await), PASSED, "{path}");
    }
    let range = RangeRequest {
        serializable: true,
        ..range()
    };
    let wrong = [("grpc-timeout", "soon")];
    let refused = raw
        .call("/etcdserverpb.KV/Range", &wrong, &range.encode_to_vec())
        .await;
    let refused = refused.end().await;
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert!(refused.message().contains("grpc-timeout"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_frees_what_a_client_holds_that_takes_nothing() {
    let settings = Settings::solo().with("limits.snapshot_clients_max", 1);
    let cluster = Cluster::start(settings).await;
    let client = cluster.client();
    for number in 0..32 {
        client
            .put(format!("large/{number}"), vec![7; 1 << 20])
            .await;
    }
    let path = "/etcdserverpb.Maintenance/Snapshot";
    let address = cluster.machines[0].client;
    let snapshot = SnapshotRequest {}.encode_to_vec();
    let mut idle = Raw::connect(address).await;
    let untaken = idle.call(path, &[("grpc-timeout", "1S")], &snapshot).await;
    // What comes behind it has found it there.
    idle.ping().await.expect("it answers");
    until("there is room for another", async || {
        let other = Raw::connect(address).await;
        let mut snapshot = other.call(path, &[], &snapshot).await;
        snapshot
            .message()
            .await
            .map_err(|status| status.to_string())
    })
    .await;
    assert_eq!(told(&untaken.end().await), PASSED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_dropped_or_whose_time_is_over_frees_its_place() {
    let settings = patient(Settings::trio()).with("limits.requests_max", 6);
    let (_cluster, address) = left_alone(settings).await;
    let raw = Raw::connect(address).await;
    let (put, range) = (put().encode_to_vec(), range().encode_to_vec());
    let ask = async |time: &str| {
        let headers = [("grpc-timeout", time)];
        let call = raw.call("/etcdserverpb.KV/Put", &headers, &put).await;
        call.end().await
    };
    for round in ["dropped", "over"] {
        let headers: &[(&str, &str)] = match round {
            "dropped" => &[],
            _ => &[("grpc-timeout", "3S")],
        };
        let mut held = Vec::new();
        until("all places are taken", async || {
            held.push(raw.call("/etcdserverpb.KV/Put", headers, &put).await);
            held.push(raw.call("/etcdserverpb.KV/Range", headers, &range).await);
            let status = ask("200m").await;
            let is_full = told(&status) == TOO_MANY;
            is_full.then_some(()).ok_or(status.to_string())
        })
        .await;
        if round == "dropped" {
            held.clear();
        }
        until("there are places again", async || {
            let status = ask("200m").await;
            let is_admitted = told(&status) == PASSED;
            is_admitted.then_some(()).ok_or(status.to_string())
        })
        .await;
    }
}

/// The calls of etcd's services, but for those that 3.4 does not have.
const CALLS: [(&str, &str); 8] = [
    ("etcdserverpb.KV", "Range Put DeleteRange Txn Compact"),
    ("etcdserverpb.Watch", "Watch"),
    (
        "etcdserverpb.Lease",
        "LeaseGrant LeaseRevoke LeaseKeepAlive LeaseTimeToLive LeaseLeases",
    ),
    (
        "etcdserverpb.Cluster",
        "MemberAdd MemberRemove MemberUpdate MemberList MemberPromote",
    ),
    (
        "etcdserverpb.Maintenance",
        "Alarm Status Defragment Hash HashKV Snapshot MoveLeader",
    ),
    (
        "etcdserverpb.Auth",
        "AuthEnable AuthDisable Authenticate UserAdd UserGet UserList UserDelete UserChangePassword UserGrantRole \
         UserRevokeRole RoleAdd RoleGet RoleList RoleDelete RoleGrantPermission RoleRevokePermission",
    ),
    ("v3lockpb.Lock", "Lock Unlock"),
    (
        "v3electionpb.Election",
        "Campaign Proclaim Leader Observe Resign",
    ),
];

/// Of etcd, and of us.
async fn both() -> (LoneEtcd, Cluster, [SocketAddr; 2]) {
    let etcd = LoneEtcd::start().await;
    let cluster = Cluster::start(Settings::solo()).await;
    let theirs = etcd.endpoint().parse().expect("it is an address");
    let addresses = [theirs, cluster.machines[0].client];
    (etcd, cluster, addresses)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_too_large_is_refused_by_every_call_as_in_etcd() {
    let (_etcd, _cluster, addresses) = both().await;
    // A field that no message has, so that only the size is wrong.
    let mut padded = Vec::new();
    prost::encoding::bytes::encode(100, &vec![0; 2_200_000], &mut padded);
    let bytes = padded.len();
    let text = format!("grpc: received message larger than max ({bytes} vs. 2097152)");
    for (service, methods) in CALLS {
        for method in methods.split_whitespace() {
            let path = format!("/{service}/{method}");
            for address in addresses {
                let raw = Raw::connect(address).await;
                let refused = raw.open(&path, &[], &padded).await.end().await;
                let expected = (Code::ResourceExhausted, text.as_str());
                assert_eq!(told(&refused), expected, "{path} of {address}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_too_large_for_the_log_is_refused_as_in_etcd() {
    let (_etcd, _cluster, addresses) = both().await;
    let field = |number: u32, inner: &[u8]| {
        let mut message = Vec::new();
        prost::encoding::bytes::encode(number, &inner.to_vec(), &mut message);
        message
    };
    let large = vec![b'x'; 1_600_000];
    let first = || field(1, &large);
    let second = || [field(1, b"name"), field(2, &large)].concat();
    let requests = [
        ("/etcdserverpb.KV/Put", second()),
        ("/etcdserverpb.KV/DeleteRange", first()),
        ("/etcdserverpb.KV/Txn", field(2, &field(2, &second()))),
        ("/etcdserverpb.Auth/UserAdd", first()),
        ("/etcdserverpb.Auth/UserGet", first()),
        ("/etcdserverpb.Auth/UserDelete", first()),
        ("/etcdserverpb.Auth/UserChangePassword", second()),
        ("/etcdserverpb.Auth/UserGrantRole", first()),
        ("/etcdserverpb.Auth/UserRevokeRole", first()),
        ("/etcdserverpb.Auth/RoleAdd", first()),
        ("/etcdserverpb.Auth/RoleGet", first()),
        ("/etcdserverpb.Auth/RoleDelete", first()),
        (
            "/etcdserverpb.Auth/RoleGrantPermission",
            field(2, &field(2, &large)),
        ),
        ("/etcdserverpb.Auth/RoleRevokePermission", second()),
        ("/v3lockpb.Lock/Lock", first()),
        ("/v3lockpb.Lock/Unlock", first()),
        ("/v3electionpb.Election/Campaign", field(3, &large)),
    ];
    for (path, request) in requests {
        for address in addresses {
            let raw = Raw::connect(address).await;
            let refused = raw.call(path, &[], &request).await.end().await;
            let text = "etcdserver: request is too large";
            assert_eq!(refused.message(), text, "{path} of {address}");
            // These have one code for all refusals in etcd.
            let is_ours = address == addresses[1];
            let code = match path.starts_with("/v3") && !is_ours {
                true => Code::Unknown,
                false => Code::InvalidArgument,
            };
            assert_eq!(refused.code(), code, "{path} of {address}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_wants_a_leader_is_told_at_once_that_there_is_none() {
    let (_cluster, address) = left_alone(patient(Settings::trio())).await;
    let raw = Raw::connect(address).await;
    let headers = [("hasleader", "true")];
    let no_leader = (Code::Unavailable, "etcdserver: no leader");
    for (path, message) in unanswered().into_iter().chain(streams()) {
        let call = begin(&raw, path, &headers, &message).await;
        assert_eq!(told(&call.end().await), no_leader, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_wants_a_leader_ends_when_there_is_none_any_more() {
    let mut cluster = Cluster::start(Settings::trio().with_timings_of_an_operator()).await;
    let client = cluster.client();
    client.put("vote/1", "value").await;
    let raw = Raw::connect(cluster.machines[0].client).await;
    let mut opened = Vec::new();
    for (path, message) in streams() {
        if !path.contains("health") {
            let mut call = begin(&raw, path, &[("hasleader", "true")], &message).await;
            let first = call.message().await;
            first.unwrap_or_else(|status| panic!("{path}: {status}"));
            opened.push((path, call));
        }
    }
    for machine in [1, 2] {
        cluster.machines[machine].kill();
    }
    for (path, call) in opened {
        let no_leader = (Code::Unavailable, "etcdserver: no leader");
        assert_eq!(told(&call.end().await), no_leader, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_wants_a_leader_does_not_wait_for_its_first_look() {
    let settings = patient(Settings::trio().with_timings_of_an_operator());
    let cluster = Cluster::start(settings).await;
    until("a leader is asked while it leads", async || {
        first_look(&cluster).await
    })
    .await;
}

/// Asks a leader that nobody confirms. The error says what it was when it was asked, if it led no more.
async fn first_look(cluster: &Cluster) -> Result<(), String> {
    let leads = cluster.leader().await;
    let client = cluster.client();
    client.get(leads, "key").await;
    let mut raw = Raw::connect(cluster.machines[leads].client).await;
    let machines = cluster.machines.iter().enumerate();
    let others: Vec<_> = machines.filter(|(place, _)| *place != leads).collect();
    for (_, machine) in &others {
        machine.pause();
    }
    let headers = [("hasleader", "true")];
    let path = "/v3electionpb.Election/Observe";
    let call = raw.call(path, &headers, &leader().encode_to_vec()).await;
    // What comes behind it has found it there.
    raw.ping().await.expect("it answers");
    let role = client.info_until(leads).await.role;
    if role != "leader" {
        for (_, machine) in &others {
            machine.resume();
        }
        return Err(role);
    }
    let no_leader = (Code::Unavailable, "etcdserver: no leader");
    assert_eq!(told(&call.end().await), no_leader);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_stops_answers_what_is_under_way() {
    let (mut cluster, address) = left_alone(patient(Settings::trio())).await;
    let mut raw = Raw::connect(address).await;
    let mut calls = Vec::new();
    for (path, message) in unanswered().into_iter().chain(streams()) {
        calls.push((path, begin(&raw, path, &[], &message).await));
    }
    // What comes behind them has found them there.
    raw.ping().await.expect("it answers");
    let machine = &mut cluster.machines[0];
    let told = async {
        for (path, call) in calls {
            let stopped = match path.contains("health") {
                // It says that nobody is served any more, and has no more to say.
                true => (Code::Ok, ""),
                false => (Code::Unavailable, "etcdserver: server stopped"),
            };
            assert_eq!(told(&call.end().await), stopped, "{path}");
        }
    };
    let (ended, ()) = tokio::join!(machine.terminate(), told);
    assert!(ended.success(), "{ended}");
    assert!(!machine.log().contains("cut off"), "{}", machine.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_stops_lets_nobody_in_while_others_take_what_they_are_told() {
    let settings = Settings::solo().with("timings.shutdown_timeout_ms", 600_000);
    let mut cluster = Cluster::start(settings).await;
    let client = cluster.client();
    for number in 0..32 {
        client
            .put(format!("large/{number}"), vec![7; 1 << 20])
            .await;
    }
    let address = cluster.machines[0].client;
    let raw = Raw::connect(address).await;
    let path = "/etcdserverpb.Maintenance/Snapshot";
    let mut slow = raw.call(path, &[], &[]).await;
    slow.message().await.expect("it begins");
    let told = async {
        until("nobody is let in", async || {
            let connected = TcpStream::connect(address).await;
            connected.map_or(Ok(()), |_| Err("somebody is".to_owned()))
        })
        .await;
        let stopped = (Code::Unavailable, "etcdserver: server stopped");
        assert_eq!(told(&slow.end().await), stopped);
    };
    let (ended, ()) = tokio::join!(cluster.machines[0].terminate(), told);
    assert!(ended.success(), "{ended}");
}

/// Pings, one behind the answer to the other, until the connection ends for that: without a call, or with one that waits. A ping that
/// meets the end on its way may keep the client from hearing why: then again.
async fn ping_until_sent_away(address: SocketAddr, waits: bool) {
    let watch = watch().encode_to_vec();
    until("it is told why it is sent away", async || {
        let mut raw = Raw::connect(address).await;
        let _watching = match waits {
            true => {
                let path = "/etcdserverpb.Watch/Watch";
                let mut watching = begin(&raw, path, &[], &watch).await;
                watching.message().await.expect("it is created");
                Some(watching)
            }
            false => None,
        };
        for _ in 0..100 {
            if raw.ping().await.is_err() {
                break;
            }
        }
        let told = raw.ended().await.map_err(|error| error.to_string());
        match told {
            // So h2 words the code for it, and after it what it was told.
            Err(told) if told.contains("excessive load") && told.contains("too_many_pings") => {
                Ok(())
            }
            told => Err(format!("{told:?} by {address}")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_pings_too_often_is_sent_away_as_by_etcd() {
    let (_etcd, cluster, addresses) = both().await;
    for address in addresses {
        ping_until_sent_away(address, false).await;
        ping_until_sent_away(address, true).await;
        // Each ping follows an answer.
        let mut raw = Raw::connect(address).await;
        for _ in 0..20 {
            let range = range().encode_to_vec();
            let call = raw.call("/etcdserverpb.KV/Range", &[], &range).await;
            assert_eq!(call.end().await.code(), Code::Ok, "{address}");
            raw.ping().await.expect("it may stay");
        }
    }
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_often_a_client_may_ping_is_in_the_config() {
    let settings = Settings::solo().with("clients.keepalive_min_seconds", 1);
    let cluster = Cluster::start(settings).await;
    let mut raw = Raw::connect(cluster.machines[0].client).await;
    for _ in 0..6 {
        raw.ping().await.expect("it may stay");
        // Not to wait for anything, but to be as slow as the config asks for.
        tokio::time::sleep(Duration::from_millis(1_001)).await;
    }
    ping_until_sent_away(cluster.machines[0].client, false).await;
    drop(cluster);
    let settings = Settings::solo().with("clients.keepalive_min_seconds", 0);
    let cluster = Cluster::start(settings).await;
    let mut raw = Raw::connect(cluster.machines[0].client).await;
    for _ in 0..100 {
        raw.ping().await.expect("it may stay");
    }
}
