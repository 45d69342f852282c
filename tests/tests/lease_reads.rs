//! A leader that hears nobody answers reads by its lease, whether a read asks for that or the config does, and by a quorum none.

use std::time::Duration;

use rm_tests::{Client, Cluster, Settings};
use serde_json::{Value, json};

/// The lease lasts nearly as long, which is much longer than anything here takes; no test waits for its end.
const ELECTION_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads at the leader, with this word in the header, or none: the value.
async fn read(client: &Client, leader: usize, word: Option<&str>) -> String {
    let answer = match word {
        Some(word) => client.get_by(leader, word, "key").await,
        None => client.get_on(leader, "key", false).await,
    };
    let pair = answer.unwrap_or_else(|status| panic!("a read by {word:?} is answered: {status}"));
    let pair = pair.expect("it was written");
    String::from_utf8_lossy(&pair.value).into_owned()
}

/// Pauses both followers, and sees that a read with the one word is answered meanwhile, and one with the other is not.
async fn the_lease_answers_alone(reads: Value, by_lease: Option<&str>, by_quorum: Option<&str>) {
    let timeout = ELECTION_TIMEOUT.as_millis() as u64;
    let settings = Settings::trio()
        .with("timings.election_timeout_ms", timeout)
        .with("reads", reads);
    let cluster = Cluster::start(settings).await;
    let client = cluster.client();
    let leader = cluster.leader().await;
    client.put("key", "value").await;
    // A quorum has answered a round, and promised its loyalty, without which there is no lease yet.
    assert_eq!(read(&client, leader, Some("quorum")).await, "value");
    for follower in [(leader + 1) % 3, (leader + 2) % 3] {
        cluster.machines[follower].pause_whole().await;
    }
    // A round that begins now is answered by nobody, though answers to earlier ones may be on their way.
    let waits = read(&client, leader, by_quorum);
    tokio::pin!(waits);
    // One round trip after the other, so that the first read is at the leader before the last of these.
    let answered = async {
        for _ in 0..3 {
            assert_eq!(read(&client, leader, by_lease).await, "value");
        }
    };
    tokio::select! {
        biased;
        value = &mut waits => panic!("{value:?} is confirmed by nobody"),
        () = answered => {}
    }
    for follower in [(leader + 1) % 3, (leader + 2) % 3] {
        cluster.machines[follower].resume();
    }
    assert_eq!(waits.await, "value");
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_asks_for_it_is_answered_by_the_lease_alone() {
    let reads = json!({ "clock_drift_percent": 10 });
    the_lease_answers_alone(reads, Some("lease"), None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_asks_for_nothing_is_answered_by_the_lease_alone_where_the_config_says_so() {
    let reads = json!({ "clock_drift_percent": 10, "default": "lease" });
    the_lease_answers_alone(reads, None, Some("quorum")).await;
}
