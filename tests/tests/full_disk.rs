//! A disk that is full: writes are refused with a clear error, reads go on, and writes come back with the space.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rm_tests::writers::assert_nothing_lost;
use rm_tests::{Client, Cluster, Settings, Writers, until};
use tonic::{Code, Status};

/// Long enough that no leader is lost to a busy host: where nothing can be written, nobody could follow it.
const ELECTION_TIMEOUT: Duration = Duration::from_millis(1_500);

/// What etcd says when its quota is used up.
const FULL: &str = "etcdserver: mvcc: database space exceeded";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_machines_without_space_refuse_writes_and_serve_reads_until_it_comes_back() {
    serves_reads_while_no_disk_has_space(patient(Settings::trio())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_alone_without_space_refuses_writes_and_serves_reads_until_it_comes_back() {
    serves_reads_while_no_disk_has_space(patient(Settings::solo())).await;
}

/// Fills all disks for longer than a leader waits for a disk that stalls.
async fn serves_reads_while_no_disk_has_space(settings: Settings) {
    let cluster = Cluster::start(settings).await;
    let machines = cluster.machines.len();
    let client = cluster.client();
    let writers = Writers::start(&client, 2);
    writers.progress(50).await;
    // What is on its way when the disks fill up one after the other, one machine may lack for ever.
    let mut acknowledged = writers.finish().await;
    client.put("before", "kept").await;
    cluster.converged().await;

    for machine in 0..machines {
        client
            .arm_fault(machine, "storage", "commit", "no_space", u64::MAX)
            .await;
    }
    for machine in 0..machines {
        refused(&client, machine).await;
    }
    let leader = cluster.leader().await;
    let since = Instant::now();
    let mut reads = 0;
    // Four are what a leader bears with a disk that stalls.
    while since.elapsed() < 5 * ELECTION_TIMEOUT {
        for machine in 0..machines {
            let pair = client.get(machine, "before").await.expect("it was written");
            assert_eq!(&pair.value[..], b"kept");
            reads += 1;
        }
    }
    println!("{reads} linearizable reads while no disk had space");
    for machine in 0..machines {
        refused(&client, machine).await;
        let info = client.info(machine).await.expect("it answers");
        assert!(info.no_space, "the machine says that its disk is full");
    }
    assert_eq!(cluster.leader().await, leader, "nobody could do better");

    for machine in 0..machines {
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
    // What is in its log by now may be durable, and be applied when it is committed; nothing more can.
    let info = client.info(follower).await.expect("it answers");
    let reachable = info.last_index;
    until("the others go on without it", async || {
        let leader = cluster.leader().await;
        match applied(&client, leader).await {
            applied if applied >= reachable + 100 => Ok(()),
            applied => Err(format!("{applied} applied, {reachable} reachable")),
        }
    })
    .await;
    let applied = applied(&client, follower).await;
    assert!(
        applied <= reachable,
        "a machine without space applies nothing new: {applied}, {reachable} reachable"
    );
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

/// A machine whose disk was full before the others' lacks what they committed without it, and cannot show it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_lacks_what_is_committed_refuses_and_the_others_serve() {
    let cluster = Cluster::start(patient(Settings::trio())).await;
    let client = cluster.client();
    client.put("before", "kept").await;
    cluster.converged().await;
    let leader = cluster.leader().await;
    let [behind, other] = [1, 2].map(|step| (leader + step) % 3);
    client
        .arm_fault(behind, "storage", "commit", "no_space", u64::MAX)
        .await;
    told_full(&client, behind).await;
    put_soon(&client, other, "between").await;
    for machine in [leader, other] {
        client
            .arm_fault(machine, "storage", "commit", "no_space", u64::MAX)
            .await;
        refused(&client, machine).await;
    }

    let since = Instant::now();
    while since.elapsed() < 5 * ELECTION_TIMEOUT {
        for machine in [leader, other] {
            let pair = client.get(machine, "between").await;
            assert_eq!(&pair.expect("it was written").value[..], b"kept too");
        }
        let status = client.get_on(behind, "between", false).await;
        let status = status.expect_err("it cannot know");
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        assert!(status.message().contains("ask another machine"), "{status}");
        let pair = client.get_on(behind, "before", true).await;
        let pair = pair.expect("it answers").expect("it was written");
        assert_eq!(&pair.value[..], b"kept");
    }
    assert_eq!(cluster.leader().await, leader, "nobody could do better");

    for machine in 0..3 {
        client
            .arm_fault(machine, "storage", "commit", "no_space", 0)
            .await;
    }
    put_soon(&client, behind, "after").await;
    let pair = client.get(behind, "between").await;
    assert_eq!(&pair.expect("it was written").value[..], b"kept too");
    cluster.same_everywhere().await;
    cluster.assert_nobody_panicked();
}

/// The leader alone has no space: it tells so whoever writes through a follower, and gives way to one of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_space_refuses_what_followers_bring_and_gives_way_to_one_of_them() {
    let cluster = Cluster::start(patient(Settings::trio())).await;
    let client = cluster.client();
    client.put("before", "kept").await;
    let full = cluster.leader().await;
    let followers = [1, 2].map(|step| (full + step) % 3);
    client
        .arm_fault(full, "storage", "commit", "no_space", u64::MAX)
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
    let pair = client.get_on(full, "before", true).await;
    let pair = pair.expect("it answers").expect("it was written");
    assert_eq!(&pair.value[..], b"kept");

    put_soon(&client, followers[0], "between").await;
    let info = client.info(full).await.expect("it answers");
    assert!(info.no_space, "it is without space still");
    // It lacks what was written since, and says so instead of letting the client wait.
    let status = client.get_on(full, "between", false).await;
    let status = status.expect_err("it cannot know");
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(status.message().contains("ask another machine"), "{status}");

    client
        .arm_fault(full, "storage", "commit", "no_space", 0)
        .await;
    for machine in 0..3 {
        put_soon(&client, machine, &format!("after/{machine}")).await;
    }
    let pairs = cluster.same_everywhere().await;
    for key in ["before", "between", "after/0", "after/1", "after/2"] {
        let kept = pairs.iter().any(|pair| pair.key == key.as_bytes());
        assert!(kept, "{key} is kept");
    }
    cluster.assert_nobody_panicked();
}

/// From the first moment there is less left than the reserve: it suffices to elect leaders, and to serve what they read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reserve_of_the_disks_is_there_for_elections() {
    let settings = Settings::trio().with("limits.disk_reserve_bytes", 1_u64 << 46);
    let mut cluster = Cluster::start(settings).await;
    let client = cluster.client();
    let first = cluster.leader().await;
    for machine in 0..3 {
        refused(&client, machine).await;
    }
    cluster.machines[first].kill();
    let second = cluster.leader().await;
    assert_ne!(first, second);
    for machine in [1, 2].map(|step| (first + step) % 3) {
        refused(&client, machine).await;
        let pair = client.get_on(machine, "refused", false).await;
        assert_eq!(pair.expect("reads go on"), None);
    }
    cluster.machines[first].start();
    cluster.converged().await;
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

fn patient(settings: Settings) -> Settings {
    settings.with(
        "timings.election_timeout_ms",
        ELECTION_TIMEOUT.as_millis() as u64,
    )
}

/// Writes the key as soon as writes are taken.
async fn put_soon(client: &Client, machine: usize, key: &str) {
    until("writes are taken", async || {
        match client.put_on(machine, key.to_owned(), "kept too").await {
            Ok(_) => Ok(()),
            Err(status) => Err(status.to_string()),
        }
    })
    .await;
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
