//! What a watcher is told: whole transactions, nothing from before the revision that it asked for, and nothing with a gap.

use rm_actors::port::{
    Command, Interest, NewWatcher, Notice, Operation, Put, Refusal, Txn, WatchStream,
};
use rm_config::Config;
use tokio::time::timeout;

use crate::solo::{Solo, endure};
use crate::trio::{SOON, Trio};

/// Asks for a watcher of everything from a revision on.
async fn watch(stream: &WatchStream, start: i64) {
    watch_below(stream, start, &[0]).await;
}

/// The same, of what lies below a key.
async fn watch_below(stream: &WatchStream, start: i64, range_end: &[u8]) {
    let watcher = NewWatcher {
        interest: Interest {
            key: [0][..].into(),
            range_end: range_end.to_vec().into(),
            ..Interest::default()
        },
        start,
        progress: true,
        ..NewWatcher::default()
    };
    stream.create(watcher, stream.room().await);
}

async fn next(stream: &mut WatchStream) -> Notice {
    let notice = timeout(SOON, stream.next()).await;
    notice.expect("soon").expect("the Watcher lives")
}

/// The revisions of the events that are told next; none for a notice of progress.
async fn told(stream: &mut WatchStream) -> Vec<i64> {
    match next(stream).await {
        Notice::Happened { parts, .. } => {
            let events = parts.iter().flat_map(|part| &part.events);
            events.map(|event| event.revision()).collect()
        }
        Notice::Progress { .. } => Vec::new(),
        other => panic!("{other:?}"),
    }
}

async fn is_refused(stream: &mut WatchStream) {
    let refused = next(stream).await;
    let Notice::Refused { reason, .. } = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(reason, "etcdserver: too many requests");
}

