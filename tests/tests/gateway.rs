//! The JSON gateway on real machines: asked by curl, beside the real etcd where it has the call.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use rm_tests::curl::{Answer, command, curl, get};
use rm_tests::etcd::Etcd;
use rm_tests::prometheus::Page;
use rm_tests::{Cluster, Machine, Settings, until};
use serde_json::{Value, json};

fn post(address: &str, path: &str, body: &str) -> Answer {
    let url = format!("http://{address}{path}");
    curl(&["--data-binary", body, &url])
}

fn posted(machine: &Machine, path: &str, body: &Value) -> Answer {
    post(&machine.client.to_string(), path, &body.to_string())
}

/// What a call that must succeed answers.
fn done(machine: &Machine, path: &str, body: &Value) -> Value {
    let answer = posted(machine, path, body);
    assert_eq!(answer.status, 200, "{path} {body}: {answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.json()
}

/// What etcd answers.
fn etcds(etcd: &Etcd, path: &str, body: &str) -> Answer {
    without_trailers(post(&etcd.endpoints[0], path, body))
}

/// curl prints trailers behind the body.
fn without_trailers(mut answer: Answer) -> Answer {
    if let Some(end) = answer.body.find("Grpc-Trailer-") {
        answer.body.truncate(end);
    }
    answer
}

/// The status that etcd has since 3.6, with the second version of grpc-gateway, for an answer of the one before.
fn status_since_3_6(answer: &Answer) -> u16 {
    match answer.status {
        // A condition that is not met.
        412 => 400,
        status => status,
    }
}

/// Leaves out what two clusters cannot have in common: who answers, in which term, and what a lease has left.
fn comparable(mut answer: Value) -> Value {
    fn clean(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                for particular in ["cluster_id", "member_id", "raft_term"] {
                    fields.remove(particular);
                }
                if let Some(left) = fields.get_mut("TTL") {
                    *left = json!("TTL");
                }
                fields.values_mut().for_each(clean);
            }
            Value::Array(values) => values.iter_mut().for_each(clean),
            _ => {}
        }
    }
    clean(&mut answer);
    answer
}

