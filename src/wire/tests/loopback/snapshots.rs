//! Snapshots arrive whole, beside the messages and never before them, or it is said why not.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rm_raft::{Body, EntryId, MachineId, Message, Term};
use rm_wire::{Event, RefusedBecause, SnapshotError, SnapshotOutcome, SnapshotRefusal};
use tokio::task::JoinHandle;

use crate::{
    disk::{Disk, Snapshot},
    harness::{Machine, append, cluster, machines, numbered, until},
};

const CHUNK_BYTES: u64 = 128 << 10;
const WHOLE: SnapshotOutcome = SnapshotOutcome::Delivered { resumed_at: 0 };

type Transfer = JoinHandle<Result<SnapshotOutcome, SnapshotError>>;

/// Begins to send a snapshot.
fn send(from: &Machine, to: MachineId, snapshot: &Snapshot) -> Transfer {
    let header = snapshot.header.clone();
    let transfer = from.outbound().send_snapshot(to, header, snapshot.clone());
    tokio::spawn(transfer)
}

async fn ended(transfer: Transfer) -> Result<SnapshotOutcome, SnapshotError> {
    let ended = tokio::time::timeout(crate::harness::PATIENCE, transfer).await;
    ended
        .expect("the transfer never ended")
        .expect("nothing panics in it")
}

/// Sends until the receiver is done with an earlier transfer.
async fn send_when_free(
    from: &Machine,
    to: MachineId,
    snapshot: &Snapshot,
) -> Result<SnapshotOutcome, SnapshotError> {
    loop {
        match ended(send(from, to, snapshot)).await {
            Err(SnapshotError::Refused(SnapshotRefusal::Busy)) => {}
            Err(SnapshotError::NotConnected { .. }) => tokio::task::yield_now().await,
            ended => return ended,
        }
    }
}

/// The machine takes snapshots with the disk that is returned.
fn disk_of(machine: &Machine) -> Disk {
    let disk = Disk::default();
    let sink = Arc::new(disk.clone());
    machine.inbound().set_snapshot_sink(Some(sink));
    disk
}

fn heartbeat(round: u64) -> Message {
    Message {
        term: Term(7),
        body: Body::Heartbeat {
            commit: EntryId::default(),
            round,
        },
    }
}

async fn snapshot_refusal(machine: &mut Machine) -> SnapshotRefusal {
    machine
        .event(|event| match event {
            Event::Refused {
                reason: RefusedBecause::Snapshot { because, .. },
                ..
            } => Some(because.clone()),
            _ => None,
        })
        .await
}

#[tokio::test]
async fn heartbeats_and_appends_flow_beside_a_large_snapshot() {
    let mut machines = cluster(2).await;
    let [first, second] = &mut machines[..] else {
        unreachable!("there are two");
    };
    let disk = disk_of(second);
    let snapshot = Snapshot::of(64 << 20);
    let transfer = send(first, second.id(), &snapshot);

    let mut sent = Vec::new();
    let mut beats = 0;
    let (mut beat_max, mut append_max) = (Duration::ZERO, Duration::ZERO);
    while !transfer.is_finished() {
        let round = sent.len() as u64;
        sent.push(Instant::now());
        first.send(&[second], &heartbeat(round));
        first.send(&[second], &numbered(round));
        let mut arrived = false;
        while !arrived {
            for message in second.received(first.id(), 1).await {
                // A datagram may come later than the stream's message, or be lost.
                if let Body::Heartbeat { round, .. } = message.body {
                    beats += 1;
                    beat_max = beat_max.max(sent[round as usize].elapsed());
                } else {
                    assert_eq!(message, numbered(round), "the stream keeps its order");
                    append_max = append_max.max(sent[round as usize].elapsed());
                    arrived = true;
                }
            }
        }
    }
    assert_eq!(ended(transfer).await.expect("nothing breaks"), WHOLE);
    let rounds = sent.len();
    assert!(rounds >= 10 && beats >= 10, "{beats} of {rounds}");
    println!(
        "beside a snapshot of 64 MiB {beats} of {rounds} heartbeats came, the slowest after {beat_max:?}; \
         the slowest message on the stream took {append_max:?}"
    );

    let state = disk.state();
    assert_eq!(state.offers, [(MachineId(1), snapshot.header.clone())]);
    assert_eq!(state.taken, snapshot.header.length);
    assert!(state.kept[&snapshot.header.id] == snapshot.content);
    assert_eq!(state.durable, [snapshot.header.id]);
    let status = first.status(MachineId(2));
    assert_eq!(status.snapshot_bytes_sent, snapshot.header.length);
    assert_eq!(status.connections, 1);
}

