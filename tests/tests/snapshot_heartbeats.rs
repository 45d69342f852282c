//! A large snapshot on its way delays no heartbeat, which would have a machine stand.

use std::time::Duration;

use rm_tests::host::Host;
use rm_tests::restarts::{restart, restarts};
use rm_tests::rmctl::json;
use rm_tests::silence::silence_max;
use rm_tests::{Behind, Client, Cluster, Settings, until};

/// How many values of how many bytes make the state large: 100 MiB.
const LARGE: (usize, usize) = (100, 1 << 20);

/// How often it is tried on a host that lets nobody run for too long.
const TRIES: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_snapshot_delays_no_heartbeat() {
    let settings = Settings::trio()
        .with_timings_of_an_operator()
        .with_short_logs()
        .with("supervision.hang_ms", 2_000)
        // As fast as it goes.
        .with("limits.snapshot_bytes_per_second", 1_u64 << 30);
    let mut cluster = Cluster::start(settings).await;
    let client = cluster.client();
    for _ in 0..TRIES {
        let behind = Behind::by(&mut cluster, &client, LARGE).await;
        if is_heard(&mut cluster, &client, &behind).await {
            cluster.assert_nobody_panicked();
            return;
        }
    }
    panic!("this host lets nobody run for so long that nothing can be said of heartbeats");
}

/// Starts a machine, and sees that it and the third hear of the leader all the while. Whether the host allows for an answer.
async fn is_heard(cluster: &mut Cluster, client: &Client, behind: &Behind) -> bool {
    let leader = cluster.leader().await;
    let other = (0..3).find(|place| ![leader, behind.place].contains(place));
    let other = other.expect("one of three");
    // No heartbeat waits for a disk, so that what the disk does excuses nothing.
    let host = Host::watch_processors(&cluster.folder());
    // So that silences from before do not count.
    restart(client, other, "logic_center").await;
    until("it follows its leader again", async || {
        let info = client.info_until(other).await;
        let follows = info.leader_silence_ms.is_some();
        follows.then_some(()).ok_or(format!("{info:?}"))
    })
    .await;
    let standing = [leader, other];
    let mut restarted = Vec::new();
    for place in standing {
        restarted.push(restarts(client, place).await);
    }
    let term = client.info_until(leader).await.term;
    cluster.machines[behind.place].start();
    behind.caught_up(cluster, client).await;
    let rows = json(&cluster.endpoints(), &["info"]);
    let stood_still = host.stood_still();
    let Some(bound) = silence_max(stood_still) else {
        println!("{stood_still:?}: nothing can be said");
        return false;
    };

    for place in [behind.place, other] {
        let (row, name) = (&rows[place], &cluster.machines[place].name);
        let silence = row["leader_silence_ms"].as_u64();
        let silence = silence.unwrap_or_else(|| panic!("{name} follows nobody: {row}"));
        let told = format!(
            "{name} heard nothing of its leader for at most {silence} ms; at most {bound:.0?} is right"
        );
        println!("{told}");
        assert!(Duration::from_millis(silence) <= bound, "{told}");
        assert_eq!(row["term"], term, "an election: {row}");
    }
    // An actor that was built anew has forgotten what it heard.
    for (place, before) in standing.into_iter().zip(restarted) {
        assert_eq!(restarts(client, place).await, before);
    }
    let joined = restarts(client, behind.place).await;
    assert!(joined.values().all(|&it| it == 0), "{joined:?}");
    true
}
