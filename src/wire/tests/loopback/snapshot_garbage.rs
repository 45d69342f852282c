//! Ends that break the protocol of snapshots, after having proved themselves.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use quinn::{Connection, RecvStream, SendStream};
use rm_raft::MachineId;
use rm_wire::{FrameError, Identity, RefusedBecause, SnapshotError};

use crate::{
    disk::{Disk, Snapshot, digest},
    garbage::{Deaf, dial_proved, frame, refused},
    harness::{Machine, machines, until},
};

const STREAM_SNAPSHOT: u8 = 2;
const KIND_OFFER: u8 = 64;
const KIND_CHUNK: u8 = 65;
const KIND_END: u8 = 66;
const KIND_WANTED: u8 = 67;
const KIND_TAKEN: u8 = 70;
const KIND_DURABLE: u8 = 71;

fn offer(snapshot: &Snapshot) -> Bytes {
    let header = &snapshot.header;
    let mut body = BytesMut::new();
    body.put_u64(header.term.0);
    body.put_slice(&header.id);
    body.put_u64(header.last.term.0);
    body.put_u64(header.last.index.0);
    body.put_u64(header.length);
    body.put_u64(header.configured.0);
    body.put_slice(&header.configuration);
    frame(KIND_OFFER, &body)
}

fn chunk(offset: u64, content: &[u8]) -> Bytes {
    let mut body = BytesMut::new();
    body.put_u64(offset);
    body.put_slice(content);
    frame(KIND_CHUNK, &body)
}

/// Machine 1, with a disk that takes snapshots, and who machine 2 is.
fn receiver() -> (Machine, Disk, Identity) {
    let mut machines = machines(2);
    let second = machines[1].identity.clone();
    let mut first = machines.swap_remove(0);
    first.start_inbound();
    let disk = Disk::default();
    let sink = Arc::new(disk.clone());
    first.inbound().set_snapshot_sink(Some(sink));
    (first, disk, second)
}

/// Says this on a two-way stream of a connection that has proved itself.
async fn say(connection: &Connection, bytes: &[u8]) -> (SendStream, RecvStream) {
    let (mut say, hear) = connection.open_bi().await.expect("the stream is allowed");
    // What is refused at its beginning is not read to its end.
    let _ = say.write_all(bytes).await;
    (say, hear)
}

async fn refusal_of(machine: &mut Machine, second: &Identity, bytes: &[u8]) -> RefusedBecause {
    let (_endpoint, connection) = dial_proved(machine, second).await;
    let _stream = say(&connection, bytes).await;
    let reason = refused(machine).await;
    let told = connection.closed().await.to_string();
    assert!(
        told.contains(&reason.to_string()),
        "{told} does not tell: {reason}"
    );
    reason
}

fn is_value(reason: &RefusedBecause, wanted: &str) -> bool {
    matches!(reason, RefusedBecause::Frame(FrameError::Value { what, .. }) if what.contains(wanted))
}

#[tokio::test]
async fn what_breaks_the_protocol_of_snapshots_is_refused_by_name() {
    let (mut first, disk, second) = receiver();
    let snapshot = Snapshot::of(1_000);
    let after = |start: &[&[u8]]| -> Vec<u8> {
        let mut bytes = vec![STREAM_SNAPSHOT];
        start.iter().for_each(|part| bytes.extend_from_slice(part));
        bytes
    };
    let offer_bytes = offer(&snapshot);

    let reason = refusal_of(&mut first, &second, &[200]).await;
    assert_eq!(reason, RefusedBecause::Stream { kind: 200 });
    let reason = refusal_of(&mut first, &second, &after(&[b"GET / HTTP/1.1\r\n\r\n"])).await;
    assert!(matches!(
        reason,
        RefusedBecause::Frame(FrameError::Magic { .. })
    ));
    let huge = b"RM\x01\x40\xff\xff\xff\xff\0\0\0\0";
    let reason = refusal_of(&mut first, &second, &after(&[huge])).await;
    assert!(matches!(
        reason,
        RefusedBecause::Frame(FrameError::TooLong { .. })
    ));
    let reason = refusal_of(&mut first, &second, &after(&[&chunk(0, b"early")])).await;
    assert!(matches!(
        reason,
        RefusedBecause::Frame(FrameError::Kind { found: KIND_CHUNK })
    ));
    let mut newer = BytesMut::from(&offer_bytes[..]);
    newer[2] = 9;
    let reason = refusal_of(&mut first, &second, &after(&[&newer])).await;
    assert!(matches!(
        reason,
        RefusedBecause::Frame(FrameError::NewerVersion { found: 9 })
    ));
    let mut early = snapshot.clone();
    early.header.configured.0 = early.header.last.index.0 + 1;
    let reason = refusal_of(&mut first, &second, &after(&[&offer(&early)])).await;
    assert!(is_value(&reason, "configuration"), "{reason}");
    let mut long = snapshot.clone();
    long.header.configuration = vec![0; (64 << 10) + 1].into();
    let reason = refusal_of(&mut first, &second, &after(&[&offer(&long)])).await;
    assert!(matches!(
        reason,
        RefusedBecause::Frame(FrameError::TooLong { .. })
    ));

    let gap = chunk(1, &snapshot.content[1..]);
    let reason = refusal_of(&mut first, &second, &after(&[&offer_bytes, &gap])).await;
    assert!(is_value(&reason, "offset"), "{reason}");
    let beyond = chunk(0, &[0; 1_001]);
    let reason = refusal_of(&mut first, &second, &after(&[&offer_bytes, &beyond])).await;
    assert!(is_value(&reason, "length"), "{reason}");
    let end = frame(KIND_END, &digest(&snapshot.content));
    let reason = refusal_of(&mut first, &second, &after(&[&offer_bytes, &end])).await;
    assert!(matches!(
        reason,
        RefusedBecause::Frame(FrameError::Kind { found: KIND_END })
    ));
    assert_eq!(disk.taken(), 0);

    let whole = chunk(0, &snapshot.content);
    let bytes = after(&[&offer_bytes, &whole, &frame(KIND_END, b"short")]);
    let reason = refusal_of(&mut first, &second, &bytes).await;
    assert!(matches!(
        reason,
        RefusedBecause::Frame(FrameError::Short { .. })
    ));
    assert!(disk.state().durable.is_empty());
    let refusals = first.inbound().refusals();
    assert_eq!(
        (refusals.frame, refusals.stream, refusals.version),
        (9, 1, 1)
    );
}

