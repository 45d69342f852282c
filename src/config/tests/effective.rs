//! What a good config comes to: the samples, the defaults, and the blanks that are filled in.

use std::path::{Path, PathBuf};

use rm_config::{ClientTls, Config, Effective, Level, Machine, Sink, Strategy, TlsVersion};
use serde_json::{Value, json};

fn load_sample(name: &str, local: Option<&str>) -> Effective {
    rm_config::load(&sample(name), local).unwrap_or_else(|error| panic!("{error}"))
}

fn sample(name: &str) -> PathBuf {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config");
    samples.join(name)
}

/// Loads a config of the fewest keys, and these.
fn load_with(more: Value) -> Effective {
    let mut config = json!({
        "domain": "csy.com",
        "machines": [ { "name": "RM.01", "peer": "127.0.0.1:7600", "client": "127.0.0.1:2379" } ]
    });
    for (key, value) in more.as_object().expect("an object") {
        config[key] = value.clone();
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.json");
    std::fs::write(&path, config.to_string()).expect("the folder can be written");
    rm_config::load(&path, None).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn solo_finds_itself() {
    let effective = load_sample("solo.json", None);
    assert_eq!(effective.local().name, "RM.01");
    assert_eq!(effective.neighbours().len(), 0);
    assert_eq!(effective.number(), 1);
    // Not that of the sample of three: what one machine decided alone is not for the three to go on with.
    assert_eq!(effective.data_dir(), Path::new("data/solo/RM.01"));
    assert!(!effective.config.fault_injection);
}

#[test]
fn trio_serves_each_of_its_machines() {
    let all = ["RM.01", "RM.02", "RM.03"];
    for (place, name) in all.into_iter().enumerate() {
        let effective = load_sample("trio.json", Some(name));
        assert_eq!(effective.local().name, name);
        assert_eq!(effective.config.local.as_deref(), Some(name));
        assert_eq!(effective.number(), place + 1);
        assert_eq!(usize::from(effective.local().peer.port), 7600 + place);
        let mut others: Vec<&str> = all.to_vec();
        others.remove(place);
        let neighbours = effective.neighbours();
        let neighbours: Vec<&str> = neighbours.iter().map(|other| other.name.as_str()).collect();
        assert_eq!(neighbours, others);
        assert_eq!(effective.data_dir(), Path::new("data").join(name));
    }
}

#[test]
fn production_lacks_nothing_but_its_certificates() {
    let error = rm_config::load(&sample("production.json"), Some("RM.02"))
        .expect_err("the files are not on this host");
    let problems: Vec<String> = error
        .problems
        .iter()
        .map(|problem| format!("{}: {}", problem.key, problem.text))
        .collect();
    let peers = [
        "ca: is \"/etc/raft-machine/ca.pem\"",
        "certificate: is \"/etc/raft-machine/RM.02.pem\"",
        "key: is \"/etc/raft-machine/RM.02.key\"",
    ];
    let clients = [peers[1], peers[2], peers[0]];
    let of = |whose, starts: [&str; 3]| {
        starts.map(|start| {
            format!(
                "{whose}.tls.{start}, which is no file: put the file there, or correct the path"
            )
        })
    };
    let expected = [of("peers", peers), of("clients", clients)].concat();
    assert_eq!(problems, expected);
}

#[test]
fn certificates_let_a_machine_leave_loopback() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name);
    for name in ["ca.pem", "RM.01.pem", "RM.01.key"] {
        std::fs::write(file(name), "").expect("the folder can be written");
    }
    let effective = load_with(json!({
        "local": "RM.01",
        "machines": [ { "name": "RM.01", "peer": "10.20.0.1:7600", "client": "10.20.0.1:2379" } ],
        "peers": { "tls": { "ca": file("ca.pem"), "certificate": file("{name}.pem"), "key": file("{name}.key") } },
        "clients": { "tls": { "certificate": file("{name}.pem"), "key": file("{name}.key"), "client_ca": file("ca.pem"), "version_min": "1.3" } }
    }));
    let tls = effective.config.peers.tls.expect("it was given");
    assert_eq!(
        (tls.certificate, tls.key),
        (file("RM.01.pem"), file("RM.01.key"))
    );
    let tls = effective.config.clients.tls.expect("it was given");
    assert_eq!(
        tls,
        ClientTls {
            certificate: file("RM.01.pem"),
            key: file("RM.01.key"),
            ca: None,
            client_ca: Some(file("ca.pem")),
            client_revoked: None,
            version_min: TlsVersion::Tls13,
        }
    );
}

