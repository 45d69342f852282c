//! What clients are told of changes and have yet to take: it counts until it has left the machine.

use prost::Message;
use rm_proto::etcdserverpb::WatchRequest;
use rm_proto::etcdserverpb::watch_request::RequestUnion;
use rm_tests::curl::get;
use rm_tests::prometheus::Page;
use rm_tests::raw::Raw;
use rm_tests::unread::{post, read_line, until_there};
use rm_tests::watching::{Watching, everything, from};
use rm_tests::{Cluster, Settings, until};

const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// How many streams take nothing.
const DEAF: usize = 8;

fn metric(cluster: &Cluster, name: &str) -> usize {
    let url = format!("http://{}/metrics", cluster.machines[0].client);
    let page = Page::parse(&get(&url).body).unwrap_or_else(|error| panic!("{error}"));
    page.value(name, &[]) as usize
}

fn waits(cluster: &Cluster) -> usize {
    metric(cluster, "raft_machine_watch_backlog_bytes")
}

async fn until_nothing_waits(cluster: &Cluster) {
    until("nothing waits", async || match waits(cluster) {
        0 => Ok(()),
        bytes => Err(bytes.to_string()),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_watcher_is_told_counts_until_it_is_taken() {
    // A small one is gathered with others, and a large one is handed over at once, where the client lets come that its watcher is there.
    for (window, value_bytes) in [(1, 1_000), (1_000, 1 << 20)] {
        let cluster = Cluster::start(Settings::solo()).await;
        let client = cluster.client();
        let put = client.put("key", vec![b'v'; value_bytes]).await;
        let revision = put.header.expect("every answer has one").revision;
        let deaf = Raw::connect_deaf(cluster.machines[0].client, window).await;
        let request = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(from(revision, everything()))),
        };
        let mut calls = Vec::new();
        for _ in 0..DEAF {
            calls.push(deaf.open(WATCH, &[], &request.encode_to_vec()).await);
        }
        until("each stream has taken its event", async || {
            let told = metric(&cluster, "etcd_debugging_mvcc_events_total");
            (told == DEAF).then_some(()).ok_or(told.to_string())
        })
        .await;
        let bytes = waits(&cluster);
        assert!(bytes > DEAF * value_bytes, "{bytes} of {value_bytes} each");
        drop((calls, deaf));
        until_nothing_waits(&cluster).await;
        let mut watching = Watching::open(&client, 0).await.expect("it runs");
        watching.create(from(revision, everything())).await;
        assert!(watching.told().await.created);
        assert_eq!(watching.events(1).await.len(), 1);
        // While it waits for the next.
        until_nothing_waits(&cluster).await;
    }
}

/// HTTP/1 copies what it sends, so that nothing is known of the bytes themselves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_watcher_by_http_1_is_told_counts_until_it_is_taken() {
    // More than the kernel has room for.
    const VALUE_BYTES: usize = 7 << 20;
    // More than the head of the answer, and that there is a watcher.
    const BEGUN_BYTES: usize = 4_096;
    let settings = Settings::solo().with("limits.request_bytes_max", 8 << 20);
    let cluster = Cluster::start(settings).await;
    let client = cluster.client();
    client.put("a", vec![b'v'; VALUE_BYTES]).await;
    let watch = r#"{"create_request":{"key":"YQ==","start_revision":"1"}}"#;
    let mut stream = post(cluster.machines[0].client, "/v3/watch", watch);
    until_there(&stream, BEGUN_BYTES).await;
    let bytes = waits(&cluster);
    assert!(bytes > VALUE_BYTES, "it is no more: {bytes}");
    while read_line(&mut stream).len() < VALUE_BYTES {}
    // While it waits for the next.
    until_nothing_waits(&cluster).await;
}
