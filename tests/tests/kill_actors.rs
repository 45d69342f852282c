//! Each actor of each machine fails in every way under load: others go on, it comes back, and clients see nothing wrong.
//!
//! `RM_ROUNDS` sets how often each fails in each way on each machine; twice when it is not set. Each test prints the times
//! that the recoveries took, beside those of the tests that ended before it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rm_proto::raftmachine::v1::Actor;
use rm_tests::times::spread;
use rm_tests::watching::{Watching, everything};
use rm_tests::writers::assert_nothing_lost;
use rm_tests::{Client, Cluster, Settings, Workload, Writers, rounds, until};
use tonic::Code;

/// The actors that are restarted with whatever of this group was started before them, in the order of their start.
const BRAIN: [&str; 4] = ["storage", "applier", "logic_center", "timer"];

/// All of them.
const ALL: [&str; 10] = [
    "listener",
    "sender",
    "logic_center",
    "storage",
    "applier",
    "timer",
    "gate",
    "watcher",
    "compactor",
    "lessor",
];

/// Those that can be replaced while they hang: LMDB's lock on the writer goes with a hung Storage or Applier.
const REPLACEABLE: [&str; 8] = [
    "listener",
    "sender",
    "logic_center",
    "timer",
    "gate",
    "watcher",
    "compactor",
    "lessor",
];

/// The ways to fail.
const WAYS: [&str; 3] = ["panic", "stop", "hang"];

/// How many operations must be answered between two faults.
const PROGRESS: usize = 10;

