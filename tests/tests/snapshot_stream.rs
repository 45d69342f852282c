//! Snapshots that clients take from a machine that serves: what is in them, and that a client which takes its time costs nobody else.

use std::fs;

use ring::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use rm_proto::etcdserverpb::{SnapshotRequest, SnapshotResponse};
use rm_tests::etcd::{etcdctl, text};
use rm_tests::{Client, Cluster, Settings, Writers, until};
use tonic::{Code, Status, Streaming};

/// The size of each value of a state that no connection's windows hold, and how many of them.
const VALUE_BYTES: usize = 1 << 20;
const VALUES: usize = 32;

/// A page of LMDB.
const PAGE_BYTES: usize = 4096;

async fn begin(client: &Client) -> Result<Streaming<SnapshotResponse>, Status> {
    let answer = client.maintenance(0).snapshot(SnapshotRequest {}).await;
    answer.map(tonic::Response::into_inner)
}

/// Takes what is left of a snapshot.
async fn rest(stream: &mut Streaming<SnapshotResponse>) -> Result<Vec<SnapshotResponse>, Status> {
    let mut pieces = Vec::new();
    while let Some(piece) = stream.message().await? {
        pieces.push(piece);
    }
    Ok(pieces)
}

async fn write_values(client: &Client) {
    for number in 0..VALUES {
        let value = vec![number as u8; VALUE_BYTES];
        client.put(format!("large/{number:03}"), value).await;
    }
}

/// Checks that a file is pages of a state with their digest behind them.
fn assert_whole(file: &[u8]) {
    let (state, told) = file.split_at(file.len() - SHA256_OUTPUT_LEN);
    assert_eq!(state.len() % PAGE_BYTES, 0, "it is made of pages");
    assert_eq!(digest(&SHA256, state).as_ref(), told);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_piece_tells_what_is_still_to_come_and_the_last_is_the_digest_of_all() {
    let cluster = Cluster::start(Settings::solo()).await;
    let client = cluster.client();
    write_values(&client).await;
    let writers = Writers::start(&client, 2);
    writers.progress(20).await;
    let mut stream = begin(&client).await.expect("it begins");
    let pieces = rest(&mut stream).await.expect("it comes to its end");
    writers.progress(20).await;
    writers.finish().await;
    let (last, state) = pieces.split_last().expect("there are pieces");
    let all: usize = state.iter().map(|piece| piece.blob.len()).sum();
    assert!(all > VALUES * VALUE_BYTES, "{all} bytes");
    let mut come = 0;
    for piece in state {
        come += piece.blob.len();
        assert_eq!(piece.remaining_bytes, (all - come) as u64);
        assert!(!piece.version.is_empty());
    }
    assert_eq!(
        (last.blob.len(), last.remaining_bytes),
        (SHA256_OUTPUT_LEN, 0)
    );
    let file: Vec<u8> = pieces
        .iter()
        .flat_map(|piece| piece.blob.to_vec())
        .collect();
    assert_whole(&file);
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcdctl_saves_a_snapshot_and_reads_no_status_from_it() {
    let cluster = Cluster::start(Settings::solo()).await;
    let client = cluster.client();
    client.put("key", "value").await;
    let path = cluster.folder().join("saved.db");
    let path = path.to_str().expect("a path of text");
    let saved = etcdctl(
        &cluster.endpoints(),
        "simple",
        &["snapshot", "save", path],
        "",
    );
    assert!(saved.status.success(), "{}", text(&saved));
    assert_whole(&fs::read(path).expect("it was saved"));
    // It looks for bbolt's pages, and says of any other file what it says of a damaged one.
    let status = etcdctl("", "simple", &["snapshot", "status", path], "");
    assert!(!status.status.success());
    assert!(
        text(&status).contains("invalid database"),
        "{}",
        text(&status)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_takes_nothing_holds_back_nobody_and_is_let_go() {
    let settings = Settings::solo()
        .with("limits.snapshot_clients_max", 2)
        .with("timings.snapshot_stall_ms", 1_500);
    let cluster = Cluster::start(settings).await;
    let client = cluster.client();
    write_values(&client).await;
    let mut stalled = begin(&cluster.client())
        .await
        .expect("there is room for two");
    stalled.message().await.expect("it begins");
    // Its copy has no name: nothing of it can be left behind.
    let folder = cluster.machines[0].data.join("snapshot");
    assert_eq!(fs::read_dir(&folder).expect("it is there").count(), 0);
    let mut other = begin(&client).await.expect("there is room for two");
    other.message().await.expect("it begins");
    let refused = begin(&client).await.expect_err("there is room for two");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    let before = client.put("while both wait", "value").await;
    rest(&mut other).await.expect("it is not held back");
    let again = until("the place of the second is free", async || {
        begin(&client).await.map_err(|status| status.to_string())
    });
    rest(&mut again.await).await.expect("it is not held back");
    assert!(before.header.is_some());
    until("the stalled one is let go", async || {
        let log = cluster.machines[0].log();
        match log.contains("a client got no whole snapshot") {
            true => Ok(()),
            false => Err("nothing is told of it".to_owned()),
        }
    })
    .await;
    let refused = rest(&mut stalled).await.expect_err("it waited too long");
    assert_eq!(refused.code(), Code::DeadlineExceeded, "{refused}");
    assert!(refused.message().contains("snapshot_stall_ms"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_does_not_wait_for_a_snapshot_to_be_taken() {
    let mut cluster = Cluster::start(Settings::solo()).await;
    let client = cluster.client();
    write_values(&client).await;
    let mut stream = begin(&client).await.expect("it begins");
    stream.message().await.expect("it begins");
    let mut machine = cluster.machines.remove(0);
    let log = machine.log_path().to_owned();
    let told = async {
        until("it was told to stop", async || {
            let log = fs::read_to_string(&log).map_err(|error| error.to_string())?;
            match log.contains("told to stop") {
                true => Ok(()),
                false => Err("it was not".to_owned()),
            }
        })
        .await;
        rest(&mut stream).await
    };
    let (status, rest) = tokio::join!(machine.terminate(), told);
    let refused = rest.expect_err("it was not whole");
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert!(status.success(), "{status}");
    assert!(!machine.log().contains("were cut off"), "{}", machine.log());
}
