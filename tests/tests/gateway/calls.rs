//! Calls with one request and one answer: told as by etcd, refused with the reason, in the time and of the size that they may have.

use rm_tests::curl::curl;
use rm_tests::etcd::Etcd;
use rm_tests::{Cluster, Settings, until};
use serde_json::json;

use crate::asking::{comparable, done, etcds, post, posted, status_since_3_6};

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