/// The exit code of a machine whose supervision gave up.
const GAVE_UP: i32 = 70;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_actor_that_panics_comes_back() {
    fail_everywhere("panic", &ALL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_actor_that_stops_comes_back() {
    fail_everywhere("stop", &ALL).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_actor_that_hangs_is_replaced() {
    fail_everywhere("hang", &REPLACEABLE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_storage_or_applier_ends_the_process_which_recovers_when_started_again() {
    let settings = Settings::trio().with("supervision.storage_hang_ms", 1_000);
    let mut cluster = Cluster::start(settings).await;
    let client = cluster.client();
    let writers = Writers::start(&client, 2);
    let workload = Workload::start(&client);
    let mut kills = 0;
    for actor in ["storage", "applier"] {
        for machine in 0..cluster.machines.len() {
            workload.progress(PROGRESS).await;
            fail(&client, machine, actor, "hang").await;
            let status = cluster.machines[machine].end().await;
            assert_eq!(status.code(), Some(GAVE_UP), "{actor} of machine {machine}");
            let log = cluster.machines[machine].log();
            assert!(log.contains(actor), "the log does not name {actor}");
            cluster.machines[machine].start();
            cluster.leader().await;
            client.actors(machine).await;
            kills += 1;
        }
    }
    let operations = workload.finish().await;
    let acknowledged = writers.finish().await;
    assert_nothing_lost(&acknowledged, &cluster.same_everywhere().await);
    println!(
        "\n{kills} processes ended by a hung storage or applier: {} acknowledged writes kept, {operations} operations linearizable",
        acknowledged.len()
    );
}

/// Lets these actors of every machine fail in one way under load, and checks what must hold during and after it.
async fn fail_everywhere(how: &str, actors: &[&'static str]) {
    let cluster = Cluster::start(Settings::trio()).await;
    let client = cluster.client();
    let processes: Vec<u32> = cluster.machines.iter().map(|m| m.process().0).collect();
    let writers = Writers::start(&client, 2);
    let workload = Workload::start(&client);
    // A Watcher has nothing to do where nobody watches.
    let watchers: Vec<_> = (0..cluster.machines.len())
        .map(|machine| {
            let client = client.clone();
            tokio::spawn(async move { keep_watching(&client, machine).await })
        })
        .collect();
    let mut recoveries: BTreeMap<&'static str, Vec<Duration>> = BTreeMap::new();
    for _ in 0..rounds(2) {
        for machine in 0..cluster.machines.len() {
            for actor in actors {
                workload.progress(PROGRESS).await;
                let before = client.actors(machine).await;
                fail(&client, machine, actor, how).await;
                let after = recovered(&client, machine, actor, &before).await;
                assert_restarted_as_the_strategy_says(actor, &before, &after);
                let recovery = named(&after, actor).recovery_us;
                let recovery = recovery.map(Duration::from_micros);
                recoveries.entry(actor).or_default().extend(recovery);
            }
        }
    }
    for watcher in watchers {
        watcher.abort();
    }
    let operations = workload.finish().await;
    let acknowledged = writers.finish().await;
    assert_nothing_lost(&acknowledged, &cluster.same_everywhere().await);
    let same: Vec<u32> = cluster.machines.iter().map(|m| m.process().0).collect();
    assert_eq!(same, processes, "no process was restarted");
    for (machine, process) in processes.iter().enumerate() {
        let info = client.info(machine).await.expect("every machine answers");
        assert_eq!(info.process, *process, "no process was restarted");
    }
    let kills: usize = recoveries.values().map(Vec::len).sum();
    println!(
        "\n{kills} kills by {how}: {} acknowledged writes kept, {operations} operations linearizable",
        acknowledged.len()
    );
    println!("{}", table_with(how, recoveries));
}

/// Watches everything on one machine, with a new stream whenever one ends.
async fn keep_watching(client: &Client, machine: usize) {
    loop {
        if let Ok(mut watching) = Watching::open(client, machine).await {
            watching.create(everything()).await;
            while watching.response().await.is_ok() {}
        }
        tokio::time::sleep(Duration::from_millis(10)).await; // it is down: dial again
    }
}

/// Lets one actor fail. An actor that is just being restarted, and that the fault has not struck, is tried again; a
/// machine that ends takes its answer with it.
async fn fail(client: &Client, machine: usize, actor: &str, how: &str) {
    until(&format!("{actor} fails by {how}"), async || {
        match client.kill_actor(machine, actor, how).await {
            Err(status) if status.code() == Code::FailedPrecondition => Err(status.to_string()),
            Err(status) if lost(&status) => Ok(()),
            Err(status) => panic!("{actor} cannot be made to {how}: {status}"),
            Ok(()) => Ok(()),
        }
    })
    .await;
}

/// Whether the answer is lost, rather than a refusal.
fn lost(status: &tonic::Status) -> bool {
    let codes = [
        Code::Unavailable,
        Code::Unknown,
        Code::Cancelled,
        Code::DeadlineExceeded,
        Code::Internal,
    ];
    codes.contains(&status.code())
}

/// Waits until the actor has failed once more, runs again, and has handled a message.
async fn recovered(client: &Client, machine: usize, actor: &str, before: &[Actor]) -> Vec<Actor> {
    let failures = named(before, actor).failures;
    until(&format!("{actor} comes back"), async || {
        let actors = client.actors(machine).await;
        let now = named(&actors, actor);
        let back = now.failures > failures && now.recovery_us.is_some();
        match back && actors.iter().all(|a| a.state == "running") {
            true => Ok(actors),
            false => Err(format!("{actors:?}")),
        }
    })
    .await
}

/// The actor and, in the brain, those started after it have their next incarnation; all others live on.
fn assert_restarted_as_the_strategy_says(failed: &str, before: &[Actor], after: &[Actor]) {
    let place = BRAIN.iter().position(|name| *name == failed);
    let restarted: &[&str] = match place {
        Some(place) => &BRAIN[place..],
        None => &[failed],
    };
    for name in ALL {
        let (old, new) = (named(before, name), named(after, name));
        let more = u64::from(restarted.contains(&name));
        assert_eq!(
            new.incarnation,
            old.incarnation + more,
            "the incarnation of {name} after {failed} failed; its last failure: {:?}",
            new.last_failure
        );
    }
}

fn named<'a>(actors: &'a [Actor], name: &str) -> &'a Actor {
    let found = actors.iter().find(|actor| actor.name == name);
    found.unwrap_or_else(|| panic!("there is no {name} in {actors:?}"))
}

/// What the tests of this process have measured, by the way to fail and the actor.
static MEASURED: Mutex<BTreeMap<String, BTreeMap<&str, Vec<Duration>>>> =
    Mutex::new(BTreeMap::new());

/// Adds what one test measured, and tells all so far in a Markdown table: from the failure to the first message handled.
fn table_with(how: &str, recoveries: BTreeMap<&'static str, Vec<Duration>>) -> String {
    let mut measured = MEASURED.lock().unwrap_or_else(PoisonError::into_inner);
    measured.insert(how.to_owned(), recoveries);
    let head = WAYS.map(|way| format!("{way}: min / median / max (ms)"));
    let mut lines = vec![
        format!("| actor | {} |", head.join(" | ")),
        "|---|--:|--:|--:|".to_owned(),
    ];
    for actor in ALL {
        let cells = WAYS.map(
            |way| match measured.get(way).map(|times| times.get(actor)) {
                None => "not measured".to_owned(),
                Some(None) => "ends the process".to_owned(),
                Some(Some(times)) => spread(times),
            },
        );
        lines.push(format!("| {actor} | {} |", cells.join(" | ")));
    }
    lines.join("\n")
}
