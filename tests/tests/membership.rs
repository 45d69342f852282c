//! Domains of real processes that grow, shrink, move and lose machines under load: no history breaks, nothing acknowledged is lost.

use std::time::Duration;

use rm_proto::mvccpb::KeyValue;
use rm_proto::raftmachine::v1::change_members_request::Change;
use rm_proto::raftmachine::v1::{
    ChangeMembersRequest, ChangeMembersResponse, Machine as Listed, UpdateMember,
};
use rm_tests::members::{
    admit, begun_alone, change, dismiss, id_of, members, newcomer, replace, standing,
};
use rm_tests::panics::assert_refusal;
use rm_tests::ports::claim;
use rm_tests::writers::assert_nothing_lost;
use rm_tests::{Client, Cluster, Mover, Prober, Settings, Workload, Writers, until};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tonic::{Response, Status};

/// That of an operator.
const ELECTION_TIMEOUT: Duration = Duration::from_millis(1_000);

/// How long clients may go without at any change.
const GAP_MAX: Duration = ELECTION_TIMEOUT.saturating_mul(2);

/// In which part of the seconds in which leadership is to move it does, at least: in some the leader is killed, or nobody is fit.
const HAND_OVERS_MIN: f64 = 0.5;

/// How a disk is slowed down, and for how many commits: not for so long that its Storage hangs.
const SLOW_COMMIT: &str = "delay:300";
const SLOW_COMMITS: u64 = 4;

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

