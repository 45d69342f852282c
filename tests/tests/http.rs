//! The client port speaks HTTP/1.1 and HTTP/2 beside gRPC: the pages that probes ask for, as etcd has them.

use rm_proto::raftmachine::v1::change_members_request::Change;
use rm_tests::curl::{Answer, curl, get, try_curl};
use rm_tests::etcd::Etcd;
use rm_tests::members::{begun_alone, change, newcomer, standing};
use rm_tests::{Cluster, Machine, Settings, until};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// All pages that are only looked at.
const PAGES: [&str; 9] = [
    "/health",
    "/livez",
    "/livez/serializable_read",
    "/readyz",
    "/readyz/data_corruption",
    "/readyz/serializable_read",
    "/readyz/linearizable_read",
    "/readyz/non_learner",
    "/version",
];

const WELL: &str = r#"{"health":"true","reason":""}"#;

fn url(machine: &Machine, page: &str) -> String {
    format!("http://{}{page}", machine.client)
}

/// Asks until the status is this.
async fn answered(machine: &Machine, page: &str, status: u16) -> Answer {
    until(&format!("{page} answers {status}"), async || {
        let answer = try_curl(&[url(machine, page)])?;
        match answer.status == status {
            true => Ok(answer),
            false => Err(format!("{answer:?}")),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_machine_that_serves_says_so_by_both_versions_of_http() {
    let cluster = Cluster::start(Settings::trio()).await;
    for machine in &cluster.machines {
        answered(machine, "/readyz", 200).await;
        for page in PAGES {
            let url = url(machine, page);
            let plain = get(&url);
            assert_eq!(
                (plain.status, plain.version.as_str()),
                (200, "HTTP/1.1"),
                "{page}"
            );
            let other = curl(&["--http2-prior-knowledge", &url]);
            assert_eq!(
                (other.status, other.version.as_str()),
                (200, "HTTP/2"),
                "{page}"
            );
            assert_eq!(plain.body, other.body, "{page}");
            head(&url, &plain);
            head_by("--http2-prior-knowledge", &url, &plain);
        }
        assert_eq!(get(&url(machine, "/health")).body, WELL);
        assert_eq!(get(&url(machine, "/livez")).body, "ok\n");
        let verbose = get(&url(machine, "/readyz?verbose"));
        assert_eq!(
            verbose.body,
            "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n[+]non_learner ok\nok\n"
        );
        let few = get(&url(
            machine,
            "/readyz?verbose&exclude=data_corruption&exclude=non_learner&exclude=nothing",
        ));
        assert_eq!(
            few.body,
            "[+]serializable_read ok\n[+]linearizable_read ok\nok\n"
        );
    }
    cluster.assert_nobody_panicked();
}

/// A HEAD tells what a GET would, but for its body.
fn head(url: &str, answer: &Answer) {
    head_by("--http1.1", url, answer);
}

fn head_by(version: &str, url: &str, answer: &Answer) {
    let head = curl(&[version, "--head", url]);
    assert_eq!((head.status, head.body.as_str()), (200, ""), "{url}");
    let length = answer.body.len().to_string();
    assert_eq!(head.header("content-length"), Some(length.as_str()));
    assert_eq!(head.header("content-type"), answer.header("content-type"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_and_what_cannot_be_done_is_refused_as_by_etcd() {
    let cluster = Cluster::start(Settings::solo()).await;
    let etcd = Etcd::start().await;
    let machine = &cluster.machines[0];
    let both = |method: &str, page: &str| {
        let theirs = format!("http://{}{page}", etcd.endpoints[0]);
        let ours = curl(&["--request", method, &url(machine, page)]);
        (ours, curl(&["--request", method, &theirs]))
    };
    for page in ["/", "/healthy", "/health/", "/versions", "/readyz/nothing"] {
        for method in ["GET", "POST"] {
            let (ours, theirs) = both(method, page);
            assert_eq!((ours.status, theirs.status), (404, 404), "{method} {page}");
            assert_eq!(ours.body, theirs.body, "{method} {page}");
        }
    }
    for method in ["POST", "PUT", "DELETE", "PATCH"] {
        for page in ["/health", "/version"] {
            let (ours, theirs) = both(method, page);
            assert_eq!((ours.status, theirs.status), (405, 405), "{method} {page}");
            assert_eq!(ours.header("allow"), Some("GET, HEAD"), "{method} {page}");
        }
        let ready = curl(&["--request", method, &url(machine, "/readyz")]);
        assert_eq!(ready.status, 405, "{method} /readyz");
    }
    let (ours, theirs) = both("GET", "/health");
    for header in ["content-type", "x-content-type-options"] {
        let (ours, theirs) = (both("GET", "/nothing").0, both("GET", "/nothing").1);
        assert_eq!(ours.header(header), theirs.header(header), "{header}");
    }
    assert_eq!(ours.json()["health"], theirs.json()["health"]);
    assert_eq!(ours.header("content-type"), theirs.header("content-type"));
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_versions_are_those_of_the_status() {
    let cluster = Cluster::start(Settings::solo()).await;
    let status = cluster.client().status(0).await.expect("it answers");
    let page = get(&url(&cluster.machines[0], "/version"));
    assert_eq!(page.header("content-type"), Some("application/json"));
    let expected = json!({
        "etcdserver": status.version,
        "etcdcluster": status.version,
        "storage": status.storage_version,
    });
    assert_eq!(page.json(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_without_a_majority_is_alive_and_not_ready() {
    let mut cluster = Cluster::start(Settings::trio()).await;
    answered(&cluster.machines[0], "/readyz", 200).await;
    cluster.machines[1].kill();
    cluster.machines[2].kill();
    let left = &cluster.machines[0];
    let sick = answered(left, "/health", 503).await;
    assert_eq!(sick.json()["health"], "false");
    until("the leader is given up", async || {
        let sick = get(&url(left, "/health"));
        let reason = sick.json()["reason"].clone();
        match reason == "RAFT NO LEADER" {
            true => Ok(()),
            false => Err(reason.to_string()),
        }
    })
    .await;
    assert_eq!(get(&url(left, "/health?serializable=true")).body, WELL);
    assert_eq!(get(&url(left, "/livez")).status, 200);
    let unready = get(&url(left, "/readyz"));
    assert_eq!(unready.status, 503);
    let lines: Vec<&str> = unready.body.lines().collect();
    assert_eq!(lines.len(), 4, "{unready:?}");
    assert!(
        lines[2].starts_with("[-]linearizable_read failed: etcdserver: "),
        "{unready:?}"
    );
    assert_eq!(lines[1], "[+]serializable_read ok");
    let rest = get(&url(left, "/readyz?exclude=linearizable_read"));
    assert_eq!((rest.status, rest.body.as_str()), (200, "ok\n"));
    cluster.machines[1].start();
    answered(&cluster.machines[0], "/readyz", 200).await;
    assert_eq!(get(&url(&cluster.machines[0], "/health")).body, WELL);
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_is_alive_and_not_ready() {
    let mut cluster = begun_alone(Settings::trio().of(2)).await;
    let client = cluster.client();
    let name = cluster.machines[1].name.clone();
    let add = newcomer(&cluster.machines[1], false);
    let wanted = |_: &[_]| Some(Change::Add(add.clone()));
    change(&client, wanted, |now| standing(now, &name).is_some()).await;
    cluster.machines[1].start();
    let learner = &cluster.machines[1];
    let unready = answered(learner, "/readyz/non_learner", 503).await;
    assert_eq!(
        unready.body,
        "[-]non_learner failed: not supported for learner\n"
    );
    assert_eq!(get(&url(learner, "/livez")).status, 200);
    let voter = answered(&cluster.machines[0], "/readyz/non_learner", 200).await;
    assert_eq!(voter.body, "ok\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_an_alarm_that_a_probe_may_pass_over() {
    let cluster = Cluster::start(Settings::solo()).await;
    let client = cluster.client();
    let machine = &cluster.machines[0];
    client
        .arm_fault(0, "storage", "commit", "no_space", u64::MAX)
        .await;
    // It is found out by a write.
    let _ = client.put_on(0, "key", "value").await;
    let full = answered(machine, "/health", 503).await;
    assert_eq!(
        full.body,
        "{\"health\":\"false\",\"reason\":\"ALARM NOSPACE\"}\n"
    );
    assert_eq!(get(&url(machine, "/health?exclude=NOSPACE")).body, WELL);
    assert_eq!(get(&url(machine, "/health?exclude=CORRUPT")).status, 503);
    client
        .arm_fault(0, "storage", "commit", "no_space", 0)
        .await;
    answered(machine, "/health", 200).await;
}

/// What a client keeps open between two requests is closed by a stop at once; nothing that it asked for is cut off.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_asks_nothing_more_holds_up_no_stop() {
    let settings = Settings::solo().with("timings.shutdown_timeout_ms", 600_000);
    let mut cluster = Cluster::start(settings).await;
    let mut connection = TcpStream::connect(cluster.machines[0].client)
        .await
        .expect("the port is open");
    for _ in 0..2 {
        connection
            .write_all(b"GET /version HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await
            .expect("it is taken");
        let mut answer = Vec::new();
        while !answer.ends_with(b"}") {
            let count = connection.read_buf(&mut answer).await;
            assert_ne!(count.expect("it answers"), 0, "it goes on");
        }
    }
    let status = cluster.machines[0].terminate().await;
    assert_eq!(status.code(), Some(0));
    let mut rest = Vec::new();
    let count = connection.read_to_end(&mut rest).await;
    assert_eq!(count.expect("it is closed in good order"), 0);
}
