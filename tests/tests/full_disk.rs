//! A disk that is full: writes are refused with a clear error, reads go on, and writes come back with the space.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use rm_tests::writers::assert_nothing_lost;
use rm_tests::{Client, Cluster, Settings, Writers, until};
use tonic::{Code, Status};

/// What etcd says when its quota is used up.
const FULL: &str = "etcdserver: mvcc: database space exceeded";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_are_refused_while_no_disk_has_space_and_come_back_with_it() {
    // A leader that can write nothing for four election timeouts gives way, and where no disk has space nobody can follow
    // it: what is shown here is the time before.
    let settings = Settings::trio().with("timings.election_timeout_ms", 2_000);
    let cluster = Cluster::start(settings).await;
    let client = cluster.client();
    let writers = Writers::start(&client, 2);
    writers.progress(50).await;
    // What a machine without space cannot write down it cannot apply, and a read there would wait for it: so nothing is on
    // its way when the disks fill up.
    let mut acknowledged = writers.finish().await;
    client.put("before", "kept").await;
    cluster.converged().await;

    for machine in 0..3 {
        client
            .arm_fault(machine, "storage", "commit", "no_space", u64::MAX)
            .await;
    }
    for machine in 0..3 {
        refused(&client, machine).await;
        let pair = client.get(machine, "before").await.expect("it was written");
        assert_eq!(&pair.value[..], b"kept");
    }
    let info = client
        .info(0)
        .await
        .expect("a machine with a full disk answers");
    assert!(info.no_space, "the machine says that its disk is full");

    for machine in 0..3 {
        client
            .arm_fault(machine, "storage", "commit", "no_space", 0)
            .await;
    }
    let writers = Writers::start(&client, 2);
    writers.progress(50).await;
    client.put("after", "kept too").await;
    acknowledged.extend(writers.finish().await);
    assert_nothing_lost(&acknowledged, &cluster.same_everywhere().await);
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_without_space_does_not_stop_the_others_and_catches_up() {
    let cluster = Cluster::start(Settings::trio()).await;
    let client = cluster.client();
    let follower = (cluster.leader().await + 1) % 3;
    let writers = Writers::start(&client, 2);
    client
        .arm_fault(follower, "storage", "commit", "no_space", u64::MAX)
        .await;
    told_full(&client, follower).await;
    // What was durable before may still be applied.
    writers.progress(50).await;
    let stuck = applied(&client, follower).await;
    let leader = cluster.leader().await;
    let reached = applied(&client, leader).await;
    writers.progress(100).await;
    assert_eq!(
        applied(&client, follower).await,
        stuck,
        "a machine without space applies nothing"
    );
    let gained = applied(&client, leader).await - reached;
    assert!(gained >= 100, "the others go on: {gained} entries");
    let info = client.info(follower).await.expect("it answers");
    assert!(info.no_space, "it is without space all the while");

    client
        .arm_fault(follower, "storage", "commit", "no_space", 0)
        .await;
    writers.progress(100).await;
    let acknowledged = writers.finish().await;
    assert_nothing_lost(&acknowledged, &cluster.same_everywhere().await);
    cluster.assert_nobody_panicked();
}

/// The leader alone has no space: it tells so whoever writes through a follower, until another machine leads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_space_refuses_what_followers_bring_and_reads_go_on() {
    // A leader whose disk does nothing gives way after some election timeouts: the refusal must be seen before.
    let settings = Settings::trio().with("timings.election_timeout_ms", 2_000);
    let cluster = Cluster::start(settings).await;
    let client = cluster.client();
    client.put("before", "kept").await;
    let leader = cluster.leader().await;
    let followers = [1, 2].map(|step| (leader + step) % 3);
    client
        .arm_fault(leader, "storage", "commit", "no_space", u64::MAX)
        .await;
    for follower in followers {
        refused(&client, follower).await;
        let info = client.info(follower).await.expect("it answers");
        assert!(!info.no_space, "the follower itself has space");
    }
    for follower in followers {
        let pair = client
            .get(follower, "before")
            .await
            .expect("it was written");
        assert_eq!(&pair.value[..], b"kept");
    }
    let pair = client.get_on(leader, "before", true).await;
    let pair = pair.expect("it answers").expect("it was written");
    assert_eq!(&pair.value[..], b"kept");

    client
        .arm_fault(leader, "storage", "commit", "no_space", 0)
        .await;
    for machine in 0..3 {
        let key = format!("after/{machine}");
        until("writes are taken again", async || {
            match client.put_on(machine, key.clone(), "kept too").await {
                Ok(_) => Ok(()),
                Err(status) => Err(status.to_string()),
            }
        })
        .await;
    }
    let pairs = cluster.same_everywhere().await;
    let kept = |key: &[u8]| pairs.iter().any(|pair| pair.key == key);
    assert!(kept(b"before") && kept(b"after/0") && kept(b"after/1") && kept(b"after/2"));
    cluster.assert_nobody_panicked();
}

