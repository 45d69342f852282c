//! Garbage in the config: exit code 2 and a text that names the file and the key, before anything else happens.

use rm_tests::panics::assert_refusal;
use rm_tests::{Cluster, Settings};
use serde_json::{Value, json};

/// The exit code of a machine that refuses its config.
const WRONG_CONFIG: i32 = 2;

/// Makes a good config wrong.
type Spoil = fn(&mut Value);

/// What makes a config wrong, with what the machine's text must name.
const WRONG: [(Spoil, &str); 13] = [
    (|config| config["timing"] = json!({}), "timing"),
    (
        |config| config["timings"]["heartbeat_ms"] = json!(0),
        "timings.heartbeat_ms",
    ),
    (
        |config| config["timings"]["heartbeat_ms"] = json!("fast"),
        "timings.heartbeat_ms",
    ),
    (
        |config| config["timings"]["election_timeout_ms"] = json!(-1),
        "timings.election_timeout_ms",
    ),
    (
        |config| config["timings"]["election_timeout_ms"] = json!(100),
        "timings.election_timeout_ms",
    ),
    (|config| config["domain"] = json!(""), "domain"),
    (|config| config["machines"] = json!([]), "machines"),
    (
        |config| config["machines"][1]["name"] = json!("RM.01"),
        "machines[1].name",
    ),
    (
        |config| config["machines"][1]["peer"] = config["machines"][0]["peer"].clone(),
        "machines[1].peer",
    ),
    (
        |config| config["machines"][2]["client"] = json!("nowhere"),
        "machines[2].client",
    ),
    (
        |config| config["machines"][0]["name"] = json!("another"),
        "--local",
    ),
    (
        |config| config["limits"]["requests_max"] = json!(0),
        "limits.requests_max",
    ),
    (
        |config| config["storage"]["durability"] = json!("perhaps"),
        "storage.durability",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_key_is_named() {
    let mut cluster = Cluster::prepare(Settings::trio()).await;
    let good = std::fs::read_to_string(&cluster.machines[0].config).expect("it was written");
    for (spoil, key) in WRONG {
        let mut config: Value = serde_json::from_str(&good).expect("the harness writes JSON");
        spoil(&mut config);
        let log = refused(&mut cluster, config.to_string().as_bytes()).await;
        assert!(log.contains(key), "{key} is not named:\n{log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_no_config_is_named() {
    let mut cluster = Cluster::prepare(Settings::trio()).await;
    let good = std::fs::read(&cluster.machines[0].config).expect("it was written");
    let half = &good[..good.len() / 2];
    let binary: Vec<u8> = (0..=255).collect();
    let deep = "[".repeat(100_000);
    for garbage in [b"", half, &binary, b"null", b"[1, 2]", deep.as_bytes()] {
        refused(&mut cluster, garbage).await;
    }
    std::fs::remove_file(&cluster.machines[0].config).expect("it was written");
    start_refused(&mut cluster).await;
}

/// Starts the first machine with this config, and gives back what it says as it refuses.
async fn refused(cluster: &mut Cluster, config: &[u8]) -> String {
    std::fs::write(&cluster.machines[0].config, config).expect("the folder can be written");
    start_refused(cluster).await
}

async fn start_refused(cluster: &mut Cluster) -> String {
    let machine = &mut cluster.machines[0];
    machine.start();
    let status = machine.end().await;
    let log = machine.take_log();
    assert_refusal(status, &log);
    assert_eq!(status.code(), Some(WRONG_CONFIG), "{log}");
    let file = machine.config.display().to_string();
    assert!(log.contains(&file), "{file} is not named:\n{log}");
    assert!(
        !machine.data.exists(),
        "a data folder was made all the same"
    );
    log
}