#[tokio::test]
async fn a_snapshot_that_is_damaged_anywhere_is_never_taken_for_whole() {
    let (mut first, disk, second) = receiver();
    let snapshot = Snapshot::of(200);
    let mut good = vec![STREAM_SNAPSHOT];
    good.extend_from_slice(&offer(&snapshot));
    good.extend_from_slice(&chunk(0, &snapshot.content[..100]));
    good.extend_from_slice(&chunk(100, &snapshot.content[100..]));
    good.extend_from_slice(&frame(KIND_END, &digest(&snapshot.content)));
    let mut noise = 0x2545_f491_4f6c_dd1d_u64;
    for place in (0..good.len()).step_by(7) {
        noise = noise
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let mut damaged = good.clone();
        damaged[place] ^= ((noise >> 32) as u8).max(1);
        disk.state().kept.clear();
        let (_endpoint, connection) = dial_proved(&mut first, &second).await;
        let (mut stream, mut hear) = say(&connection, &damaged).await;
        // A frame that claims to be longer than it is ends with the stream.
        let _ = stream.finish();
        match hear.read_to_end(1 << 20).await {
            Ok(_) => assert!(is_length(&good, place), "nothing is said of byte {place}"),
            Err(_) => {
                let reason = refused(&mut first).await;
                assert!(
                    matches!(
                        reason,
                        RefusedBecause::Frame(_) | RefusedBecause::Stream { .. }
                    ),
                    "{reason} at {place}"
                );
            }
        }
    }
    assert!(disk.state().durable.is_empty());
    disk.state().kept.clear();
    let (_endpoint, connection) = dial_proved(&mut first, &second).await;
    let (_stream, mut hear) = say(&connection, &good).await;
    let answers = hear.read_to_end(1 << 20).await.expect("it is answered");
    assert_eq!(answers[answers.len() - 9], KIND_DURABLE);
    assert_eq!(disk.state().durable, [snapshot.header.id]);
}

/// Whether the byte is of a frame's length: if that becomes longer, nothing is wrong but that the rest never comes.
fn is_length(good: &[u8], place: usize) -> bool {
    let mut start = 1;
    while start < good.len() {
        let field = start + 4..start + 8;
        if field.contains(&place) {
            return true;
        }
        let length = good[field].iter().fold(0, |n, b| n << 8 | usize::from(*b));
        start += 12 + length;
    }
    false
}

#[tokio::test]
async fn a_snapshot_that_ends_too_early_is_broken_off_in_silence() {
    let (mut first, disk, second) = receiver();
    let snapshot = Snapshot::of(1_000);
    let mut bytes = vec![STREAM_SNAPSHOT];
    bytes.extend_from_slice(&offer(&snapshot));
    bytes.extend_from_slice(&chunk(0, &snapshot.content[..600]));
    let (_endpoint, connection) = dial_proved(&mut first, &second).await;
    let (mut stream, mut hear) = say(&connection, &bytes).await;
    stream.finish().expect("it was not finished before");
    hear.read_to_end(1 << 20).await.expect("it is answered");
    assert_eq!(disk.taken(), 600);
    assert_eq!(first.inbound().refusals().total(), 0);
    assert_eq!(first.inbound().connected(), [second.id]);
}

#[tokio::test]
async fn answers_that_are_none_end_the_transfer_and_the_connection() {
    let wanted = |offset: u64| {
        let mut body = BytesMut::new();
        body.put_u64(offset);
        body.put_u32(1 << 20);
        frame(KIND_WANTED, &body)
    };
    let both = |one: Bytes, two: Bytes| Bytes::from([one, two].concat());
    let taken = |offset: u64| frame(KIND_TAKEN, &offset.to_be_bytes());
    let answers = [
        Bytes::from_static(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        frame(200, b"?"),
        wanted(1_001),
        frame(KIND_DURABLE, b""),
        both(wanted(0), taken(1_001)),
        both(wanted(0), taken(0)),
        both(wanted(0), frame(KIND_DURABLE, b"")),
        both(wanted(0), wanted(0)),
    ];
    for answer in answers {
        let mut machines = machines(2);
        let liar = Deaf::listen(&machines[1]);
        liar.answers_snapshots(answer.clone());
        let first = &mut machines[0];
        first.peers[0].address = liar.address();
        first.start_outbound();
        first.all_connected().await;
        let snapshot = Snapshot::of(1_000);
        let header = snapshot.header.clone();
        let transfer = first
            .outbound()
            .send_snapshot(MachineId(2), header, snapshot);
        let ended = transfer.await;
        assert!(
            matches!(ended, Err(SnapshotError::Frame(_))),
            "{ended:?} by {answer:?}"
        );
        until("the connection is closed", || {
            first.status(MachineId(2)).last_error.is_some()
        })
        .await;
    }
}