/// Waits until things have gone on for a while after the last change: writes, and leadership.
async fn settle(writers: &Writers, mover: &Mover) {
    writers.progress(PROGRESS).await;
    mover.progress().await;
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

/// Has whoever leads the first three machines put a change into its log that the others are slow to take, so that it is not complete at
/// once: who that is, and what it will answer.
async fn begin(
    client: &Client,
    change: &Change,
) -> (
    usize,
    JoinHandle<Result<Response<ChangeMembersResponse>, Status>>,
) {
    let ask = async || {
        let leader = leader_of(client, &[0, 1, 2]).await;
        for follower in (0..3).filter(|&place| place != leader) {
            client
                .arm_fault(follower, "storage", "commit", SLOW_COMMIT, SLOW_COMMITS)
                .await;
        }
        let mut admin = client.admin(leader);
        let request = ChangeMembersRequest {
            change: Some(change.clone()),
            force: false,
        };
        let asked = tokio::spawn(async move { admin.change_members(request).await });
        (leader, asked)
    };
    let (mut leader, mut asked) = ask().await;
    until("the change is in the leader's log", async || {
        if asked.is_finished() {
            let (next, again) = ask().await;
            leader = next;
            let answer = std::mem::replace(&mut asked, again).await;
            let answer = answer.expect("who asks does not panic");
            let refusal = answer.expect_err("it is not complete before it is seen in the log");
            return Err(refusal.to_string());
        }
        let info = client.info_until(leader).await;
        // It sends its log to whoever is a member by its log.
        match info.followers.len() {
            3 => Ok(()),
            _ => Err(format!("{:?}", info.followers)),
        }
    })
    .await;
    (leader, asked)
}

/// Sees that every machine that should serve did so but for a time, and, where leadership was to move, that it did. Whether anything can be
/// said of the time.
fn assert_served(prober: &Prober, mover: Option<&Mover>, change: &str) -> bool {
    let gap = prober.longest();
    let timeouts = gap.own().as_secs_f64() / ELECTION_TIMEOUT.as_secs_f64();
    let told = format!(
        "{change}: no write through machine {} for at most {:.0?}, {timeouts:.2} election timeouts, beside {:.0?} in which the host stood still",
        gap.machine + 1,
        gap.own(),
        gap.stood_still
    );
    println!("{told}");
    assert!(gap.own() <= GAP_MAX, "{told}; at most {GAP_MAX:?} is right");
    let Some(moves) = mover.map(Mover::take) else {
        return gap.can_be_judged();
    };
    println!("{change}: {moves:?}");
    assert!(
        f64::from(moves.done) >= f64::from(moves.asked) * HAND_OVERS_MIN,
        "{change}: {moves:?}; at least {HAND_OVERS_MIN} of them is right"
    );
    gap.can_be_judged()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_domain_grows_shrinks_and_has_every_machine_replaced_under_load() {
    let settings = Settings::trio().of(5).with_timings_of_an_operator();
    let mut cluster = begun_alone(settings).await;
    let client = cluster.client();
    client.put("begun", "alone").await;
    let (writers, workload) = (Writers::start(&client, 3), Workload::start(&client));
    let prober = Prober::start(&client, &cluster.folder(), [0]);
    writers.progress(PROGRESS).await;
    admit(&mut cluster, &client, 1).await;
    prober.expect(1).await;
    let mut judged = vec![assert_served(&prober, None, "grown to 2")];
    // Alone, the first machine had nobody to hand over to.
    let mover = Mover::start(&client);
    for place in 2..5 {
        settle(&writers, &mover).await;
        admit(&mut cluster, &client, place).await;
        prober.expect(place).await;
        judged.push(assert_served(
            &prober,
            Some(&mover),
            &format!("grown to {}", place + 1),
        ));
    }
    caught_up(&client, 5).await;
    for (place, left) in [(0, 4), (3, 3)] {
        settle(&writers, &mover).await;
        judged.push(assert_served(&prober, None, "before the next is removed"));
        prober.excuse(place);
        dismiss(&mut cluster, &client, place).await;
        judged.push(assert_served(
            &prober,
            Some(&mover),
            &format!("shrunk to {left}"),
        ));
    }
    let mut old = vec![1, 2, 4];
    while !old.is_empty() {
        settle(&writers, &mover).await;
        // Whoever leads, if it is an old one: so the first of them, however leadership moves.
        let stays = mover.hold().await;
        let leader = leader_of(&client, &[1, 2, 4]).await;
        let next = old.iter().position(|&place| place == leader);
        let place = old.remove(next.unwrap_or(0));
        let term = client.info_until(leader).await.term;
        judged.push(assert_served(&prober, None, "before the next is killed"));
        prober.excuse(place);
        cluster.machines[place].kill();
        if place == leader {
            let others: Vec<usize> = [1, 2, 4].into_iter().filter(|&it| it != place).collect();
            let next = leader_of(&client, &others).await;
            let later = client.info_until(next).await.term;
            assert!(later > term, "{later} after {term}: the leader was killed");
        }
        assert!(place == leader || old.len() < 2, "first the leader");
        drop(stays);
        replace(&mut cluster, &client, place).await;
        prober.expect(place).await;
        let name = &cluster.machines[place].name;
        judged.push(assert_served(
            &prober,
            Some(&mover),
            &format!("replaced {name}"),
        ));
    }
    settle(&writers, &mover).await;
    judged.push(assert_served(
        &prober,
        Some(&mover),
        "after the last change",
    ));
    assert!(
        judged.iter().filter(|&&it| it).count() * 2 >= judged.len(),
        "the host stood still in most changes: run it again where less goes on"
    );
    let moved = mover.finish().await;
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
    let settings = Settings::trio().of(4).with_timings_of_an_operator();
    let mut cluster = begun_alone(settings).await;
    let client = cluster.client();
    client.put("begun", "alone").await;
    for place in 1..3 {
        admit(&mut cluster, &client, place).await;
    }
    let (writers, workload) = (Writers::start(&client, 3), Workload::start(&client));
    for _ in 0..2 {
        writers.progress(PROGRESS).await;
        let joined = newcomer(&cluster.machines[3], true);
        let (leader, asked) = begin(&client, &Change::Add(joined.clone())).await;
        cluster.machines[leader].kill();
        let answer = asked.await.expect("who asks does not panic");
        let failure = answer.expect_err("the change was under way");
        // Not an answer, which would say that nothing was.
        let is_cut_off = std::error::Error::source(&failure).is_some();
        assert!(is_cut_off, "{failure}");
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
    // Only a machine that durably knows the members can tell that it is not where they say.
    cluster.converged().await;
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
    until("it says what to do", async || {
        let log = cluster.machines[place].log();
        let says = log.contains("rmctl member update");
        says.then_some(()).ok_or("not yet".to_owned())
    })
    .await;
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
}
