//! The binary `raft-machine` as a process: what its options print, how it finds out who it is, what it refuses, and with
//! which exit code it ends.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Output};

use rm_tests::binary::raft_machine;
use rm_tests::machine::die_with_the_test;
use rm_tests::panics::assert_refusal;
use rm_tests::{Cluster, Machine, Settings, until};
use serde_json::{Value, json};

/// The exit code of a machine whose supervision gave up.
const GAVE_UP: i32 = 70;

/// The exit code of a wrong config or command line.
const WRONG_USE: i32 = 2;

/// The exit code of a machine that cannot start.
const CANNOT_START: i32 = 1;

/// Runs the binary to its end.
fn run(config: &Path, options: &[&str]) -> Output {
    let mut command = Command::new(raft_machine());
    command.arg("--config").arg(config).args(options);
    die_with_the_test(&mut command);
    command.output().expect("the binary can be run")
}

/// Changes the config of a cluster that is not started yet.
fn change(machine: &Machine, change: impl FnOnce(&mut Value)) {
    let text = std::fs::read(&machine.config).expect("it was written");
    let mut config = serde_json::from_slice(&text).expect("the harness writes JSON");
    change(&mut config);
    std::fs::write(&machine.config, config.to_string()).expect("the folder can be written");
}

/// What `--check` prints, which must be a config.
fn checked(config: &Path, options: &[&str]) -> Value {
    let output = run(config, &[&["--check"], options].concat());
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{error}");
    assert_eq!(error, "", "nothing is wrong");
    serde_json::from_slice(&output.stdout).expect("it prints JSON")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_prints_the_whole_config_and_starts_nothing() {
    let cluster = Cluster::prepare(Settings::trio()).await;
    let machine = &cluster.machines[1];
    let config = checked(&machine.config, &["--local", "RM.02"]);
    assert_eq!(config["local"], "RM.02");
    assert_eq!(config["data_dir"], json!(machine.data), "for this machine");
    assert_eq!(config["timings"]["heartbeat_ms"], 30, "as the file says");
    assert_eq!(config["limits"]["requests_max"], 4_096, "a default");
    assert_eq!(config["machines"].as_array().map(Vec::len), Some(3));
    assert!(!machine.data.exists(), "no data folder is made");

    let again = cluster.folder().join("effective.json");
    std::fs::write(&again, config.to_string()).expect("the folder can be written");
    assert_eq!(checked(&again, &[]), config, "what it prints is a config");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_tells_of_a_wrong_file_all_that_is_wrong_and_where() {
    let cluster = Cluster::prepare(Settings::solo()).await;
    let machine = &cluster.machines[0];
    change(machine, |config| {
        config["timings"]["heartbeat_ms"] = json!(0);
        config["limit"] = json!({});
    });
    let output = run(&machine.config, &["--check"]);
    assert_eq!(output.status.code(), Some(WRONG_USE));
    assert!(output.stdout.is_empty(), "no config is printed");
    let error = String::from_utf8_lossy(&output.stderr);
    let file = machine.config.display().to_string();
    for key in ["timings.heartbeat_ms", "limit"] {
        let line = format!("{file}: {key}: ");
        assert!(error.contains(&line), "{line:?} is missing:\n{error}");
    }
}

#[test]
fn a_wrong_command_line_is_refused_with_the_right_one() {
    for options in [&["--chek"][..], &["--join", "--check"], &["RM.01"]] {
        let output = run(Path::new("any.json"), options);
        assert_eq!(output.status.code(), Some(WRONG_USE), "{options:?}");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains("Usage: raft-machine"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupt_stops_a_machine_as_well_as_a_signal_to_terminate() {
    let mut cluster = Cluster::start(Settings::solo()).await;
    cluster.client().put("key", "value").await;
    let status = cluster.machines[0].interrupt().await;
    assert_eq!(status.code(), Some(0), "{status}");
    let log = cluster.machines[0].take_log();
    assert!(log.contains("signal: SIGINT"), "{log}");
    assert!(log.contains("all actors have stopped"), "{log}");
    cluster.machines[0].start();
    assert!(cluster.client().get(0, "key").await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_file_may_say_which_machine_this_is() {
    let mut cluster = Cluster::prepare(Settings::trio()).await;
    let machine = &mut cluster.machines[1];
    change(machine, |config| config["local"] = json!("RM.02"));
    assert_eq!(checked(&machine.config, &[])["local"], "RM.02");
    let other = checked(&machine.config, &["--local", "RM.03"]);
    assert_eq!(other["local"], "RM.03", "the option goes before the file");

    machine.is_told_its_name = false;
    machine.start();
    assert_eq!(name_told_by(&cluster, 1).await, "RM.02");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_finds_itself_by_the_addresses_of_its_host() {
    let mut cluster = Cluster::prepare(Settings::trio()).await;
    let several = run(&cluster.machines[0].config, &[]);
    assert_eq!(several.status.code(), Some(WRONG_USE));
    let error = String::from_utf8_lossy(&several.stderr);
    let remedy = error.contains("RM.01, RM.02, RM.03") && error.contains("--local NAME");
    assert!(remedy, "all three are on this host:\n{error}");

    // Addresses for documentation, which no host has (RFC 5737).
    let machine = &mut cluster.machines[1];
    change(machine, |config| {
        config["machines"][0]["peer"] = json!("192.0.2.1:7600");
        config["machines"][2]["peer"] = json!("192.0.2.3:7600");
    });
    machine.is_told_its_name = false;
    machine.start();
    assert_eq!(name_told_by(&cluster, 1).await, "RM.02");
}

/// What the machine at the client address of this one says that it is called.
async fn name_told_by(cluster: &Cluster, machine: usize) -> String {
    let client = cluster.client();
    until("a machine tells its name", async || {
        match client.info(machine).await {
            Ok(info) => Ok(info.name),
            Err(status) => Err(status.to_string()),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_port_beyond_loopback_needs_certificates_or_a_word() {
    let mut cluster = Cluster::prepare(Settings::solo()).await;
    let machine = &mut cluster.machines[0];
    let address = format!("192.0.2.1:{}", machine.peer.port());
    change(machine, |config| {
        config["machines"][0]["peer"] = json!(address);
    });
    machine.start();
    let status = machine.end().await;
    let log = machine.take_log();
    assert_refusal(status, &log);
    assert_eq!(status.code(), Some(WRONG_USE), "{log}");
    for word in [&address, "beyond loopback", "peers.tls", "peers.insecure"] {
        assert!(log.contains(word), "{word} is not named:\n{log}");
    }

    change(machine, |config| {
        config["peers"] = json!({ "insecure": true });
    });
    let allowed = checked(&machine.config, &["--local", "RM.01"]);
    assert_eq!(allowed["peers"]["insecure"], true);
    // Now it tries, at an address that this host has not.
    machine.start();
    let status = machine.end().await;
    let log = machine.take_log();
    assert_eq!(status.code(), Some(CANNOT_START), "{log}");
    assert!(log.contains("machines[].peer"), "{log}");
}

/// A process manager may hold the standard error and never read it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_whose_words_nobody_reads_ends_all_the_same() {
    let settings = Settings::solo().with("supervision.front.intensity", 1);
    let cluster = Cluster::prepare(settings).await;
    let client = cluster.client();
    for told in [true, false] {
        let (reader, mut child) = start_unread(&cluster.machines[0]);
        client.put("key", "value").await;
        let status = until("the process ends", async || {
            match child.try_wait().expect("a child can be waited for") {
                Some(status) => return Ok(status),
                None if told => signal_to_terminate(&child),
                // Lost with the process, the last time.
                None => drop(client.kill_actor(0, "gate", "panic").await),
            }
            Err("it runs".to_owned())
        })
        .await;
        let expected = if told { 0 } else { GAVE_UP };
        assert_eq!(status.code(), Some(expected), "{status}");
        drop(reader);
    }
}

/// Starts a machine whose standard error is a pipe that is full and stays so while its reader is kept.
fn start_unread(machine: &Machine) -> (std::io::PipeReader, Child) {
    let (reader, writer) = std::io::pipe().expect("a pipe can be made");
    let mut filler = writer.try_clone().expect("a file can be opened twice");
    // Writes until nothing more fits, and waits there until the reader is gone.
    std::thread::spawn(move || while filler.write_all(&[b'-'; 1 << 16]).is_ok() {});
    let mut command = Command::new(raft_machine());
    command
        .arg("--config")
        .arg(&machine.config)
        .args(["--local", &machine.name])
        .stderr(writer);
    die_with_the_test(&mut command);
    (reader, command.spawn().expect("the binary can be run"))
}

fn signal_to_terminate(child: &Child) {
    use rustix::process::{Pid, Signal, kill_process};
    let process = i32::try_from(child.id()).expect("process numbers are small");
    let process = Pid::from_raw(process).expect("no process has number zero");
    kill_process(process, Signal::TERM).expect("a child can be signalled");
}
