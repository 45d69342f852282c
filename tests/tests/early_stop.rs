//! A machine that is told to stop before it has started ends well, and says so, however long its start would take.

use std::fs;

use heed::{EnvOpenOptions, RwTxn};
use rm_tests::machine::Machine;
use rm_tests::{Cluster, Settings, until};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::Signal;

/// Longer than any test takes.
const LONG_MS: u64 = 600_000;

async fn until_it_listens(machine: &Machine) {
    until("it listens for SIGTERM", async || {
        let catches = machine.process().catches(Signal::TERM);
        catches.then_some(()).ok_or(machine.log_tail())
    })
    .await;
}

async fn until_it_says(machine: &Machine, words: &str) {
    until(words, async || {
        let log = machine.log();
        log.contains(words).then_some(()).ok_or(log)
    })
    .await;
}

async fn assert_ends_well(machine: &mut Machine, words: &str) {
    let status = machine.terminate().await;
    assert_eq!(status.code(), Some(0), "{status}: {}", machine.log_tail());
    assert!(machine.log().contains(words), "{}", machine.log_tail());
}

/// A cluster of one that was stopped, and has data.
async fn stopped() -> Cluster {
    let settings = Settings::solo()
        .with("supervision.hang_ms", LONG_MS)
        .with("supervision.storage_hang_ms", LONG_MS)
        .with("timings.shutdown_timeout_ms", 200);
    let mut cluster = Cluster::start(settings).await;
    cluster.client().put("key", "value").await;
    let status = cluster.machines[0].terminate().await;
    assert!(status.success(), "{status}");
    // What it says from now on is of its next start.
    cluster.machines[0].take_log();
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_opens_its_data_for_ever_ends_when_it_is_told() {
    let mut cluster = stopped().await;
    let machine = &mut cluster.machines[0];
    // Whoever reads it waits for somebody who writes it.
    let file = machine.data.join("identity.json");
    fs::remove_file(&file).expect("it is there");
    let rights = Mode::RUSR | Mode::WUSR;
    mknodat(CWD, &file, FileType::Fifo, rights, 0).expect("a pipe can be made");
    machine.start();
    until_it_listens(machine).await;
    let words = "raft-machine: told to stop by SIGTERM before it had started";
    assert_ends_well(machine, words).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_whose_actors_never_begin_ends_when_it_is_told() {
    let mut cluster = stopped().await;
    let machine = &mut cluster.machines[0];
    #[expect(
        unsafe_code,
        reason = "the file is LMDB's, and nobody shortens it meanwhile"
    )]
    let state = unsafe { EnvOpenOptions::new().open(machine.data.join("state")) };
    let state = state.expect("it is sound");
    // The Applier's life begins with a transaction of its own.
    let writes: RwTxn = state.write_txn().expect("nobody else writes");
    machine.start();
    until_it_says(machine, "starts: applier").await;
    assert_ends_well(machine, "told to stop before all actors have begun").await;
    drop(writes);
    machine.start();
    let value = cluster.client().get(0, "key").await;
    assert_eq!(value.map(|pair| pair.value), Some("value".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_waits_to_be_admitted_ends_when_it_is_told() {
    let mut cluster = Cluster::prepare(Settings::trio()).await;
    let machine = &mut cluster.machines[0];
    machine.join = true;
    machine.start();
    until_it_says(machine, "raft-machine: waiting to join").await;
    let words = "raft-machine: told to stop by SIGTERM before it had started";
    assert_ends_well(machine, words).await;
}
