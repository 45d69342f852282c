//! Requests of which only a part ever comes, and those that are whole and wait: all clients together hold no more by them than the config
//! says, and hold up nobody.

use std::net::SocketAddr;

use prost::Message;
use rm_proto::etcdserverpb as pb;
use rm_proto::v3electionpb::CampaignRequest;
use rm_proto::v3lockpb::LockRequest;
use rm_tests::curl::get;
use rm_tests::prometheus::Page;
use rm_tests::raw::Raw;
use rm_tests::{Cluster, Settings, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// The largest request.
const REQUEST_BYTES: usize = 256 << 10;

/// How many of them there is room for.
const ROOM: usize = 8;

/// How many come at a time.
const REQUESTS: usize = 32;

/// How many bytes the key, the value or the name has that makes a message large.
const LARGE_BYTES: usize = 255_000;

/// Longer than any test takes.
const LONG_MS: u64 = 600_000;

fn with_little_room(settings: Settings) -> Settings {
    settings
        .with("limits.request_bytes_max", REQUEST_BYTES)
        .with("limits.requests_bytes_max", ROOM * REQUEST_BYTES)
}

async fn start() -> Cluster {
    let cluster = Cluster::start(with_little_room(Settings::solo())).await;
    cluster.client().put("key", "value").await;
    cluster
}

/// How many bytes of requests are held that are not whole, and how many of them were given up.
fn arriving(machine: SocketAddr) -> (usize, usize) {
    let answer = get(&format!("http://{machine}/metrics"));
    let page = Page::parse(&answer.body).unwrap_or_else(|error| panic!("{error}"));
    let value = |name: &str| page.value(name, &[]) as usize;
    (
        value("raft_machine_requests_arriving_bytes"),
        value("raft_machine_requests_given_up_total"),
    )
}

async fn until_arriving(machine: SocketAddr, expected: (usize, usize)) {
    until("all has come", async || {
        let arriving = arriving(machine);
        let is_expected = arriving == expected;
        is_expected.then_some(()).ok_or(format!("{arriving:?}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_grpc_that_never_become_whole_give_way_to_others() {
    let cluster = start().await;
    let address = cluster.machines[0].client;
    let raw = Raw::connect(address).await;
    let part = vec![0; REQUEST_BYTES - 1];
    let mut calls = Vec::new();
    for call in 0..REQUESTS {
        // A call with one message, and one with many.
        let path = match call % 2 {
            0 => "/etcdserverpb.Auth/Authenticate",
            _ => "/etcdserverpb.Watch/Watch",
        };
        calls.push(raw.call_in_part(path, REQUEST_BYTES, &part).await);
    }
    // The prefix of each counts, too, so that one less has room.
    let held = (ROOM - 1) * (REQUEST_BYTES - 1 + 5);
    until_arriving(address, (held, REQUESTS - (ROOM - 1))).await;
    // The others are there yet.
    let whole = vec![7; REQUEST_BYTES - 100];
    let put = cluster.client().put_on(0, "large", whole).await;
    put.expect("it is served");
    for call in calls.drain(..REQUESTS - ROOM) {
        let status = call.end().await;
        let told = (status.code(), status.message());
        let expected = (Code::ResourceExhausted, "etcdserver: too many requests");
        assert_eq!(told, expected);
    }
    drop(calls);
    until("nothing is held", async || {
        let (held, _) = arriving(address);
        (held == 0).then_some(()).ok_or(held.to_string())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_the_gateway_that_never_become_whole_give_way_to_others() {
    let cluster = start().await;
    let address = cluster.machines[0].client;
    let mut part = Vec::new();
    // A call with one document, and one with many.
    for path in ["/v3/auth/authenticate", "/v3/watch"] {
        part.push(
            [
                format!(
                    "POST {path} HTTP/1.1\r\nHost: machine\r\nContent-Length: {REQUEST_BYTES}\r\n\r\n{{"
                )
                .into_bytes(),
                vec![b' '; REQUEST_BYTES - 2],
            ]
            .concat(),
        );
    }
    let mut clients = Vec::new();
    for client in 0..REQUESTS {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        let sent = stream.write_all(&part[client % 2]).await;
        sent.expect("it is taken");
        clients.push(stream);
    }
    let held = ROOM * (REQUEST_BYTES - 1);
    until_arriving(address, (held, REQUESTS - ROOM)).await;
    let put = cluster.client().put_on(0, "key", "other").await;
    put.expect("it is served");
    let expected = b"HTTP/1.1 429 ";
    for mut stream in clients.drain(..REQUESTS - ROOM) {
        let mut told = vec![0; expected.len()];
        stream.read_exact(&mut told).await.expect("it is told");
        assert_eq!(told, expected);
    }
    drop(clients);
    until("nothing is held", async || {
        let (held, _) = arriving(address);
        (held == 0).then_some(()).ok_or(held.to_string())
    })
    .await;
}

/// How many bytes of requests are held that are whole.
fn waiting(machine: SocketAddr) -> usize {
    let answer = get(&format!("http://{machine}/metrics"));
    let page = Page::parse(&answer.body).unwrap_or_else(|error| panic!("{error}"));
    page.value("raft_machine_requests_waiting_bytes", &[]) as usize
}

async fn until_waiting(machine: SocketAddr, expected: usize) {
    until("so much waits", async || {
        let waiting = waiting(machine);
        let is_expected = waiting == expected;
        is_expected.then_some(()).ok_or(waiting.to_string())
    })
    .await;
}

/// A call with a large message, of each service that waits for a leader in its own way.
fn large_calls() -> [(&'static str, Vec<u8>); 6] {
    let large = || vec![b'k'; LARGE_BYTES];
    let range = pb::RangeRequest {
        key: large().into(),
        ..Default::default()
    };
    let compare = pb::Compare {
        key: large().into(),
        ..Default::default()
    };
    let txn = pb::TxnRequest {
        compare: vec![compare],
        ..Default::default()
    };
    let proof = pb::AuthenticateRequest {
        name: String::from_utf8(large()).expect("it is text"),
        ..Default::default()
    };
    let lock = LockRequest {
        name: large().into(),
        ..Default::default()
    };
    let campaign = CampaignRequest {
        name: "name".into(),
        value: large().into(),
        ..Default::default()
    };
    let watcher = pb::WatchCreateRequest {
        key: large().into(),
        ..Default::default()
    };
    let watch = pb::WatchRequest {
        request_union: Some(pb::watch_request::RequestUnion::CreateRequest(watcher)),
    };
    [
        ("/etcdserverpb.KV/Range", range.encode_to_vec()),
        ("/etcdserverpb.KV/Txn", txn.encode_to_vec()),
        ("/etcdserverpb.Auth/Authenticate", proof.encode_to_vec()),
        ("/v3lockpb.Lock/Lock", lock.encode_to_vec()),
        ("/v3electionpb.Election/Campaign", campaign.encode_to_vec()),
        ("/etcdserverpb.Watch/Watch", watch.encode_to_vec()),
    ]
}

/// The same as the first of them, by the gateway.
fn range_in_json() -> Vec<u8> {
    // Three bytes of the key in four.
    let key = "a2tr".repeat(LARGE_BYTES / 3);
    let document = format!(r#"{{"key":"{key}"}}"#);
    let length = document.len();
    format!(
        "POST /v3/kv/range HTTP/1.1\r\nHost: machine\r\nContent-Length: {length}\r\n\r\n{document}"
    )
    .into_bytes()
}

/// What a message takes, with what stands before it.
fn framed(message: &[u8]) -> usize {
    message.len() + 5
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_wait_for_a_leader_hold_no_more_than_they_may_and_keep_no_small_ones_out() {
    let settings = with_little_room(Settings::trio()).with("timings.request_timeout_ms", LONG_MS);
    let mut cluster = Cluster::prepare(settings).await;
    // It never has a leader, and does not know yet whether permissions are asked for.
    cluster.machines[0].start();
    let address = cluster.machines[0].client;
    until("it serves", async || {
        let connected = TcpStream::connect(address).await;
        connected.map(drop).map_err(|error| error.to_string())
    })
    .await;
    let raw = Raw::connect(address).await;
    let (mut calls, mut held) = (Vec::new(), 0);
    // Its document is done with when it is a message.
    let message = &large_calls()[0].1;
    let mut browsers = Vec::new();
    for _ in 0..2 {
        let mut browser = TcpStream::connect(address).await.expect("it listens");
        let sent = browser.write_all(&range_in_json()).await;
        sent.expect("it is taken");
        browsers.push(browser);
        held += framed(message);
        until_waiting(address, held).await;
    }
    for (path, message) in large_calls() {
        held += framed(&message);
        calls.push(raw.call(path, &[], &message).await);
        until_waiting(address, held).await;
    }
    let room = ROOM * REQUEST_BYTES - held;
    assert!(room < LARGE_BYTES, "there is room for one more: {room}");
    for (path, message) in large_calls() {
        let status = raw.call(path, &[], &message).await.end().await;
        let told = (status.code(), status.message());
        let expected = (Code::ResourceExhausted, "etcdserver: too many requests");
        assert_eq!(told, expected, "{path}");
    }
    let status = cluster.client().status(0).await;
    status.expect("it tells how it is");
    assert_eq!(waiting(address), held);
    drop((calls, browsers));
    until_waiting(address, 0).await;
}

/// A place in line is taken, and left, though its client is gone: what that takes counts as long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_counts_as_long_as_somebody_goes_on_for_it() {
    let settings = with_little_room(Settings::trio()).with("timings.request_timeout_ms", LONG_MS);
    let mut cluster = Cluster::start(settings).await;
    cluster.client().put("key", "value").await;
    cluster.converged().await;
    for machine in &mut cluster.machines[1..] {
        machine.kill();
    }
    let address = cluster.machines[0].client;
    let client = cluster.client();
    until("it knows of no leader", async || {
        let leader = client.status(0).await.map(|status| status.leader);
        let is_none = leader.as_ref().is_ok_and(|leader| *leader == 0);
        is_none.then_some(()).ok_or(format!("{leader:?}"))
    })
    .await;
    let raw = Raw::connect(address).await;
    let [range, _, _, lock, campaign, _] = large_calls();
    let mut calls = Vec::new();
    for (path, message) in [&range, &lock, &campaign] {
        calls.push(raw.call(path, &[], message).await);
    }
    let held_by_places = framed(&lock.1) + framed(&campaign.1);
    until_waiting(address, held_by_places + framed(&range.1)).await;
    // The range is cancelled last.
    while calls.pop().is_some() {}
    until_waiting(address, held_by_places).await;
    for machine in &mut cluster.machines[1..] {
        machine.start();
    }
    until_waiting(address, 0).await;
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_watches_the_health_holds_nothing_of_what_it_sent() {
    let cluster = start().await;
    let address = cluster.machines[0].client;
    let raw = Raw::connect(address).await;
    let watch = HealthCheckRequest {
        service: "s".repeat(60_000),
    };
    let watch = watch.encode_to_vec();
    let mut calls = Vec::new();
    for _ in 0..REQUESTS {
        let mut call = raw.call("/grpc.health.v1.Health/Watch", &[], &watch).await;
        let told = call.message().await.expect("it is told");
        let told = HealthCheckResponse::decode(told).expect("it is a status");
        assert_eq!(told.status(), ServingStatus::ServiceUnknown);
        calls.push(call);
    }
    assert_eq!(waiting(address), 0);
    assert_eq!(arriving(address), (0, 0));
}
