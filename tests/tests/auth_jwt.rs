//! Tokens that a key signs, on real machines: good on all of them and through all their lives, until users, roles or permissions change.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use rm_config::{Jwt, SignMethod};
use rm_jwt::Key;
use rm_proto::etcdserverpb::{
    AuthDisableRequest, AuthEnableRequest, AuthRoleAddRequest, AuthUserChangePasswordRequest,
    AuthUserListRequest, AuthUserRevokeRoleRequest,
};
use rm_proto::raftmachine::v1::{ArmFaultRequest, InfoRequest};
use rm_tests::binary::raft_machine;
use rm_tests::etcd::{etcdctl, text};
use rm_tests::lone_etcd::LoneEtcd;
use rm_tests::machine::die_with_the_test;
use rm_tests::openssl::{P256, RSA, private_key, public_key};
use rm_tests::users::{
    DENIED, INVALID, OLD, PASSWORD, authenticate, by, enable, put, service, settings, token,
};
use rm_tests::{Client, Cluster, Settings, until};
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::{Code, Status};

/// What whoever proves itself is told where nobody needs to.
const NOT_ENABLED: &str = "etcdserver: authentication is not enabled";

/// A key of ECDSA, in a folder of its own.
struct Keys {
    folder: TempDir,
    private: PathBuf,
    public: PathBuf,
}

impl Keys {
    fn new() -> Keys {
        let folder = TempDir::with_prefix("raft-machine-test-").expect("a temporary folder");
        let private = private_key(folder.path(), "tokens.key", P256);
        Keys {
            public: public_key(&private),
            private,
            folder,
        }
    }

    /// `auth.jwt` of a config.
    fn config(&self) -> Value {
        json!({ "sign_method": "ES256", "private_key": self.private })
    }

    fn settings(&self) -> Settings {
        settings().with("auth.jwt", self.config())
    }

    /// The key as the machines have it.
    fn key(&self) -> Key {
        key(SignMethod::Es256, &self.private)
    }
}

fn key(method: SignMethod, private: &Path) -> Key {
    let jwt = Jwt {
        sign_method: method,
        private_key: Some(private.to_owned()),
        public_key: None,
        ttl_seconds: 300,
    };
    Key::load(&jwt).expect("openssl makes keys that do")
}

/// A token that a key signs for alice.
fn signed(key: &Key, revision: u64, then: SystemTime) -> String {
    let token = key.sign("alice", revision, then);
    token.expect("there is a private key")
}

/// What a machine makes of a put by a token, as soon as it is not only busy with an election.
async fn judged(client: &Client, machine: usize, token: &str) -> Result<(), Status> {
    until("a put is judged", async || {
        match put(client, machine, token, "a").await {
            Err(status) if status.code() == Code::Unavailable => Err(status.to_string()),
            outcome => Ok(outcome.map(drop)),
        }
    })
    .await
}

async fn assert_permitted(client: &Client, token: &str) {
    for machine in 0..client.machines() {
        let outcome = judged(client, machine, token).await;
        outcome.unwrap_or_else(|status| panic!("machine {machine}: {status}"));
    }
}

async fn assert_refused(client: &Client, token: &str, (code, text): (Code, &str)) {
    for machine in 0..client.machines() {
        let status = judged(client, machine, token).await;
        let status = status.expect_err("it is not permitted");
        let what = format!("machine {machine}, {token}");
        assert_eq!((status.code(), status.message()), (code, text), "{what}");
    }
}

/// Has root change something, as who it is by then. `already` is what it is told where an earlier try did so whose outcome was not told.
async fn change<T>(client: &Client, already: &str, ask: impl AsyncFn(&str) -> Result<T, Status>) {
    until("something is changed", async || {
        let root = match authenticate(client, 0, "root").await {
            Err(status) if status.message() == NOT_ENABLED => "none".to_owned(),
            root => root.map_err(|status| status.to_string())?,
        };
        match ask(&root).await {
            Err(status) if status.message() == already => Ok(()),
            outcome => outcome.map(drop).map_err(|status| status.to_string()),
        }
    })
    .await;
}

