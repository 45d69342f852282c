//! The supervision of one machine, seen through its port: who comes back after which failure, and when it gives up. Beside it what
//! needs no more than machines in this process.

mod compaction;
mod disks;
mod long_reads;
#[expect(unreachable_pub, reason = "another crate offers it to all")]
#[path = "../../../tests/ports.rs"]
mod ports;
mod solo;
mod together;
mod trio;
mod watches;

use std::time::{Duration, Instant};

use rm_actors::port::{Command, Failure, Put, Refusal};
use rm_actors::{ActorName, Outcome};

use crate::solo::{PATIENCE, Solo, endure, fault};

/// Who is restarted with whom: the indices of the actors, in starting order.
fn restarted_with(actor: ActorName) -> std::ops::RangeInclusive<usize> {
    match actor {
        ActorName::Storage => 0..=3,
        ActorName::Applier => 1..=3,
        ActorName::LogicCenter => 2..=3,
        single => single as usize..=single as usize,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_fails_comes_back_with_those_that_rest_on_it_and_nothing_is_lost() {
    let solo = Solo::start(endure).await;
    let mut count = 0;
    for actor in ActorName::ALL {
        for how in [Failure::Panic, Failure::Stop, Failure::Hang] {
            if how == Failure::Hang && actor.holds_writer_lock() {
                continue; // ends the process: see below
            }
            let value = format!("{actor} {how:?}");
            solo.put("before", &value).await;
            let mut expected = solo.incarnations();
            for index in restarted_with(actor) {
                expected[index] += 1;
            }
            solo.running
                .port()
                .kill_actor(actor.as_str(), how)
                .expect("kills");
            solo.until(&value, |solo| {
                solo.incarnations() == expected && solo.all_run()
            })
            .await;
            assert_eq!(solo.get("before").await, Some(value.clone()));
            solo.put("after", &value).await;
            count += 1;
            let report = &solo.running.port().actors()[actor as usize];
            assert!(report.last_failure.is_some(), "{report:?}");
        }
    }
    assert_eq!(count, 28);
    assert_eq!(solo.running.stop().await, Outcome::Stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_inside_an_actors_work_is_a_failure_and_the_next_life_goes_on() {
    let solo = Solo::start(|config| {
        endure(config);
        config.storage.checkpoint_interval_ms = 20;
    })
    .await;
    for (actor, point, action) in [
        ("storage", "transaction", "panic"),
        ("storage", "transaction", "io_error"),
        ("storage", "commit", "panic"),
        ("storage", "commit", "io_error"),
        ("storage", "future", "panic"),
        ("applier", "transaction", "panic"),
        ("applier", "checkpoint", "panic"),
        ("applier", "checkpoint", "io_error"),
        ("applier", "future", "panic"),
        ("logic_center", "future", "panic"),
        ("timer", "future", "panic"),
        ("listener", "future", "panic"),
        ("sender", "future", "panic"),
        ("gate", "future", "panic"),
        ("compactor", "future", "panic"),
        ("lessor", "future", "panic"),
    ] {
        let what = format!("{actor} {point} {action}");
        solo.put("key", &what).await;
        let before = solo.failures();
        solo.arm(actor, point, action, 1);
        solo.put("struck", &what).await;
        solo.until(&what, |solo| {
            solo.failures() == before + 1 && solo.all_run()
        })
        .await;
        assert_eq!(solo.get("key").await.as_ref(), Some(&what));
        assert_eq!(solo.get("struck").await.as_ref(), Some(&what));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_an_actor_that_hangs_is_answered_when_it_is_replaced() {
    let solo = Solo::start(|config| {
        config.timings.request_timeout_ms = 3_600_000;
        config.supervision.front.intensity = 1_000;
        config.supervision.brain.intensity = 1_000;
    })
    .await;
    solo.put("key", "value").await;
    let port = solo.running.port();
    port.kill_actor("gate", Failure::Hang).expect("kills");
    // Waits behind the hang, which lets go of what it holds ten seconds after the replacement, and the hour is not over.
    let soon = Duration::from_secs(5);
    let put = Command::Put(Put {
        key: "other".into(),
        ..Put::default()
    });
    let refused = tokio::time::timeout(soon, port.propose(put)).await;
    assert_eq!(refused.expect("in time"), Err(Refusal::Restarted));
    port.kill_actor("logic_center", Failure::Hang)
        .expect("kills");
    let read = tokio::time::timeout(soon, solo.get("key")).await;
    assert_eq!(read.expect("in time").as_deref(), Some("value"));
    // A write that is lost with it is answered all the same, and not only at its deadline. On a busy host it may come too late for that.
    let deadline = Instant::now() + PATIENCE;
    let outcome = loop {
        assert!(Instant::now() < deadline, "no write was lost");
        port.kill_actor("logic_center", Failure::Hang)
            .expect("kills");
        let put = Command::Put(Put {
            key: "lost".into(),
            ..Put::default()
        });
        let answer = tokio::time::timeout(PATIENCE / 2, port.propose(put)).await;
        let outcome = answer.expect("long before its deadline");
        if outcome.is_err() {
            break outcome;
        }
    };
    assert_eq!(outcome, Err(Refusal::Restarted));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_that_could_do_nothing_is_refused() {
    let solo = Solo::start(|_| ()).await;
    for (actor, point, action) in [
        ("timer", "commit", "panic"),
        ("gate", "handler", "no_space"),
        ("storage", "future", "hang"),
        ("sender", "send", "stop"),
        ("nobody", "handler", "panic"),
        ("timer", "nowhere", "panic"),
        ("timer", "handler", "nothing"),
    ] {
        let refused = solo
            .running
            .port()
            .arm_fault(fault(actor, point, action, 1));
        assert!(
            matches!(refused, Err(Refusal::Operator(_))),
            "{actor} {point} {action}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_actor_that_fails_while_it_starts_is_started_again() {
    let solo = Solo::start(endure).await;
    for actor in ActorName::ALL {
        for (action, times, more_failures) in [("panic", 2, 2), ("hang", 1, 1), ("delay:20", 1, 0)]
        {
            if action == "hang" && actor.holds_writer_lock() {
                continue; // ends the process: see below
            }
            let what = format!("{actor} {action}");
            solo.put("key", &what).await;
            let before = solo.failures();
            solo.arm(actor.as_str(), "started", action, times);
            solo.running
                .port()
                .kill_actor(actor.as_str(), Failure::Stop)
                .expect("kills");
            solo.until(&what, |solo| {
                solo.failures() == before + 1 + more_failures && solo.all_run()
            })
            .await;
            assert_eq!(solo.get("key").await, Some(what));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_failure_more_than_the_intensity_goes_up_and_the_supervisor_gives_up() {
    let mut solo = Solo::start(|config| config.supervision.front.intensity = 2).await;
    for incarnation in 2..=3 {
        solo.running
            .port()
            .kill_actor("gate", Failure::Panic)
            .expect("kills");
        solo.until("the gate", |solo| {
            solo.incarnations()[6] == incarnation && solo.all_run()
        })
        .await;
    }
    solo.running
        .port()
        .kill_actor("gate", Failure::Panic)
        .expect("kills");
    let Outcome::GaveUp(reason) = solo.running.ended().await else {
        panic!("it stopped instead of giving up");
    };
    assert!(
        reason.contains("gate") && reason.contains("front") && reason.contains("more than 2"),
        "{reason}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hang_of_an_actor_that_holds_the_writers_lock_ends_the_process() {
    for (actor, point) in [
        ("storage", "started"),
        ("storage", "handler"),
        ("storage", "transaction"),
        ("storage", "commit"),
        ("applier", "started"),
        ("applier", "handler"),
        ("applier", "transaction"),
        ("applier", "checkpoint"),
    ] {
        let mut solo = Solo::start(|config| {
            config.storage.checkpoint_interval_ms = 20;
            config.supervision.storage_hang_ms = 1_000;
        })
        .await;
        solo.put("key", "value").await;
        solo.arm(actor, point, "hang", 1);
        let port = solo.running.port();
        if point == "started" {
            port.kill_actor(actor, Failure::Stop).expect("kills");
        }
        // Comes by every point; what becomes of it nobody asks.
        let put = Put {
            key: "struck".into(),
            ..Put::default()
        };
        tokio::spawn(async move { port.propose(Command::Put(put)).await });
        let ended = tokio::time::timeout(PATIENCE, solo.running.ended()).await;
        let Ok(Outcome::GaveUp(reason)) = ended else {
            panic!("it goes on instead of giving up: {actor} {point}");
        };
        assert!(
            reason.contains(actor) && reason.contains("writer's lock"),
            "{point}: {reason}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_that_takes_too_long_is_cut_off_and_says_so() {
    let solo = Solo::start(|config| {
        config.timings.shutdown_timeout_ms = 200;
    })
    .await;
    solo.put("key", "value").await;
    let late_ms = 3_000;
    solo.arm("applier", "checkpoint", &format!("delay:{late_ms}"), 1_000);
    let told = Instant::now();
    assert_eq!(solo.running.stop().await, Outcome::Stopped);
    assert!(told.elapsed() < Duration::from_millis(late_ms));
    let log = Solo::log(&solo.folder);
    assert!(
        log.contains("did not finish in time and is cut off"),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_are_refused_unless_the_config_allows_them() {
    let solo = Solo::start(|config| config.fault_injection = false).await;
    let Err(Refusal::Operator(text)) = solo.running.port().kill_actor("gate", Failure::Stop) else {
        panic!("the fault was taken");
    };
    assert!(text.contains("fault_injection"), "{text}");
}
