//! `rmctl migrate` from etcds that are not asked in plain, by nobody: by TLS, by a user, and from a snapshot file.

use rm_tests::authority::Authority;
use rm_tests::etcd::{etcdctl, text};
use rm_tests::rmctl::{json, refused};
use rm_tests::{Cluster, LoneEtcd, Settings};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_wants_a_certificate_and_a_password_is_given_them() {
    let mut etcd = LoneEtcd::prepare();
    let authority = Authority::new(etcd.folder(), "theirs");
    let server = authority.sign("server", &["127.0.0.1"]);
    let client = authority.sign("client", &[]);
    let path = |path: &std::path::Path| path.display().to_string();
    let (ca, shown, key) = (
        path(&authority.ca()),
        path(&client.certificate),
        path(&client.key),
    );
    etcd.scheme = "https";
    etcd.arguments = [
        ["--cert-file", &path(&server.certificate)],
        ["--key-file", &path(&server.key)],
        ["--trusted-ca-file", &ca],
    ]
    .concat()
    .iter()
    .map(|word| (*word).to_owned())
    .chain(["--client-cert-auth".to_owned()])
    .collect();
    etcd.etcdctl = ["--cacert", &ca, "--cert", &shown, "--key", &key]
        .map(str::to_owned)
        .into();
    etcd.run().await;
    for arguments in [
        &["put", "secret/a", "1"][..],
        &["put", "public/b", "2"],
        &["user", "add", "root:top"],
        &["user", "grant-role", "root", "root"],
        &["user", "add", "mover:word"],
        &["role", "add", "mover"],
        &[
            "role",
            "grant-permission",
            "mover",
            "read",
            "public/",
            "--prefix=true",
        ],
        &["user", "grant-role", "mover", "mover"],
        &["auth", "enable"],
    ] {
        etcd.done(arguments);
    }
    let cluster = Cluster::start(Settings::solo()).await;
    let endpoints = cluster.endpoints();
    let from = format!("https://{}", etcd.endpoint());
    let tls = [
        "--from-cacert",
        &ca,
        "--from-cert",
        &shown,
        "--from-key",
        &key,
    ];
    let migrate = [&["migrate", "--from", &from][..], &tls].concat();
    let by = |user| [&migrate[..], &["--from-user", user]].concat();

    let told = refused(&endpoints, &by("root:wrong"), 1);
    assert!(told.contains("authentication failed"), "{told}");
    let told = refused(&endpoints, &by("mover:word"), 1);
    assert!(told.contains("permission denied"), "{told}");
    let part = [
        &by("mover:word")[..],
        &["--prefix", "public/", "--follow", "--until-caught-up"],
    ]
    .concat();
    let report = json(&endpoints, &part);
    assert_eq!(report["keys"], 1, "{report}");
    assert!(report["users_and_roles"]["reason"].is_string(), "{report}");
    let report = json(&endpoints, &by("root:top"));
    assert_eq!(report["keys"], 2, "{report}");
    assert_eq!(
        report["users_and_roles"]["users"],
        serde_json::json!(["mover", "root"]),
        "{report}"
    );
}

/// As docs/etcd.md has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_file_is_moved_by_way_of_an_etcd_that_is_made_of_it() {
    let first = LoneEtcd::start().await;
    for number in 0..100 {
        first.client().put(format!("key/{number}"), "saved").await;
    }
    first.done(&["del", "key/7"]);
    let file = first.folder().join("snapshot.db").display().to_string();
    first.done(&["snapshot", "save", &file]);
    first.client().put("key/later", "not saved").await;

    let mut restored = LoneEtcd::prepare();
    let data = restored.data.display().to_string();
    let output = etcdctl(
        "",
        "simple",
        &["snapshot", "restore", &file, "--data-dir", &data],
        "",
    );
    assert!(output.status.success(), "{}", text(&output));
    restored.run().await;
    let cluster = Cluster::start(Settings::trio()).await;
    let report = json(
        &cluster.endpoints(),
        &["migrate", "--from", &restored.endpoint()],
    );
    assert_eq!(report["keys"], 99, "{report}");
    let client = cluster.client();
    assert_eq!(client.get(0, "key/7").await, None);
    assert_eq!(client.get(0, "key/later").await, None);
    assert_eq!(
        client.get(0, "key/99").await.map(|pair| pair.value),
        Some("saved".into())
    );
}