#[tokio::test]
async fn a_slow_disk_holds_the_sender_back_and_no_message() {
    let mut machines = machines(2);
    for machine in &mut machines {
        machine.options.receive_window_bytes = 1 << 20;
        machine.options.snapshot_window_bytes = 1 << 18;
        machine.start();
    }
    let [first, second] = &mut machines[..] else {
        unreachable!("there are two");
    };
    first.all_connected().await;
    let disk = disk_of(second);
    disk.waits_at(Some(0));
    let window = u64::from(first.options.snapshot_window_bytes);
    let snapshot = Snapshot::of(4 << 20);
    let transfer = send(first, second.id(), &snapshot);
    until("the window is full", || {
        first.status(second.id()).snapshot_bytes_sent == window
    })
    .await;
    // More than all windows of QUIC together: it flows only because the snapshot takes no part of what messages have.
    for _ in 0..16 {
        first.send(&[second], &append(1 << 19));
        assert_eq!(second.received(first.id(), 1).await, [append(1 << 19)]);
    }
    // Nor has anything more of it left meanwhile.
    let sent = first.status(second.id()).snapshot_bytes_sent;
    assert_eq!(sent, window);
    for taken in [CHUNK_BYTES, 10 * CHUNK_BYTES] {
        disk.waits_at(Some(taken));
        until("the sender goes on by what was taken", || {
            first.status(second.id()).snapshot_bytes_sent == window + taken
        })
        .await;
        first.send(&[second], &numbered(taken));
        assert_eq!(second.received(first.id(), 1).await, [numbered(taken)]);
        assert_eq!(
            first.status(second.id()).snapshot_bytes_sent,
            window + taken
        );
    }
    disk.waits_at(None);
    assert_eq!(ended(transfer).await.expect("nothing breaks"), WHOLE);
    assert!(disk.state().kept[&snapshot.header.id] == snapshot.content);
}

#[tokio::test]
async fn a_transfer_that_was_broken_off_is_resumed_where_it_was() {
    let mut machines = cluster(2).await;
    let [first, second] = &mut machines[..] else {
        unreachable!("there are two");
    };
    let disk = disk_of(second);
    let snapshot = Snapshot::of((4 << 20) + 123);
    let breaks = [5 * CHUNK_BYTES, 20 * CHUNK_BYTES];
    for (number, at) in breaks.into_iter().enumerate() {
        disk.waits_at(Some(at));
        let transfer = send(first, second.id(), &snapshot);
        until("the disk has come so far", || disk.taken() == at).await;
        match number {
            0 => transfer.abort(),
            _ => first.start_outbound(),
        }
        let lost = transfer.await;
        assert!(lost.is_err() || matches!(lost, Ok(Err(SnapshotError::Lost(_)))));
        // The disk gets no further by what was on its way.
        disk.state().full_at = Some(at);
        disk.waits_at(None);
        let refused = send_when_free(first, second.id(), &snapshot).await;
        assert!(
            matches!(refused, Err(SnapshotError::Refused(_))),
            "{refused:?}"
        );
        assert_eq!(disk.taken(), at, "no byte is sent twice, none is left out");
        disk.state().full_at = None;
    }
    first.start_outbound();
    let resumed_at = 20 * CHUNK_BYTES;
    let outcome = send_when_free(first, second.id(), &snapshot).await;
    assert_eq!(
        outcome.expect("nothing breaks"),
        SnapshotOutcome::Delivered { resumed_at }
    );
    let sent = first.status(second.id()).snapshot_bytes_sent;
    assert_eq!(sent, snapshot.header.length - resumed_at);
    assert_eq!(disk.taken(), snapshot.header.length);
    assert!(disk.state().kept[&snapshot.header.id] == snapshot.content);

    let again = ended(send(first, second.id(), &snapshot)).await;
    assert_eq!(
        again.expect("nothing breaks"),
        SnapshotOutcome::AlreadyThere
    );
    assert_eq!(first.status(second.id()).snapshot_bytes_sent, sent);
}

