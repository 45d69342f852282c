//! Watches, on real machines: in order, each event once, from any revision on, whatever fails.

use std::time::Duration;

use bytes::Bytes;
use rm_proto::etcdserverpb::watch_create_request::FilterType;
use rm_proto::etcdserverpb::{
    DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, WatchCreateRequest,
    WatchResponse, request_op::Request,
};
use rm_proto::mvccpb::Event;
use rm_tests::watching::{Watching, everything, follow, prefix, revision};
use rm_tests::{Client, Cluster, Settings, until};
use tokio::sync::watch;
use tonic::Code;

/// Long enough for an event that must not come to have come.
const SILENCE: Duration = Duration::from_millis(300);

fn from(start_revision: i64, request: WatchCreateRequest) -> WatchCreateRequest {
    WatchCreateRequest {
        start_revision,
        ..request
    }
}

/// An event in short: the revision, the key, and the value or a minus.
fn short(event: &Event) -> String {
    let kv = event.kv.as_ref().expect("an event has a key");
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let now = match event.r#type {
        0 => format!("{} {}={}", kv.mod_revision, text(&kv.key), text(&kv.value)),
        _ => format!("{} {}-", kv.mod_revision, text(&kv.key)),
    };
    match &event.prev_kv {
        Some(before) => format!("{now} was {}", text(&before.value)),
        None => now,
    }
}

fn shorts(events: &[Event]) -> Vec<String> {
    events.iter().map(short).collect()
}

async fn delete(client: &Client, key: &'static str) {
    let request = DeleteRangeRequest {
        key: key.into(),
        ..Default::default()
    };
    let deleted = client.kv(0).delete_range(request).await;
    deleted.expect("there is a leader");
}

/// Revision 2 puts `a`, 3 puts `b` and changes `a`, 4 deletes `a`, 5 puts `c`.
async fn some_history(client: &Client) {
    client.put("a", "1").await;
    let put = |key: &'static str, value: &'static str| RequestOp {
        request: Some(Request::RequestPut(PutRequest {
            key: key.into(),
            value: value.into(),
            ..Default::default()
        })),
    };
    let both = TxnRequest {
        success: vec![put("b", "1"), put("a", "2")],
        ..Default::default()
    };
    client.kv(1).txn(both).await.expect("there is a leader");
    delete(client, "a").await;
    client.put("c", "1").await;
}

