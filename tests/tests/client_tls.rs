//! TLS on the port for clients, with real clients: who comes in, who does not, and certificates that change while machines serve.

use std::path::Path;

use rm_proto::etcdserverpb::{LeaseKeepAliveRequest, MemberListRequest, WatchCreateRequest};
use rm_proto::raftmachine::v1::Machine as Listed;
use rm_proto::raftmachine::v1::change_members_request::Change;
use rm_tests::authority::{Authority, Signed};
use rm_tests::curl::{self, curl};
use rm_tests::etcd::{etcdctl, text};
use rm_tests::leases::{grant, keep_alive};
use rm_tests::lines::{Lines, await_standing, ended};
use rm_tests::members::{assert_leaves, begun_alone, change, newcomer, remove, standing};
use rm_tests::watching::Watching;
use rm_tests::{Client, Cluster, Settings, rmctl, until};
use rm_tls::{ClientFiles, Dialler};
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::Code;

/// A folder of certificates, and the authorities that signed them.
struct Hall {
    folder: TempDir,
    authority: Authority,
    machine: Signed,
}

impl Hall {
    fn new() -> Hall {
        let folder = TempDir::with_prefix("raft-machine-test-").expect("a temporary folder");
        let authority = Authority::new(folder.path(), "ours");
        let machine = authority.sign("machine", &["127.0.0.1"]);
        Hall {
            folder,
            authority,
            machine,
        }
    }

    /// `clients.tls` of a config.
    fn tls(&self) -> Value {
        json!({
            "certificate": self.machine.certificate,
            "key": self.machine.key,
            "ca": self.authority.ca(),
        })
    }

    /// The same, where clients show certificates.
    fn mutual(&self) -> Value {
        let mut tls = self.tls();
        tls["client_ca"] = json!(self.authority.ca());
        tls
    }

    fn dialler(&self, shown: Option<&Signed>) -> Dialler {
        let files = ClientFiles {
            authority: Some(self.authority.ca()),
            identity: shown.map(|it| (it.certificate.clone(), it.key.clone())),
            believe_anybody: false,
        };
        Dialler::new(&files).expect("the certificates are good")
    }

    async fn cluster(&self, settings: Settings, tls: Value) -> Cluster {
        let mut cluster = Cluster::prepare(settings.with("clients.tls", tls)).await;
        cluster.dialler = Some(self.dialler(Some(&self.machine)));
        cluster.start_all();
        cluster.leader().await;
        cluster
    }
}

fn path(path: &Path) -> &str {
    path.to_str().expect("it is text")
}

/// The endpoints with a scheme, as etcdctl and rmctl take them.
fn by_tls(cluster: &Cluster) -> String {
    let machines = cluster.machines.iter();
    let urls: Vec<String> = machines
        .map(|it| format!("https://{}", it.client))
        .collect();
    urls.join(",")
}

/// The flags that etcdctl and rmctl have in common.
fn flags<'a>(ca: &'a Path, shown: Option<&'a Signed>) -> Vec<&'a str> {
    let mut flags = vec!["--cacert", path(ca)];
    if let Some(shown) = shown {
        flags.extend(["--cert", path(&shown.certificate)]);
        flags.extend(["--key", path(&shown.key)]);
    }
    flags
}

