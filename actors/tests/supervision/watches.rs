//! Watches from revisions that are still to come: nothing is told from before.

use rm_actors::port::{Interest, NewWatcher, Notice, WatchStream};
use tokio::time::timeout;

use crate::solo::Solo;
use crate::trio::{SOON, Trio};

/// Asks for a watcher of everything from a revision on.
async fn watch(stream: &WatchStream, start: i64) {
    let watcher = NewWatcher {
        interest: Interest {
            key: [0][..].into(),
            range_end: [0][..].into(),
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

#[tokio::test(flavor = "multi_thread")]
async fn etcd_20221_a_watcher_of_the_future_is_told_neither_events_nor_progress_of_before() {
    let solo = Solo::start(|config| {
        // So that a busy host does not look like a hang.
        config.supervision.hang_ms = 60_000;
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
