//! What etcdctl prints about users, roles and permissions, beside etcd.

use rm_tests::etcd::{Etcd, etcdctl, normalised, text};
use rm_tests::openssl::{P256, private_key, public_key};
use rm_tests::users::settings;
use rm_tests::{Cluster, Settings};
use serde_json::json;
use tempfile::TempDir;

/// Commands about users, roles and permissions, with what is typed into them. Each is given to one machine after the other.
const COMMANDS: [(&[&str], &str); 37] = [
    (&["role", "add", "fruit"], ""),
    (&["role", "add", "fruit"], ""),
    (
        &["role", "grant-permission", "fruit", "readwrite", "apple"],
        "",
    ),
    (
        &["role", "grant-permission", "--prefix", "fruit", "read", "b"],
        "",
    ),
    (
        &[
            "role",
            "grant-permission",
            "--from-key",
            "fruit",
            "write",
            "x",
        ],
        "",
    ),
    (&["role", "get", "fruit"], ""),
    (&["role", "list"], ""),
    (&["user", "add", "root:secret"], ""),
    (&["user", "add", "alice:secret"], ""),
    (&["user", "add", "alice:secret"], ""),
    (&["user", "add", "bob", "--no-password"], ""),
    (&["user", "list"], ""),
    (&["auth", "enable"], ""),
    (&["user", "grant-role", "root", "root"], ""),
    (&["user", "grant-role", "alice", "fruit"], ""),
    (&["user", "grant-role", "alice", "nothing"], ""),
    (&["user", "get", "alice"], ""),
    (&["user", "get", "nobody"], ""),
    (&["auth", "enable"], ""),
    (&["put", "apple", "red"], ""),
    (&["--user=alice:secret", "put", "apple", "red"], ""),
    (&["--user=alice:secret", "get", "apple"], ""),
    (&["--user=alice:secret", "put", "banana", "yellow"], ""),
    (&["--user=alice:secret", "get", "--prefix", "b"], ""),
    (&["--user=alice:secret", "get", "--prefix", ""], ""),
    (&["--user=alice:wrong", "get", "apple"], ""),
    (&["--user=nobody:secret", "get", "apple"], ""),
    (&["--user=alice:secret", "user", "list"], ""),
    (&["--user=alice:secret", "user", "get", "alice"], ""),
    (&["--user=alice:secret", "role", "get", "fruit"], ""),
    (&["--user=root:secret", "user", "list"], ""),
    (
        &[
            "--user=root:secret",
            "role",
            "revoke-permission",
            "fruit",
            "apple",
        ],
        "",
    ),
    (&["--user=alice:secret", "put", "apple", "red"], ""),
    (
        &[
            "--user=root:secret",
            "user",
            "revoke-role",
            "alice",
            "fruit",
        ],
        "",
    ),
    (&["--user=root:secret", "user", "delete", "alice"], ""),
    (&["--user=root:secret", "role", "delete", "fruit"], ""),
    (&["--user=root:secret", "auth", "disable"], ""),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcdctl_prints_about_users_what_it_prints_about_etcd() {
    assert_prints_the_same(settings(), &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcdctl_prints_the_same_where_a_key_signs_the_tokens() {
    let folder = TempDir::with_prefix("raft-machine-test-").expect("a temporary folder");
    let private = private_key(folder.path(), "tokens.key", P256);
    let public = public_key(&private);
    let key = json!({ "sign_method": "ES256", "private_key": private, "public_key": public });
    let (private, public) = (private.display(), public.display());
    let etcds = format!("jwt,sign-method=ES256,priv-key={private},pub-key={public},ttl=5m");
    let settings = settings().with("auth.jwt", key);
    assert_prints_the_same(settings, &["--auth-token".into(), etcds]).await;
}

async fn assert_prints_the_same(settings: Settings, arguments: &[String]) {
    let cluster = Cluster::start(settings).await;
    let etcd = Etcd::start_with(arguments).await;
    for (number, (arguments, input)) in COMMANDS.into_iter().enumerate() {
        let machine = number % 3;
        let ours = cluster.machines[machine].client.to_string();
        let ours = etcdctl(&ours, "simple", arguments, input);
        let theirs = etcdctl(&etcd.endpoints[machine], "simple", arguments, input);
        let what = format!("{arguments:?} from machine {machine}: {}", text(&ours));
        assert_eq!(ours.status, theirs.status, "{what}");
        assert_eq!(
            normalised(&text(&ours)),
            normalised(&text(&theirs)),
            "{what}"
        );
    }
    cluster.assert_nobody_panicked();
}
