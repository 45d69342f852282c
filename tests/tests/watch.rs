//! Watches, on real machines: in order, each event once, from any revision on.

use bytes::Bytes;
use rm_proto::etcdserverpb::watch_create_request::FilterType;
use rm_proto::etcdserverpb::{
    PutRequest, RequestOp, TxnRequest, WatchCreateRequest, request_op::Request,
};
use rm_tests::watching::{
    Watching, everything, from, header_revision, prefix, revision, shorts, some_history,
    write_up_to,
};
use rm_tests::{Cluster, Settings};
use tokio::sync::watch;
use tonic::Code;

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
        watching.progress().await;
        assert_eq!(
            watching.told().await.watch_id,
            -1,
            "it is told nothing more"
        );
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
    // All of them were cancelled: only a new one is told of what happens now.
    watching.create(everything()).await;
    let created = watching.told().await;
    assert!(created.created, "{created:?}");
    client.put("a", "3").await;
    let told = watching.told().await;
    assert_eq!(told.watch_id, created.watch_id);
    assert_eq!(shorts(&told.events), ["6 a=3"]);
    watching.progress().await;
    assert_eq!(watching.told().await.watch_id, -1, "nobody is told more");
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
    let mut beside = Watching::open(&client, 0).await.expect("it runs");
    let request = WatchCreateRequest {
        progress_notify: true,
        ..everything()
    };
    watching.create(from(5, request.clone())).await;
    assert!(watching.told().await.created);
    beside.create(request).await;
    assert!(beside.told().await.created);
    watching.progress().await;
    for value in ["2", "3", "4"] {
        client.put("a", value).await;
    }
    // Whoever is there is told of progress again and again meanwhile.
    let mut notices = 0;
    while notices < 3 {
        notices += usize::from(beside.told().await.events.is_empty());
    }
    client.put("a", "5").await;
    let told = watching.told().await;
    assert_eq!(shorts(&told.events), ["5 a=5"], "not even progress before");
    let progress = watching.told().await;
    assert!(progress.events.is_empty() && header_revision(&progress) >= 5);
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
    watching.cancel(1).await;
    let (ended, progress) = (watching.told().await, watching.told().await);
    assert!(ended.canceled && ended.watch_id == 1, "{ended:?}");
    assert_eq!((progress.watch_id, header_revision(&progress)), (-1, 2));
}
