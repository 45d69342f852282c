//! Domains of real processes that grow, shrink, move and lose machines under load: no history breaks, nothing acknowledged is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rm_proto::mvccpb::KeyValue;
use rm_proto::raftmachine::v1::change_members_request::Change;
use rm_proto::raftmachine::v1::{
    ChangeMembersRequest, Machine as Listed, TransferRequest, UpdateMember,
};
use rm_tests::members::{
    admit, begun_alone, change, dismiss, id_of, members, newcomer, replace, standing,
};
use rm_tests::panics::assert_refusal;
use rm_tests::ports::claim;
use rm_tests::writers::assert_nothing_lost;
use rm_tests::{Client, Cluster, Prober, Settings, Workload, Writers, until};
use serde_json::{Value, json};

/// That of an operator.
const ELECTION_TIMEOUT: Duration = Duration::from_millis(1_000);

/// How long clients may go without at any change.
const GAP_MAX: Duration = ELECTION_TIMEOUT.saturating_mul(2);

/// How often whoever leads is asked to hand over.
const HAND_OVER_PACE: Duration = Duration::from_secs(1);

/// How many writes must be acknowledged between two changes.
const PROGRESS: usize = 50;

/// Waits until all machines have what one of them had a moment ago, while writers go on.
async fn caught_up(client: &Client, machines: usize) {
    let now = client.info(0).await.expect("it runs").last_index;
    until("all machines have caught up", async || {
        for place in 0..machines {
            let info = client.info(place).await.map_err(|it| it.to_string())?;
            if info.applied_index < now {
                return Err(format!("{place} has {} of {now}", info.applied_index));
            }
        }
        Ok(())
    })
    .await;
}

/// Which of these machines leads, as it says itself.
async fn leader_of(client: &Client, places: &[usize]) -> usize {
    until("a machine leads", async || {
        for &place in places {
            match client.info(place).await {
                Ok(info) if info.leader == info.machine_id => return Ok(place),
                _ => {}
            }
        }
        Err("none says so".to_owned())
    })
    .await
}

/// Everything that a machine holds once it has applied all that is acknowledged.
async fn held_by(client: &Client, place: usize) -> Vec<KeyValue> {
    // A linearizable read waits for that.
    client.get(place, "begun").await.expect("it was written");
    client.dump(place).await
}

/// Sees that clients could write at this change, but for a time.
fn assert_served(prober: &Prober, change: &str) {
    let gap = prober.longest();
    let timeouts = gap.own().as_secs_f64() / ELECTION_TIMEOUT.as_secs_f64();
    let told = format!(
        "{change}: no write for at most {:.0?}, {timeouts:.2} election timeouts, beside {:.0?} in which the host stood still",
        gap.own(),
        gap.stood_still
    );
    println!("{told}");
    assert!(gap.own() <= GAP_MAX, "{told}; at most {GAP_MAX:?} is right");
}

/// Has whoever leads hand over to whichever other machine is fittest, again and again.
struct Mover {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<usize>,
}

impl Mover {
    fn start(client: &Client) -> Mover {
        let stop = Arc::<AtomicBool>::default();
        let (client, told) = (client.clone(), Arc::clone(&stop));
        let task = tokio::spawn(async move {
            let mut pace = tokio::time::interval(HAND_OVER_PACE);
            let mut moved = 0;
            while !told.load(Ordering::Relaxed) {
                pace.tick().await;
                for machine in 0..client.machines() {
                    // Who does not lead refuses, and so does who leads alone or has nobody fit.
                    let mut admin = client.admin(machine);
                    if admin.transfer(TransferRequest { to: 0 }).await.is_ok() {
                        moved += 1;
                        break;
                    }
                }
            }
            moved
        });
        Mover { stop, task }
    }