fn with<'a>(flags: &[&'a str], arguments: &[&'a str]) -> Vec<&'a str> {
    [flags, arguments].concat()
}

/// What etcdctl says when it is not let in.
fn turned_away(endpoints: &str, arguments: &[&str]) -> String {
    let once = with(
        &["--dial-timeout", "1s", "--command-timeout", "1s"],
        arguments,
    );
    let output = etcdctl(endpoints, "simple", &once, "");
    assert!(!output.status.success(), "{arguments:?}: {}", text(&output));
    text(&output)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_are_served_by_tls_and_not_in_plain() {
    let hall = Hall::new();
    let cluster = hall.cluster(Settings::trio(), hall.tls()).await;
    let (https, ca) = (by_tls(&cluster), hall.authority.ca());
    let ours = flags(&ca, None);

    let put = etcdctl(&https, "simple", &with(&ours, &["put", "key", "value"]), "");
    assert_eq!(text(&put), "OK\n");
    let got = etcdctl(&https, "simple", &with(&ours, &["get", "key"]), "");
    assert_eq!(text(&got), "key\nvalue\n");
    let mut service = cluster.client().cluster(0);
    let listed = service.member_list(MemberListRequest::default());
    for member in listed.await.expect("it is told").into_inner().members {
        assert!(member.client_ur_ls[0].starts_with("https://"), "{member:?}");
    }

    let told = rmctl::done(&https, &with(&ours, &["info"]));
    assert!(!told.contains("not reached"), "{told}");
    rmctl::done(&https, &with(&ours, &["bench", "put", "--total", "100"]));
    rmctl::done(&https, &["get", "key", "--insecure-skip-tls-verify"]);

    let url = format!("https://{}/health", cluster.machines[1].client);
    let health = curl(&["--cacert", path(&ca), &url]);
    assert_eq!((health.status, health.version.as_str()), (200, "HTTP/2"));
    let health = curl(&["--http1.1", "--cacert", path(&ca), &url]);
    assert_eq!((health.status, health.version.as_str()), (200, "HTTP/1.1"));

    turned_away(&cluster.endpoints(), &["get", "key"]);
    let said = rmctl::refused(&cluster.endpoints(), &["get", "key"], 3);
    assert!(said.contains("does it speak TLS"), "{said}");
    let others = Authority::new(hall.folder.path(), "theirs").ca();
    turned_away(&https, &with(&flags(&others, None), &["get", "key"]));
    let said = rmctl::refused(&https, &with(&flags(&others, None), &["get", "key"]), 3);
    assert!(said.contains("UnknownIssuer"), "{said}");
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_shows_no_certificate_of_the_authority_or_a_revoked_one_is_not_let_in() {
    let hall = Hall::new();
    let (alice, mallory) = (
        hall.authority.sign("alice", &[]),
        hall.authority.sign("mallory", &[]),
    );
    let stranger = Authority::new(hall.folder.path(), "theirs").sign("alice", &[]);
    let mut tls = hall.mutual();
    tls["client_revoked"] = json!(hall.authority.revoke(&[]));
    let cluster = hall.cluster(Settings::solo(), tls).await;
    let (https, ca) = (by_tls(&cluster), hall.authority.ca());
    let get = |shown: Option<&Signed>| {
        let arguments = with(&flags(&ca, shown), &["get", "key"]);
        rmctl::run(&https, &arguments).status.code()
    };

    assert_eq!(get(Some(&alice)), Some(0));
    assert_eq!(get(Some(&mallory)), Some(0));
    assert_eq!(get(Some(&stranger)), Some(3));
    assert_eq!(get(None), Some(3));
    turned_away(&https, &with(&flags(&ca, None), &["get", "key"]));
    turned_away(&https, &with(&flags(&ca, Some(&stranger)), &["get", "key"]));

    hall.authority.revoke(&[&mallory]);
    until("the list is in force", async || match get(Some(&mallory)) {
        Some(3) => Ok(()),
        code => Err(format!("{code:?}")),
    })
    .await;
    assert_eq!(get(Some(&alice)), Some(0));
    let log = cluster.machines[0].log();
    assert!(log.contains("a client did not come in by TLS"), "{log}");
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_renewed_while_a_machine_serves_and_bad_ones_change_nothing() {
    let hall = Hall::new();
    let cluster = hall.cluster(Settings::solo(), hall.tls()).await;
    let url = format!("https://{}/health", cluster.machines[0].client);
    let serves = |ca: &Path| {
        let arguments = ["--cacert", path(ca), &url];
        let output = curl::command(&arguments).output();
        output.expect("curl can be run").status.success()
    };
    let old = hall.authority.ca();
    assert!(serves(&old));
    let open = cluster.client();
    open.put("key", "before").await;

    // Half of the change first, as when an operator copies one file after the other.
    let next = Authority::new(hall.folder.path(), "next");
    let renewed = next.sign("machine", &["127.0.0.1"]);
    put_in_place(&renewed.key, &hall.machine.key);
    let log = || cluster.machines[0].log();
    until("the fault is told", async || {
        let told = log().contains("are of no use: those of before stay in force");
        told.then_some(()).ok_or_else(log)
    })
    .await;
    assert!(serves(&old) && !serves(&next.ca()));

    put_in_place(&renewed.certificate, &hall.machine.certificate);
    until("the new certificate is in force", async || {
        serves(&next.ca()).then_some(()).ok_or_else(log)
    })
    .await;
    assert!(!serves(&old));
    // Whoever is connected stays connected.
    open.put_on(0, "key", "after").await.expect("it is served");
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_version_of_tls_is_spoken_unless_the_config_forbids_it() {
    let hall = Hall::new();
    let mut newest = hall.tls();
    newest["version_min"] = json!("1.3");
    for (tls, lets_in) in [(hall.tls(), true), (newest, false)] {
        let cluster = hall.cluster(Settings::solo(), tls).await;
        let url = format!("https://{}/health", cluster.machines[0].client);
        let ca = hall.authority.ca();
        for (version, expected) in [("1.2", lets_in), ("1.3", true)] {
            let arguments = ["--cacert", path(&ca), "--tls-max", version, &url];
            let output = curl::command(&arguments).output().expect("curl can be run");
            assert_eq!(output.status.success(), expected, "{version}: {output:?}");
        }
        cluster.assert_nobody_panicked();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_of_the_revoked_that_cannot_be_read_lets_nobody_back_in() {
    let hall = Hall::new();
    let sign = |name| hall.authority.sign(name, &[]);
    let (alice, mallory) = (sign("alice"), sign("mallory"));
    let list = hall.authority.revoke(&[&mallory]);
    let mut tls = hall.mutual();
    tls["client_revoked"] = json!(list);
    let cluster = hall.cluster(Settings::solo(), tls).await;
    let (https, ca) = (by_tls(&cluster), hall.authority.ca());
    let get = |shown: &Signed| {
        let arguments = with(&flags(&ca, Some(shown)), &["get", "key"]);
        rmctl::run(&https, &arguments).status.code()
    };
    std::fs::write(&list, "no list").expect("the folder can be written");
    let log = || cluster.machines[0].log();
    until("the fault is told", async || {
        let told = log().contains("are of no use: those of before stay in force");
        told.then_some(()).ok_or_else(log)
    })
    .await;
    assert_eq!((get(&alice), get(&mallory)), (Some(0), Some(3)));
    cluster.assert_nobody_panicked();
}

/// A process that has yet to hear of a leader does not know whether permissions are asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_shows_a_certificate_may_look_where_there_is_no_leader() {
    let hall = Hall::new();
    let alice = hall.authority.sign("alice", &[]);
    let mut cluster = hall.cluster(Settings::trio(), hall.mutual()).await;
    cluster.client().put("key", "value").await;
    // It has caught up once, so that it knows of itself that nobody needs permissions.
    cluster.client().get(0, "key").await;
    cluster.kill_all();
    cluster.machines[0].start();
    let (https, ca) = (
        format!("https://{}", cluster.machines[0].client),
        hall.authority.ca(),
    );
    let shown = flags(&ca, Some(&alice));
    for arguments in [
        &["get", "--consistency=s", "key"][..],
        &["endpoint", "status"],
    ] {
        until("the machine answers", async || {
            let output = etcdctl(&https, "simple", &with(&shown, arguments), "");
            output
                .status
                .success()
                .then_some(())
                .ok_or_else(|| text(&output))
        })
        .await;
    }
    turned_away(&https, &with(&shown, &["get", "key"]));
}

fn put_in_place(from: &Path, to: &Path) {
    let beside = to.with_extension("new");
    std::fs::copy(from, &beside).expect("the folder can be written");
    std::fs::rename(&beside, to).expect("a file can be put in place");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_joins_and_learns_of_its_removal_by_tls() {
    let hall = Hall::new();
    let settings = Settings::trio().of(2).with("clients.tls", hall.mutual());
    let mut cluster = begun_alone(settings).await;
    cluster.dialler = Some(hall.dialler(Some(&hall.machine)));
    let client = cluster.client();
    client.put("key", "value").await;
    let add = newcomer(&cluster.machines[1], false);
    let wanted = |_: &[Listed]| Some(Change::Add(add.clone()));
    change(&client, wanted, |now| standing(now, "RM.02").is_some()).await;
    cluster.machines[1].start();
    cluster.same_everywhere().await;

    // While it is away: a learner asks for no votes, so that only the members at their ports for clients can tell it.
    cluster.machines[1].kill();
    remove(&client, "RM.02").await;
    cluster.machines[1].start();
    assert_leaves(&mut cluster.machines[1]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_common_name_of_a_certificate_stands_for_a_user() {
    let hall = Hall::new();
    let cluster = hall
        .cluster(Settings::trio().with("auth.bcrypt_cost", 4), hall.mutual())
        .await;
    let (https, ca) = (by_tls(&cluster), hall.authority.ca());
    let sign = |name| hall.authority.sign(name, &[]);
    let (root, alice, nobody) = (sign("root"), sign("alice"), sign("nobody"));
    let done = |shown: &Signed, arguments: &[&str]| {
        let output = etcdctl(
            &https,
            "simple",
            &with(&flags(&ca, Some(shown)), arguments),
            "",
        );
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
        text(&output)
    };
    let refused = |shown: &Signed, arguments: &[&str]| {
        let output = etcdctl(
            &https,
            "simple",
            &with(&flags(&ca, Some(shown)), arguments),
            "",
        );
        assert!(!output.status.success(), "{arguments:?}: {}", text(&output));
        assert!(
            text(&output).contains("permission denied"),
            "{}",
            text(&output)
        );
    };
    for arguments in [
        &["user", "add", "root:secret"][..],
        &["user", "grant-role", "root", "root"],
        &["role", "add", "some"],
        &["role", "grant-permission", "some", "readwrite", "a"],
        // One who proves itself by its certificate alone.
        &["user", "add", "alice", "--no-password"],
        &["user", "grant-role", "alice", "some"],
        &["auth", "enable"],
    ] {
        done(&root, arguments);
    }

    done(&alice, &["put", "a", "of alice"]);
    assert_eq!(done(&alice, &["get", "a"]), "a\nof alice\n");
    refused(&alice, &["put", "b", "of alice"]);
    refused(&alice, &["user", "list"]);
    refused(&nobody, &["get", "a"]);
    done(&root, &["put", "b", "of root"]);
    // A password outweighs the certificate.
    done(&nobody, &["--user", "root:secret", "get", "a"]);
    rmctl::done(&https, &with(&flags(&ca, Some(&root)), &["member", "list"]));
    let transfer = with(&flags(&ca, Some(&alice)), &["transfer", "RM.02"]);
    let said = rmctl::refused(&https, &transfer, 1);
    assert!(said.contains("permission denied"), "{said}");

    let addresses = cluster.machines.iter().map(|machine| machine.client);
    let by_alice = Client::by_tls(addresses, &hall.dialler(Some(&alice)));
    let mut watching = Watching::open(&by_alice, 0).await.expect("anybody may");
    for (key, is_permitted) in [("a", true), ("b", false)] {
        watching
            .create(WatchCreateRequest {
                key: key.into(),
                ..Default::default()
            })
            .await;
        let told = watching.told().await;
        assert_eq!(
            (told.created, told.canceled),
            (true, !is_permitted),
            "{told:?}"
        );
    }
    grant(&by_alice, 7, 600).await;
    done(&root, &["put", "b", "of root", "--lease", "7"]);
    let renewal = LeaseKeepAliveRequest { id: 7 };
    let renewed = keep_alive(&by_alice, 0, tokio_stream::iter([renewal])).await;
    let renewed = renewed.expect("anybody may ask").message().await;
    let refused_renewal = renewed.expect_err("a key that is not hers hangs on it");
    assert_eq!(refused_renewal.code(), Code::PermissionDenied);

    // The gateway knows no certificates' names.
    let url = format!("https://{}/v3/kv/range", cluster.machines[0].client);
    let (certificate, key) = (path(&root.certificate), path(&root.key));
    let shown = ["--cacert", path(&ca), "--cert", certificate, "--key", key];
    let answer = curl(&with(&shown, &["--data", r#"{"key":"YQ=="}"#, &url]));
    assert!(answer.body.contains("user name is empty"), "{answer:?}");

    done(&root, &["user", "revoke-role", "alice", "some"]);
    refused(&alice, &["get", "a"]);
    done(&root, &["auth", "disable"]);
    done(&nobody, &["get", "a"]);
    cluster.assert_nobody_panicked();
}

/// Who it was did not matter when it came.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_shows_a_certificate_waits_on_in_line_though_permissions_are_asked_for_meanwhile() {
    let hall = Hall::new();
    let settings = Settings::trio().with_timings_of_an_operator();
    let settings = settings.with("auth.bcrypt_cost", 4);
    let cluster = hall.cluster(settings, hall.mutual()).await;
    let (https, ca) = (by_tls(&cluster), hall.authority.ca());
    let sign = |name| hall.authority.sign(name, &[]);
    let (root, alice) = (sign("root"), sign("alice"));
    let addresses = || cluster.machines.iter().map(|machine| machine.client);
    let by_root = Client::by_tls(addresses(), &hall.dialler(Some(&root)));
    let lines = Lines::by_tls(addresses(), &hall.dialler(Some(&alice)));
    let first = ended("it is free", lines.start_to_lock(0, "a", 0)).await;
    let first = first.expect("anybody may");
    let mut waiting = Vec::new();
    for lease in [7, 8] {
        grant(&by_root, lease, 3_600).await;
        waiting.push(lines.start_to_lock(1, "a", lease));
        await_standing(&by_root, "a", 1 + waiting.len()).await;
    }
    for arguments in [
        &["user", "add", "root:secret"][..],
        &["user", "grant-role", "root", "root"],
        &["role", "add", "line"],
        &["role", "grant-permission", "line", "readwrite", "a/", "a0"],
        &["user", "add", "alice", "--no-password"],
        &["user", "grant-role", "alice", "line"],
        &["auth", "enable"],
    ] {
        let shown = with(&flags(&ca, Some(&root)), arguments);
        let output = etcdctl(&https, "simple", &shown, "");
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    }
    // One that is given up leaves the line, and the other waits on.
    waiting.pop().expect("two wait").abort();
    await_standing(&by_root, "a", 2).await;
    lines.unlock(0, first).await.expect("she may");
    let second = waiting.pop().expect("one waits");
    let second = ended("the second has the lock", second).await;
    lines
        .unlock(2, second.expect("she may"))
        .await
        .expect("she may");
    await_standing(&by_root, "a", 0).await;
    cluster.assert_nobody_panicked();
}
