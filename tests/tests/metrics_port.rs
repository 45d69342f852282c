//! The port for monitors and probes beside that for clients: plain HTTP whatever clients must show, and no call.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::process::Command;

use rm_tests::authority::Authority;
use rm_tests::binary::raft_machine;
use rm_tests::curl::{self, curl, get};
use rm_tests::machine::die_with_the_test;
use rm_tests::ports::{Port, claim};
use rm_tests::wait::PATIENCE;
use rm_tests::{Client, Cluster, Settings, prometheus, until};
use rm_tls::{ClientFiles, Dialler};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The most connections at a time, as the machine has it.
const CONNECTIONS_MAX: usize = 64;

/// Gives each machine of a cluster that is not started yet a port for monitors.
fn give_ports(cluster: &Cluster) -> Vec<Port> {
    let ports = claim(cluster.machines.len());
    let path = &cluster.machines[0].config;
    let text = std::fs::read(path).expect("it was written");
    let mut config: Value = serde_json::from_slice(&text).expect("the harness writes JSON");
    for (machine, port) in ports.iter().enumerate() {
        config["machines"][machine]["metrics"] = json!(port.address);
    }
    std::fs::write(path, config.to_string()).expect("the folder can be written");
    ports
}

async fn assert_answers(address: SocketAddr, page: &str, status: u16) {
    let url = format!("http://{address}{page}");
    until(&format!("{url} answers {status}"), async || {
        let answer = curl::command(&[&url]).output();
        let answer = answer.map_err(|error| error.to_string())?;
        let printed = String::from_utf8_lossy(&answer.stdout).into_owned();
        match printed.starts_with(&format!("HTTP/1.1 {status} ")) {
            true => Ok(()),
            false => Err(printed),
        }
    })
    .await;
}

