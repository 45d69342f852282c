//! Users, roles and permissions by JSON, beside etcd.

use rm_tests::curl::{curl, get};
use rm_tests::etcd::Etcd;
use rm_tests::{Cluster, Settings};

use crate::asking::{comparable, post, status_since_3_6, without_trailers};

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
