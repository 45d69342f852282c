//! Calls and streams of clients that want a leader, where there is none.

use prost::Message;
use rm_tests::raw::Raw;
use rm_tests::{Cluster, Settings, until};
use tonic::Code;

use crate::calls::{begin, leader, left_alone, patient, streams, told, unanswered};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_wants_a_leader_is_told_at_once_that_there_is_none() {
    let (_cluster, address) = left_alone(patient(Settings::trio())).await;
    let raw = Raw::connect(address).await;
    let headers = [("hasleader", "true")];
    let no_leader = (Code::Unavailable, "etcdserver: no leader");
    for (path, message) in unanswered().into_iter().chain(streams()) {
        let call = begin(&raw, path, &headers, &message).await;
        assert_eq!(told(&call.end().await), no_leader, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_wants_a_leader_ends_when_there_is_none_any_more() {
    let mut cluster = Cluster::start(Settings::trio().with_timings_of_an_operator()).await;
    let client = cluster.client();
    client.put("vote/1", "value").await;
    let raw = Raw::connect(cluster.machines[0].client).await;
    let mut opened = Vec::new();
    for (path, message) in streams() {
        if !path.contains("health") {
            let mut call = begin(&raw, path, &[("hasleader", "true")], &message).await;
            let first = call.message().await;
            first.unwrap_or_else(|status| panic!("{path}: {status}"));
            opened.push((path, call));
        }
    }
    for machine in [1, 2] {
        cluster.machines[machine].kill();
    }
    for (path, call) in opened {
        let no_leader = (Code::Unavailable, "etcdserver: no leader");
        assert_eq!(told(&call.end().await), no_leader, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_wants_a_leader_does_not_wait_for_its_first_look() {
    let settings = patient(Settings::trio().with_timings_of_an_operator());
    let cluster = Cluster::start(settings).await;
    until("a leader is asked while it leads", async || {
        first_look(&cluster).await
    })
    .await;
}

/// Asks a leader that nobody confirms. The error says what it was when it was asked, if it led no more.
async fn first_look(cluster: &Cluster) -> Result<(), String> {
    let leads = cluster.leader().await;
    let client = cluster.client();
    client.get(leads, "key").await;
    let mut raw = Raw::connect(cluster.machines[leads].client).await;
    let machines = cluster.machines.iter().enumerate();
    let others: Vec<_> = machines.filter(|(place, _)| *place != leads).collect();
    for (_, machine) in &others {
        machine.pause();
    }
    let headers = [("hasleader", "true")];
    let path = "/v3electionpb.Election/Observe";
    let call = raw.call(path, &headers, &leader().encode_to_vec()).await;
    // What comes behind it has found it there.
    raw.ping().await.expect("it answers");
    let role = client.info_until(leads).await.role;
    if role != "leader" {
        for (_, machine) in &others {
            machine.resume();
        }
        return Err(role);
    }
    let no_leader = (Code::Unavailable, "etcdserver: no leader");
    assert_eq!(told(&call.end().await), no_leader);
    Ok(())
}