/// Asks for a page on a connection that is kept: whether there is an answer. A connection that is not let in ends.
async fn is_answered(connection: &mut TcpStream) -> bool {
    let request = b"GET /livez HTTP/1.1\r\nhost: monitor\r\n\r\n";
    // It may have ended before.
    let _ = connection.write_all(request).await;
    let mut begin = [0; 12];
    connection.read_exact(&mut begin).await.is_ok() && begin.starts_with(b"HTTP/1.1")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn monitors_need_no_certificate_where_clients_do_and_can_call_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let authority = Authority::new(folder.path(), "ours");
    let machine = authority.sign("machine", &["127.0.0.1"]);
    let tls = json!({
        "certificate": machine.certificate, "key": machine.key,
        "ca": authority.ca(), "client_ca": authority.ca(),
    });
    let mut cluster = Cluster::prepare(Settings::trio().with("clients.tls", tls)).await;
    let ports = give_ports(&cluster);
    let shown = ClientFiles {
        authority: Some(authority.ca()),
        identity: Some((machine.certificate, machine.key)),
        believe_anybody: false,
    };
    cluster.dialler = Some(Dialler::new(&shown).expect("the certificates are good"));
    cluster.start_all();
    cluster.leader().await;
    let ca = authority.ca();
    let ca = ca.to_str().expect("a temporary folder has a text");
    for (machine, port) in cluster.machines.iter().zip(&ports) {
        let barred = format!("https://{}/health", machine.client);
        let barred = curl::command(&["--cacert", ca, &barred]).output();
        assert!(!barred.expect("curl can be run").status.success());

        let address = port.address;
        for page in ["/readyz", "/readyz/linearizable_read", "/livez", "/health"] {
            assert_answers(address, page, 200).await;
        }
        let url = |page: &str| format!("http://{address}{page}");
        let head = curl(&["--head", &url("/livez")]);
        assert_eq!((head.status, head.body.as_str()), (200, ""));
        let page = prometheus::Page::parse(&get(&url("/metrics")).body);
        let leader = page
            .expect("it is strict")
            .value("etcd_server_has_leader", &[]);
        assert!((0.0..=1.0).contains(&leader), "{leader}");

        assert_eq!(curl(&["--data", "", &url("/health")]).status, 405);
        let put = r#"{"key":"YQ==","value":"Yg=="}"#;
        for nothing in ["/version", "/", "/v3/kv/put", "/v3/kv/range", "/debug/vars"] {
            let url = url(nothing);
            assert_eq!(get(&url).status, 404, "{nothing}");
            assert_eq!(curl(&["--data", put, &url]).status, 404, "{nothing}");
        }
        // Nor by gRPC's own client.
        let called = Client::new([address]).status(0).await;
        called.expect_err("no call is served");
    }
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn monitors_come_in_where_no_more_clients_do_and_not_without_end() {
    let settings = Settings::solo().with("limits.client_connections_max", 1);
    let mut cluster = Cluster::prepare(settings).await;
    let ports = give_ports(&cluster);
    cluster.start_all();
    let address = ports[0].address;
    assert_answers(address, "/readyz", 200).await;

    let client = cluster.client();
    until("a client has the only place", async || {
        let status = client.status(0).await;
        status.map(drop).map_err(|status| status.to_string())
    })
    .await;
    let mut other = TcpStream::connect(cluster.machines[0].client).await;
    let other = other.as_mut().expect("the system lets it in");
    assert!(!is_answered(other).await, "it has the place of another");
    assert_answers(address, "/readyz", 200).await;
    client.status(0).await.expect("it still has its place");

    until("one monitor more is not let in", async || {
        let mut let_in = Vec::new();
        for number in 0..=CONNECTIONS_MAX {
            let mut connection = TcpStream::connect(address)
                .await
                .map_err(|error| error.to_string())?;
            if !is_answered(&mut connection).await {
                // The monitor that looked before may still have its place.
                return match number + 1 {
                    CONNECTIONS_MAX.. => Ok(()),
                    few => Err(format!("only {few} come in")),
                };
            }
            let_in.push(connection);
        }
        Err(format!("{} come in", let_in.len()))
    })
    .await;
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_of_http_2_does_not_keep_a_place_of_monitors() {
    let mut cluster = Cluster::prepare(Settings::solo()).await;
    let ports = give_ports(&cluster);
    cluster.start_all();
    let address = ports[0].address;
    assert_answers(address, "/readyz", 200).await;
    let mut connection = TcpStream::connect(address).await.expect("it listens");
    // The preface, and no settings (RFC 9113, sections 3.4 and 6.5).
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    connection.write_all(preface).await.expect("it is let in");
    let mut told = Vec::new();
    let end = tokio::time::timeout(PATIENCE, connection.read_to_end(&mut told)).await;
    let end = end.expect("the connection ends");
    // Where something of what it sent was not read any more, it is told so by a reset.
    assert!(end.is_ok() || end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    assert_answers(address, "/readyz", 200).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_is_not_held_up_by_a_monitor_that_stays() {
    let mut cluster = Cluster::prepare(Settings::solo()).await;
    let ports = give_ports(&cluster);
    cluster.start_all();
    assert_answers(ports[0].address, "/readyz", 200).await;
    let mut asks = TcpStream::connect(ports[0].address).await;
    let asks = asks.as_mut().expect("it is let in");
    assert!(is_answered(asks).await);
    let _silent = TcpStream::connect(ports[0].address).await;
    let ended = cluster.machines[0].terminate().await;
    assert_eq!(ended.code(), Some(0));
    let log = cluster.machines[0].log();
    assert!(!log.contains("cut off"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_for_monitors_that_is_taken_keeps_a_machine_from_starting() {
    let cluster = Cluster::prepare(Settings::solo()).await;
    let ports = give_ports(&cluster);
    let _taken = std::net::TcpListener::bind(ports[0].address).expect("it is ours");
    let machine = &cluster.machines[0];
    let mut command = Command::new(raft_machine());
    command.arg("--config").arg(&machine.config);
    die_with_the_test(&mut command);
    let output = command.output().expect("the binary can be run");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    let expected = format!(
        "raft-machine: the metrics port {} cannot be opened: Address already in use (os error 98). Is another program there? Else correct \
         machines[].metrics in the config\n",
        ports[0].address
    );
    assert_eq!(error, expected);
    assert!(!machine.data.exists(), "no data folder is made");
}
