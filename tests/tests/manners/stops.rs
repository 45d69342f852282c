//! A machine that stops: what is under way is answered, and nobody else is let in.

use rm_tests::raw::Raw;
use rm_tests::{Cluster, Settings, until};
use tokio::net::TcpStream;
use tonic::Code;

use crate::calls::{begin, left_alone, patient, streams, told, unanswered};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_stops_answers_what_is_under_way() {
    let (mut cluster, address) = left_alone(patient(Settings::trio())).await;
    let mut raw = Raw::connect(address).await;
    let mut calls = Vec::new();
    for (path, message) in unanswered().into_iter().chain(streams()) {
        calls.push((path, begin(&raw, path, &[], &message).await));
    }
    // What comes behind them has found them there.
    raw.ping().await.expect("it answers");
    let machine = &mut cluster.machines[0];
    let told = async {
        for (path, call) in calls {
            let stopped = match path.contains("health") {
                // It says that nobody is served any more, and has no more to say.
                true => (Code::Ok, ""),
                false => (Code::Unavailable, "etcdserver: server stopped"),
            };
            assert_eq!(told(&call.end().await), stopped, "{path}");
        }
    };
    let (ended, ()) = tokio::join!(machine.terminate(), told);
    assert!(ended.success(), "{ended}");
    assert!(!machine.log().contains("cut off"), "{}", machine.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_stops_lets_nobody_in_while_others_take_what_they_are_told() {
    let settings = Settings::solo().with("timings.shutdown_timeout_ms", 600_000);
    let mut cluster = Cluster::start(settings).await;
    let client = cluster.client();
    for number in 0..32 {
        client
            .put(format!("large/{number}"), vec![7; 1 << 20])
            .await;
    }
    let address = cluster.machines[0].client;
    let raw = Raw::connect(address).await;
    let path = "/etcdserverpb.Maintenance/Snapshot";
    let mut slow = raw.call(path, &[], &[]).await;
    slow.message().await.expect("it begins");
    let told = async {
        until("nobody is let in", async || {
            let connected = TcpStream::connect(address).await;
            connected.map_or(Ok(()), |_| Err("somebody is".to_owned()))
        })
        .await;
        let stopped = (Code::Unavailable, "etcdserver: server stopped");
        assert_eq!(told(&slow.end().await), stopped);
    };
    let (ended, ()) = tokio::join!(cluster.machines[0].terminate(), told);
    assert!(ended.success(), "{ended}");
}