#[tokio::test]
async fn an_empty_snapshot_arrives_too() {
    let machines = cluster(2).await;
    let disk = disk_of(&machines[1]);
    let outcome = ended(send(&machines[0], MachineId(2), &Snapshot::of(0))).await;
    assert_eq!(outcome.expect("nothing breaks"), WHOLE);
    assert_eq!(disk.state().durable.len(), 1);
}

#[tokio::test]
async fn a_sink_that_refuses_or_fails_is_told_of_at_both_ends_and_the_connection_goes_on() {
    let mut machines = cluster(2).await;
    let [first, second] = &mut machines[..] else {
        unreachable!("there are two");
    };
    let snapshot = Snapshot::of(3 << 20);
    let reason_at_both_ends = async |first: &Machine, second: &mut Machine, snapshot: &Snapshot| {
        let told = match send_when_free(first, MachineId(2), snapshot).await {
            Err(SnapshotError::Refused(reason)) => reason,
            other => panic!("it is not refused: {other:?}"),
        };
        assert_eq!(snapshot_refusal(second).await, told);
        told
    };
    let told = reason_at_both_ends(first, second, &snapshot).await;
    assert_eq!(told, SnapshotRefusal::Closed);

    let disk = disk_of(second);
    disk.state().refuses = Some("it is older than what is here");
    let told = reason_at_both_ends(first, second, &snapshot).await;
    assert!(told.to_string().contains("older"), "{told}");

    disk.state().refuses = None;
    disk.state().full_at = Some(1 << 20);
    let told = reason_at_both_ends(first, second, &snapshot).await;
    assert!(told.to_string().contains("the disk is full"), "{told}");

    disk.state().full_at = None;
    let mut other = snapshot.clone();
    other.header.id = [6; 32];
    let mut content = other.content.to_vec();
    content[0] ^= 1;
    disk.state().kept.insert([6; 32], content[..1_000].to_vec());
    let told = reason_at_both_ends(first, second, &other).await;
    assert!(told.to_string().contains("the digest differs"), "{told}");

    assert_eq!(second.inbound().refusals().snapshot, 4);
    first.send(&[second], &numbered(1));
    assert_eq!(second.received(first.id(), 1).await, [numbered(1)]);
    assert_eq!(first.status(second.id()).connections, 1);
    let outcome = send_when_free(first, second.id(), &snapshot).await;
    let resumed_at = 1 << 20;
    assert_eq!(
        outcome.expect("nothing breaks"),
        SnapshotOutcome::Delivered { resumed_at }
    );
}

#[tokio::test]
async fn a_second_snapshot_is_refused_while_one_is_on_its_way_from_whomever() {
    let mut machines = cluster(3).await;
    let [first, second, third] = &mut machines[..] else {
        unreachable!("there are three");
    };
    let disk = disk_of(third);
    disk.waits_at(Some(0));
    let snapshot = Snapshot::of(1 << 20);
    let transfer = send(first, third.id(), &snapshot);
    until("the first one is on its way", || {
        first.status(third.id()).snapshot_bytes_sent > 0
    })
    .await;
    for sender in [&*first, &*second] {
        let refused = ended(send(sender, third.id(), &snapshot)).await;
        assert!(
            matches!(refused, Err(SnapshotError::Refused(SnapshotRefusal::Busy))),
            "{refused:?}"
        );
        assert_eq!(snapshot_refusal(third).await, SnapshotRefusal::Busy);
    }
    disk.waits_at(None);
    assert_eq!(ended(transfer).await.expect("nothing breaks"), WHOLE);
}