/// So that a busy host does not look like a hang, and no request is given up.
fn patient(config: &mut Config) {
    config.supervision.hang_ms = 60_000;
    config.timings.request_timeout_ms = 60_000;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_17247_a_transaction_is_told_whole_and_each_of_its_events_once() {
    const KEYS: u32 = 100;
    let solo = Solo::start(patient).await;
    let port = solo.running.port();
    let mut stream = port.watch().expect("it runs");
    watch(&stream, 0).await;
    assert!(matches!(next(&mut stream).await, Notice::Created { .. }));
    let put = |key: u32| {
        Operation::Put(Put {
            key: key.to_be_bytes().to_vec().into(),
            ..Put::default()
        })
    };
    for _ in 0..20 {
        let txn = Command::Txn(Txn {
            success: (0..KEYS).map(put).collect(),
            ..Txn::default()
        });
        let (reply, told) = tokio::join!(port.propose(txn), told(&mut stream));
        let revision = reply.expect("nothing fails").revision;
        assert_eq!(told, [revision; KEYS as usize]);
    }
}

/// What a client has not taken in time is compacted, and no more to be found in memory or on the disk.
#[tokio::test(flavor = "multi_thread")]
async fn etcd_18089_a_watcher_is_told_what_is_compacted_and_leaves_nothing_out_in_silence() {
    let solo = Solo::start(|config| {
        patient(config);
        config.watch.queue_bytes_max = 1;
        config.watch.recent_bytes_max = 1;
    })
    .await;
    let port = solo.running.port();
    let mut stream = port.watch().expect("it runs");
    watch(&stream, 2).await;
    assert!(matches!(next(&mut stream).await, Notice::Created { .. }));
    for value in 0..10 {
        solo.put("key", &value.to_string()).await;
    }
    let newest = port.report().revision;
    port.compact(newest, true).await.expect("nothing fails");
    // With this the Watcher learns that it need not keep the others in memory.
    let mut beside = port.watch().expect("it runs");
    watch(&beside, newest + 1).await;
    assert!(matches!(next(&mut beside).await, Notice::Created { .. }));
    solo.put("key", "after").await;
    assert_eq!(told(&mut beside).await, [newest + 1]);
    let mut expected = 2;
    let compacted = loop {
        match next(&mut stream).await {
            Notice::Happened { parts, .. } => {
                for event in parts.iter().flat_map(|part| &part.events) {
                    assert_eq!(event.revision(), expected);
                    expected += 1;
                }
            }
            Notice::Ended { compacted, .. } => break compacted,
            Notice::Progress { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    assert!(expected < newest, "all was told");
    assert_eq!(compacted, Some(newest));
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_20221_a_watcher_of_the_future_is_told_neither_events_nor_progress_of_before() {
    let solo = Solo::start(|config| {
        patient(config);
        config.watch.progress_interval_ms = 100;
    })
    .await;
    let port = solo.running.port();
    let (mut ahead, mut beside) = (
        port.watch().expect("it runs"),
        port.watch().expect("it runs"),
    );
    for (stream, start) in [(&mut ahead, 5), (&mut beside, 0)] {
        watch(stream, start).await;
        assert!(matches!(next(stream).await, Notice::Created { .. }));
    }
    ahead.ask_progress(ahead.room().await);
    for value in ["2", "3", "4"] {
        solo.put("key", value).await;
    }
    // Whoever is there is told of progress again and again meanwhile.
    for _ in 0..3 {
        while !told(&mut beside).await.is_empty() {}
    }
    solo.put("key", "5").await;
    let first = told(&mut ahead).await;
    assert_eq!(first.first(), Some(&5), "not even progress before");
}

/// Writes so many values, each of so many bytes, that can then be read nowhere but on the disk.
async fn write_history(solo: &Solo, values: i64, value_bytes: usize) {
    let value = "v".repeat(value_bytes);
    for _ in 0..values {
        solo.put("key", &value).await;
    }
    // It reads a checkpoint that is written for it.
    solo.running.port().hash(0).await.expect("nothing fails");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_are_late_at_places_far_apart_none_is_told_all_before_the_other() {
    // More than ten reads each.
    const VALUES_EACH: i64 = 44;
    let solo = Solo::start(patient).await;
    write_history(&solo, 2 * VALUES_EACH, 256 << 10).await;
    let port = solo.running.port();
    let [mut early, mut late] = [0, 1].map(|_| port.watch().expect("it runs"));
    let (first, middle) = (2, 2 + VALUES_EACH);
    for (stream, start) in [(&mut early, first), (&mut late, middle)] {
        watch(stream, start).await;
        assert!(matches!(next(stream).await, Notice::Created { .. }));
    }
    let mut heard = [0; 2];
    while heard.iter().all(|&heard| heard < VALUES_EACH) {
        let (which, revisions) = tokio::select! {
            revisions = told(&mut early) => (0, revisions),
            revisions = told(&mut late) => (1, revisions),
        };
        for revision in revisions {
            assert_eq!(revision, [first, middle][which] + heard[which]);
            heard[which] += 1;
        }
    }
    assert!(
        heard.iter().all(|&heard| heard > VALUES_EACH / 3),
        "{heard:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_watcher_is_told_no_more_at_once_than_may_wait_for_its_stream() {
    const VALUES: i64 = 100;
    const VALUE_BYTES: usize = 8_000;
    const QUEUE_BYTES: usize = 10 * VALUE_BYTES;
    let solo = Solo::start(|config| {
        patient(config);
        config.watch.queue_bytes_max = QUEUE_BYTES;
    })
    .await;
    write_history(&solo, VALUES, VALUE_BYTES).await;
    let port = solo.running.port();
    let mut stream = port.watch().expect("it runs");
    watch(&stream, 2).await;
    assert!(matches!(next(&mut stream).await, Notice::Created { .. }));
    let mut heard = 0;
    while heard < VALUES as usize {
        let Notice::Happened { parts, .. } = next(&mut stream).await else {
            panic!("it is told of nothing else");
        };
        for part in parts {
            heard += part.events.len();
            let most = QUEUE_BYTES + 3 * VALUE_BYTES;
            assert!(part.bytes < most, "{} bytes at once", part.bytes);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn late_watchers_are_told_no_more_at_once_than_may_wait_for_all_streams() {
    const VALUES: i64 = 50;
    const VALUE_BYTES: usize = 8_000;
    const QUEUES_BYTES: usize = 1 << 20;
    const STREAMS: usize = 50;
    let solo = Solo::start(|config| {
        patient(config);
        config.watch.queue_bytes_max = QUEUES_BYTES;
        config.watch.queues_bytes_max = QUEUES_BYTES;
    })
    .await;
    // In memory, where all of them may be told in one turn.
    let value = "v".repeat(VALUE_BYTES);
    let mut beside = solo.running.port().watch().expect("it runs");
    watch(&beside, 0).await;
    assert!(matches!(next(&mut beside).await, Notice::Created { .. }));
    let first = solo.running.port().report().revision + 1;
    for _ in 0..VALUES {
        solo.put("key", &value).await;
    }
    let port = solo.running.port();
    let mut streams: Vec<_> = (0..STREAMS)
        .map(|_| port.watch().expect("it runs"))
        .collect();
    for (number, stream) in streams.iter().enumerate() {
        // Nobody shares what it is told.
        watch_below(stream, first, &[u8::MAX, number as u8]).await;
    }
    for stream in &mut streams {
        assert!(matches!(next(stream).await, Notice::Created { .. }));
    }
    for stream in &mut streams {
        let mut heard = 0;
        while heard < VALUES as usize {
            let waits = port.watch_backlog_bytes();
            let most = 2 * QUEUES_BYTES + STREAMS * 3 * VALUE_BYTES;
            assert!(waits < most, "{waits} bytes wait");
            heard += told(stream).await.len();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_memory_is_told_while_a_disk_stalls_for_others() {
    const NEAR: u128 = 3;
    let solo = Solo::start(patient).await;
    write_history(&solo, 2, 1).await;
    let port = solo.running.port();
    let mut beside = port.watch().expect("it runs");
    watch(&beside, 0).await;
    assert!(matches!(next(&mut beside).await, Notice::Created { .. }));
    let recent = port.report().revision + 1;
    for revision in [recent, recent + 1] {
        solo.put("key", "recent").await;
        assert_eq!(told(&mut beside).await, [revision]);
    }
    // Longer than all that is waited for below may take together.
    let stall = format!("delay:{}", 2 * (1 + 2 * NEAR) * SOON.as_millis());
    solo.arm("watcher", "history", &stall, 1);
    let mut stalled = port.watch().expect("it runs");
    watch(&stalled, 2).await;
    assert!(matches!(next(&mut stalled).await, Notice::Created { .. }));
    // One of them may come a moment before the disk is asked.
    for _ in 0..NEAR {
        let mut near = port.watch().expect("it runs");
        watch(&near, recent).await;
        assert!(matches!(next(&mut near).await, Notice::Created { .. }));
        assert_eq!(told(&mut near).await, [recent, recent + 1]);
    }
    assert!(stalled.next_if_ready().is_none(), "its disk stalls");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_that_cannot_be_read_ends_the_streams_and_the_next_ones_are_told() {
    let solo = Solo::start(|config| {
        patient(config);
        endure(config);
    })
    .await;
    write_history(&solo, 2, 1).await;
    let port = solo.running.port();
    for (failures, action) in [(1, "panic"), (2, "io_error")] {
        solo.arm("watcher", "history", action, 1);
        let mut stream = port.watch().expect("it runs");
        watch(&stream, 2).await;
        let ended = timeout(SOON, async {
            loop {
                if let Err(refusal) = stream.next().await {
                    return refusal;
                }
            }
        });
        assert_eq!(ended.await.expect("soon"), Refusal::Restarted, "{action}");
        let is_back = |solo: &Solo| solo.failures() == failures && solo.all_run();
        solo.until(action, is_back).await;
        let mut stream = port.watch().expect("it runs");
        watch(&stream, 2).await;
        assert!(matches!(next(&mut stream).await, Notice::Created { .. }));
        assert_eq!(told(&mut stream).await, [2, 3]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_take_nothing_hold_no_more_than_all_may_and_hear_all_of_it_later() {
    const DEAF: usize = 40;
    const PUTS: i64 = 60;
    const VALUE_BYTES: usize = 8_000;
    const QUEUES_BYTES: usize = 1 << 20;
    let solo = Solo::start(|config| {
        patient(config);
        config.watch.queues_bytes_max = QUEUES_BYTES;
        config.watch.queue_bytes_max = QUEUES_BYTES;
    })
    .await;
    let port = solo.running.port();
    let mut deaf = Vec::new();
    for number in 0..=DEAF {
        let mut stream = port.watch().expect("it runs");
        // Those that want the same would share it.
        watch_below(&stream, 0, format!("l{number}").as_bytes()).await;
        assert!(matches!(next(&mut stream).await, Notice::Created { .. }));
        deaf.push(stream);
    }
    let mut hears = deaf.pop().expect("there is one");
    let first = port.report().revision + 1;
    let value = "v".repeat(VALUE_BYTES);
    for expected in first..first + PUTS {
        solo.put("key", &value).await;
        assert_eq!(told(&mut hears).await, [expected]);
    }
    // Each keeps one thing at most beyond what there is for all.
    let waits = port.watch_backlog_bytes();
    let one = 3 * VALUE_BYTES;
    assert!(waits <= QUEUES_BYTES + (DEAF + 1) * one, "{waits}");
    for stream in &mut deaf {
        let mut expected = first;
        while expected < first + PUTS {
            for revision in told(stream).await {
                assert_eq!(revision, expected);
                expected += 1;
            }
        }
    }
    let is_empty = |solo: &Solo| solo.running.port().watch_backlog_bytes() == 0;
    solo.until("nothing waits", is_empty).await;
    // What was taken counts for each as long as it is on its way.
    solo.put("key", &value).await;
    deaf.push(hears);
    let mut on_the_way = Vec::new();
    for stream in &mut deaf {
        on_the_way.push(next(stream).await);
    }
    let waits = port.watch_backlog_bytes();
    assert!(waits > (DEAF + 1) * VALUE_BYTES, "{waits}");
    drop(on_the_way);
    solo.until("nothing waits", is_empty).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keys_of_all_watchers_together_have_a_bound() {
    const KEY_BYTES: usize = 8_000;
    let solo = Solo::start(|config| {
        patient(config);
        config.limits.request_bytes_max = 10 * KEY_BYTES;
        config.limits.requests_bytes_max = 10 * KEY_BYTES;
    })
    .await;
    let port = solo.running.port();
    let mut streams = [
        port.watch().expect("it runs"),
        port.watch().expect("it runs"),
    ];
    let key = [b'k'; KEY_BYTES - 1];
    for number in 0..10 {
        let stream = &mut streams[number % 2];
        watch_below(stream, 0, &key).await;
        assert!(matches!(next(stream).await, Notice::Created { .. }));
    }
    watch_below(&streams[0], 0, &key).await;
    is_refused(&mut streams[0]).await;
    // Small ones find an eighth more.
    let small = [b'k'; KEY_BYTES / 4 - 1];
    for _ in 0..5 {
        watch_below(&streams[0], 0, &small).await;
        assert!(matches!(
            next(&mut streams[0]).await,
            Notice::Created { .. }
        ));
    }
    watch_below(&streams[0], 0, &small).await;
    is_refused(&mut streams[0]).await;
    // Those of one that is gone count no more.
    streams[1].cancel(0, streams[1].room().await);
    assert!(matches!(next(&mut streams[1]).await, Notice::Ended { .. }));
    watch_below(&streams[0], 0, &small).await;
    let created = next(&mut streams[0]).await;
    assert!(matches!(created, Notice::Created { .. }), "{created:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_15271_a_watcher_that_goes_on_at_a_machine_that_lags_never_goes_back() {
    let trio = Trio::start();
    let leader = trio.leader().await;
    let lagging = (leader + 1) % 3;
    // It applies nothing that its disk does not take.
    trio.arm(lagging, "storage", "commit", "no_space", u64::MAX);
    let mut last = 0;
    for value in ["1", "2", "3"] {
        last = trio.put(leader, "key", value).await;
    }
    let mut stream = trio.port(lagging).watch().expect("it runs");
    watch(&stream, last + 1).await;
    let created = next(&mut stream).await;
    let Notice::Created { revision, .. } = created else {
        panic!("{created:?}");
    };
    assert!(revision < last, "{revision} of {last}: it lags");
    trio.arm(lagging, "storage", "commit", "no_space", 0);
    trio.put(leader, "key", "4").await;
    assert_eq!(told(&mut stream).await.first(), Some(&(last + 1)));
}
