//! What is sent arrives.

use rm_raft::MachineId;
use rm_wire::{Event, HeardCounts, LeaseStanding, LessorBody, LessorMessage};

use crate::harness::{append, cluster, every_kind, machines, numbered, until};

#[tokio::test]
async fn two_machines_exchange_every_kind_of_message() {
    let mut machines = cluster(2).await;
    let [first, second] = &mut machines[..] else {
        unreachable!("there are two");
    };
    for message in every_kind() {
        first.send(&[second], &message);
        assert_eq!(
            second.received(first.id(), 1).await,
            std::slice::from_ref(&message)
        );
        second.send(&[first], &message);
        assert_eq!(first.received(second.id(), 1).await, [message]);
    }
    // By datagram and by stream; what is sent counts once it is handed on, when it may have come already.
    until("what came is what was sent", || {
        let bytes = first.status(second.id()).bytes_sent;
        let counts = HeardCounts { bytes, broken: 0 };
        bytes > 0 && second.inbound().heard() == [(first.id(), counts)]
    })
    .await;
}

#[tokio::test]
async fn lessors_speak_to_each_other_among_the_messages() {
    let mut machines = cluster(2).await;
    let [first, second] = &mut machines[..] else {
        unreachable!("there are two");
    };
    let held = LeaseStanding::Held {
        ttl: 60,
        left_ms: 59_000,
    };
    let bodies = [
        LessorBody::Renew((0..4_096).collect()),
        LessorBody::Look(vec![-1]),
        LessorBody::Standing(vec![LeaseStanding::None, held, LeaseStanding::Unsettled]),
        LessorBody::NotNow,
    ];
    for (number, body) in (1..).zip(bodies) {
        let message = LessorMessage { number, body };
        first.send(&[second], &numbered(number));
        first.outbound().send_to_lessor(second.id(), &message);
        assert_eq!(second.received(first.id(), 1).await, [numbered(number)]);
        assert_eq!(second.lessor_said(first.id()).await, message);
    }
}

#[tokio::test]
async fn one_message_reaches_all_that_it_is_sent_to() {
    let mut machines = cluster(3).await;
    let [first, second, third] = &mut machines[..] else {
        unreachable!("there are three");
    };
    for message in every_kind() {
        first.send(&[second, third], &message);
        assert_eq!(
            second.received(first.id(), 1).await,
            std::slice::from_ref(&message)
        );
        assert_eq!(third.received(first.id(), 1).await, [message]);
    }
}

#[tokio::test]
async fn messages_on_the_stream_keep_their_order() {
    let mut machines = cluster(2).await;
    let [first, second] = &mut machines[..] else {
        unreachable!("there are two");
    };
    let sent: Vec<_> = (0..5_000)
        .map(|number| match number % 100 {
            99 => append(number as usize * 10),
            _ => numbered(number),
        })
        .collect();
    for message in &sent {
        first.send(&[second], message);
    }
    assert!(second.received(first.id(), sent.len()).await == sent);
    let status = first.status(second.id());
    assert_eq!(status.frames_dropped, 0);
    assert!(status.round_trip.is_some());
}

#[tokio::test]
async fn what_is_sent_before_the_peer_is_reached_waits_for_it() {
    let mut machines = machines(2);
    let [first, second] = &mut machines[..] else {
        unreachable!("there are two");
    };
    second.start();
    first.start_outbound();
    first.send(&[second], &numbered(1));
    assert_eq!(second.received(first.id(), 1).await, [numbered(1)]);
}

#[tokio::test]
async fn a_peer_is_announced_with_its_incarnation_and_its_farewell_is_understood() {
    let mut machines = machines(2);
    let [first, second] = &mut machines[..] else {
        unreachable!("there are two");
    };
    first.identity.incarnation = 42;
    second.start();
    first.start();
    let connected = |event: &Event| match event {
        Event::Connected {
            from, incarnation, ..
        } => Some((*from, *incarnation)),
        _ => None,
    };
    assert_eq!(second.event(connected).await, (MachineId(1), 42));
    assert_eq!(second.inbound().connected(), [MachineId(1)]);

    let outbound = first.outbound.take().expect("it was started");
    outbound.close_for_exit().await;
    let gone = |event: &Event| match event {
        Event::Gone {
            from, process_gone, ..
        } => Some((*from, *process_gone)),
        _ => None,
    };
    assert_eq!(second.event(gone).await, (MachineId(1), true));
    assert_eq!(second.inbound().connected(), []);
}
