//! Supervision to its end: a group that fails too often ends the process, which loses nothing.

use rm_tests::panics::{self, Asked};
use rm_tests::writers::assert_nothing_lost;
use rm_tests::{Client, Cluster, Settings, Writers, until};

/// How many failures within the window each group endures in this test.
const INTENSITY: u64 = 2;

/// The window within which failures are counted: longer than the test, so that none drops out of it.
const WINDOW_MS: u64 = 600_000;

/// The exit code of a machine whose supervision gave up.
const GAVE_UP: i32 = 70;

/// One actor of each group, with the group.
const GROUPS: [(&str, &str); 3] = [
    ("logic_center", "brain"),
    ("sender", "net"),
    ("gate", "front"),
];

/// A machine alone: what it serves afterwards it can have from nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_fails_too_often_ends_the_process_which_serves_all_it_had_when_started_again()
{
    let mut settings = Settings::solo();
    for (_, group) in GROUPS {
        settings = settings
            .with(&format!("supervision.{group}.intensity"), INTENSITY)
            .with(&format!("supervision.{group}.window_ms"), WINDOW_MS);
    }
    let mut cluster = Cluster::start(settings).await;
    let client = cluster.client();
    let writers = Writers::start(&client, 2);
    for (actor, group) in GROUPS {
        writers.progress(50).await;
        for _ in 0..INTENSITY {
            fail(&client, actor).await;
        }
        writers.progress(50).await;
        assert_eq!(cluster.machines[0].ended(), None, "{group} endures so many");

        // The answer is lost with the process.
        let _ = client.kill_actor(0, actor, "panic").await;
        let status = cluster.machines[0].end().await;
        assert_eq!(status.code(), Some(GAVE_UP), "{actor} of {group}: {status}");
        let log = cluster.machines[0].take_log();
        assert_last_words(&log, actor, group);
        assert_eq!(panics::first(&log, Asked::Faults), None);

        cluster.machines[0].start();
        cluster.leader().await;
    }
    writers.progress(50).await;
    let acknowledged = writers.finish().await;
    assert_nothing_lost(&acknowledged, &cluster.same_everywhere().await);
}

/// Lets the actor panic, and waits until it runs again.
async fn fail(client: &Client, actor: &str) {
    let failures = failures_if_running(client, actor).await;
    let failures = failures.expect("it runs before it fails");
    let killed = client.kill_actor(0, actor, "panic").await;
    killed.unwrap_or_else(|status| panic!("{actor} cannot be made to panic: {status}"));
    until(
        &format!("{actor} runs again"),
        async || match failures_if_running(client, actor).await {
            Some(now) if now == failures + 1 => Ok(()),
            now => Err(format!("it failed {failures} times, now {now:?}")),
        },
    )
    .await;
}

/// How often the actor has failed; nothing while it does not run.
async fn failures_if_running(client: &Client, actor: &str) -> Option<u64> {
    let actors = client.actors(0).await;
    let found = actors.into_iter().find(|each| each.name == actor);
    let found = found.unwrap_or_else(|| panic!("there is no {actor}"));
    (found.state == "running").then_some(found.failures)
}

/// The process must say, in a line for whoever started it, which actor of which group failed more than how often.
fn assert_last_words(log: &str, actor: &str, group: &str) {
    let words = "raft-machine: the supervisor gave up: ";
    let line = log.lines().find_map(|line| line.strip_prefix(words));
    let reason = line.unwrap_or_else(|| panic!("the process does not say why it ends:\n{log}"));
    let expected = format!(
        "{actor} failed and the group {group} has had more than {INTENSITY} failures within {WINDOW_MS} ms; the last: "
    );
    assert!(reason.starts_with(&expected), "{reason:?}");
}
