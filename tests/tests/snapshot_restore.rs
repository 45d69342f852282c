//! Domains that are restored from a saved snapshot, by `rmctl` and with real machines.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rm_proto::mvccpb::KeyValue;
use rm_tests::etcd::{etcdctl, text};
use rm_tests::rmctl::{done, json, refused};
use rm_tests::writers::assert_nothing_lost;
use rm_tests::{Cluster, Settings, Writers, until};

/// For commands that ask no machine.
const NO_MACHINE: &str = "127.0.0.1:1";

/// Makes the data of each machine of a cluster, which was not started, of a saved snapshot.
fn restore(cluster: &Cluster, file: &Path, options: &[&str]) -> Vec<String> {
    let file = file.to_str().expect("a path of text");
    let machines = cluster.machines.iter();
    machines
        .map(|machine| {
            let config = machine.config.to_str().expect("a path of text");
            let arguments = [
                "snapshot",
                "restore",
                file,
                "--config",
                config,
                "--local",
                &machine.name,
            ];
            done(NO_MACHINE, &[&arguments[..], options].concat())
        })
        .collect()
}

/// Saves a snapshot through the first machine.
fn save(cluster: &Cluster, name: &str) -> PathBuf {
    let path = cluster.folder().join(name);
    let endpoint = cluster.machines[0].client.to_string();
    let text = path.to_str().expect("a path of text");
    let said = done(&endpoint, &["snapshot", "save", text]);
    assert!(said.contains("saved"), "{said}");
    path
}