    /// How often leadership moved.
    async fn finish(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("the mover does not panic")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_domain_grows_shrinks_and_has_every_machine_replaced_under_load() {
    let settings = Settings::trio().of(5).with_timings_of_an_operator();
    let mut cluster = begun_alone(settings).await;
    let client = cluster.client();
    client.put("begun", "alone").await;
    let (writers, workload) = (Writers::start(&client, 3), Workload::start(&client));
    let (prober, mover) = (
        Prober::start(&client, &cluster.folder()),
        Mover::start(&client),
    );
    for place in 1..5 {
        writers.progress(PROGRESS).await;
        admit(&mut cluster, &client, place).await;
        assert_served(&prober, &format!("grown to {}", place + 1));
    }
    caught_up(&client, 5).await;
    for (place, left) in [(0, 4), (3, 3)] {
        writers.progress(PROGRESS).await;
        dismiss(&mut cluster, &client, place).await;
        assert_served(&prober, &format!("shrunk to {left}"));
    }
    let mut old = vec![1, 2, 4];
    while !old.is_empty() {
        writers.progress(PROGRESS).await;
        // Whoever leads, if it is an old one: so at least once, however leadership moves.
        let leader = leader_of(&client, &[1, 2, 4]).await;
        let next = old.iter().position(|&place| place == leader);
        let place = old.remove(next.unwrap_or(0));
        replace(&mut cluster, &client, place).await;
        let name = &cluster.machines[place].name;
        assert_served(&prober, &format!("replaced {name}"));
    }
    writers.progress(PROGRESS).await;
    let moved = mover.finish().await;
    assert!(moved > 0, "leadership never moved");
    prober.finish().await;
    let operations = workload.finish().await;
    let acknowledged = writers.finish().await;
    for place in [1, 2, 4] {
        assert_nothing_lost(&acknowledged, &held_by(&client, place).await);
    }
    cluster.assert_nobody_panicked();
    println!(
        "{operations} operations linearizable, {} writes kept, leadership handed over {moved} times",
        acknowledged.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_dies_amid_changes_and_nothing_is_lost() {
    let mut cluster = begun_alone(Settings::trio().of(4)).await;
    let client = cluster.client();
    client.put("begun", "alone").await;
    for place in 1..3 {
        admit(&mut cluster, &client, place).await;
    }
    let (writers, workload) = (Writers::start(&client, 3), Workload::start(&client));
    for _ in 0..2 {
        writers.progress(PROGRESS).await;
        let joined = newcomer(&cluster.machines[3], true);
        let leader = leader_of(&client, &[0, 1, 2]).await;
        let mut admin = client.admin(leader);
        let request = ChangeMembersRequest {
            change: Some(Change::Add(joined.clone())),
            force: false,
        };
        let asked = tokio::spawn(async move { admin.change_members(request).await });
        tokio::task::yield_now().await;
        cluster.machines[leader].kill();
        // Whatever became of it is unknown to whoever asked.
        drop(asked.await);
        cluster.machines[leader].start();
        let name = joined.name.clone();
        let wanted = |_: &[Listed]| Some(Change::Add(joined.clone()));
        change(&client, wanted, |now| standing(now, &name).is_some()).await;
        let wanted = |now: &[Listed]| Some(Change::Remove(id_of(now, &name)));
        change(&client, wanted, |now| standing(now, &name).is_none()).await;
    }
    writers.progress(PROGRESS).await;
    workload.finish().await;
    let acknowledged = writers.finish().await;
    assert_nothing_lost(&acknowledged, &held_by(&client, 0).await);
    cluster.assert_nobody_panicked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_was_removed_or_has_lost_its_data_does_not_come_back_as_the_one_that_it_was()
{
    let mut cluster = begun_alone(Settings::trio().of(4)).await;
    let client = cluster.client();
    client.put("begun", "alone").await;
    for place in 1..4 {
        admit(&mut cluster, &client, place).await;
    }
    until("the log tells on which data all live", async || {
        let now = members(&client).await;
        match now.iter().all(|member| !member.data_id.is_empty()) {
            true => Ok(()),
            false => Err(format!("{now:?}")),
        }
    })
    .await;
    dismiss(&mut cluster, &client, 3).await;
    cluster.machines[3].take_log();
    cluster.machines[3].start();
    let status = cluster.machines[3].end().await;
    let log = cluster.machines[3].log();
    assert_refusal(status, &log);
    assert!(log.contains("was removed from its domain"), "{log}");

    cluster.machines[1].kill();
    std::fs::remove_dir_all(&cluster.machines[1].data).expect("the data can be removed");
    cluster.machines[1].take_log();
    cluster.machines[1].start();
    let status = cluster.machines[1].end().await;
    let log = cluster.machines[1].take_log();
    assert_refusal(status, &log);
    assert!(log.contains("rmctl member replace"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_moves_is_found_where_the_members_say() {
    let mut cluster = Cluster::start(Settings::trio()).await;
    let client = cluster.client();
    let place = (cluster.leader().await + 1) % 3;
    cluster.machines[place].kill();
    let ports = claim(2);
    let text = std::fs::read_to_string(&cluster.machines[place].config).expect("a config");
    let mut config: Value = serde_json::from_str(&text).expect("JSON");
    config["machines"][place]["client"] = json!(ports[0].address);
    config["machines"][place]["peer"] = json!(ports[1].address);
    let moved = cluster.folder().join("moved.json");
    std::fs::write(&moved, config.to_string()).expect("the folder can be written");
    let machine = &mut cluster.machines[place];
    machine.config = moved;
    (machine.client, machine.peer) = (ports[0].address, ports[1].address);
    machine.start();
    let name = machine.name.clone();
    let update = |now: &[Listed]| {
        Some(Change::Update(UpdateMember {
            id: id_of(now, &name),
            peer: ports[1].address.to_string(),
            client: ports[0].address.to_string(),
        }))
    };
    let peer = ports[1].address.to_string();
    change(&client, update, |now| {
        now.iter().any(|member| member.peer == peer)
    })
    .await;
    cluster.client().put("after the move", "taken").await;
    cluster.same_everywhere().await;
    let log = cluster.machines[place].log();
    assert!(log.contains("rmctl member update"), "{log}");
}
