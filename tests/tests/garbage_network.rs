//! Garbage on the ports: refused, and neither the machines nor their clients take harm.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use rm_proto::etcdserverpb::{PutResponse, WatchCancelRequest};
use rm_proto::raftmachine::v1::PeerRefusal;
use rm_tests::machine::Machine;
use rm_tests::rmctl::done;
use rm_tests::writers::assert_nothing_lost;
use rm_tests::{Client, Cluster, Settings, Writers, until};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;

/// How many datagrams of each kind.
const DATAGRAMS: usize = 500;

/// How clients of HTTP/2 begin.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_on_the_peer_port_does_no_harm() {
    let mut cluster = Cluster::start(Settings::trio()).await;
    let writers = Writers::start(&cluster.client(), 2);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let mut random = 7;
    for machine in &cluster.machines {
        for number in 0..DATAGRAMS {
            let noise = noise(&mut random, 1 + number * 3 % 1_400);
            send(&socket, machine.peer, &noise);
            send(&socket, machine.peer, &quic_initial(&noise, number));
        }
        writers.progress(20).await;
    }
    let acknowledged = writers.finish().await;
    assert_nothing_lost(&acknowledged, &cluster.same_everywhere().await);
    let client = cluster.client();
    for machine in 0..cluster.machines.len() {
        // Some of the noise looks like a handshake, which QUIC itself takes or leaves.
        until("the noise is counted", async || {
            let info = client.info(machine).await.map_err(|e| e.to_string())?;
            let noise = DATAGRAMS as u64 / 2;
            let counted = info.refused >= noise;
            counted
                .then_some(())
                .ok_or(format!("{} refused", info.refused))
        })
        .await;
    }
    unharmed(&mut cluster);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_on_the_client_port_does_no_harm() {
    let mut cluster = Cluster::start(Settings::trio()).await;
    let writers = Writers::start(&cluster.client(), 2);
    let mut random = 11;
    for machine in &cluster.machines {
        for garbage in garbage(&mut random) {
            throw(machine.client, &garbage).await;
        }
        wrong_message(machine.client).await;
        writers.progress(20).await;
    }
    let acknowledged = writers.finish().await;
    assert_nothing_lost(&acknowledged, &cluster.same_everywhere().await);
    unharmed(&mut cluster);
}

/// A machine that has our addresses in its config, but another domain. It and those that it dials say so, once each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_of_another_domain_is_not_heard() {
    let mut cluster = Cluster::start(Settings::trio()).await;
    let client = cluster.client();
    client.put("before", "value").await;
    cluster.machines[2].kill();
    let mut stranger = stranger(&cluster);
    stranger.start();
    let writers = Writers::start(&client, 2);
    writers.progress(200).await;
    let info = until("the stranger answers its clients", async || {
        client.info(2).await.map_err(|status| status.to_string())
    })
    .await;
    assert_eq!(info.domain, "other.example");
    assert_eq!(
        (info.leader, info.commit_index),
        (0, 0),
        "it neither leads nor follows"
    );
    let names = [0, 1, 2].map(|place| cluster.machines[place].name.as_str());
    for (place, peers, reason) in [
        (
            2,
            &names[..2],
            r#"domain "other.example", this machine to "tests.example""#,
        ),
        (
            0,
            &names[2..],
            r#"domain "tests.example", this machine to "other.example""#,
        ),
    ] {
        until("all refusals are told", async || {
            let told = refusals(&client, place).await?;
            let by = told.iter().map(|refusal| refusal.peer.as_str());
            (by.eq(peers.iter().copied()) && told.iter().all(|it| it.reason.contains(reason)))
                .then_some(())
                .ok_or(format!("{told:?}"))
        })
        .await;
    }
    let shown = done(&stranger.client.to_string(), &["info"]);
    for line in [
        format!(
            "{} does not speak to {}: it refuses this machine",
            names[2], names[0]
        ),
        format!(
            "{} does not speak to {}: it refuses this machine",
            names[0], names[2]
        ),
    ] {
        assert!(shown.contains(&line), "{line}:\n{shown}");
    }
    // The refusals go on, at most one in 50 ms, and are looked at each second.
    let refused = async || {
        let info = client.info(0).await.map_err(|e| e.to_string())?;
        Ok(info.refused)
    };
    let before: Result<u64, String> = refused().await;
    let before = before.expect("it runs");
    until("it is refused again and again", async || {
        let now: u64 = refused().await?;
        let enough = now >= before + 40;
        enough.then_some(()).ok_or(format!("{now} after {before}"))
    })
    .await;
    assert_eq!(times_told(&stranger), 2, "{}", stranger.log());
    assert!(stranger.ended().is_none(), "being refused does not end it");
    stranger.kill();

    cluster.machines[2].start();
    let acknowledged = writers.finish().await;
    assert_nothing_lost(&acknowledged, &cluster.same_everywhere().await);
    for place in 0..3 {
        until("no refusal is left", async || {
            let told = refusals(&client, place).await?;
            told.is_empty().then_some(()).ok_or(format!("{told:?}"))
        })
        .await;
    }
    for (place, times) in [1, 1, 0].into_iter().enumerate() {
        let machine = &cluster.machines[place];
        assert_eq!(times_told(machine), times, "{}", machine.log());
    }
    unharmed(&mut cluster);
}

