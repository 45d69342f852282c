//! Tens of thousands of leases on real machines, and changes of leader in their midst: none is lost, and all end whose time is over.

use std::time::Duration;

use futures::future::join_all;
use rm_proto::etcdserverpb::PutRequest;
use rm_tests::leases::{grant, list, renew};
use rm_tests::{Client, Cluster, Settings, until_within};

const LEASES: i64 = 20_000;
/// So many clients grant them at a time.
const CLIENTS: i64 = 64;
/// The times of those that live on, and of those that end, in seconds.
const LONG: i64 = 3_600;
const SHORT: i64 = 30;
/// How long it may take until those have ended on a slow, busy host.
const PATIENCE: Duration = Duration::from_secs(150);

fn is_long(id: i64) -> bool {
    id % 2 == 0
}

/// Whether a key hangs on it.
fn has_key(id: i64) -> bool {
    id % 20 < 2
}

fn key(id: i64) -> String {
    format!("{id:05}")
}

/// Grants a share of the leases.
async fn grant_some(client: &Client, first: i64) {
    for id in (first..=LEASES).step_by(CLIENTS as usize) {
        let ttl = if is_long(id) { LONG } else { SHORT };
        grant(client, id, ttl).await;
        if has_key(id) {
            put(client, id).await;
        }
    }
}

/// Puts a key that hangs on a lease. On a slow host a short one may have ended.
async fn put(client: &Client, id: i64) {
    let request = PutRequest {
        key: key(id).into(),
        lease: id,
        ..Default::default()
    };
    let mut turn = id as usize;
    until_within(PATIENCE, "a key is put that hangs on a lease", async || {
        turn += 1;
        let put = client
            .kv(turn % client.machines())
            .put(request.clone())
            .await;
        match put {
            Ok(_) => Ok(()),
            Err(status) if !is_long(id) && status.message().contains("lease not found") => Ok(()),
            Err(status) => Err(status.to_string()),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_twenty_thousand_leases_none_is_lost_and_all_end_in_time_whoever_leads() {
    let settings = Settings::trio().with_timings_of_an_operator();
    let cluster = Cluster::start(settings).await;
    let client = cluster.client();
    let granting = join_all((1..=CLIENTS).map(|first| grant_some(&client, first)));
    tokio::join!(granting, cluster.move_leader());
    // Who leads next reads them in many parts.
    cluster.move_leader().await;
    let long: Vec<i64> = (1..=LEASES).filter(|&id| is_long(id)).collect();
    until_within(PATIENCE, "all short ones have ended", async || {
        let found = list(&client, 0).await;
        assert!(found.len() >= long.len(), "a long one has ended");
        (found.len() == long.len())
            .then_some(())
            .ok_or(found.len().to_string())
    })
    .await;
    cluster.move_leader().await;
    for machine in 0..cluster.machines.len() {
        assert!(list(&client, machine).await == long, "machine {machine}");
    }
    let keys: Vec<_> = client.dump(0).await.into_iter().map(|kv| kv.key).collect();
    let expected = long.iter().filter(|&&id| has_key(id));
    let expected: Vec<_> = expected.map(|&id| key(id)).collect();
    assert_eq!(keys, expected);
    for id in [long[0], long[long.len() / 2], long[long.len() - 1]] {
        assert_eq!(renew(&client, 1, id).await.expect("it lives"), LONG);
    }
}