fn by_key(pairs: &[KeyValue]) -> BTreeMap<Vec<u8>, KeyValue> {
    let pairs = pairs.iter();
    pairs
        .map(|pair| (pair.key.to_vec(), pair.clone()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_machines_restored_from_one_file_agree_on_all_that_was_acknowledged_before_it_was_saved()
 {
    let before = Cluster::start(Settings::trio()).await;
    let client = before.client();
    let writers = Writers::start(&client, 4);
    writers.progress(200).await;
    let acknowledged = writers.finish().await;
    let writers = Writers::start(&client, 4);
    // What the first machine was asked to show, it has in its snapshot, though its Applier dies a moment before.
    for (key, value) in &acknowledged {
        let pair = client.get(0, key.clone()).await.expect("it is there");
        assert_eq!(pair.value, value.as_bytes());
    }
    client
        .kill_actor(0, "applier", "panic")
        .await
        .expect("it is there to be killed");
    let file = save(&before, "saved");
    writers.progress(50).await;
    let later = writers.finish().await;
    let pairs = before.same_everywhere().await;
    let folder = tempfile::TempDir::new().expect("a folder");
    let kept = folder.path().join("saved");
    fs::copy(&file, &kept).expect("it can be copied");
    drop(before);

    let path = kept.to_str().expect("a path of text");
    let status = json(NO_MACHINE, &["snapshot", "status", path]);
    let settings = Settings::trio().with("domain", "restored.example");
    let mut after = Cluster::prepare(settings).await;
    let told = restore(&after, &kept, &[]);
    let eras = told.iter().map(|told| {
        let (_, era) = told.split_once("era ").expect("it says which");
        era[..16].to_owned()
    });
    let eras: Vec<String> = eras.collect();
    assert!(eras.iter().all(|era| *era == eras[0]), "{told:?}");
    after.start_all();
    after.leader().await;
    let restored = after.same_everywhere().await;
    assert_nothing_lost(&acknowledged, &restored);
    let (all, held) = (by_key(&pairs), by_key(&restored));
    assert!(held.iter().all(|(key, pair)| all.get(key) == Some(pair)));
    println!(
        "{} keys were acknowledged before, {} later, {} are restored",
        acknowledged.len(),
        later.len(),
        held.len()
    );
    let client = after.client();
    let info = client.info(0).await.expect("it answers");
    assert_eq!(info.revision, status["revision"]);
    assert_eq!(status["keys"], held.len());
    for machine in 0..3 {
        let told = client.hash_kv(machine, info.revision).await;
        assert_eq!(u64::from(told.hash), status["hash"]);
    }
    // It is a domain like any other: it takes writes, and every machine may be lost.
    client.put("after", "the restoration").await;
    after.kill_all();
    after.start_all();
    after.leader().await;
    let writers = Writers::start(&client, 2);
    writers.progress(20).await;
    writers.finish().await;
    after.same_everywhere().await;
    after.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raised_revision_that_is_marked_as_compacted_has_earlier_watches_begin_anew() {
    let before = Cluster::start(Settings::solo()).await;
    let client = before.client();
    let written = client.put("key", "value").await;
    let revision = written.header.expect("it has one").revision;
    let file = save(&before, "saved");
    let folder = tempfile::TempDir::new().expect("a folder");
    let kept = folder.path().join("saved");
    fs::copy(&file, &kept).expect("it can be copied");
    drop(before);
    let mut after = Cluster::prepare(Settings::trio()).await;
    restore(
        &after,
        &kept,
        &["--bump-revision", "1000", "--mark-compacted"],
    );
    after.start_all();
    after.leader().await;
    let client = after.client();
    let next = client.put("key", "another").await;
    let next = next.header.expect("it has one").revision;
    assert_eq!(next, revision + 1001);
    let from = format!("--rev={revision}");
    let watched = etcdctl(&after.endpoints(), "simple", &["watch", "key", &from], "");
    let said = text(&watched);
    assert!(
        said.contains("required revision has been compacted"),
        "{said}"
    );
    let pair = client.get(1, "key").await.expect("it is there");
    assert_eq!((pair.version, pair.create_revision), (2, revision));
    after.same_everywhere().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machines_of_two_restorations_of_one_file_refuse_each_other() {
    let before = Cluster::start(Settings::solo()).await;
    before.client().put("key", "value").await;
    let file = save(&before, "saved");
    let folder = tempfile::TempDir::new().expect("a folder");
    let kept = folder.path().join("saved");
    fs::copy(&file, &kept).expect("it can be copied");
    drop(before);
    let mut after = Cluster::prepare(Settings::trio()).await;
    restore(&after, &kept, &[]);
    let stray = &after.machines[2];
    fs::remove_dir_all(&stray.data).expect("it was made");
    let (config, name) = (stray.config.to_str().expect("text"), stray.name.clone());
    let file = kept.to_str().expect("text");
    let again = ["snapshot", "restore", file, "--config", config, "--local"];
    done(
        NO_MACHINE,
        &[&again[..], &[&name, "--token", "again"]].concat(),
    );
    after.start_all();
    let client = after.client();
    let put = client.put_on(0, "key", "of the two").await;
    drop(put);
    until("it is refused by its era", async || {
        let log = after.machines[2].log();
        match log.contains("ANOTHER ERA") {
            true => Ok(()),
            false => Err("its log does not say so".to_owned()),
        }
    })
    .await;
}

/// What etcdctl prints when it does what it is asked.
fn told(endpoints: &str, arguments: &[&str]) -> String {
    let output = etcdctl(endpoints, "simple", arguments, "");
    assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    text(&output).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_and_users_come_along_into_the_new_domain() {
    const ROOT: [&str; 2] = ["--user", "root:secret"];
    let before = Cluster::start(Settings::solo()).await;
    let endpoints = before.endpoints();
    let granted = told(&endpoints, &["lease", "grant", "5"]);
    let lease = granted.split(' ').nth(1).expect("lease ID granted ..");
    told(&endpoints, &["put", "passing", "value", "--lease", lease]);
    told(&endpoints, &["put", "lasting", "value"]);
    told(&endpoints, &["user", "add", "root:secret"]);
    told(&endpoints, &["user", "grant-role", "root", "root"]);
    told(&endpoints, &["auth", "enable"]);
    let folder = tempfile::TempDir::new().expect("a folder");
    let kept = folder.path().join("saved");
    let path = kept.to_str().expect("a path of text");
    let refused = refused(&endpoints, &["snapshot", "save", path], 1);
    assert!(!kept.exists(), "{refused}");
    done(
        &endpoints,
        &[&["snapshot", "save", path], &ROOT[..]].concat(),
    );
    drop(before);
    let mut after = Cluster::prepare(Settings::trio()).await;
    restore(&after, &kept, &[]);
    after.start_all();
    let endpoints = after.endpoints();
    until("the new domain knows its users", async || {
        let get = [&["get", "lasting"], &ROOT[..]].concat();
        let output = etcdctl(&endpoints, "simple", &get, "");
        let is_done = output.status.success();
        is_done.then_some(()).ok_or_else(|| text(&output))
    })
    .await;
    let stranger = etcdctl(&endpoints, "simple", &["get", "lasting"], "");
    assert!(!stranger.status.success(), "nobody said who asks");
    let get = |key| {
        told(
            &endpoints,
            &[&["get", "--print-value-only", key], &ROOT[..]].concat(),
        )
    };
    assert_eq!(get("lasting"), "value");
    // Whoever leads counts the time of the lease, from its beginning.
    until("the lease has ended", async || match get("passing") {
        gone if gone.is_empty() => Ok(()),
        there => Err(there),
    })
    .await;
    assert_eq!(get("lasting"), "value");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_save_that_fails_leaves_what_was_there() {
    let settings = Settings::solo().with("limits.snapshot_reserve_bytes", 1_u64 << 45);
    let cluster = Cluster::start(settings).await;
    let path = cluster.folder().join("saved");
    fs::write(&path, "of yesterday").expect("the folder can be written");
    let text = path.to_str().expect("a path of text");
    let said = refused(&cluster.endpoints(), &["snapshot", "save", text], 1);
    assert!(said.contains("space"), "{said}");
    assert_eq!(fs::read(&path).expect("it is there"), b"of yesterday");
    assert!(!cluster.folder().join("saved.part").exists());
    let said = refused(NO_MACHINE, &["snapshot", "status", text], 1);
    assert!(said.contains("saved is cut short"), "{said}");
    let missing = cluster.folder().join("nothing");
    let missing = missing.to_str().expect("a path of text");
    let said = refused(NO_MACHINE, &["snapshot", "status", missing], 1);
    assert!(said.contains("cannot read"), "{said}");
}
