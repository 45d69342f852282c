//! What three machines do together: whose disk a write waits for, who leads after a failure, and who is a member.

use std::time::{Duration, Instant};

use rm_actors::Departure;
use rm_actors::port::{ChangeRefused, Failure, Newcomer, Refusal};
use tokio::time::timeout;

use crate::ports::claim;
use crate::solo::address;
use crate::trio::{SOON, Trio};

/// The disk of the leader, which is asked, is quick: only that of another machine holds up a write.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_waits_for_the_disk_of_a_second_machine() {
    let trio = Trio::start();
    let delay = Duration::from_secs(1);
    let leader = trio.leader().await;
    for follower in (0..3).filter(|&place| place != leader) {
        let slow = format!("delay:{}", delay.as_millis());
        trio.arm(follower, "storage", "commit", &slow, u64::MAX);
    }
    let asked = Instant::now();
    trio.put(leader, "key", "value").await;
    assert!(asked.elapsed() >= delay, "two disks have to take it");
}

/// Once the first machine has begun all and is gone, nobody stands for an hour: who leads again has not waited for that.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_logic_center_dies_leads_again_though_nobody_would_stand() {
    let mut trio = Trio::start_with(|place, config| {
        if place > 0 {
            config.timings.election_timeout_ms = 3_600_000;
        }
    });
    trio.lead(1).await;
    trio.stop(0).await;
    trio.put(1, "before", "value").await;

    let before = trio.port(1).term();
    let killed = trio.port(1).kill_actor("logic_center", Failure::Panic);
    killed.expect("kills");
    trio.until("it leads in a later term", |trio| {
        let (port, report) = (trio.port(1), trio.port(1).report());
        let leads = report.leader == Some(port.identity().machine);
        let seen = (report.term, report.leader);
        (leads && report.term > before)
            .then_some(())
            .ok_or(format!("{seen:?}"))
    })
    .await;
    trio.put(1, "after", "value").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_removed_learns_it() {
    let trio = Trio::start();
    let leader = trio.leader().await;
    let running = trio.machines[(leader + 1) % 3].as_ref().expect("it runs");
    let (machine, removed) = (running.port().identity().machine, running.removed());
    trio.until_done("it is removed", async || {
        match trio.port(leader).remove_member(machine, false).await {
            Err(Refusal::Change(ChangeRefused::NoSuchMachine(_))) => Ok(()),
            outcome => outcome,
        }
    })
    .await;
    let departure = timeout(SOON, removed).await.expect("soon");
    assert_eq!(departure, Departure::Certain);
}

/// Two admissions of one name are asked for at once, and the second is held up between its look at the members and its change.
#[tokio::test(flavor = "multi_thread")]
async fn an_admission_that_was_planned_before_another_one_of_its_name_is_refused() {
    let trio = Trio::start();
    let leader = trio.leader().await;
    let other = (leader + 1) % 3;
    let mut refusals = 0;
    for (round, ports) in claim(20).chunks(4).enumerate() {
        let newcomer = |peer: usize| Newcomer {
            name: format!("RM.1{round}"),
            peer: address(&ports[peer]),
            client: address(&ports[peer + 1]),
        };
        let (one, two) = (newcomer(0), newcomer(2));
        let (port, other_port) = (trio.port(leader), trio.port(other));
        trio.arm(other, "gate", "handler", "delay:300", 1);
        let (first, second) = tokio::join!(
            port.add_member(&one, false, false),
            other_port.add_member(&two, false, false)
        );
        let told = trio.until_done("the members are told", async || port.members_now().await);
        let (members, _) = told.await;
        let listed = members.iter().filter(|member| member.name == one.name);
        let outcomes = format!("{first:?}, {second:?}");
        assert!(listed.count() <= 1, "{outcomes}: {members:?}");
        refusals += usize::from(outcomes.contains("is a member already"));
    }
    assert!(refusals > 0, "one is told that it came too late");
}