#[tokio::test]
async fn a_transfer_that_gets_no_further_is_broken_off() {
    let mut machines = machines(2);
    machines[1].options.snapshot_idle = Duration::from_millis(50);
    for machine in &mut machines {
        machine.start();
    }
    machines[0].all_connected().await;
    let disk = disk_of(&machines[1]);
    disk.waits_at(Some(CHUNK_BYTES));
    let snapshot = Snapshot::of(1 << 20);
    let stalled = ended(send(&machines[0], MachineId(2), &snapshot)).await;
    assert!(
        matches!(
            stalled,
            Err(SnapshotError::Refused(SnapshotRefusal::Stalled))
        ),
        "{stalled:?}"
    );
    disk.waits_at(None);
    let [first, second] = &mut machines[..] else {
        unreachable!("there are two");
    };
    second.options.snapshot_idle = first.options.snapshot_idle;
    second.start_inbound();
    let sink = Arc::new(disk.clone());
    second.inbound().set_snapshot_sink(Some(sink));
    first.gets_through_to(second, &numbered(1)).await;
    let outcome = send_when_free(first, MachineId(2), &snapshot).await;
    assert!(outcome.is_ok(), "{outcome:?}");
    assert_eq!(disk.taken(), snapshot.header.length);
}

#[tokio::test]
async fn what_cannot_be_sent_is_said_by_name() {
    let mut machines = cluster(2).await;
    let disk = disk_of(&machines[1]);
    let snapshot = Snapshot::of(1 << 20);
    let to = MachineId(2);
    let nobody = ended(send(&machines[0], MachineId(9), &snapshot)).await;
    assert!(matches!(nobody, Err(SnapshotError::UnknownPeer { .. })));

    let mut broken = snapshot.clone();
    broken.broken_at = 600_000;
    let unreadable = ended(send(&machines[0], to, &broken)).await;
    assert!(matches!(unreadable, Err(SnapshotError::Source(_))));

    let mut long = snapshot.clone();
    long.header.configuration = vec![0; (64 << 10) + 1].into();
    let too_long = ended(send(&machines[0], to, &long)).await;
    assert!(matches!(too_long, Err(SnapshotError::Frame(_))));

    let outcome = send_when_free(&machines[0], to, &snapshot).await;
    assert!(outcome.is_ok(), "{outcome:?}");
    assert_eq!(disk.taken(), snapshot.header.length);

    machines[1].inbound = None;
    until("the peer is missed", || !machines[0].status(to).connected).await;
    let away = ended(send(&machines[0], to, &snapshot)).await;
    assert!(matches!(away, Err(SnapshotError::NotConnected { .. })));
}

#[tokio::test]
async fn bytes_a_second_are_bounded_by_small_chunks() {
    let mut machines = machines(2);
    machines[0].options.snapshot_bytes_per_second = 1 << 20;
    for machine in &mut machines {
        machine.start();
    }
    machines[0].all_connected().await;
    let disk = disk_of(&machines[1]);
    let snapshot = Snapshot::of(200_000);
    let outcome = ended(send(&machines[0], MachineId(2), &snapshot)).await;
    assert_eq!(outcome.expect("nothing breaks"), WHOLE);
    assert_eq!(disk.state().chunk_max, (1 << 20) / 16);
}

#[tokio::test]
async fn a_peer_that_is_removed_in_the_middle_ends_its_snapshot() {
    let mut machines = cluster(2).await;
    let [first, second] = &mut machines[..] else {
        unreachable!("there are two");
    };
    let disk = disk_of(second);
    disk.waits_at(Some(CHUNK_BYTES));
    let transfer = send(first, second.id(), &Snapshot::of(4 << 20));
    until("it is on its way", || disk.taken() == CHUNK_BYTES).await;
    first.set_outbound_peers(&[]);
    let lost = ended(transfer).await;
    assert!(matches!(lost, Err(SnapshotError::Lost(_))), "{lost:?}");
    let reason = second
        .event(|event| match event {
            Event::Gone { reason, .. } => Some(reason.clone()),
            _ => None,
        })
        .await;
    assert!(reason.contains("removed"), "{reason}");
    disk.waits_at(None);
}