/// Fills a small file system in memory. Where mounting one is not permitted, `RM_NO_MOUNT=1` says that the injected faults
/// above must do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_really_full_loses_nothing() {
    if std::env::var_os("RM_NO_MOUNT").is_some_and(|value| value == "1") {
        return;
    }
    let settings = Settings::solo().with("limits.disk_reserve_bytes", 2 << 20);
    let mut cluster = Cluster::prepare(settings).await;
    let data = cluster.folder().join("data");
    let _small = SmallDisk::mount(&data, 64);
    cluster.machines[0].start();
    cluster.leader().await;
    let client = cluster.client();
    let writers = Writers::start(&client, 2);
    writers.progress(50).await;

    let ballast = data.join("ballast");
    fill(&ballast);
    refused(&client, 0).await;
    assert!(!client.dump(0).await.is_empty(), "reads go on");
    client
        .get(0, "written/0/000000")
        .await
        .expect("linearizable reads go on");

    fs::remove_file(&ballast).expect("the ballast is there");
    writers.progress(50).await;
    let acknowledged = writers.finish().await;
    assert_nothing_lost(&acknowledged, &cluster.same_everywhere().await);

    cluster.machines[0].kill();
    cluster.machines[0].start();
    cluster.leader().await;
    assert_nothing_lost(&acknowledged, &cluster.same_everywhere().await);
    cluster.assert_nobody_panicked();
    cluster.machines[0].kill();
}

/// Waits until a write is refused for want of space, in etcd's words.
async fn refused(client: &Client, machine: usize) {
    let refusal: Status = until("a write is refused", async || {
        // Large enough to need new pages even where pages inside the files are free.
        match client
            .put_on(machine, "refused", vec![b'x'; 256 << 10])
            .await
        {
            Err(status) if status.code() == Code::ResourceExhausted => Ok(status),
            other => Err(format!("{:?}", other.map(|answer| answer.header))),
        }
    })
    .await;
    assert_eq!(refusal.message(), FULL);
}

/// Waits until the machine says that it has no space.
async fn told_full(client: &Client, machine: usize) {
    until(
        "a machine says that its disk is full",
        async || match client.info(machine).await {
            Ok(info) if info.no_space => Ok(()),
            Ok(_) => Err("it has space".to_owned()),
            Err(status) => Err(status.to_string()),
        },
    )
    .await;
}

/// The last entry that the machine has applied.
async fn applied(client: &Client, machine: usize) -> u64 {
    let info = client.info(machine).await;
    info.expect("every machine answers").applied_index
}

/// Writes zeros into the file until the disk is full.
fn fill(path: &Path) {
    let mut file = File::create(path).expect("the ballast can be created");
    std::io::copy(&mut std::io::repeat(0), &mut file).expect_err("every disk ends");
}

/// A file system that is gone with this value.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(path: &'a Path, mebibytes: usize) -> Self {
        fs::create_dir_all(path).expect("the folder can be written");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "tmpfs"])
            .arg(path)
            .output();
        let said = match &mounted {
            Ok(output) if output.status.success() => return SmallDisk(path),
            Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
            Err(error) => error.to_string(),
        };
        panic!(
            "a small file system cannot be mounted ({}), so no disk can be filled: run this test as root, or set \
             RM_NO_MOUNT=1 to do without it",
            said.trim()
        );
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        // Lazily, since after a failed test the machine may still be there.
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}