async fn refusals(client: &Client, machine: usize) -> Result<Vec<PeerRefusal>, String> {
    let info = client.info(machine).await.map_err(|e| e.to_string())?;
    Ok(info.refusals)
}

/// How often its log tells of a refusal.
fn times_told(machine: &Machine) -> usize {
    let log = machine.log();
    log.matches("since one of the two refuses the other")
        .count()
}

fn stranger(cluster: &Cluster) -> Machine {
    let ours = &cluster.machines[2];
    let text = std::fs::read_to_string(&ours.config).expect("it was written");
    let mut config: Value = serde_json::from_str(&text).expect("the harness writes JSON");
    let folder = cluster.folder();
    let data = folder.join("stranger");
    config["domain"] = json!("other.example");
    config["data_dir"] = json!(data);
    let file = folder.join("stranger.json");
    std::fs::write(&file, config.to_string()).expect("the folder can be written");
    let log = folder.join("stranger.log");
    Machine::new(ours.name.clone(), ours.client, ours.peer, file, data, log)
}

fn unharmed(cluster: &mut Cluster) {
    for machine in &mut cluster.machines {
        assert_eq!(machine.ended(), None, "{} ended", machine.name);
    }
    cluster.assert_nobody_panicked();
}

/// Bytes that are the same in every run.
fn noise(random: &mut u64, length: usize) -> Vec<u8> {
    let mut byte = || {
        *random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (*random >> 56) as u8
    };
    (0..length).map(|_| byte()).collect()
}

/// What looks like the first packet of a QUIC connection (RFC 9000, 17.2.2), cut off anywhere.
fn quic_initial(noise: &[u8], number: usize) -> Vec<u8> {
    let mut packet = vec![0xc3, 0, 0, 0, 1, 8];
    packet.extend(number.to_be_bytes());
    packet.extend([0, 0, 0x44, 0xb0]);
    packet.extend(noise);
    packet.resize(1_200, 0);
    packet.truncate(if number.is_multiple_of(3) {
        1_200
    } else {
        number % 1_200
    });
    packet
}

fn send(socket: &UdpSocket, to: SocketAddr, bytes: &[u8]) {
    let sent = socket.send_to(bytes, to).expect("loopback takes datagrams");
    assert_eq!(sent, bytes.len());
}

/// What arrives at a port that is open to all.
fn garbage(random: &mut u64) -> Vec<Vec<u8>> {
    let huge_frame = [0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1];
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let data_on_no_stream = [0, 0, 4, 0, 1, 0, 0, 0, 9, 1, 2, 3, 4];
    let broken_headers = [0, 0, 3, 1, 4, 0, 0, 0, 1, 0xff, 0xff, 0xff];
    let unknown_frame = [0, 0, 1, 0x7f, 0xff, 0x7f, 0xff, 0xff, 0xff, 0];
    vec![
        noise(random, 1),
        noise(random, 20_000),
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        b"POST /etcdserverpb.KV/Put HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        PREFACE[..10].to_vec(),
        [PREFACE, &noise(random, 5_000)].concat(),
        [PREFACE, &settings, &huge_frame, &noise(random, 1_000)].concat(),
        [PREFACE, &settings, &data_on_no_stream].concat(),
        [PREFACE, &settings, &broken_headers].concat(),
        [PREFACE, &settings, &unknown_frame].concat(),
    ]
}

/// Sends it, and hears the machine out until it hangs up, or has said nothing for a while.
async fn throw(to: SocketAddr, garbage: &[u8]) {
    let mut stream = TcpStream::connect(to).await.expect("the port is open");
    // The machine may hang up in the middle of it.
    let _ = stream.write_all(garbage).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    let hears = stream.read_to_end(&mut answer);
    let _ = tokio::time::timeout(Duration::from_millis(200), hears).await;
}

/// A sound call whose message is one of another kind.
async fn wrong_message(to: SocketAddr) {
    let endpoint = Endpoint::from_shared(format!("http://{to}")).expect("an address makes a URI");
    let mut grpc = Grpc::new(endpoint.connect_lazy());
    grpc.ready().await.expect("the machine takes connections");
    // Its first field is a number; that of a PutRequest is a key.
    let message = WatchCancelRequest { watch_id: 7 };
    let codec = ProstCodec::<WatchCancelRequest, PutResponse>::default();
    let path = PathAndQuery::from_static("/etcdserverpb.KV/Put");
    let answer = grpc.unary(tonic::Request::new(message), path, codec).await;
    answer.expect_err("a message of another kind is refused");
}
