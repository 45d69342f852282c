//! The binary `rmctl` against real machines: every command an operator has, what it prints, and its exit codes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use rm_tests::ports::claim;
use rm_tests::rmctl::{done, json, refused};
use rm_tests::{Cluster, Settings, until};
use serde_json::Value;

/// All actors of a machine.
const ACTORS: [&str; 10] = [
    "applier",
    "compactor",
    "gate",
    "lessor",
    "listener",
    "logic_center",
    "sender",
    "storage",
    "timer",
    "watcher",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn info_tells_of_every_machine() {
    let cluster = Cluster::start(Settings::trio()).await;
    // Before, a follower may not have heard what is committed.
    cluster.converged().await;
    let one = cluster.machines[0].client.to_string();
    let rows = until("every machine knows the leader", async || {
        let rows = json(&one, &["info"]);
        let known = (0..3).all(|place| rows[place]["leader"].is_string());
        known.then_some(rows.clone()).ok_or(rows.to_string())
    })
    .await;
    assert_eq!(rows.as_array().map(Vec::len), Some(3), "{rows}");
    for (place, machine) in cluster.machines.iter().enumerate() {
        let row = &rows[place];
        assert_eq!(row["name"], machine.name.as_str());
        assert_eq!(row["client"], machine.client.to_string());
        assert_eq!(row["peer"], machine.peer.to_string());
        assert_eq!(row["number"], place + 1);
        assert_eq!(row["domain"], "tests.example");
        for number in ["term", "commit_index", "applied_index", "file_bytes"] {
            assert!(row[number].as_u64() > Some(0), "{number} of {row}");
        }
    }
    let leads = |row: &&Value| row["role"] == "leader";
    let leaders: Vec<&Value> = rows
        .as_array()
        .into_iter()
        .flatten()
        .filter(leads)
        .collect();
    assert_eq!(leaders.len(), 1, "{rows}");
    assert_eq!(leaders[0]["leader"], leaders[0]["name"]);

    for row in rows.as_array().into_iter().flatten() {
        let leads = row["role"] == "leader";
        let followers = row["followers"].as_array().map(Vec::len);
        assert_eq!(followers, Some(if leads { 2 } else { 0 }), "{row}");
        assert_ne!(row["leader_silence_ms"].is_u64(), leads, "{row}");
    }

    let table = done(&one, &["info"]);
    let columns = [
        "#",
        "name",
        "client",
        "domain",
        "role",
        "term",
        "leader",
        "silence",
        "commit",
        "applied",
        "size",
        "in flight",
    ];
    let names = cluster.machines.iter().map(|machine| machine.name.as_str());
    for word in columns.into_iter().chain(names).chain(["follower"]) {
        assert!(table.contains(word), "{word} is missing:\n{table}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_written_read_measured_and_deleted() {
    let cluster = Cluster::start(Settings::trio()).await;
    let all = &cluster.endpoints();
    done(all, &["put", "greeting", "hello"]);
    for machine in &cluster.machines {
        let text = done(&machine.client.to_string(), &["get", "greeting"]);
        assert!(text.lines().any(|line| line == "hello"), "{text:?}");
    }
    let pairs = json(all, &["get", "greeting"]);
    assert!(pairs.to_string().contains(r#""hello""#), "{pairs}");
    done(all, &["del", "greeting"]);
    let text = done(all, &["get", "greeting"]);
    assert!(!text.contains("hello"), "it was deleted: {text:?}");

    for what in ["put", "get"] {
        let load = ["--total", "200", "--clients", "8", "--keys", "50"];
        let report = json(all, &[&["bench", what], &load[..]].concat());
        let counted = (&report["requests"], &report["failed"]);
        assert_eq!(counted, (&200.into(), &0.into()), "{report}");
        assert!(report.to_string().contains(r#""p99""#), "{report}");
    }
    let table = done(all, &["bench", "put", "--total", "50"]);
    assert!(table.contains("p99"), "{table}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn actors_are_shown_and_killed() {
    let cluster = Cluster::start(Settings::trio()).await;
    let machines = json(&cluster.endpoints(), &["actors"]);
    assert_eq!(machines.as_array().map(Vec::len), Some(3), "{machines}");
    for machine in machines.as_array().into_iter().flatten() {
        let actors = machine["actors"].as_array().expect("a machine has actors");
        let names: BTreeSet<&str> = actors.iter().filter_map(|a| a["name"].as_str()).collect();
        assert_eq!(names, BTreeSet::from(ACTORS));
    }
    let table = done(&cluster.endpoints(), &["actors"]);
    for word in [
        "incarnation",
        "restarts",
        "last failure",
        "mailbox",
        "state",
    ] {
        assert!(table.contains(word), "{word} is missing:\n{table}");
    }

    let one = &cluster.machines[0].client.to_string();
    let of_timer = || {
        let machines = json(one, &["actors"]);
        let mut actors = machines[0]["actors"].as_array().into_iter().flatten();
        let timer = actors.find(|actor| actor["name"] == "timer");
        timer.expect("there is a timer").clone()
    };
    for (failures, (how, reason)) in [("panic", "panic:"), ("stop", "stopped"), ("hang", "hung")]
        .into_iter()
        .enumerate()
    {
        done(one, &["actor", "kill", "timer", "--how", how]);
        let timer = until("the timer is back", async || {
            let timer = of_timer();
            let back = timer["failures"] == failures + 1 && timer["state"] == "running";
            back.then_some(timer.clone()).ok_or(timer.to_string())
        })
        .await;
        let told = timer["last_failure"].as_str().unwrap_or_default();
        assert!(told.contains(reason), "{how}: {timer}");
        assert_eq!(timer["incarnation"], failures + 2, "{timer}");
        assert_eq!(timer["restarts"], failures + 1, "{timer}");
    }
    let unknown = refused(one, &["actor", "kill", "tmier"], 1);
    assert!(
        unknown.contains("tmier") && unknown.contains("timer"),
        "{unknown}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_help_of_faults_lists_the_points_and_the_faults_that_a_machine_knows() {
    let cluster = Cluster::start(Settings::solo()).await;
    let here = &cluster.endpoints();
    let help = done(here, &["fault", "arm", "--help"]);
    let answer = |point, action| refused(here, &["fault", "arm", "timer", point, action], 1);
    let points = answer("nowhere", "panic");
    assert_eq!(listed(&help, "Where: "), listed(&points, "the points are "));
    let faults = answer("handler", "nothing");
    assert_eq!(listed(&help, "What: "), listed(&faults, "the faults are "));
}

/// The names that follow these words, up to the end of the line or a bracket.
fn listed<'t>(text: &'t str, before: &str) -> BTreeSet<&'t str> {
    let list = text.split_once(before).map(|(_, list)| list);
    let list = list.unwrap_or_else(|| panic!("{before:?} is missing:\n{text}"));
    let list = list.split(['\n', '(']).next().unwrap_or_default();
    let names = list.split([',', ' ']);
    let names: BTreeSet<&str> = names
        .filter(|name| !["", "and", "or"].contains(name))
        .collect();
    assert!(
        names.contains("hang") || names.contains("handler"),
        "no list:\n{text}"
    );
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_actors_log_is_switched_to_trace_while_the_machine_runs() {
    let cluster = Cluster::start(Settings::trio()).await;
    let one = &cluster.machines[0].client.to_string();
    let levels = json(one, &["log", "show"]);
    assert_eq!(levels[0]["levels"]["storage"], "info", "{levels}");
    done(one, &["put", "before", "trace"]);
    assert!(!cluster.machines[0].log().contains(" TRCE "));
    done(one, &["log", "set", "storage", "trace"]);
    let levels = json(one, &["log", "show"]);
    assert_eq!(levels[0]["levels"]["storage"], "trace", "{levels}");
    assert_eq!(levels[0]["levels"]["sender"], "info", "{levels}");
    until("a record of a commit arrives", async || {
        done(one, &["put", "after", "trace"]);
        let log = cluster.machines[0].log();
        let is_commit =
            |line: &&str| line.contains(" TRCE commit") && line.contains("actor: RM.01.storage");
        let found = log.lines().any(|line| is_commit(&line));
        found.then_some(()).ok_or("no such record".to_owned())
    })
    .await;
    let log = cluster.machines[0].log();
    let mut traces = log.lines().filter(|line| line.contains(" TRCE "));
    assert_eq!(traces.find(|line| !line.contains("RM.01.storage")), None);
    let table = done(one, &["log", "show"]);
    assert!(table.contains("trace"), "{table}");
    let wrong = refused(one, &["log", "set", "storage", "loud"], 2);
    assert!(wrong.contains("loud") && wrong.contains("trace"), "{wrong}");
    let wrong = refused(one, &["log", "set", "stroage", "info"], 1);
    assert!(
        wrong.contains("stroage") && wrong.contains("storage"),
        "{wrong}"
    );
}

#[test]
fn there_are_completions_for_the_usual_shells() {
    for (shell, mark) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef rmctl"),
        ("fish", "complete -c rmctl"),
    ] {
        let script = done("127.0.0.1:1", &["completions", shell]);
        assert!(script.contains(mark), "{shell}: no {mark:?}");
        for command in ["info", "bench", "completions", "transfer"] {
            assert!(script.contains(command), "{shell}: no {command}");
        }
    }
}

#[test]
fn the_demonstration_leaves_nothing_behind() {
    let text = done("127.0.0.1:1", &["demo", "--seconds", "5"]);
    let folder = text
        .lines()
        .find_map(|line| line.strip_prefix("Data and logs: "));
    let folder = folder.unwrap_or_else(|| panic!("it does not say where it is:\n{text}"));
    let last = text.lines().last().unwrap_or_default();
    let acknowledged = last.split(' ').next().unwrap_or_default();
    assert!(
        acknowledged.parse::<u64>().is_ok_and(|puts| puts > 0),
        "{last}"
    );
    assert!(!Path::new(folder).exists(), "{folder} is still there");
    assert_eq!(processes_with(folder), [""; 0], "processes are left");
}

/// The command lines of the processes that name this folder.
fn processes_with(folder: &str) -> Vec<String> {
    let processes = fs::read_dir("/proc").expect("Linux tells its processes");
    let lines = processes.filter_map(|process| {
        // One that has ended meanwhile names nothing.
        let line = fs::read(process.ok()?.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).into_owned())
    });
    lines.filter(|line| line.contains(folder)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_fails_says_why_and_what_to_do() {
    let cluster = Cluster::start(Settings::solo()).await;
    let here = &cluster.endpoints();
    let request = refused(here, &["put", "", "value"], 1);
    assert!(request.contains("key is not provided"), "{request}");

    let usage = refused(here, &["put"], 2);
    assert!(usage.contains("Usage: rmctl put"), "{usage}");
    let usage = refused(here, &["gett", "key"], 2);
    assert!(usage.contains("'get'"), "no likely command: {usage}");

    // Ours, so that nobody listens there.
    let nowhere = claim(1);
    let nowhere = nowhere[0].address.to_string();
    for command in [&["info"][..], &["put", "key", "value"], &["actors"]] {
        let absent = refused(&nowhere, command, 3);
        assert!(absent.contains(&nowhere), "{command:?}: {absent}");
    }
    let remedy = refused(&nowhere, &["get", "key"], 3);
    assert!(remedy.contains("--endpoints"), "{remedy}");
    let half = format!("{here},{nowhere}");
    let some = refused(&half, &["log", "set", "all", "debug"], 3);
    assert!(some.contains("1 of 2"), "{some}");
}
