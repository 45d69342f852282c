//! Garbage in the data folder: the machine says what is wrong and ends, or the damage is in nothing that matters.
//!
//! `RM_ROUNDS` sets how many files are damaged; 24 when it is not set.

use std::fs;
use std::path::{Path, PathBuf};

use rm_proto::mvccpb::KeyValue;
use rm_tests::panics::{self, Asked, assert_refusal};
use rm_tests::{Cluster, Settings, rounds, until};
use serde_json::{Value, json};
use tonic::Code;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_file_is_refused_or_harmless_but_never_believed() {
    // Checkpoints in short order, so that the log and the state both have something to lose; and restarts, which mend no
    // file, end soon.
    let settings = Settings::solo()
        .with("storage.checkpoint_interval_ms", 20)
        .with("supervision.brain.intensity", 3);
    let mut cluster = Cluster::start(settings).await;
    let client = cluster.client();
    for number in 0..200 {
        client
            .put(format!("key/{number:03}"), format!("value {number}"))
            .await;
    }
    let pairs = client.dump(0).await;
    cluster.machines[0].kill();
    let good = cluster.folder().join("good");
    copy(&cluster.machines[0].data, &good);

    let mut random = 1;
    let mut refusals = 0;
    let rounds = rounds(24);
    for round in 0..rounds {
        restore(&cluster, &good);
        let what = damage(&cluster.machines[0].data, round, &mut random);
        cluster.machines[0].start();
        refusals += usize::from(refused_or_unharmed(&mut cluster, &pairs, &what).await);
        if cluster.machines[0].runs() {
            cluster.machines[0].kill();
        }
        let log = cluster.machines[0].take_log();
        assert_eq!(panics::first(&log, Asked::Nothing), None, "{what}:\n{log}");
    }
    println!("{refusals} of {rounds} damaged files were refused, the others were harmless");
    restore(&cluster, &good);
    cluster.machines[0].start();
    cluster.leader().await;
    assert_eq!(client.dump(0).await, pairs);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_data_of_another_machine_is_refused() {
    let mut cluster = Cluster::start(Settings::trio()).await;
    let client = cluster.client();
    client.put("key", "value").await;
    cluster.machines[0].kill();
    cluster.machines[1].kill();
    swap(&cluster.machines[0].data, &cluster.machines[1].data);
    for (machine, other) in [(0, "RM.02"), (1, "RM.01")] {
        let log = refused(&mut cluster, machine).await;
        assert!(
            log.contains(other),
            "the owner {other} is not named:\n{log}"
        );
    }
    swap(&cluster.machines[0].data, &cluster.machines[1].data);
    cluster.machines[0].start();
    cluster.machines[1].start();
    cluster.leader().await;
    assert_eq!(cluster.same_everywhere().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_data_of_another_domain_is_refused() {
    let mut cluster = Cluster::start(Settings::solo()).await;
    cluster.client().put("key", "value").await;
    cluster.machines[0].kill();
    let file = cluster.machines[0].config.clone();
    let good = fs::read_to_string(&file).expect("it was written");
    let mut config: Value = serde_json::from_str(&good).expect("the harness writes JSON");
    config["domain"] = json!("other.example");
    fs::write(&file, config.to_string()).expect("the folder can be written");
    let log = refused(&mut cluster, 0).await;
    assert!(
        log.contains("tests.example"),
        "the owner is not named:\n{log}"
    );
    fs::write(&file, good).expect("the folder can be written");
    cluster.machines[0].start();
    assert!(cluster.client().get(0, "key").await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_data_of_a_newer_format_is_refused() {
    let mut cluster = Cluster::start(Settings::solo()).await;
    cluster.machines[0].kill();
    let file = cluster.machines[0].data.join("identity.json");
    let text = fs::read_to_string(&file).expect("it was written");
    let body = text.lines().next().expect("it has a line");
    let mut identity: Value = serde_json::from_str(body).expect("its first line is JSON");
    let format = identity.get_mut("format").expect("it names its format");
    *format = json!(999);
    let newer = identity.to_string();
    let checksum = crc32c::crc32c(newer.as_bytes());
    fs::write(&file, format!("{newer}\n{checksum:08x}\n")).expect("the folder can be written");
    let log = refused(&mut cluster, 0).await;
    assert!(log.contains("999"), "the format is not named:\n{log}");
}

/// Starts a machine that must refuse, and gives back what it said.
async fn refused(cluster: &mut Cluster, machine: usize) -> String {
    let machine = &mut cluster.machines[machine];
    machine.take_log();
    machine.start();
    let status = machine.end().await;
    let log = machine.log();
    assert_refusal(status, &log);
    let folder = machine.data.display().to_string();
    assert!(log.contains(&folder), "{folder} is not named:\n{log}");
    log
}

/// Waits until the machine either refuses (`true`) or proves that it still has everything.
async fn refused_or_unharmed(cluster: &mut Cluster, pairs: &[KeyValue], what: &str) -> bool {
    let client = cluster.client();
    let machine = &mut cluster.machines[0];
    until(
        &format!("a machine refuses or serves after {what}"),
        async || {
            if let Some(status) = machine.ended() {
                assert_refusal(status, &machine.log());
                return Ok(true);
            }
            // The linearizable read tells that the log is applied; only then does the machine show all that it has.
            let read = async {
                client.get_on(0, "key/000", false).await?;
                client.dump_once(0).await
            };
            match read.await {
                Err(status) if status.code() == Code::DataLoss => Ok(true),
                Err(status) => Err(status.to_string()),
                Ok(held) => {
                    assert!(held == pairs, "{what} was believed: {} pairs", held.len());
                    Ok(false)
                }
            }
        },
    )
    .await
}

/// Cuts a file short or flips one bit of it; tells what it did.
fn damage(folder: &Path, round: usize, random: &mut u64) -> String {
    let files = files(folder);
    let file = &files[round % files.len()];
    let mut bytes = fs::read(file).expect("it is there");
    let mut draw = |below: usize| {
        *random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        usize::try_from(*random >> 33).expect("it has 31 bits") % below
    };
    let place = draw(bytes.len());
    let what = if draw(4) == 0 {
        bytes.truncate(place);
        format!("a cut at byte {place} of {}", file.display())
    } else {
        let bit = draw(8);
        bytes[place] ^= 1 << bit;
        format!("a flip of bit {bit} in byte {place} of {}", file.display())
    };
    fs::write(file, bytes).expect("it can be written");
    what
}

/// The files with data, in the order of their names.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("it is a folder") {
        let path = entry.expect("it can be read").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if !path.ends_with("lock") && !path.ends_with("lock.mdb") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn restore(cluster: &Cluster, good: &Path) {
    let data = &cluster.machines[0].data;
    fs::remove_dir_all(data).expect("it is there");
    copy(good, data);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("it can be made");
    for entry in fs::read_dir(from).expect("it is a folder") {
        let path = entry.expect("it can be read").path();
        let target = to.join(path.file_name().expect("it has a name"));
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("it can be copied");
        }
    }
}

fn swap(one: &Path, two: &Path) {
    let aside = one.with_extension("aside");
    fs::rename(one, &aside).expect("it can be renamed");
    fs::rename(two, one).expect("it can be renamed");
    fs::rename(aside, two).expect("it can be renamed");
}
