//! A peer that is slow, silent or greedy costs no one else.

use std::net::UdpSocket;

use rm_raft::MachineId;
use rm_wire::{Event, Peer, RefusedBecause};

use crate::harness::{append, cluster, machines, numbered, until};

#[tokio::test]
async fn what_waits_for_an_unplugged_peer_is_bounded() {
    let silent = UdpSocket::bind("127.0.0.1:0").expect("loopback has free ports");
    let mut machines = machines(2);
    let first = &mut machines[0];
    first.peers[0].address = silent.local_addr().expect("it is bound");
    first.options.queue_frames_max = 100;
    first.options.queue_bytes_max = 10_000;
    first.start_outbound();
    for number in 0..1_000 {
        first.outbound().send(&[MachineId(2)], &numbered(number));
    }
    let status = first.status(MachineId(2));
    assert_eq!((status.frames_queued, status.frames_dropped), (100, 900));

    for _ in 0..100 {
        first.outbound().send(&[MachineId(2)], &append(1_000));
    }
    let status = first.status(MachineId(2));
    assert!(status.bytes_queued <= 10_000, "{status:?}");
    assert_eq!(status.frames_sent, 0);
    until("the dial is given up and what waited is dropped", || {
        let status = first.status(MachineId(2));
        status.frames_queued == 0 && status.frames_dropped == 1_100
    })
    .await;
}

#[tokio::test]
async fn a_frame_over_the_senders_limit_is_not_sent() {
    let mut machines = machines(2);
    let [first, second] = &mut machines[..] else {
        unreachable!("there are two");
    };
    first.options.frame_bytes_max = 1_000;
    first.start();
    second.start();
    first.send(&[second], &append(2_000));
    let status = first.status(second.id());
    assert_eq!(status.frames_dropped, 1);
    assert!(
        status
            .last_error
            .is_some_and(|error| error.contains("1000"))
    );
    first.gets_through_to(second, &numbered(1)).await;
}

#[tokio::test]
async fn a_frame_over_the_receivers_limit_ends_the_connection_and_the_next_one_serves() {
    let mut machines = machines(2);
    let [first, second] = &mut machines[..] else {
        unreachable!("there are two");
    };
    second.options.frame_bytes_max = 1_000;
    first.start();
    second.start();
    first.send(&[second], &append(2_000));
    let reason = second
        .event(|event| match event {
            Event::Refused { reason, .. } => Some(reason.clone()),
            _ => None,
        })
        .await;
    assert!(matches!(reason, RefusedBecause::Frame(_)), "{reason}");
    assert!(second.inbound().refusals().frame > 0);
    first.gets_through_to(second, &numbered(1)).await;
}

#[tokio::test]
async fn a_peer_that_does_not_read_holds_up_no_other() {
    let mut machines = machines(3);
    let [first, second, third] = &mut machines[..] else {
        unreachable!("there are three");
    };
    // The second machine proves itself and then reads nothing.
    let deaf = crate::garbage::Deaf::listen(second);
    first.peers[0] = Peer {
        address: deaf.address(),
        ..first.peers[0].clone()
    };
    first.options.queue_bytes_max = 4 << 20;
    third.start();
    first.start();
    first.all_connected().await;
    until("the deaf peer's queue is full", || {
        first.send(&[second], &append(1 << 20));
        first.status(second.id()).frames_dropped > 0
    })
    .await;
    let status = first.status(second.id());
    assert!(
        status.connected && status.bytes_queued <= 4 << 20,
        "{status:?}"
    );
    for number in 0..100 {
        first.send(&[second, third], &numbered(number));
        assert_eq!(third.received(first.id(), 1).await, [numbered(number)]);
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_are_refused_and_counted() {
    let mut machines = machines(3);
    for machine in &mut machines {
        machine.options.connections_per_address_max = 1;
    }
    let [first, second, third] = &mut machines[..] else {
        unreachable!("there are three");
    };
    first.start_inbound();
    second.start_outbound();
    second.gets_through_to(first, &numbered(1)).await;
    third.start_outbound();
    until("the third machine is refused", || {
        first.inbound().refusals().crowded > 0
    })
    .await;
    second.gets_through_to(first, &numbered(2)).await;
    // The place becomes free with the connection that held it.
    second.outbound = None;
    third.gets_through_to(first, &numbered(3)).await;
}

#[tokio::test]
async fn a_peer_that_comes_back_is_reached_again() {
    let mut machines = cluster(2).await;
    let [first, second] = &mut machines[..] else {
        unreachable!("there are two");
    };
    let inbound = second.inbound.take().expect("it was started");
    inbound.close_for_exit().await;
    until("the peer is missed", || {
        !first.status(second.id()).connected
    })
    .await;
    second.start_inbound();
    first.gets_through_to(second, &numbered(1)).await;
    assert!(first.status(second.id()).connections >= 2);
}