#[test]
fn insecure_lets_a_machine_leave_loopback() {
    let effective = load_with(json!({
        "local": "RM.01",
        "machines": [ { "name": "RM.01", "peer": "10.20.0.1:7600", "client": "10.20.0.1:2379" } ],
        "peers": { "insecure": true }
    }));
    assert!(effective.config.peers.insecure);
}

#[test]
fn what_is_not_given_is_the_default() {
    let effective = load_with(json!({}));
    let mut expected = Config::new("csy.com", effective.config.machines.clone());
    expected.local = Some("RM.01".to_owned());
    expected.data_dir = "data/RM.01".into();
    expected.timings.disk_patience_ms = Some(4_000);
    assert_eq!(effective.config, expected);
    assert_eq!(effective.config.timings.heartbeat_ms, 100);
    assert_eq!(effective.config.timings.election_timeout_ms, 1_000);
}

#[test]
fn the_patience_with_a_disk_follows_the_election_timeout_until_it_is_given() {
    let patience = |timings| load_with(json!({ "timings": timings })).config.timings;
    let follows = patience(json!({ "election_timeout_ms": 3000 }));
    assert_eq!(follows.disk_patience_ms(), 12_000);
    let given = patience(json!({ "election_timeout_ms": 3000, "disk_patience_ms": 3000 }));
    assert_eq!(given.disk_patience_ms(), 3_000);
}

#[test]
fn a_group_that_is_given_in_part_keeps_its_other_defaults() {
    let groups = json!({ "net": { "intensity": 3 }, "brain": { "window_ms": 5000 } });
    let supervision = load_with(json!({ "supervision": groups }))
        .config
        .supervision;
    assert_eq!(supervision.net.intensity, 3);
    assert_eq!(supervision.net.strategy, Strategy::OneForOne);
    assert_eq!(supervision.brain.window_ms, 5_000);
    assert_eq!(supervision.brain.strategy, Strategy::RestForOne);
}

#[test]
fn logs_are_read_and_named() {
    let sinks = json!(["terminal", { "file": { "path": "log/{name}.log" } }, { "json": {} }]);
    let log = json!({ "level": "warning", "actors": { "storage": "trace" }, "sinks": sinks });
    let log = load_with(json!({ "log": log })).config.log;
    assert_eq!(log.level, Level::Warning);
    assert_eq!(log.actors["storage"], Level::Trace);
    let file = Sink::File {
        path: "log/RM.01.log".into(),
    };
    assert_eq!(log.sinks, [Sink::Terminal, file, Sink::Json { path: None }]);
}

#[test]
fn the_option_outweighs_the_file() {
    let mut config = load_sample("trio.json", Some("RM.02")).config;
    config.local = Some("RM.03".to_owned());
    let effective = Effective::new(config, Path::new("a.json"), Some("RM.01"));
    let effective = effective.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(effective.local().name, "RM.01");
}

#[test]
fn what_is_printed_can_be_loaded_again() {
    let effective = load_sample("trio.json", Some("RM.02"));
    let printed: Config = serde_json::from_str(&effective.to_json()).expect("it is a config");
    assert_eq!(printed, effective.config);
    let again = Effective::new(printed, &effective.path, None);
    assert_eq!(again, Ok(effective));
}

#[test]
fn ids_come_from_the_domain_and_the_name() {
    let effective = load_sample("trio.json", Some("RM.01"));
    let id = |machine: &Machine| effective.machine_id(&machine.name);
    let ids: Vec<u64> = effective.config.machines.iter().map(id).collect();
    let expected = ["RM.01", "RM.02", "RM.03"].map(|name| rm_config::machine_id("csy.com", name));
    assert_eq!(ids, expected);
    assert_eq!(effective.cluster_id(), rm_config::cluster_id("csy.com"));
}
