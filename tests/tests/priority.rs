//! A preferred machine leads, and still does when an empty one takes its name.

use rm_proto::raftmachine::v1::TransferRequest;
use rm_tests::members::replace;
use rm_tests::{Cluster, Settings, until};
use serde_json::{Value, json};

/// Three machines, of which the one at `preferred` is to lead.
async fn start_with_preference(preferred: usize) -> Cluster {
    // So long that nobody leads by the accident of an election, as on a busy host.
    let settings = Settings::trio().with("timings.election_timeout_ms", 1_500);
    let mut cluster = Cluster::prepare(settings).await;
    let file = &cluster.machines[0].config;
    let text = std::fs::read_to_string(file).expect("a config");
    let mut config: Value = serde_json::from_str(&text).expect("JSON");
    config["machines"][preferred]["priority"] = json!(10);
    std::fs::write(file, config.to_string()).expect("the folder can be written");
    for machine in &mut cluster.machines {
        machine.start();
    }
    cluster
}

/// Waits until the machine at this place leads.
async fn leads(cluster: &Cluster, place: usize) {
    until("the preferred machine leads", async || {
        match cluster.leader().await {
            leader if leader == place => Ok(()),
            other => Err(format!("{other} does")),
        }
    })
    .await;
}

/// Has the machine at this place lead for now.
async fn hand_over(cluster: &Cluster, place: usize) {
    let client = cluster.client();
    let to = client.info(place).await.expect("it runs").machine_id;
    until("leadership is handed over", async || {
        let leader = cluster.leader().await;
        let answer = client.admin(leader).transfer(TransferRequest { to }).await;
        answer.map(|_| ()).map_err(|status| status.to_string())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_takes_the_name_of_a_preferred_one_is_preferred_too() {
    let mut cluster = start_with_preference(2).await;
    let client = cluster.client();
    leads(&cluster, 2).await;
    // No LogicCenter of the others begins anew meanwhile: what they know of the new machine, they are told.
    replace(&mut cluster, &client, 2).await;
    leads(&cluster, 2).await;
    // Once might be an accident.
    for other in [0, 1] {
        hand_over(&cluster, other).await;
        leads(&cluster, 2).await;
    }
    client.put("after", "kept").await;
    cluster.same_everywhere().await;
    cluster.assert_nobody_panicked();
}