/// Requests to a new cluster, in this order. The keys and values are a, b, c and so on in base64.
const REQUESTS: [(&str, &str); 41] = [
    ("/v3/kv/put", r#"{"key":"YQ==","value":"Yg=="}"#),
    (
        "/v3/kv/put",
        r#"{"key":"YQ==","value":"Yw==","prev_kv":true}"#,
    ),
    ("/v3/kv/put", r#"{"key":"Yg==","value":"+/8="}"#),
    ("/v3/kv/put", r#"{"value":"Yg=="}"#),
    (
        "/v3/kv/put",
        r#"{"key":"YQ==","ignore_value":true,"value":"Yg=="}"#,
    ),
    ("/v3/kv/put", r#"{"key":"eg==","ignore_value":true}"#),
    ("/v3/kv/put", r#"{"key":"eg==","lease":"99"}"#),
    ("/v3/kv/range", r#"{"key":"YQ=="}"#),
    ("/v3beta/kv/range", r#"{"key":"YQ=="}"#),
    ("/v3/kv/range", r#"{"key":"YQ==","range_end":"AA=="}"#),
    (
        "/v3/kv/range",
        r#"{"key":"YQ==","rangeEnd":"AA==","limit":"1","sortOrder":"DESCEND"}"#,
    ),
    (
        "/v3/kv/range",
        r#"{"key":"YQ==","range_end":"AA==","keys_only":true,"sort_target":4,"sort_order":1}"#,
    ),
    (
        "/v3/kv/range",
        r#"{"key":"YQ==","range_end":"AA==","count_only":true,"serializable":true}"#,
    ),
    (
        "/v3/kv/range",
        r#"{"key":"YQ==","revision":2,"unknown":{"a":[1]}}"#,
    ),
    ("/v3/kv/range", r#"{"key":"YQ==","revision":"1000"}"#),
    ("/v3/kv/range", r#"{"key":"eg=="}"#),
    ("/v3/kv/range", ""),
    ("/v3/kv/range", "{}"),
    (
        "/v3/kv/txn",
        r#"{"compare":[{"result":"EQUAL","target":"VALUE","key":"YQ==","value":"Yw=="}],"success":[{"request_range":{"key":"YQ=="}},{"requestPut":{"key":"Yw==","value":"ZA=="}}],"failure":[{"request_put":{"key":"ZA=="}}]}"#,
    ),
    (
        "/v3/kv/txn",
        r#"{"compare":[{"result":"GREATER","target":"CREATE","key":"YQ==","createRevision":"2"}],"success":[{"request_put":{"key":"Yw=="}}],"failure":[{"request_txn":{"success":[{"request_delete_range":{"key":"Yw==","prev_kv":true}}]}}]}"#,
    ),
    (
        "/v3/kv/txn",
        r#"{"compare":[{"key":"eg==","version":"0","target":"VERSION"}]}"#,
    ),
    (
        "/v3/kv/txn",
        r#"{"success":[{"request_put":{"key":"YQ=="}},{"request_put":{"key":"YQ=="}}]}"#,
    ),
    ("/v3/kv/txn", r#"{"success":[{"request_put":{}}]}"#),
    ("/v3/kv/deleterange", r#"{"key":"Yg==","prev_kv":true}"#),
    ("/v3/kv/deleterange", r#"{"key":"Yg=="}"#),
    ("/v3/kv/deleterange", "{}"),
    ("/v3/kv/compaction", r#"{"revision":"4"}"#),
    ("/v3/kv/compaction", r#"{"revision":"4"}"#),
    ("/v3/kv/compaction", r#"{"revision":"400","physical":true}"#),
    ("/v3/kv/range", r#"{"key":"YQ==","revision":"2"}"#),
    ("/v3/lease/grant", r#"{"TTL":"1000","ID":"7"}"#),
    ("/v3/lease/grant", r#"{"TTL":1000,"ID":7}"#),
    ("/v3/kv/put", r#"{"key":"bA==","lease":7}"#),
    ("/v3/lease/timetolive", r#"{"ID":7,"keys":true}"#),
    ("/v3/kv/lease/timetolive", r#"{"ID":"8","keys":true}"#),
    ("/v3/lease/keepalive", r#"{"ID":7}"#),
    ("/v3/lease/leases", "{}"),
    ("/v3/kv/lease/leases", "{}"),
    ("/v3/kv/lease/revoke", r#"{"ID":7}"#),
    ("/v3/lease/revoke", r#"{"ID":"7"}"#),
    ("/v3/kv/range", r#"{"key":"bA=="}"#),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_is_answered_as_by_etcd() {
    let cluster = Cluster::start(Settings::solo()).await;
    let etcd = Etcd::start().await;
    for (path, body) in REQUESTS {
        let ours = post(&cluster.machines[0].client.to_string(), path, body);
        let theirs = etcds(&etcd, path, body);
        let what = format!("{path} {body}: {ours:?} and {theirs:?}");
        assert_eq!(ours.status, status_since_3_6(&theirs), "{what}");
        assert_eq!(
            ours.header("content-type"),
            Some("application/json"),
            "{what}"
        );
        let (ours, theirs) = (comparable(ours.json()), comparable(theirs.json()));
        assert_eq!(ours, theirs, "{what}");
    }
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_cannot_be_read_is_refused_with_the_reason_and_etcds_status() {
    let cluster = Cluster::start(Settings::solo()).await;
    let etcd = Etcd::start().await;
    let machine = &cluster.machines[0];
    let address = machine.client.to_string();
    for body in [
        r#"{"key":"#,
        r#"{"key":"%%"}"#,
        r#"{"key":7}"#,
        r#"{"key":"YQ==","limit":"x"}"#,
        "[]",
        "no json",
    ] {
        let ours = post(&address, "/v3/kv/range", body);
        let theirs = etcds(&etcd, "/v3/kv/range", body);
        assert_eq!((ours.status, theirs.status), (400, 400), "{body}");
        let error = ours.json();
        assert_eq!(error["code"], theirs.json()["code"], "{body}");
        assert_eq!(error["error"], error["message"], "{body}");
        let told = error["message"].as_str().expect("it is a text");
        assert!(told.contains("no RangeRequest in JSON"), "{told}");
    }
    let nothing = posted(machine, "/v3/kv/nothing", &json!({}));
    assert_eq!(nothing.status, 404);
    let expected = json!({ "error": "Not Found", "code": 5, "message": "Not Found" });
    assert_eq!(nothing.json(), expected);
    for method in ["GET", "PUT", "DELETE", "HEAD"] {
        let url = format!("http://{address}/v3/kv/range");
        let refused = match method {
            "HEAD" => curl(&["--head", &url]),
            _ => curl(&["--request", method, &url]),
        };
        assert_eq!(refused.status, 405, "{method}");
        assert_eq!(refused.header("allow"), Some("POST"), "{method}");
    }
    let page = "Origin: http://page.example";
    let put = r#"{"key":"YQ==","value":"Yg=="}"#;
    for kind in ["text/plain", "application/json"] {
        let kind = format!("Content-Type: {kind}");
        let url = format!("http://{address}/v3/kv/put");
        let refused = curl(&["--header", page, "--header", &kind, "--data", put, &url]);
        let code = refused.json()["code"].clone();
        assert_eq!((refused.status, code), (403, json!(7)));
    }
    let pair = cluster.client().get_on(0, "a", false).await;
    assert_eq!(pair.expect("it answers"), None, "no page may write");
    // A call of etcd's has its path whether this version serves it or not.
    let election = posted(machine, "/v3/election/leader", &json!({}));
    let told = election.json()["code"] == 12;
    assert_eq!(told, election.status == 501, "{election:?}");
    assert_ne!(election.status, 404);
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_is_refused_and_holds_up_nobody() {
    let settings = Settings::solo().with("limits.request_bytes_max", 10_000);
    let cluster = Cluster::start(settings).await;
    let machine = &cluster.machines[0];
    let send = |path: &str, bytes: usize| {
        let value = "A".repeat(bytes / 3 * 4);
        let body = json!({ "key": "YQ==", "value": value }).to_string();
        let file = cluster.folder().join("body.json");
        std::fs::write(&file, body).expect("the folder can be written");
        let url = format!("http://{}{path}", machine.client);
        curl(&["--data-binary", &format!("@{}", file.display()), &url])
    };
    assert_eq!(send("/v3/kv/put", 9_000).status, 200);
    let refused = send("/v3/kv/put", 12_000);
    assert_eq!(refused.status, 400, "{refused:?}");
    assert_eq!(
        refused.json()["message"],
        "etcdserver: request is too large"
    );
    // What is too large for gRPC, and what is too large to be looked at.
    for (path, bytes, text) in [
        (
            "/v3/kv/put",
            600_000,
            "grpc: received message larger than max (600007 vs. 534288)",
        ),
        (
            "/v3/kv/put",
            3_000_000,
            "grpc: received message larger than max (of 1068576 bytes of JSON)",
        ),
    ] {
        let refused = send(path, bytes);
        assert_eq!(refused.status, 429, "{refused:?}");
        assert_eq!(refused.json()["code"], 8);
        assert_eq!(refused.json()["message"], text);
    }
    let refused = send("/v3/watch", 3_000_000);
    assert_eq!(refused.status, 429, "{refused:?}");
    assert_eq!(refused.json()["error"]["code"], 8);
    assert_eq!(send("/v3/kv/put", 9_000).status, 200);
    cluster.assert_nobody_panicked();
}

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

/// What is asked until users are asked for, in this order.
const USERS: [(&str, &str); 9] = [
    (
        "/v3/auth/user/add",
        r#"{"name":"root","password":"secret"}"#,
    ),
    (
        "/v3/auth/user/add",
        r#"{"name":"guest","password":"guest"}"#,
    ),
    (
        "/v3/auth/user/add",
        r#"{"name":"guest","password":"guest"}"#,
    ),
    ("/v3/auth/role/add", r#"{"name":"root"}"#),
    ("/v3/auth/role/add", r#"{"name":"reader"}"#),
    (
        "/v3/auth/role/grant",
        r#"{"name":"reader","perm":{"permType":"READ","key":"YQ==","range_end":"Yg=="}}"#,
    ),
    ("/v3/auth/user/grant", r#"{"user":"root","role":"root"}"#),
    ("/v3/auth/user/grant", r#"{"user":"guest","role":"reader"}"#),
    ("/v3/auth/enable", "{}"),
];

/// What users ask once they are asked for: who, and what.
const AS_USERS: [(&str, &str, &str); 9] = [
    ("nobody", "/v3/kv/put", r#"{"key":"YQ==","value":"Yg=="}"#),
    ("root", "/v3/kv/put", r#"{"key":"YQ==","value":"Yg=="}"#),
    ("guest", "/v3/kv/range", r#"{"key":"YQ=="}"#),
    ("guest", "/v3/kv/range", r#"{"key":"Yg=="}"#),
    ("guest", "/v3/kv/put", r#"{"key":"YQ==","value":"Yg=="}"#),
    ("guest", "/v3/auth/user/list", "{}"),
    ("root", "/v3/auth/user/list", "{}"),
    ("root", "/v3/auth/role/get", r#"{"role":"reader"}"#),
    ("stranger", "/v3/kv/range", r#"{"key":"YQ=="}"#),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_a_token_may_do_by_json_what_etcd_lets_it() {
    let cluster = Cluster::start(Settings::solo()).await;
    let etcd = Etcd::start().await;
    let addresses = [
        cluster.machines[0].client.to_string(),
        etcd.endpoints[0].clone(),
    ];
    let same = |path: &str, body: &str, headers: [String; 2]| {
        let ask = |place: usize| {
            let url = format!("http://{}{path}", addresses[place]);
            without_trailers(curl(&[
                "--header",
                &headers[place],
                "--data-binary",
                body,
                &url,
            ]))
        };
        let (ours, theirs) = (ask(0), ask(1));
        let what = format!("{path} {body}: {ours:?} and {theirs:?}");
        assert_eq!(ours.status, status_since_3_6(&theirs), "{what}");
        assert_eq!(comparable(ours.json()), comparable(theirs.json()), "{what}");
    };
    let nothing = || ["Accept: */*", "Accept: */*"].map(str::to_owned);
    for (path, body) in USERS {
        same(path, body, nothing());
    }
    let token_of = |address: &str, user: &str| {
        let body = match user {
            "root" => r#"{"name":"root","password":"secret"}"#,
            _ => r#"{"name":"guest","password":"guest"}"#,
        };
        let answer = post(address, "/v3/auth/authenticate", body);
        let token = answer.json()["token"].as_str().expect("a token").to_owned();
        format!("Authorization: {token}")
    };
    for (user, path, body) in AS_USERS {
        let headers = match user {
            "nobody" => nothing(),
            "stranger" => [0, 1].map(|_| "Authorization: made.up".to_owned()),
            user => [0, 1].map(|place: usize| token_of(&addresses[place], user)),
        };
        same(path, body, headers);
    }
    let wrong = r#"{"name":"guest","password":"wrong"}"#;
    same("/v3/auth/authenticate", wrong, nothing());
    assert_eq!(get(&format!("http://{}/readyz", addresses[0])).status, 200);
    assert_eq!(get(&format!("http://{}/metrics", addresses[0])).status, 200);
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_gives_a_time_is_answered_when_it_is_over() {
    let mut cluster = Cluster::start(Settings::trio()).await;
    cluster.machines[1].kill();
    cluster.machines[2].kill();
    let url = format!("http://{}/v3/kv/range", cluster.machines[0].client);
    for (version, time) in [("--http1.1", "1n"), ("--http2-prior-knowledge", "50m")] {
        let time = format!("Grpc-Timeout: {time}");
        let late = curl(&[
            version,
            "--header",
            &time,
            "--data",
            "{\"key\":\"YQ==\"}",
            &url,
        ]);
        assert_eq!(late.status, 504, "{late:?}");
        assert_eq!(late.json()["code"], 4);
        assert_eq!(late.json()["message"], "context deadline exceeded");
    }
    let wrong = curl(&["--header", "Grpc-Timeout: soon", "--data", "{}", &url]);
    assert_eq!((wrong.status, &wrong.json()["code"]), (400, &json!(3)));
    let word = "Grpc-Metadata-HasLeader: true";
    until(
        "a request that wants a leader is refused at once",
        async || {
            let body = "{\"key\":\"YQ==\",\"serializable\":true}";
            let refused = curl(&["--header", word, "--data", body, &url]);
            match refused.status {
                503 if refused.json()["message"] == "etcdserver: no leader" => Ok(()),
                _ => Err(refused.body),
            }
        },
    )
    .await;
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_of_a_machine_is_asked_and_ordered_by_json() {
    let cluster = Cluster::start(Settings::trio()).await;
    let leader = cluster.leader().await;
    let machine = &cluster.machines[leader];
    let status = done(machine, "/v3/maintenance/status", &json!({}));
    let typed = cluster.client().status(leader).await.expect("it answers");
    assert_eq!(status["version"], typed.version);
    assert_eq!(status["leader"], typed.leader.to_string());
    assert_eq!(status["dbSize"], typed.db_size.to_string());
    let members = done(machine, "/v3/cluster/member/list", &json!({}));
    let names = members["members"].as_array().expect("a list").iter();
    let mut names: Vec<_> = names.map(|member| member["name"].clone()).collect();
    names.sort_by_key(ToString::to_string);
    assert_eq!(names, ["RM.01", "RM.02", "RM.03"]);
    done(machine, "/v3/kv/put", &json!({ "key": "YQ==" }));
    let hash = done(machine, "/v3/maintenance/hashkv", &json!({}));
    assert!(hash["hash"].is_u64(), "32 bits are a number: {hash}");
    let next = (leader + 1) % 3;
    let name = cluster.machines[next].name.as_str();
    let mut listed = members["members"].as_array().expect("a list").iter();
    let target = listed.find(|member| member["name"] == name);
    let target = target.expect("it is a member")["ID"].clone();
    until("leadership is handed over by JSON", async || {
        let moved = json!({ "targetID": target });
        let answer = posted(machine, "/v3/maintenance/transfer-leadership", &moved);
        match answer.status == 200 || answer.body.contains("not leader") {
            true => Ok(()),
            false => Err(answer.body),
        }
    })
    .await;
    assert_eq!(cluster.leader().await, next);
    cluster.assert_nobody_panicked();
}
