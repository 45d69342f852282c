//! Machines that were away, or not told, while the members changed: they find the domain again, or learn that they left it.

use rm_proto::raftmachine::v1::change_members_request::Change;
use rm_proto::raftmachine::v1::{
    AddMember, ChangeMembersRequest, Machine as Listed, MembersRequest, ReplaceMember,
    TransferRequest,
};
use rm_tests::members::{
    admit, assert_leaves, begun_alone, change, id_of, members, newcomer, remove, standing,
};
use rm_tests::ports::claim;
use rm_tests::{Client, Cluster, Machine, Settings, rounds, until};
use serde_json::{Value, json};

/// Hands leadership to a member, whoever has it.
async fn lead(client: &Client, place: usize, name: &str) {
    let to = id_of(&members(client).await, name);
    until("the member leads", async || {
        match client.info(place).await {
            Ok(info) if info.leader == info.machine_id => return Ok(()),
            _ => {}
        }
        for machine in 0..client.machines() {
            // Who does not lead refuses.
            drop(client.admin(machine).transfer(TransferRequest { to }).await);
        }
        Err("another does".to_owned())
    })
    .await;
}

/// Waits until a machine has applied what another one had a moment ago.
async fn follows(client: &Client, place: usize, ahead: usize) {
    let last = client.info(ahead).await.expect("it runs").last_index;
    until("the machine follows", async || {
        let info = client.info(place).await.map_err(|it| it.to_string())?;
        match info.applied_index >= last {
            true => Ok(()),
            false => Err(format!("it has {} of {last}", info.applied_index)),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_was_away_follows_a_leader_that_it_does_not_know() {
    follows_an_unknown_leader(Settings::trio()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_was_away_takes_a_snapshot_of_a_leader_that_it_does_not_know() {
    let settings = Settings::trio()
        .with("storage.checkpoint_interval_ms", 50)
        .with("storage.compaction_keep_entries", 10)
        .with("storage.compaction_step_entries", 5);
    follows_an_unknown_leader(settings).await;
}

async fn follows_an_unknown_leader(settings: Settings) {
    let compacts = settings.config["storage"]["compaction_keep_entries"].is_u64();
    let mut cluster = begun_alone(settings.of(4)).await;
    let client = cluster.client();
    client.put("begun", "alone").await;
    for place in [1, 2] {
        admit(&mut cluster, &client, place).await;
    }
    cluster.machines[2].kill();
    admit(&mut cluster, &client, 3).await;
    lead(&client, 3, "RM.04").await;
    let lacks = client.info(3).await.expect("it runs").last_index;
    until("what it lacks is compacted, or need not be", async || {
        client.put("more", "and more").await;
        let first = client.info(3).await.map_err(|it| it.to_string())?;
        match !compacts || first.first_index > lacks {
            true => Ok(()),
            false => Err(format!("the log begins at {}", first.first_index)),
        }
    })
    .await;
    cluster.machines[2].start();
    follows(&client, 2, 3).await;
    let info = client.info(3).await.expect("it runs");
    assert_eq!(info.leader, info.machine_id, "it leads on");
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_is_replaced_by_one_of_its_name_elsewhere_stops() {
    let mut cluster = Cluster::start(Settings::trio()).await;
    let client = cluster.client();
    let ports = claim(2);
    let old = id_of(&members(&client).await, "RM.03");
    let mut heir = Machine::new(
        "RM.03".to_owned(),
        ports[0].address,
        ports[1].address,
        cluster.machines[2].config.clone(),
        cluster.folder().join("heir"),
        cluster.folder().join("heir.log"),
    );
    let text = std::fs::read_to_string(&heir.config).expect("a config");
    let mut config: Value = serde_json::from_str(&text).expect("JSON");
    config["machines"][2]["client"] = json!(heir.client);
    config["machines"][2]["peer"] = json!(heir.peer);
    config["data_dir"] = json!(heir.data);
    heir.config = cluster.folder().join("heir.json");
    std::fs::write(&heir.config, config.to_string()).expect("the folder can be written");
    heir.join = true;
    heir.start();
    let new = newcomer(&heir, true);
    let wanted = |_: &[Listed]| {
        Some(Change::Replace(ReplaceMember {
            old,
            new: Some(new.clone()),
        }))
    };
    change(&client, wanted, |now| {
        now.len() == 3 && now.iter().all(|each| each.id != old)
    })
    .await;
    assert_leaves(&mut cluster.machines[2]).await;
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_that_was_removed_while_it_was_away_stops_when_it_comes_back() {
    let mut cluster = begun_alone(Settings::trio().of(3)).await;
    let client = cluster.client();
    client.put("begun", "alone").await;
    admit(&mut cluster, &client, 1).await;
    let add = newcomer(&cluster.machines[2], false);
    let wanted = |_: &[Listed]| Some(Change::Add(add.clone()));
    change(&client, wanted, |now| standing(now, "RM.03").is_some()).await;
    cluster.machines[2].start();
    follows(&client, 2, 0).await;
    cluster.machines[2].kill();
    remove(&client, "RM.03").await;
    // Whoever leads now did not when it was removed.
    lead(&client, 1, "RM.02").await;
    lead(&client, 0, "RM.01").await;
    cluster.machines[2].start();
    assert_leaves(&mut cluster.machines[2]).await;
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_was_removed_while_it_was_away_stops_though_the_members_were_restarted() {
    let mut cluster = Cluster::start(Settings::trio()).await;
    let client = cluster.client();
    cluster.machines[2].kill();
    remove(&client, "RM.03").await;
    for place in [0, 1] {
        cluster.machines[place].kill();
        cluster.machines[place].start();
    }
    client.put("after the restart", "taken").await;
    cluster.machines[2].start();
    assert_leaves(&mut cluster.machines[2]).await;
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_hears_nobody_goes_on_waiting_and_comes_back_with_the_others() {
    let mut cluster = Cluster::start(Settings::trio()).await;
    let client = cluster.client();
    client.put("before", "taken").await;
    for place in [0, 1] {
        cluster.machines[place].kill();
    }
    until(
        "it has asked, and nobody answered",
        async || match cluster.machines[2].log().contains("no leader for long") {
            true => Ok(()),
            false => Err("it has not".to_owned()),
        },
    )
    .await;
    assert!(cluster.machines[2].ended().is_none(), "it waits");
    for place in [0, 1] {
        cluster.machines[place].start();
    }
    cluster.client().put("after", "taken").await;
    cluster.same_everywhere().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_admissions_of_one_name_at_once_one_is_refused() {
    let cluster = Cluster::start(Settings::trio()).await;
    let client = cluster.client();
    for round in 0..rounds(20) {
        let ports = claim(4);
        let name = format!("RM.{:02}", 10 + round);
        let add = |machine: usize| {
            let machine = &ports[2 * machine..][..2];
            ChangeMembersRequest {
                change: Some(Change::Add(AddMember {
                    name: name.clone(),
                    peer: machine[0].address.to_string(),
                    client: machine[1].address.to_string(),
                    voter: false,
                })),
                force: false,
            }
        };
        let (mut one, mut two) = (client.admin(0), client.admin(1));
        let (one, two) = tokio::join!(one.change_members(add(0)), two.change_members(add(1)));
        let now = members(&client).await;
        let listed = now.iter().filter(|each| each.name == name).count();
        assert_eq!(listed, 1, "{one:?}\n{two:?}");
        let refusal = one.and(two).expect_err("one is refused");
        assert!(
            refusal.message().contains("is a member already"),
            "{refusal}"
        );
        remove(&client, &name).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_members_are_told_as_they_are_committed() {
    let cluster = Cluster::start(Settings::trio()).await;
    let client = cluster.client();
    until("no change is under way", async || {
        let now = members(&client).await;
        match now.iter().all(|member| !member.data_id.is_empty()) {
            true => Ok(()),
            false => Err(format!("{now:?}")),
        }
    })
    .await;
    let leader = cluster.leader().await;
    let admin = || client.admin(leader);
    // Slow disks keep the leader's entry from being committed, and leave heartbeats alone.
    for place in (0..3).filter(|&place| place != leader) {
        client
            .arm_fault(place, "storage", "commit", "delay:2000", 1)
            .await;
    }
    let ports = claim(2);
    let request = ChangeMembersRequest {
        change: Some(Change::Add(AddMember {
            name: "RM.04".to_owned(),
            peer: ports[0].address.to_string(),
            client: ports[1].address.to_string(),
            voter: false,
        })),
        force: false,
    };
    let mut asked = admin();
    let changed = tokio::spawn(async move { asked.change_members(request).await });
    until("the change is in the leader's log", async || {
        let info = client.info(leader).await.map_err(|it| it.to_string())?;
        match info.last_index > info.commit_index {
            true => Ok(()),
            false => Err("it is not".to_owned()),
        }
    })
    .await;
    let told = admin().members(MembersRequest {}).await;
    let info = client.info(leader).await.expect("it runs");
    assert!(
        info.last_index > info.commit_index,
        "it is not committed yet"
    );
    let told = told.expect("a leader tells").into_inner().machines;
    assert_eq!(standing(&told, "RM.04"), None, "{told:?}");
    let changed = changed.await.expect("it does not panic");
    let machines = changed.expect("it is committed").into_inner().machines;
    assert_eq!(standing(&machines, "RM.04"), Some("learner"));
}
