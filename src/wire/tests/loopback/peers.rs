//! The list of peers changes while the process runs.

use rm_raft::{Body, MachineId, Message};
use rm_wire::{DataId, Event, Identity, Peer, RefusedBecause};

use crate::harness::{Machine, append, cluster, every_kind, machines, numbered, until};

fn gone(event: &Event) -> Option<(MachineId, bool, String)> {
    match event {
        Event::Gone {
            from,
            process_gone,
            reason,
        } => Some((*from, *process_gone, reason.clone())),
        _ => None,
    }
}

async fn stranger(machine: &mut Machine) -> Identity {
    machine
        .event(|event| match event {
            Event::Stranger(identity) => Some(identity.clone()),
            _ => None,
        })
        .await
}

async fn refused(machine: &mut Machine) -> RefusedBecause {
    machine
        .event(|event| match event {
            Event::Refused { reason, .. } => Some(reason.clone()),
            _ => None,
        })
        .await
}

#[tokio::test]
async fn messages_flow_while_others_come_and_go() {
    let mut machines = cluster(3).await;
    let [first, second, third] = &mut machines[..] else {
        unreachable!("there are three");
    };
    let both = first.peers.clone();
    let without_third = &both[..1];
    let mut sent = Vec::new();
    for round in 0..20 {
        for peers in [without_third, &both] {
            for _ in 0..100 {
                let message = numbered(sent.len() as u64);
                first.send(&[second], &message);
                sent.push(message);
            }
            first.set_outbound_peers(peers);
            second.inbound().set_peers(&second.peers);
        }
        first.gets_through_to(third, &numbered(round)).await;
    }
    assert!(second.received(first.id(), sent.len()).await == sent);
    let status = first.status(second.id());
    assert_eq!((status.connections, status.frames_dropped), (1, 0));
    assert_eq!(second.inbound().connected(), [first.id(), third.id()]);
}

#[tokio::test]
async fn a_machine_that_joins_is_heard_and_dialled_once_it_is_listed() {
    let mut machines = machines(3);
    let all = machines[0].peers.clone();
    let [first, second, third] = &mut machines[..] else {
        unreachable!("there are three");
    };
    // The joiner knows the others from its file, they do not know it.
    first.peers.truncate(1);
    for machine in [&mut *first, &mut *second, &mut *third] {
        machine.start();
    }
    assert_eq!(stranger(first).await, third.identity);
    first.inbound().set_peers(&all);
    first.set_outbound_peers(&all);
    third.gets_through_to(first, &numbered(1)).await;
    first.gets_through_to(third, &numbered(2)).await;
    second.gets_through_to(first, &numbered(3)).await;
    assert_eq!(first.status(second.id()).connections, 1);
}

#[tokio::test]
async fn of_a_stranger_is_heard_what_leaders_and_candidates_say_and_it_can_be_answered() {
    let mut machines = machines(2);
    let [first, second] = &mut machines[..] else {
        unreachable!("there are two");
    };
    let second_is = std::mem::take(&mut first.peers);
    first.start();
    second.start();
    assert_eq!(stranger(first).await, second.identity);
    let noted = first.data_ids.known();
    assert!(noted.is_empty(), "no list bounds who comes: {noted:?}");
    second.all_connected().await;
    let heard = |message: &Message| {
        matches!(
            message.body,
            Body::PreVoteRequest { .. }
                | Body::VoteRequest { .. }
                | Body::AppendRequest { .. }
                | Body::Heartbeat { .. }
                | Body::ProposeRefused { .. }
                | Body::ReadIndexResponse { .. }
        )
    };
    let mut left: Vec<Message> = every_kind().into_iter().filter(heard).collect();
    for message in every_kind() {
        second.send(&[first], &message);
    }
    while !left.is_empty() {
        for message in first.received(second.id(), 1).await {
            assert!(heard(&message), "{message:?}");
            left.retain(|each| *each != message);
        }
    }
    let counted = first.inbound().heard();
    assert_eq!(counted, [], "no list bounds who is counted");
    // Its way is known from its own word.
    let answered = vec![Peer {
        stranger: true,
        ..second_is[0].clone()
    }];
    first.inbound().set_peers(&answered);
    first.set_outbound_peers(&answered);
    first.gets_through_to(second, &numbered(1)).await;
    assert_eq!(second.status(first.id()).connections, 1);
    // A stranger that is spoken to no more was not removed.
    first.set_outbound_peers(&[]);
    let (_, _, reason) = second.event(gone).await;
    assert!(reason.contains("was no member"), "{reason}");
    // As a member it is heard in all.
    first.inbound().set_peers(&second_is);
    second.gets_through_to(first, &numbered(2)).await;
    assert_eq!(first.inbound().heard().len(), 1);
    first.inbound().set_peers(&[]);
    assert_eq!(first.inbound().heard(), [], "it is gone from the list");
}

