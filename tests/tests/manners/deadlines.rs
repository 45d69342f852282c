//! The deadline of a call: it ends the call, and frees what that holds.

use prost::Message;
use rm_proto::etcdserverpb::{RangeRequest, SnapshotRequest};
use rm_tests::asks::{put, range};
use rm_tests::raw::{Call, Raw};
use rm_tests::{Cluster, Settings, until};
use tonic::Code;

use crate::calls::{begin, left_alone, patient, streams, told, unanswered};

/// What a call is told that waits for longer than it wants to.
const PASSED: (Code, &str) = (Code::DeadlineExceeded, "context deadline exceeded");

/// What a call is told for which there is no place.
const TOO_MANY: (Code, &str) = (Code::ResourceExhausted, "etcdserver: too many requests");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_ends_at_its_deadline() {
    let (_cluster, address) = left_alone(patient(Settings::trio())).await;
    let raw = Raw::connect(address).await;
    let soon = [("grpc-timeout", "400m")];
    let mut calls: Vec<(&str, Call)> = Vec::new();
    for (path, message) in unanswered().into_iter().chain(streams()) {
        calls.push((path, begin(&raw, path, &soon, &message).await));
    }
    for (path, call) in calls {
        assert_eq!(told(&call.end().await), PASSED, "{path}");
    }
    let range = RangeRequest {
        serializable: true,
        ..range()
    };
    let wrong = [("grpc-timeout", "soon")];
    let refused = raw
        .call("/etcdserverpb.KV/Range", &wrong, &range.encode_to_vec())
        .await;
    let refused = refused.end().await;
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert!(refused.message().contains("grpc-timeout"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_frees_what_a_client_holds_that_takes_nothing() {
    let settings = Settings::solo().with("limits.snapshot_clients_max", 1);
    let cluster = Cluster::start(settings).await;
    let client = cluster.client();
    for number in 0..32 {
        client
            .put(format!("large/{number}"), vec![7; 1 << 20])
            .await;
    }
    let path = "/etcdserverpb.Maintenance/Snapshot";
    let address = cluster.machines[0].client;
    let snapshot = SnapshotRequest {}.encode_to_vec();
    let mut idle = Raw::connect(address).await;
    let untaken = idle.call(path, &[("grpc-timeout", "1S")], &snapshot).await;
    // What comes behind it has found it there.
    idle.ping().await.expect("it answers");
    until("there is room for another", async || {
        let other = Raw::connect(address).await;
        let mut snapshot = other.call(path, &[], &snapshot).await;
        snapshot
            .message()
            .await
            .map_err(|status| status.to_string())
    })
    .await;
    assert_eq!(told(&untaken.end().await), PASSED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_dropped_or_whose_time_is_over_frees_its_place() {
    let settings = patient(Settings::trio()).with("limits.requests_max", 6);
    let (_cluster, address) = left_alone(settings).await;
    let raw = Raw::connect(address).await;
    let (put, range) = (put().encode_to_vec(), range().encode_to_vec());
    let ask = async |time: &str| {
        let headers = [("grpc-timeout", time)];
        let call = raw.call("/etcdserverpb.KV/Put", &headers, &put).await;
        call.end().await
    };
    for round in ["dropped", "over"] {
        let headers: &[(&str, &str)] = match round {
            "dropped" => &[],
            _ => &[("grpc-timeout", "3S")],
        };
        let mut held = Vec::new();
        until("all places are taken", async || {
            held.push(raw.call("/etcdserverpb.KV/Put", headers, &put).await);
            held.push(raw.call("/etcdserverpb.KV/Range", headers, &range).await);
            let status = ask("200m").await;
            let is_full = told(&status) == TOO_MANY;
            is_full.then_some(()).ok_or(status.to_string())
        })
        .await;
        if round == "dropped" {
            held.clear();
        }
        until("there are places again", async || {
            let status = ask("200m").await;
            let is_admitted = told(&status) == PASSED;
            is_admitted.then_some(()).ok_or(status.to_string())
        })
        .await;
    }
}
