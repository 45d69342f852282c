//! Disks that are slow or full: who waits, what is refused, and what is served meanwhile.

use std::time::{Duration, Instant};

use futures::future::join_all;
use futures::stream::{FuturesUnordered, StreamExt};
use rm_actors::port::{Command, Consistency, Failure, Put, Query, Range, Refusal, ReplyBody};

use crate::solo::Solo;

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_slow_delays_a_write_and_fails_nobody() {
    let solo = Solo::start(|config| {
        // So that a busy host does not look like a hang.
        config.supervision.hang_ms = 10_000;
    })
    .await;
    let delay = Duration::from_millis(100);
    for (actor, point) in [
        ("storage", "transaction"),
        ("storage", "commit"),
        ("applier", "transaction"),
    ] {
        solo.arm(actor, point, &format!("delay:{}", delay.as_millis()), 1);
        let asked = Instant::now();
        solo.put("key", point).await;
        assert!(asked.elapsed() >= delay, "{actor} {point}");
        assert_eq!(solo.get("key").await.as_deref(), Some(point));
    }
    assert_eq!(solo.failures(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_serves_reads_and_is_over_when_there_is_space() {
    let solo = Solo::start(|config| config.timings.request_timeout_ms = 10_000).await;
    solo.put("key", "value").await;
    solo.arm("storage", "commit", "no_space", 1_000_000);
    let put = || {
        Command::Put(Put {
            key: "full".into(),
            ..Put::default()
        })
    };
    let port = solo.running.port();
    let held = tokio::spawn(async move { port.propose(put()).await });
    solo.until("the alarm", |solo| solo.running.port().report().no_space)
        .await;
    assert_eq!(
        solo.running.port().propose(put()).await,
        Err(Refusal::NoSpace)
    );
    assert_eq!(solo.get("key").await.as_deref(), Some("value"));
    solo.arm("storage", "commit", "no_space", 0);
    // What was held back while there was no space is carried out now.
    assert!(held.await.expect("no panic").is_ok());
    solo.put("key", "again").await;
    assert!(!solo.running.port().report().no_space);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_the_disk_holds_up_is_answered_at_its_deadline() {
    let solo = Solo::start(|config| config.timings.request_timeout_ms = 200).await;
    solo.put("key", "value").await;
    // Long enough that an answer to what became of the write would not come first on a busy host.
    solo.arm("storage", "commit", "delay:15000", 1);
    let put = Command::Put(Put {
        key: "late".into(),
        ..Put::default()
    });
    assert_eq!(
        solo.running.port().propose(put).await,
        Err(Refusal::TimedOut)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_finds_no_space_loses_nothing() {
    let solo = Solo::start(|config| {
        config.storage.checkpoint_interval_ms = 50;
        // The log keeps nothing that it need not.
        config.storage.compaction_keep_entries = 0;
        config.storage.compaction_step_entries = 1;
    })
    .await;
    solo.put("before", "value").await;
    solo.arm("applier", "checkpoint", "no_space", 1_000_000);
    let port = solo.running.port();
    let write = Command::Put(Put {
        key: "acknowledged".into(),
        value: "value".into(),
        ..Put::default()
    });
    port.propose(write).await.expect("there is space yet");
    solo.until("the alarm", |solo| solo.running.port().report().no_space)
        .await;
    // The key space is opened anew as it was before: what was acknowledged must come back from the log first.
    assert_eq!(solo.get("acknowledged").await.as_deref(), Some("value"));
    // So it must be where another Applier begins.
    port.kill_actor("applier", Failure::Stop).expect("kills");
    solo.until("the applier", |solo| solo.failures() > 0 && solo.all_run())
        .await;
    assert_eq!(solo.get("acknowledged").await.as_deref(), Some("value"));
    solo.arm("applier", "checkpoint", "no_space", 0);
    solo.until("space", |solo| !solo.running.port().report().no_space)
        .await;
    solo.put("after", "value").await;
    assert_eq!(solo.get("acknowledged").await.as_deref(), Some("value"));
}

/// Reads that wait for their turn while the state falls back to its last checkpoint must not be answered from there.
#[tokio::test(flavor = "multi_thread")]
async fn no_read_is_stale_when_a_checkpoint_finds_no_space() {
    // More than is applied in one turn after the fall, and more reads than are answered in one.
    const KEYS: i64 = 3_000;
    const READS: usize = 512;
    let solo = Solo::start(|config| {
        config.storage.checkpoint_interval_ms = 3_600_000;
        // So that a busy host does not look like a read that nobody answers.
        config.timings.request_timeout_ms = 60_000;
    })
    .await;
    let port = solo.running.port();
    solo.put("first", "value").await;
    port.hash(0).await.expect("the state is written down");
    let puts = (0..KEYS).map(|key| {
        let put = Put {
            key: format!("key/{key:04}").into(),
            ..Put::default()
        };
        port.propose(Command::Put(put))
    });
    for put in join_all(puts).await {
        put.expect("there is space yet");
    }

    solo.arm("applier", "checkpoint", "no_space", 1);
    let count = Range {
        key: "key/".into(),
        range_end: "key0".into(),
        count_only: true,
        ..Range::default()
    };
    let ask = || port.query(Query::Range(count.clone()), Consistency::Quorum);
    let mut reads: FuturesUnordered<_> = (0..READS).map(|_| ask()).collect();
    let first = reads.next().await.expect("some are asked");
    let refusal = port.hash(0).await.expect_err("it finds no space");
    assert!(matches!(refusal, Refusal::NoSpace), "{refusal}");
    let rest: Vec<_> = reads.collect().await;
    for reply in rest.into_iter().chain([first]) {
        let ReplyBody::Range(reply) = reply.expect("reads go on").body else {
            panic!("a range is answered with a range");
        };
        assert_eq!(reply.count, KEYS, "nothing older than what was written");
    }
}