#[tokio::test]
async fn a_stranger_with_a_name_is_heard_on_wherever_that_name_leads() {
    let mut machines = machines(2);
    let [first, second] = &mut machines[..] else {
        unreachable!("there are two");
    };
    let second_is = std::mem::take(&mut first.peers).remove(0);
    let port = second.address.port();
    second.identity.address = format!("two.example:{port}");
    first.start_inbound();
    second.start_outbound();
    assert_eq!(stranger(first).await, second.identity);
    // It dialled from 127.0.0.1, and its name is found to be elsewhere.
    let listed = Peer {
        address: ([127, 0, 0, 2], port).into(),
        host: "two.example".to_owned(),
        stranger: true,
        ..second_is
    };
    first.inbound().set_peers(std::slice::from_ref(&listed));
    // What is sent after a connection was closed comes on another.
    second.gets_through_to(first, &append(1)).await;
    assert_eq!(second.status(first.id()).connections, 1);
    // Under another port there may be another process: it says again where it is.
    let elsewhere = Peer {
        address: ([127, 0, 0, 2], port ^ 1).into(),
        ..listed
    };
    first.inbound().set_peers(&[elsewhere]);
    assert_eq!(first.event(gone).await.0, second.id());
}

#[tokio::test]
async fn a_machine_that_was_removed_is_no_stranger_until_it_is_listed_again() {
    let mut machines = cluster(2).await;
    let [first, second] = &mut machines[..] else {
        unreachable!("there are two");
    };
    let peers = first.peers.clone();
    first.inbound().set_peers(&[]);
    let reason = refused(first).await;
    assert!(
        matches!(reason, RefusedBecause::Machine { id: 2, .. }),
        "{reason}"
    );
    first.inbound().set_peers(&peers);
    second.gets_through_to(first, &numbered(1)).await;
}

#[tokio::test]
async fn a_machine_that_is_removed_is_told_so_and_refused_by_name() {
    let mut machines = cluster(3).await;
    let [first, second, third] = &mut machines[..] else {
        unreachable!("there are three");
    };
    until("all have been heard", || {
        first.inbound().connected().len() == 2
    })
    .await;
    let without_third = &first.peers[..1].to_vec();
    first.set_outbound_peers(without_third);
    let (from, process_gone, reason) = third.event(gone).await;
    assert_eq!((from, process_gone), (first.id(), false));
    assert!(reason.contains("removed"), "{reason}");
    assert_eq!(first.outbound().status().len(), 1);

    first.inbound().set_peers(without_third);
    until("the farewell is understood", || {
        let refusal = third.status(first.id()).refusal;
        refusal.is_some_and(|it| it.contains("removed") || it.contains("not in"))
    })
    .await;
    let reason = refused(first).await;
    assert!(
        matches!(reason, RefusedBecause::Machine { id: 3, .. }),
        "{reason}"
    );
    assert_eq!(first.inbound().connected(), [second.id()]);
    second.gets_through_to(first, &numbered(1)).await;
    assert_eq!(second.status(first.id()).connections, 1);
}

