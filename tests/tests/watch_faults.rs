//! Watches, on real machines of which parts fail, or whose clients are slow: nothing is lost, and nothing is told twice.

use bytes::Bytes;
use rm_tests::watching::{
    Watching, everything, follow, from, prefix, revision, shorts, write_up_to,
};
use rm_tests::{Cluster, Settings, until};
use tokio::sync::watch;

/// Listens to watchers that are told everything until each was told all up to a revision; `told` is up to which each was, by its number.
async fn listen_up_to(watching: &mut Watching, told: &mut [i64], last: i64) {
    while told.iter().any(|&told| told < last) {
        let response = watching.told().await;
        for event in response.events {
            let told = &mut told[response.watch_id as usize];
            assert_eq!(revision(&event), *told + 1, "each once, and none left out");
            *told += 1;
        }
    }
}

/// Three watchers of a client that does not listen for long, and one of another client that does, with so many milliseconds from one
/// checkpoint to the next.
async fn a_slow_client_loses_nothing(checkpoint_interval_ms: u64) {
    let settings = Settings::trio()
        .with("watch.queue_bytes_max", 100_000)
        .with("watch.recent_bytes_max", 100_000)
        .with("storage.checkpoint_bytes", 1 << 30)
        .with("storage.checkpoint_interval_ms", checkpoint_interval_ms);
    let cluster = Cluster::start(settings).await;
    let client = cluster.client();
    let mut slow = Watching::open(&client, 0).await.expect("it runs");
    let mut quick = Watching::open(&client, 0).await.expect("it runs");
    for request in [everything(), prefix("k"), from(1, prefix("k"))] {
        slow.create(request).await;
        assert!(slow.told().await.created);
    }
    quick.create(everything()).await;
    assert!(quick.told().await.created);
    // Far more than what the windows of HTTP/2 and both bounds hold.
    let value = Bytes::from(vec![b'x'; 100_000]);
    let (mut told, mut told_slow) = ([1], [1; 3]);
    for _ in 0..400 {
        // It may be written twice, if an answer is lost.
        let put = client.put("k", value.clone()).await;
        let last = put.header.expect("every answer has one").revision;
        listen_up_to(&mut quick, &mut told, last).await;
    }
    listen_up_to(&mut slow, &mut told_slow, told[0]).await;
    let put = client.put("k", "last").await;
    let last = put.header.expect("every answer has one").revision;
    listen_up_to(&mut slow, &mut told_slow, last).await;
    listen_up_to(&mut quick, &mut told, last).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_17529_a_slow_client_is_told_the_rest_from_the_disk_and_holds_up_nobody() {
    a_slow_client_loses_nothing(300).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_17529_a_slow_client_is_told_from_memory_what_is_in_no_checkpoint() {
    a_slow_client_loses_nothing(600_000).await;
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
async fn an_applier_that_is_slow_to_answer_is_not_asked_to_death() {
    let cluster = Cluster::start(Settings::solo()).await;
    let client = cluster.client();
    let mut watching = Watching::open(&client, 0).await.expect("it runs");
    watching.create(everything()).await;
    assert!(watching.told().await.created);
    // Each message takes far longer than the Watcher waits before it asks again, and there is always news.
    client
        .arm_fault(0, "applier", "handler", "delay:400", 10_000)
        .await;
    let last = 100;
    let writers: Vec<_> = (0..16)
        .map(|_| tokio::spawn(write_up_to(client.clone(), last, watch::Sender::new(1))))
        .collect();
    listen_up_to(&mut watching, &mut [1], last).await;
    for writer in writers {
        writer.await.expect("the writes go on");
    }
}
