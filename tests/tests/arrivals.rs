//! Requests of which only a part ever comes: all clients together hold no more by them than the config says, and hold up nobody.

use std::net::SocketAddr;

use rm_tests::curl::get;
use rm_tests::prometheus::Page;
use rm_tests::raw::Raw;
use rm_tests::{Cluster, Settings, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;

/// The largest request.
const REQUEST_BYTES: usize = 256 << 10;

/// How many of them there is room for.
const ROOM: usize = 8;

/// How many come at a time.
const REQUESTS: usize = 32;

async fn start() -> Cluster {
    let settings = Settings::solo()
        .with("limits.request_bytes_max", REQUEST_BYTES)
        .with("limits.requests_bytes_max", ROOM * REQUEST_BYTES);
    let cluster = Cluster::start(settings).await;
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