/// Sees that what is done leaves no trace in the log. The token is an administrator's.
async fn assert_writes_nothing(client: &Client, token: &str, done: impl AsyncFn()) {
    let last_index = async || {
        let info = client.admin(0).info(by(token, InfoRequest {})).await;
        let info = info.map_err(|status| status.to_string())?.into_inner();
        Ok::<_, String>(info.last_index)
    };
    // What a new leader writes may come between, once.
    until("nothing is written", async || {
        let before = last_index().await?;
        done().await;
        match last_index().await? - before {
            0 => Ok(()),
            written => Err(format!("{written} entries were written")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_one_machine_is_good_on_all_and_the_log_knows_of_none() {
    let keys = Keys::new();
    let cluster = Cluster::start(keys.settings()).await;
    let client = cluster.client();
    enable(&client, "a", "b").await;
    for machine in 0..3 {
        let alice = token(&client, machine, "alice").await;
        let claims = keys.key().recognise(&alice).expect("the key signed it");
        assert_eq!(claims.username, "alice");
        assert_permitted(&client, &alice).await;
        for other in 0..3 {
            let refused = put(&client, other, &alice, "c").await;
            let refused = refused.expect_err("it is another's");
            assert_eq!((refused.code(), refused.message()), DENIED);
        }
    }
    let root = token(&client, 0, "root").await;
    assert_writes_nothing(&client, &root, async || {
        token(&client, 0, "alice").await;
    })
    .await;
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_lags_takes_a_token_that_is_newer_than_what_it_has_applied() {
    let keys = Keys::new();
    let cluster = Cluster::start(keys.settings()).await;
    let client = cluster.client();
    enable(&client, "a", "b").await;
    let root = token(&client, 0, "root").await;
    let slow = ArmFaultRequest {
        actor: "applier".into(),
        point: "handler".into(),
        action: "delay:400".into(),
        times: 10_000,
    };
    until("a machine lags", async || {
        let armed = client.admin(2).arm_fault(by(&root, slow.clone())).await;
        armed.map(drop).map_err(|status| status.to_string())
    })
    .await;
    let add = AuthRoleAddRequest {
        name: "other".into(),
    };
    change(
        &client,
        "etcdserver: role name already exists",
        async |root| service(&client, 0).role_add(by(root, add.clone())).await,
    )
    .await;
    let alice = token(&client, 0, "alice").await;
    let outcome = judged(&client, 2, &alice).await;
    outcome.expect("it first applies what the token was given out after");
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_refused_that_has_ended_or_is_not_signed_by_the_key() {
    let keys = Keys::new();
    let cluster = Cluster::start(keys.settings()).await;
    let client = cluster.client();
    enable(&client, "a", "b").await;
    let good = token(&client, 0, "alice").await;
    let ours = keys.key();
    let now = SystemTime::now();
    let revision = ours.recognise(&good).expect("it is signed").revision;
    assert_permitted(&client, &signed(&ours, revision, now)).await;

    let foreign = private_key(keys.folder.path(), "foreign.key", P256);
    let foreign = key(SignMethod::Es256, &foreign);
    // Whoever knows the public key uses it as a secret.
    let confused = key(SignMethod::Hs256, &keys.public);
    let claims = good.split('.').nth(1).expect("a token has claims");
    for token in [
        signed(&ours, revision, now - Duration::from_secs(301)),
        signed(&foreign, revision, now),
        signed(&confused, revision, now),
        // {"alg":"none","typ":"JWT"}
        format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{claims}."),
        // Of a revision that this domain has never had.
        signed(&ours, revision + 1, now),
        "abcdefghijklmnop.7".into(),
        String::new(),
    ] {
        assert_refused(&client, &token, INVALID).await;
    }
    assert_refused(&client, &signed(&ours, revision - 1, now), OLD).await;
    assert_permitted(&client, &good).await;
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_outlives_every_process() {
    let keys = Keys::new();
    let mut cluster = Cluster::start(keys.settings()).await;
    let client = cluster.client();
    enable(&client, "a", "b").await;
    let alice = token(&client, 1, "alice").await;
    cluster.kill_all();
    cluster.start_all();
    assert_permitted(&client, &alice).await;
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_ends_when_users_roles_or_permissions_change() {
    let keys = Keys::new();
    let cluster = Cluster::start(keys.settings()).await;
    let client = cluster.client();
    enable(&client, "a", "b").await;
    let root = token(&client, 0, "root").await;
    let alice = token(&client, 0, "alice").await;
    let revoke = AuthUserRevokeRoleRequest {
        name: "alice".into(),
        role: "some".into(),
    };
    let already = "etcdserver: role is not granted to the user";
    change(&client, already, async |root| {
        let revoke = by(root, revoke.clone());
        service(&client, 0).user_revoke_role(revoke).await
    })
    .await;
    assert_refused(&client, &alice, OLD).await;
    let anew = token(&client, 1, "alice").await;
    assert_refused(&client, &anew, DENIED).await;

    // An administrator's token is no exception; in etcd it is one.
    let listed = until("a question is judged", async || {
        let list = by(&root, AuthUserListRequest {});
        match service(&client, 1).user_list(list).await {
            Err(status) if status.code() == Code::Unavailable => Err(status.to_string()),
            outcome => Ok(outcome),
        }
    });
    let listed = listed.await.expect_err("the token is of before");
    assert_eq!((listed.code(), listed.message()), OLD);

    let root = token(&client, 0, "root").await;
    assert_writes_nothing(&client, &root, async || {
        assert_refused(&client, &alice, OLD).await;
    })
    .await;
    let password = AuthUserChangePasswordRequest {
        name: "root".into(),
        password: PASSWORD.into(),
        ..Default::default()
    };
    change(&client, "", async |root| {
        let password = by(root, password.clone());
        service(&client, 0).user_change_password(password).await
    })
    .await;
    assert_refused(&client, &root, OLD).await;

    let root = token(&client, 2, "root").await;
    assert_permitted(&client, &root).await;
    change(&client, "", async |root| {
        let disable = by(root, AuthDisableRequest {});
        service(&client, 0).auth_disable(disable).await
    })
    .await;
    let refused = until("nobody needs to prove itself", async || match authenticate(
        &client, 1, "root",
    )
    .await
    {
        Err(status) if status.code() == Code::Unavailable => Err(status.to_string()),
        outcome => Ok(outcome),
    });
    let refused = refused.await.expect_err("there are no tokens");
    assert_eq!(refused.message(), NOT_ENABLED);
    assert_permitted(&client, &root).await;
    change(&client, "", async |root| {
        let enable = by(root, AuthEnableRequest {});
        service(&client, 0).auth_enable(enable).await
    })
    .await;
    assert_refused(&client, &root, OLD).await;
    assert_permitted(&client, &token(&client, 0, "root").await).await;
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_with_the_public_key_recognises_tokens_and_gives_out_none() {
    let keys = Keys::new();
    let mut cluster = Cluster::prepare(keys.settings()).await;
    let text = std::fs::read(&cluster.machines[2].config).expect("it was written");
    let mut config: Value = serde_json::from_slice(&text).expect("the harness writes JSON");
    config["auth"]["jwt"] = json!({ "sign_method": "ES256", "public_key": keys.public });
    let changed = cluster.folder().join("public.json");
    std::fs::write(&changed, config.to_string()).expect("the folder can be written");
    cluster.machines[2].config = changed;
    cluster.start_all();
    cluster.leader().await;
    let client = cluster.client();
    enable(&client, "a", "b").await;
    assert_permitted(&client, &token(&client, 0, "alice").await).await;
    let refused = until(
        "a machine refuses to give out a token",
        async || match authenticate(&client, 2, "alice").await {
            Err(status) if status.code() == Code::Unavailable => Err(status.to_string()),
            outcome => Ok(outcome),
        },
    )
    .await;
    let refused = refused.expect_err("it has no private key");
    assert_eq!(
        (refused.code(), refused.message()),
        (
            Code::FailedPrecondition,
            "raftmachine: no token is given out here: this machine has only the public key, which recognises tokens: ask one that has the \
             private key"
        )
    );
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_does_not_fit_keeps_a_machine_from_starting_and_nothing_is_made() {
    let keys = Keys::new();
    let config = json!({ "sign_method": "RS256", "private_key": keys.private });
    let cluster = Cluster::prepare(settings().with("auth.jwt", config)).await;
    let machine = &cluster.machines[0];
    let mut command = Command::new(raft_machine());
    command.arg("--config").arg(&machine.config);
    command.args(["--local", &machine.name]);
    die_with_the_test(&mut command);
    let output = command.output().expect("the binary can be run");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    let what = format!(
        "raft-machine: auth.jwt.private_key: {:?} is of another kind or size",
        keys.private
    );
    assert!(
        error.contains(&what) && error.contains("RS256 needs an RSA key"),
        "{error}"
    );
    assert!(!machine.data.exists(), "no data folder is made");
}

/// The same changes in the same order, so that the revisions are the same.
fn ask_for_permissions(endpoint: &str) {
    for command in [
        "user add root:secret",
        "user grant-role root root",
        "role add some",
        "role grant-permission some readwrite a",
        "user add alice:secret",
        "user grant-role alice some",
        "auth enable",
    ] {
        let arguments: Vec<&str> = command.split(' ').collect();
        let output = etcdctl(endpoint, "simple", &arguments, "");
        assert!(output.status.success(), "{command}: {}", text(&output));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_and_a_machine_with_the_same_key_take_each_others_tokens() {
    let folder = TempDir::with_prefix("raft-machine-test-").expect("a temporary folder");
    let private = private_key(folder.path(), "tokens.key", RSA);
    let public = public_key(&private);
    let secret = folder.path().join("secret");
    std::fs::write(&secret, [b's'; 64]).expect("the folder can be written");
    for (method, private, public) in [
        ("RS256", &private, Some(&public)),
        ("PS384", &private, Some(&public)),
        ("HS512", &secret, None),
    ] {
        let mut options = format!(
            "jwt,sign-method={method},ttl=5m,priv-key={}",
            private.display()
        );
        let mut config = json!({ "sign_method": method, "private_key": private });
        if let Some(public) = public {
            options += &format!(",pub-key={}", public.display());
            config["public_key"] = json!(public);
        }
        let mut etcd = LoneEtcd::prepare();
        etcd.arguments = vec![format!("--auth-token={options}"), "--bcrypt-cost=4".into()];
        etcd.run().await;
        let solo = Settings::solo().with("auth.bcrypt_cost", 4);
        let cluster = Cluster::start(solo.with("auth.jwt", config)).await;
        let (theirs, ours) = (etcd.client(), cluster.client());
        for endpoint in [etcd.endpoint(), cluster.endpoints()] {
            ask_for_permissions(&endpoint);
        }
        for token in [
            token(&theirs, 0, "alice").await,
            token(&ours, 0, "alice").await,
        ] {
            assert_permitted(&theirs, &token).await;
            assert_permitted(&ours, &token).await;
        }
        cluster.assert_nobody_panicked();
    }
}