#[tokio::test]
async fn a_machine_that_was_a_stranger_first_is_told_of_its_removal_as_any_other() {
    let mut machines = machines(2);
    let [first, second] = &mut machines[..] else {
        unreachable!("there are two");
    };
    let listed = first.peers.clone();
    first.peers[0].stranger = true;
    second.start_inbound();
    first.start_outbound();
    first.gets_through_to(second, &numbered(1)).await;
    first.set_outbound_peers(&listed);
    first.gets_through_to(second, &numbered(2)).await;
    assert_eq!(first.status(second.id()).connections, 1);
    first.set_outbound_peers(&[]);
    let (_, _, reason) = second.event(gone).await;
    assert!(reason.contains("was removed"), "{reason}");
}

#[tokio::test]
async fn a_machine_whose_address_changes_is_reached_there() {
    let mut machines = cluster(3).await;
    let moved = machines[1].move_away();
    let [first, second, third] = &mut machines[..] else {
        unreachable!("there are three");
    };
    let mut peers = first.peers.clone();
    assert_eq!(peers[0].id, second.id());
    peers[0].address = moved;
    first.set_outbound_peers(&peers);
    first.gets_through_to(second, &numbered(1)).await;
    assert_eq!(first.status(third.id()).connections, 1);

    // What comes from it is dialled anew, so that its presence is asked for where it is now.
    first.inbound().set_peers(&peers);
    assert!(!first.event(gone).await.1);
    second.gets_through_to(first, &numbered(2)).await;
    assert_eq!(third.status(first.id()).connections, 1);
}

#[tokio::test]
async fn a_machine_that_lost_its_data_is_refused_at_both_ends() {
    let mut machines = cluster(2).await;
    let [first, second] = &mut machines[..] else {
        unreachable!("there are two");
    };
    until("both have been heard", || {
        first.inbound().connected() == [MachineId(2)]
    })
    .await;
    let lost = second.identity.data_id;
    let found = DataId([0xee; 16]);
    second.identity.data_id = found;
    // Also where the half that found the first data is no more.
    first.start();
    second.start();
    let reason = refused(first).await;
    assert_eq!(
        reason,
        RefusedBecause::DataChanged {
            name: "RM.02".to_owned(),
            expected: lost,
            found,
        }
    );
    assert!(first.inbound().refusals().data > 0);
    for (machine, other) in [(&*first, MachineId(2)), (&*second, MachineId(1))] {
        until("its dials end with the reason", || {
            let refusal = machine.status(other).refusal;
            refusal.is_some_and(|it| it.contains("emptied or replaced"))
        })
        .await;
        assert!(!machine.status(other).connected);
    }

    // The list decides: the machine was added again with its new data.
    let mut peers = first.peers.clone();
    peers[0].data_id = Some(found);
    first.inbound().set_peers(&peers);
    first.set_outbound_peers(&peers);
    second.gets_through_to(first, &numbered(1)).await;
    first.gets_through_to(second, &numbered(2)).await;
    assert_eq!(first.data_ids.known()[&MachineId(2)], found);
}

#[tokio::test]
async fn the_data_that_the_list_names_is_asked_for_at_the_first_meeting() {
    let mut machines = machines(2);
    let [first, second] = &mut machines[..] else {
        unreachable!("there are two");
    };
    first.peers[0].data_id = Some(DataId([0xee; 16]));
    first.start();
    second.start();
    let reason = refused(first).await;
    assert!(
        matches!(reason, RefusedBecause::DataChanged { .. }),
        "{reason}"
    );

    let right: Vec<Peer> = vec![Peer {
        data_id: Some(second.identity.data_id),
        ..first.peers[0].clone()
    }];
    first.inbound().set_peers(&right);
    second.gets_through_to(first, &numbered(1)).await;
    // A list that names other data ends the connection that was made on these.
    first.inbound().set_peers(&first.peers);
    assert_eq!(first.event(gone).await.0, MachineId(2));
    let reason = refused(first).await;
    assert!(
        matches!(reason, RefusedBecause::DataChanged { .. }),
        "{reason}"
    );
}
