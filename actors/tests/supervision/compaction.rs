//! Compactions, asked for or by the config: scrubbed to their end, whatever fails meanwhile.

use std::time::{Duration, Instant};

use rm_actors::ActorName;
use rm_actors::port::{
    Command, Consistency, Failure, Operation, Put, Query, Range, Refusal, RequestError, Txn,
};
use rm_config::{AutoCompaction, AutoCompactionMode, Durability};

use crate::solo::{PATIENCE, Solo, endure};

const COMPACTED: Refusal = Refusal::Request(RequestError::Compacted);

/// Writes the same keys so many times, each time in one transaction; the newest revision.
async fn overwrite(solo: &Solo, keys: u32, times: u32) -> i64 {
    let mut revision = 0;
    for time in 0..times {
        let put = |key: u32| {
            Operation::Put(Put {
                key: key.to_be_bytes().to_vec().into(),
                value: time.to_be_bytes().to_vec().into(),
                ..Put::default()
            })
        };
        let txn = Txn {
            success: (0..keys).map(put).collect(),
            ..Txn::default()
        };
        let reply = solo.running.port().propose(Command::Txn(txn)).await;
        revision = reply.expect("nothing fails yet").revision;
    }
    revision
}

/// Waits until a compaction that was carried out is scrubbed: whoever asks for it again is told then.
async fn scrubbed(solo: &Solo, revision: i64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match solo.running.port().compact(revision, true).await {
            Err(refusal) if refusal == COMPACTED => return,
            outcome => assert!(Instant::now() < deadline, "{outcome:?}"),
        }
    }
}

/// Waits until the key space is compacted at a revision.
async fn compacted(solo: &Solo, revision: i64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let hash = solo.running.port().hash(0).await.expect("hashes");
        if hash.compact_revision == revision {
            return;
        }
        assert!(Instant::now() < deadline, "{hash:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_physical_compaction_is_answered_once_it_is_scrubbed_and_not_later_than_its_deadline() {
    let solo = Solo::start(|config| {
        config.timings.request_timeout_ms = 500;
        config.supervision.hang_ms = 10_000;
    })
    .await;
    let revision = overwrite(&solo, 10, 20).await;
    let port = solo.running.port();
    let reply = port.compact(revision - 1, true).await.expect("is in time");
    assert_eq!(reply.revision, revision);

    solo.arm("compactor", "handler", "delay:2000", 1);
    assert_eq!(port.compact(revision, true).await, Err(Refusal::TimedOut));
    // What was compacted is compacted, and is scrubbed in the end.
    let read = Query::Range(Range {
        key: "key".into(),
        revision: revision - 1,
        ..Range::default()
    });
    assert_eq!(port.query(read, Consistency::Quorum).await, Err(COMPACTED));
    assert_eq!(port.compact(revision, false).await, Err(COMPACTED));
    scrubbed(&solo, revision).await;
    let future = Refusal::Request(RequestError::FutureRevision);
    assert_eq!(port.compact(revision + 1, true).await, Err(future));
    assert_eq!(solo.failures(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scrub_comes_to_its_end_whoever_fails_meanwhile() {
    let solo = Solo::start(|config| {
        endure(config);
        config.storage.durability = Durability::OperatingSystem;
        config.limits.transaction_operations_max = 1_000;
    })
    .await;
    for actor in ActorName::ALL {
        // Several steps, the first of which is still to come when the actor fails.
        let revision = overwrite(&solo, 500, 8).await;
        let port = solo.running.port();
        port.compact(revision, false).await.expect("compacts");
        let before = solo.failures();
        port.kill_actor(actor.as_str(), Failure::Panic)
            .expect("kills");
        solo.until(actor.as_str(), |solo| {
            solo.failures() == before + 1 && solo.all_run()
        })
        .await;
        scrubbed(&solo, revision).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_config_has_the_key_space_compacted_by_the_number_of_revisions() {
    let solo = Solo::start(|config| {
        config.storage.auto_compaction = AutoCompaction {
            mode: AutoCompactionMode::Revisions,
            retention_revisions: Some(10),
            interval_seconds: 1,
            ..AutoCompaction::default()
        };
    })
    .await;
    for count in [25, 30] {
        let revision = overwrite(&solo, 2, count).await;
        compacted(&solo, revision - 10).await;
        scrubbed(&solo, revision - 10).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_config_has_the_key_space_compacted_by_time_after_a_failure_too() {
    let solo = Solo::start(|config| {
        endure(config);
        config.storage.auto_compaction = AutoCompaction {
            mode: AutoCompactionMode::Periodic,
            retention_seconds: Some(1),
            ..AutoCompaction::default()
        };
    })
    .await;
    for how in [Failure::Panic, Failure::Stop] {
        let revision = overwrite(&solo, 2, 5).await;
        let before = solo.incarnations();
        let port = solo.running.port();
        port.kill_actor("compactor", how).expect("kills");
        compacted(&solo, revision).await;
        assert!(solo.incarnations() > before);
    }
}