/// Writes one key again and again, through one machine after the other, until it has this revision. A write whose answer is lost
/// may have happened. Tells each revision that was acknowledged.
async fn write_up_to(client: Client, last: i64, written: watch::Sender<i64>) {
    for turn in 0.. {
        let machine = turn % client.machines();
        match client.put_on(machine, "k", turn.to_string()).await {
            Ok(put) => {
                let revision = put.header.map_or(0, |it| it.revision);
                written.send_replace(revision);
                if revision >= last {
                    return;
                }
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happened_and_what_happens_is_told_once_on_every_machine() {
    let cluster = Cluster::start(Settings::trio()).await;
    let client = cluster.client();
    some_history(&client).await;
    let all = ["2 a=1", "3 b=1", "3 a=2 was 1", "4 a- was 2", "5 c=1"];
    let mut streams = Vec::new();
    for machine in 0..3 {
        let mut watching = Watching::open(&client, machine).await.expect("it runs");
        let with_before = WatchCreateRequest {
            prev_kv: true,
            ..everything()
        };
        watching.create(from(2, with_before)).await;
        let created = watching.told().await;
        assert!(created.created && !created.canceled && created.watch_id == 0);
        assert_eq!(shorts(&watching.events(5).await), all, "machine {machine}");
        streams.push(watching);
    }
    client.put("d", "1").await;
    for watching in &mut streams {
        assert_eq!(shorts(&watching.events(1).await), ["6 d=1"]);
        assert!(watching.is_silent_for(SILENCE).await);
    }
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_watcher_of_a_stream_is_told_what_it_wants() {
    let cluster = Cluster::start(Settings::trio()).await;
    let client = cluster.client();
    some_history(&client).await;
    let mut watching = Watching::open(&client, 2).await.expect("it runs");
    let key = |key: &'static str| WatchCreateRequest {
        key: key.into(),
        ..Default::default()
    };
    let filtered = |filter: FilterType| WatchCreateRequest {
        filters: vec![filter.into()],
        ..everything()
    };
    for (request, expected) in [
        (from(1, key("a")), vec!["2 a=1", "3 a=2", "4 a-"]),
        (from(4, key("a")), vec!["4 a-"]),
        (from(1, prefix("b")), vec!["3 b=1"]),
        (from(1, filtered(FilterType::Noput)), vec!["4 a-"]),
        (
            from(3, filtered(FilterType::Nodelete)),
            vec!["3 b=1", "3 a=2", "5 c=1"],
        ),
    ] {
        watching.create(request.clone()).await;
        let created = watching.told().await;
        assert!(created.created, "{created:?}");
        let told = watching.events(expected.len()).await;
        assert_eq!(shorts(&told), expected, "{request:?}");
        watching.cancel(created.watch_id).await;
        let ended = watching.told().await;
        assert!(ended.canceled && ended.watch_id == created.watch_id);
        assert_eq!(ended.compact_revision, 0);
    }
    client.put("a", "after all were cancelled").await;
    assert!(watching.is_silent_for(SILENCE).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_makes_no_sense_is_refused_as_etcd_refuses_it() {
    let cluster = Cluster::start(Settings::solo()).await;
    let client = cluster.client();
    let mut watching = Watching::open(&client, 0).await.expect("it runs");
    let numbered = WatchCreateRequest {
        watch_id: 9,
        ..everything()
    };
    watching.create(numbered.clone()).await;
    assert_eq!(watching.told().await.watch_id, 9);
    let backwards = WatchCreateRequest {
        key: "b".into(),
        range_end: "a".into(),
        ..Default::default()
    };
    for (request, reason) in [
        (
            numbered,
            "mvcc: duplicate watch ID provided on the WatchStream",
        ),
        (backwards, "mvcc: watcher range is empty"),
        (
            from(-1, everything()),
            "etcdserver: mvcc: required revision has been compacted",
        ),
    ] {
        watching.create(request).await;
        let refused = watching.told().await;
        assert!(refused.created && refused.canceled, "{refused:?}");
        assert_eq!((refused.watch_id, &*refused.cancel_reason), (-1, reason));
    }
    watching.cancel(77).await;
    client.put("a", "1").await;
    assert_eq!(shorts(&watching.events(1).await), ["2 a=1"], "it goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_17247_a_transaction_is_told_whole_and_each_of_its_events_once() {
    let cluster = Cluster::start(Settings::trio()).await;
    let client = cluster.client();
    let mut watching = Watching::open(&client, 1).await.expect("it runs");
    watching.create(everything()).await;
    assert!(watching.told().await.created);
    let put = |number: usize| RequestOp {
        request: Some(Request::RequestPut(PutRequest {
            key: format!("key{number:03}").into(),
            ..Default::default()
        })),
    };
    for round in 0..20 {
        let txn = TxnRequest {
            success: (0..100).map(put).collect(),
            ..Default::default()
        };
        client
            .kv(round % 3)
            .txn(txn)
            .await
            .expect("there is a leader");
        let told = watching.told().await;
        let keys: Vec<_> = told
            .events
            .iter()
            .map(|e| &e.kv.as_ref().unwrap().key)
            .collect();
        let expected: Vec<Bytes> = (0..100)
            .map(|number| format!("key{number:03}").into())
            .collect();
        assert!(
            keys.iter().copied().eq(&expected),
            "round {round}: {keys:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_20221_a_watcher_of_the_future_is_told_nothing_from_before() {
    let settings = Settings::trio().with("watch.progress_interval_ms", 100);
    let cluster = Cluster::start(settings).await;
    let client = cluster.client();
    let mut watching = Watching::open(&client, 0).await.expect("it runs");
    let request = WatchCreateRequest {
        progress_notify: true,
        ..everything()
    };
    watching.create(from(5, request)).await;
    assert!(watching.told().await.created);
    watching.progress().await;
    for value in ["2", "3", "4"] {
        client.put("a", value).await;
    }
    assert!(
        watching.is_silent_for(SILENCE).await,
        "not even of progress"
    );
    client.put("a", "5").await;
    let told = watching.told().await;
    assert_eq!(shorts(&told.events), ["5 a=5"]);
    let progress = watching.told().await;
    assert!(progress.events.is_empty() && header_revision(&progress) >= 5);
}

fn header_revision(response: &WatchResponse) -> i64 {
    response
        .header
        .as_ref()
        .expect("every response has one")
        .revision
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_15220_progress_never_overtakes_an_event() {
    let cluster = Cluster::start(Settings::trio()).await;
    let client = cluster.client();
    let first = client.put("k", "0").await.header.unwrap().revision;
    let mut watching = Watching::open(&client, 2).await.expect("it runs");
    for _ in 0..20 {
        watching.create(from(first, everything())).await;
    }
    let last = first + 200;
    let writer = tokio::spawn(write_up_to(client.clone(), last, watch::Sender::new(first)));
    let mut told = [first - 1; 20];
    let mut notices = 0;
    while told.iter().any(|&revision| revision < last) {
        watching.progress().await;
        let response = watching.told().await;
        if response.watch_id == -1 {
            notices += 1;
            let up_to = header_revision(&response);
            assert!(
                told.iter().all(|&it| it >= up_to),
                "{up_to} before {told:?}"
            );
        } else if let Some(event) = response.events.last() {
            let told = &mut told[response.watch_id as usize];
            assert!(revision(&response.events[0]) == *told + 1, "{response:?}");
            *told = revision(event);
        }
    }
    writer.await.expect("the writes go on");
    assert!(notices > 0, "progress is told under load, too");
}

/// Listens to a watcher of everything, which was told all up to a revision, until it was told all up to another; up to which it was.
async fn told_up_to(watching: &mut Watching, told: i64, last: i64) -> i64 {
    let mut told = told;
    while told < last {
        for event in watching.told().await.events {
            assert_eq!(revision(&event), told + 1, "each once, and none left out");
            told += 1;
        }
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_17529_a_slow_client_loses_nothing_and_holds_up_nobody() {
    let settings = Settings::trio()
        .with("watch.queue_bytes_max", 100_000)
        .with("watch.recent_bytes_max", 100_000)
        .with("storage.checkpoint_interval_ms", 300);
    let cluster = Cluster::start(settings).await;
    let client = cluster.client();
    let mut slow = Watching::open(&client, 0).await.expect("it runs");
    let mut quick = Watching::open(&client, 0).await.expect("it runs");
    for watching in [&mut slow, &mut quick] {
        watching.create(everything()).await;
        assert!(watching.told().await.created);
    }
    // Far more than what the windows of HTTP/2 and both bounds hold.
    let value = Bytes::from(vec![b'x'; 100_000]);
    let mut told = 1;
    for _ in 0..400 {
        // It may be written twice, if an answer is lost.
        let put = client.put("k", value.clone()).await;
        let last = put.header.expect("every answer has one").revision;
        told = told_up_to(&mut quick, told, last).await;
    }
    assert_eq!(told_up_to(&mut slow, 1, told).await, told);
    let put = client.put("k", "last").await;
    let last = put.header.expect("every answer has one").revision;
    for watching in [&mut slow, &mut quick] {
        assert_eq!(told_up_to(watching, told, last).await, last);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_actor_dies_a_watcher_that_goes_on_misses_nothing_and_hears_nothing_twice() {
    let cluster = Cluster::start(Settings::trio()).await;
    let client = cluster.client();
    let first = client.put("k", "0").await.header.unwrap().revision;
    const WRITES: i64 = 1_500;
    let last = first + WRITES;
    let followers: Vec<_> = (0..3)
        .map(|machine| {
            let client = client.clone();
            tokio::spawn(
                async move { follow(&client, machine, from(first, everything()), last).await },
            )
        })
        .collect();
    let (written, mut newest) = watch::channel(first);
    let writer = tokio::spawn(write_up_to(client.clone(), last, written));
    let actors = [
        "watcher",
        "applier",
        "storage",
        "logic_center",
        "gate",
        "listener",
    ];
    let mut kills = 0;
    for from in (first..last).step_by(20) {
        let wanted = newest.wait_for(|&newest| newest >= from).await;
        wanted.expect("the writes go on");
        let actor = actors[kills % actors.len()];
        let machine = (kills + kills / actors.len()) % 3;
        let how = ["panic", "stop", "hang"][kills / actors.len() % 3];
        let can_hang = !["applier", "storage"].contains(&actor);
        if how != "hang" || can_hang {
            // Its answer may be lost with what is killed.
            let _ = client.kill_actor(machine, actor, how).await;
        }
        kills += 1;
    }
    writer.await.expect("the writes go on");
    let mut streams = 0;
    for follower in followers {
        let (events, taken) = follower.await.expect("it was told everything in order");
        let told: Vec<i64> = events.iter().map(revision).collect();
        assert!(told.iter().copied().eq(first..first + told.len() as i64));
        assert!(told.last().is_some_and(|&end| end >= last));
        streams += taken;
    }
    println!(
        "\n{kills} actors killed: three watchers were told all of {WRITES} revisions once, over {streams} streams"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_15271_a_watcher_that_goes_on_at_another_machine_never_goes_back() {
    let mut cluster = Cluster::start(Settings::trio()).await;
    let client = cluster.client();
    let first = client.put("k", "0").await.header.unwrap().revision;
    let last = first + 600;
    let follower = tokio::spawn({
        let client = client.clone();
        async move { follow(&client, 0, from(first, everything()), last).await }
    });
    let mut revision_now = first;
    let mut killed = 0;
    while revision_now < last {
        for _ in 0..50 {
            let put = client.put("k", "value").await;
            revision_now = put.header.expect("every answer has one").revision;
        }
        let machine = &mut cluster.machines[killed % 3];
        machine.kill();
        machine.start();
        cluster.leader().await;
        killed += 1;
    }
    let (events, streams) = follower.await.expect("it was told everything in order");
    let told: Vec<i64> = events.iter().map(revision).collect();
    assert!(told.iter().copied().eq(first..first + told.len() as i64));
    println!(
        "\n{killed} machines killed: all of {} revisions told once, over {streams} streams",
        told.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_is_sent_a_snapshot_tells_its_watchers_all_that_is_in_it() {
    let settings = Settings::trio()
        .with("storage.compaction_keep_entries", 10)
        .with("storage.compaction_step_entries", 1)
        .with("storage.checkpoint_interval_ms", 100);
    let cluster = Cluster::start(settings).await;
    let client = cluster.client();
    let first = client.put("k", "0").await.header.unwrap().revision;
    let leader = cluster.leader().await;
    let follower = (leader + 1) % 3;
    let mut watching = Watching::open(&client, follower).await.expect("it runs");
    watching.create(from(first, everything())).await;
    assert_eq!(shorts(&watching.events(1).await), [format!("{first} k=0")]);
    let machine = &cluster.machines[follower];
    machine.pause();
    let mut last = first;
    for number in 0..300 {
        let put = client.put_on(leader, "k", number.to_string()).await;
        let header = put.expect("two of three run").header;
        last = header.expect("every answer has one").revision;
    }
    until(
        "the leader's log no longer follows on the paused one",
        async || {
            let info = client.info(leader).await.map_err(|e| e.to_string())?;
            let first = info.first_index;
            (first > 200)
                .then_some(())
                .ok_or(format!("it begins at {first}"))
        },
    )
    .await;
    machine.resume();
    let told = watching.events((last - first) as usize).await;
    let told: Vec<i64> = told.iter().map(revision).collect();
    assert!(told.iter().copied().eq(first + 1..=last), "{told:?}");
    assert!(machine.log().contains("is in force"), "{}", machine.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_wants_a_leader_ends_when_there_is_none() {
    let mut cluster = Cluster::start(Settings::trio()).await;
    let client = cluster.client();
    let mut patient = Watching::open(&client, 0).await.expect("it runs");
    patient.create(everything()).await;
    assert!(patient.told().await.created);
    let mut demanding = Watching::open_with_leader(&client, 0)
        .await
        .expect("it runs");
    demanding.create(everything()).await;
    assert!(demanding.told().await.created);
    for machine in [1, 2] {
        cluster.machines[machine].kill();
    }
    let end = demanding.response().await.expect_err("there is no leader");
    assert_eq!(
        (end.code(), end.message()),
        (Code::Unavailable, "etcdserver: no leader")
    );
    cluster.machines[1].start();
    client.put("a", "1").await;
    assert_eq!(shorts(&patient.events(1).await), ["2 a=1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_stops_ends_its_streams_and_is_not_held_up() {
    let mut cluster = Cluster::start(Settings::trio()).await;
    let client = cluster.client();
    let mut watching = Watching::open(&client, 1).await.expect("it runs");
    watching.create(everything()).await;
    assert!(watching.told().await.created);
    let status = cluster.machines[1].terminate().await;
    assert!(status.success(), "{status:?}");
    let end = watching
        .response()
        .await
        .expect_err("the machine has stopped");
    assert_eq!(end.code(), Code::Unavailable, "{end:?}");
}

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_that_a_watcher_holds_up_is_told_when_that_is_cancelled() {
    let cluster = Cluster::start(Settings::solo()).await;
    let client = cluster.client();
    let mut watching = Watching::open(&client, 0).await.expect("it runs");
    client.put("a", "1").await;
    for start in [1, 1_000] {
        watching.create(from(start, everything())).await;
    }
    let mut told = vec![watching.told().await, watching.told().await];
    told.push(watching.told().await);
    assert_eq!(told.iter().filter(|response| response.created).count(), 2);
    watching.progress().await;
    assert!(watching.is_silent_for(SILENCE).await);
    watching.cancel(1).await;
    let (ended, progress) = (watching.told().await, watching.told().await);
    assert!(ended.canceled && ended.watch_id == 1, "{ended:?}");
    assert_eq!((progress.watch_id, header_revision(&progress)), (-1, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_applier_that_is_slow_to_answer_is_not_asked_to_death() {
    let cluster = Cluster::start(Settings::solo()).await;
    let client = cluster.client();
    let mut watching = Watching::open(&client, 0).await.expect("it runs");
    watching.create(everything()).await;
    assert!(watching.told().await.created);
    // Longer than the Watcher waits before it asks again.
    client
        .arm_fault(0, "applier", "handler", "delay:250", 40)
        .await;
    for number in 2..6 {
        client.put("a", number.to_string()).await;
        let told = watching.events(1).await;
        assert_eq!(shorts(&told), [format!("{number} a={number}")]);
    }
}
