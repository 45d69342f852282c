//! Streams: a line for each thing that is told, as long as the client listens, and requests while it does.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use rm_tests::curl::{command, get};
use rm_tests::prometheus::Page;
use rm_tests::{Cluster, Machine, Settings, until};
use serde_json::{Value, json};

use crate::asking::{done, post};

/// Lines that a stream tells, as they come.
struct Lines {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Lines {
    fn of(machine: &Machine, version: &str, path: &str, body: &str) -> Lines {
        let url = format!("http://{}{path}", machine.client);
        let mut command = command(&[version, "--data-binary", body, &url]);
        let child = command.stdout(Stdio::piped()).spawn();
        let mut child = child.expect("curl is installed");
        let output = child.stdout.take().expect("it is piped");
        let mut lines = BufReader::new(output).lines();
        let head = lines.by_ref().map(|line| line.expect("it is text"));
        let head: Vec<String> = head.take_while(|line| !line.is_empty()).collect();
        assert!(head[0].contains(" 200"), "{head:?}");
        Lines { child, lines }
    }

    fn next(&mut self) -> Value {
        let line = self.lines.next().expect("the stream goes on");
        serde_json::from_str(&line.expect("it is text")).expect("each line is JSON")
    }

    fn end(mut self) -> Vec<String> {
        let rest = self.lines.by_ref().map(|line| line.expect("it is text"));
        let rest = rest.collect();
        self.child.wait().expect("a child can be waited for");
        rest
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until there are so many watchers.
async fn watched(machine: &Machine, wanted: f64) {
    until(&format!("there are {wanted} watchers"), async || {
        let page = get(&format!("http://{}/metrics", machine.client)).body;
        let page = Page::parse(&page)?;
        match page.value("etcd_debugging_mvcc_watcher_total", &[]) {
            watchers if watchers == wanted => Ok(()),
            watchers => Err(watchers.to_string()),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_tells_each_change_in_a_line_and_ends_with_its_client() {
    let mut cluster = Cluster::start(Settings::solo()).await;
    let machine = &cluster.machines[0];
    let put = |value: &str| {
        let body = json!({ "key": "YQ==", "value": value });
        done(machine, "/v3/kv/put", &body)
    };
    put("Yg==");
    let two = r#"{"create_request":{"key":"YQ==","start_revision":"1"}} {"create_request":{"key":"eg==","watch_id":9}}"#;
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let mut lines = Lines::of(machine, version, "/v3/watch", two);
        assert_eq!(lines.next()["result"]["created"], true);
        let second = lines.next();
        let (second, told) = match second["result"]["created"] == true {
            true => (second, lines.next()),
            // What the first is told may come before the second is there.
            false => (lines.next(), second),
        };
        assert_eq!(second["result"]["watch_id"], "9");
        let event = json!({ "kv": { "key": "YQ==", "create_revision": "2", "mod_revision": "2", "version": "1", "value": "Yg==" } });
        assert_eq!(told["result"]["events"][0], event);
        put("Yw==");
        let next = loop {
            let line = lines.next();
            let events = line["result"]["events"].as_array().expect("events").clone();
            if events.iter().any(|event| event["kv"]["value"] == "Yw==") {
                break line;
            }
        };
        assert!(next["result"]["header"]["revision"].is_string(), "{next}");
        watched(machine, 2.0).await;
        drop(lines);
        watched(machine, 0.0).await;
    }
    let lines = Lines::of(machine, "--http1.1", "/v3/watch", two);
    let status = cluster.machines[0].terminate().await;
    assert_eq!(status.code(), Some(0));
    let rest = lines.end();
    let last = rest.last().expect("it is told why it ends");
    let last: Value = serde_json::from_str(last).expect("each line is JSON");
    assert_eq!(last["error"]["message"], "etcdserver: server stopped");
    assert_eq!(
        (&last["error"]["code"], &last["error"]["http_code"]),
        (&json!(14), &json!(503))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_cannot_be_read_is_refused() {
    let cluster = Cluster::start(Settings::solo()).await;
    let machine = &cluster.machines[0];
    for body in ["7", "{", "{\"create_request\":7}"] {
        let refused = post(&machine.client.to_string(), "/v3/watch", body);
        assert_eq!(refused.status, 400, "{body}: {refused:?}");
        assert_eq!(refused.json()["error"]["code"], 3, "{body}");
    }
    watched(machine, 0.0).await;
    cluster.assert_nobody_panicked();
}

/// A client that goes on asking in the stream that it listens to, byte by byte, until it asks what nobody understands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_takes_requests_while_it_answers() {
    let cluster = Cluster::start(Settings::solo()).await;
    let address = cluster.machines[0].client;
    let mut stream = TcpStream::connect(address).expect("the port is open");
    stream
        .set_read_timeout(Some(rm_tests::wait::PATIENCE))
        .expect("it has one");
    let head = "POST /v3/watch HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).expect("it is taken");
    let mut told = Vec::new();
    let requests = [1, 2, 3].map(|number| {
        let request = format!(r#"{{"create_request":{{"key":"YQ==","watch_id":{number}}}}}"#);
        (request, format!(r#""watch_id":"{number}","created":true"#))
    });
    let wrong = (
        r#"{"create_request":7}"#.to_owned(),
        r#""grpc_code":3"#.to_owned(),
    );
    for (request, answer) in requests.into_iter().chain([wrong]) {
        for byte in request.bytes() {
            let chunk = [b"1\r\n", &[byte][..], b"\r\n"].concat();
            stream.write_all(&chunk).expect("it is taken");
        }
        while !String::from_utf8_lossy(&told).contains(&answer) {
            let mut piece = [0; 4096];
            let count = stream.read(&mut piece).expect("it answers");
            assert_ne!(count, 0, "it goes on: {}", String::from_utf8_lossy(&told));
            told.extend_from_slice(&piece[..count]);
        }
    }
}
