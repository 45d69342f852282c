//! Machines that prove themselves with certificates: three that share a CA form a domain, and strangers are refused.

use rm_tests::authority::Authority;
use rm_tests::{Cluster, Settings, until};
use serde_json::{Value, json};

/// A certificate of a CA for this host: the part of a config that names the files.
fn peers(authority: &Authority, host: &str) -> Value {
    let signed = authority.sign(host, &[host]);
    json!({ "tls": { "ca": authority.ca(), "certificate": signed.certificate, "key": signed.key } })
}

/// Gives a machine a config of its own, with these certificates.
fn give(cluster: &mut Cluster, machine: usize, peers: &Value) {
    let folder = cluster.folder();
    let machine = &mut cluster.machines[machine];
    let text = std::fs::read(&machine.config).expect("it was written");
    let mut config: Value = serde_json::from_slice(&text).expect("the harness writes JSON");
    config["peers"] = peers.clone();
    machine.config = folder.join(format!("{}.json", machine.name));
    std::fs::write(&machine.config, config.to_string()).expect("the folder can be written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machines_of_one_ca_are_a_domain_and_strangers_are_refused() {
    let mut cluster = Cluster::prepare(Settings::trio()).await;
    let ours = Authority::new(&cluster.folder(), "ours");
    let theirs = Authority::new(&cluster.folder(), "theirs");
    let good = peers(&ours, "127.0.0.1");
    for machine in 0..3 {
        give(&mut cluster, machine, &good);
    }
    cluster.machines[0].start();
    cluster.machines[1].start();
    let client = cluster.client();
    for (peers, words) in [
        // Who it is it could not prove, so that nothing but its address is known.
        (
            peers(&theirs, "127.0.0.1"),
            ["certificate", "UnknownIssuer"],
        ),
        (peers(&ours, "192.0.2.1"), ["certificate", "RM.03"]),
    ] {
        give(&mut cluster, 2, &peers);
        cluster.machines[2].start();
        let leader = cluster.leader().await;
        assert_ne!(leader, 2, "nobody hears a stranger");
        client
            .put_on(leader, "key", "value")
            .await
            .expect("two are a majority");
        refused(&cluster, words).await;
        let stranger = until("the stranger answers clients", async || {
            let info = client.info(2).await;
            info.map_err(|status| status.to_string())
        })
        .await;
        assert_eq!(stranger.applied_index, 0, "it has learnt nothing");
        cluster.machines[2].kill();
    }

    give(&mut cluster, 2, &good);
    cluster.machines[2].start();
    let pairs = cluster.same_everywhere().await;
    assert_eq!((pairs.len(), &pairs[0].value[..]), (1, &b"value"[..]));
    cluster.assert_nobody_panicked();
}

/// Waits until one of the first two machines tells of a refusal with all these words.
async fn refused(cluster: &Cluster, words: [&str; 2]) {
    let said = |line: &str| words.iter().all(|word| line.contains(word));
    until("a stranger is refused", async || {
        let logs = cluster.machines[..2].iter().map(|machine| machine.log());
        let mut refusals = logs.filter(|log| log.lines().any(said));
        let told = refusals.next().is_some();
        told.then_some(()).ok_or_else(|| format!("no {words:?}"))
    })
    .await;
}
