//! Clients that ping: how often they may, and that they are told why they are sent away.

use std::net::SocketAddr;
use std::time::Duration;

use prost::Message;
use rm_tests::asks::{range, watch};
use rm_tests::raw::Raw;
use rm_tests::{Cluster, Settings, until};
use tonic::Code;

use crate::calls::{begin, both};

/// Pings, one behind the answer to the other, until the connection ends for that: without a call, or with one that waits. A ping that
/// meets the end on its way may keep the client from hearing why: then again.
async fn ping_until_sent_away(address: SocketAddr, waits: bool) {
    let watch = watch().encode_to_vec();
    until("it is told why it is sent away", async || {
        let mut raw = Raw::connect(address).await;
        let _watching = match waits {
            true => {
                let path = "/etcdserverpb.Watch/Watch";
                let mut watching = begin(&raw, path, &[], &watch).await;
                watching.message().await.expect("it is created");
                Some(watching)
            }
            false => None,
        };
        for _ in 0..100 {
            if raw.ping().await.is_err() {
                break;
            }
        }
        let told = raw.ended().await.map_err(|error| error.to_string());
        match told {
            // So h2 words the code for it, and after it what it was told.
            Err(told) if told.contains("excessive load") && told.contains("too_many_pings") => {
                Ok(())
            }
            told => Err(format!("{told:?} by {address}")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_pings_too_often_is_sent_away_as_by_etcd() {
    let (_etcd, cluster, addresses) = both().await;
    for address in addresses {
        ping_until_sent_away(address, false).await;
        ping_until_sent_away(address, true).await;
        // Each ping follows an answer.
        let mut raw = Raw::connect(address).await;
        for _ in 0..20 {
            let range = range().encode_to_vec();
            let call = raw.call("/etcdserverpb.KV/Range", &[], &range).await;
            assert_eq!(call.end().await.code(), Code::Ok, "{address}");
            raw.ping().await.expect("it may stay");
        }
    }
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_often_a_client_may_ping_is_in_the_config() {
    let settings = Settings::solo().with("clients.keepalive_min_seconds", 1);
    let cluster = Cluster::start(settings).await;
    let mut raw = Raw::connect(cluster.machines[0].client).await;
    for _ in 0..6 {
        raw.ping().await.expect("it may stay");
        // Not to wait for anything, but to be as slow as the config asks for.
        tokio::time::sleep(Duration::from_millis(1_001)).await;
    }
    ping_until_sent_away(cluster.machines[0].client, false).await;
    drop(cluster);
    let settings = Settings::solo().with("clients.keepalive_min_seconds", 0);
    let cluster = Cluster::start(settings).await;
    let mut raw = Raw::connect(cluster.machines[0].client).await;
    for _ in 0..100 {
        raw.ping().await.expect("it may stay");
    }
}
