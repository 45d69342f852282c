//! Either half may end at any moment, and so may a process: messages flow again.

use rm_wire::Event;
use tokio::runtime;

use crate::harness::{cluster, machines, numbered};

#[tokio::test]
async fn messages_flow_again_after_the_sender_is_built_anew() {
    let mut machines = cluster(2).await;
    let [first, second] = &mut machines[..] else {
        unreachable!("there are two");
    };
    for number in 0..20 {
        for message in 0..200 {
            first.send(&[second], &numbered(message));
        }
        first.start_outbound();
        first
            .gets_through_to(second, &numbered(1_000 + number))
            .await;
    }
}

#[tokio::test]
async fn messages_flow_again_after_the_listener_is_built_anew_on_the_same_port() {
    let mut machines = cluster(2).await;
    let [first, second] = &mut machines[..] else {
        unreachable!("there are two");
    };
    for number in 0..20 {
        for message in 0..200 {
            first.send(&[second], &numbered(message));
        }
        second.start_inbound();
        first
            .gets_through_to(second, &numbered(1_000 + number))
            .await;
    }
}

#[tokio::test]
async fn a_sender_that_is_dropped_is_not_taken_for_a_process_that_ended() {
    let mut machines = cluster(2).await;
    let [first, second] = &mut machines[..] else {
        unreachable!("there are two");
    };
    first.outbound = None;
    let process_gone = second
        .event(|event| match event {
            Event::Gone { process_gone, .. } => Some(*process_gone),
            _ => None,
        })
        .await;
    assert!(!process_gone);
}

/// A machine whose runtime vanishes says no farewell, as one that is killed. Its successor answers the packets of the
/// old connection with a reset: no idle timeout (a minute here) has to pass.
#[test]
fn a_process_that_was_killed_and_started_again_is_reached_at_once() {
    let build = || {
        runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime can be built")
    };
    let mut machines = machines(2);
    let [first, second] = &mut machines[..] else {
        unreachable!("there are two");
    };
    let own = build();
    own.block_on(async { first.start() });
    for number in 0..3 {
        let victim = build();
        victim.block_on(async { second.start_inbound() });
        let victim_thread = |victim: runtime::Runtime| {
            let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
            let thread = std::thread::spawn(move || {
                // An error means that the test has ended already: then too the runtime ends.
                let _ = victim.block_on(stopped);
                victim.shutdown_background();
            });
            (stop, thread)
        };
        let (stop, thread) = victim_thread(victim);
        own.block_on(first.gets_through_to(second, &numbered(number)));
        drop(stop);
        thread.join().expect("the runtime ends quietly");
        std::mem::forget(second.inbound.take());
    }
}
