//! Watches that meet a compaction, on real machines: told everything, or told that it is compacted, never less in silence.

use rm_proto::etcdserverpb::RangeRequest;
use rm_tests::watching::{Watching, delete, everything, from, revision, shorts, some_history};
use rm_tests::{Client, Cluster, Settings, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_19179_a_deletion_at_the_compacted_revision_is_told_and_nothing_before() {
    let cluster = Cluster::start(Settings::trio()).await;
    let client = cluster.client();
    some_history(&client).await;
    for machine in 0..3 {
        client.get(machine, "c").await; // so that it has applied all of it
    }
    for physical in [false, true] {
        let compacted = client.compact_on(0, 4, physical).await;
        assert_eq!(
            compacted.is_ok(),
            !physical,
            "the second is refused: {compacted:?}"
        );
        for machine in 0..3 {
            let mut watching = Watching::open(&client, machine).await.expect("it runs");
            until("the machine has applied the compaction", async || {
                let range = RangeRequest {
                    key: "a".into(),
                    revision: 3,
                    serializable: true,
                    ..Default::default()
                };
                let read = client.range_on(machine, range).await;
                read.err()
                    .map(drop)
                    .ok_or("it reads what is compacted".to_owned())
            })
            .await;
            watching.create(from(4, everything())).await;
            assert!(watching.told().await.created);
            assert_eq!(shorts(&watching.events(2).await), ["4 a-", "5 c=1"]);
            watching.create(from(3, everything())).await;
            let created = watching.told().await;
            assert!(created.created && !created.canceled, "{created:?}");
            let ended = watching.told().await;
            assert_eq!(ended.watch_id, created.watch_id);
            assert_eq!((ended.canceled, ended.compact_revision), (true, 4));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_18089_no_deletion_is_skipped_when_compactions_meet_it() {
    let cluster = Cluster::start(Settings::trio()).await;
    let client = cluster.client();
    let first = client.put("k", "0").await.header.unwrap().revision;
    const ROUNDS: i64 = 150;
    let last = first + 2 * ROUNDS;
    let watchers: Vec<_> = (0..3)
        .map(|machine| {
            let client = client.clone();
            tokio::spawn(async move { contiguous(&client, machine, first, last).await })
        })
        .collect();
    for round in 0..ROUNDS {
        client.put("k", "1").await;
        delete(&client, "k").await;
        if round % 3 == 0 {
            let newest = client.status(0).await.expect("it runs").header;
            let newest = newest.expect("every answer has one").revision;
            client
                .compact_on(0, newest, round % 2 == 0)
                .await
                .expect("it is newer than the one before");
        }
    }
    for watcher in watchers {
        let (told, compacted) = watcher.await.expect("nothing was skipped in silence");
        println!("{told} events told, and {compacted} times what came next was compacted");
    }
}

/// Watches a machine from a revision on to another. What it is told of lacks no revision, but for those before one that it is told
/// is compacted. How many events that were, and how often it was.
async fn contiguous(client: &Client, machine: usize, first: i64, last: i64) -> (usize, usize) {
    let mut watching = Watching::open(client, machine).await.expect("it runs");
    watching.create(from(first, everything())).await;
    let (mut next, mut told, mut compacted) = (first, 0, 0);
    while next <= last {
        let response = watching.told().await;
        for event in &response.events {
            assert_eq!(revision(event), next, "{event:?}");
            assert!(next == first || event.r#type == i32::from((next - first) % 2 == 0));
            next += 1;
            told += 1;
        }
        if response.canceled {
            assert!(response.compact_revision > next, "{response:?}");
            next = response.compact_revision;
            compacted += 1;
            watching.create(from(next, everything())).await;
        }
    }
    (told, compacted)
}
