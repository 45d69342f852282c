//! Snapshots: made while writes go on, received in chunks, resumed, and refused when damaged.

mod support;

use std::{
    fs,
    sync::atomic::{AtomicBool, AtomicU8, Ordering},
};

use rm_store::{Description, SnapshotError, SnapshotId, SnapshotOptions};
use support::state::{
    self, Machine, content, machine, make, open, open_with, transfer, version, write,
};
use support::{Numbers, alone, options};
use tempfile::TempDir;

#[test]
fn a_snapshot_made_while_a_transaction_is_open_is_of_the_last_commit() {
    let _turn = alone();
    let (_folder, machine) = machine(7);
    let table = state::table(&machine.state);
    let mut txn = machine.state.env().write_txn().unwrap();
    table.put(&mut txn, b"open", b"not committed").unwrap();
    // It waits for no writer: on a thread that never ends this would hang.
    let file = make(&machine);
    table.put(&mut txn, b"late", b"not committed").unwrap();
    machine.state.commit(txn).unwrap();
    let copy = file.inspect(&options()).unwrap();
    assert_eq!(version(&copy), 7);
    let table = state::table(&copy);
    let txn = copy.env().read_txn().unwrap();
    assert_eq!(table.get(&txn, b"open").unwrap(), None);
    let space = copy.space().unwrap();
    assert_eq!(space.file_bytes, file.description().bytes);
}

#[test]
fn a_snapshot_of_a_large_state_is_of_one_commit_while_a_writer_goes_on() {
    let _turn = alone();
    let (_folder, machine) = machine(1);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut written = 1;
            while !stop.load(Ordering::Relaxed) {
                written += 1;
                write(&machine.state, written, 300, 3000);
            }
            written
        });
        let mut before = 0;
        for _ in 0..10 {
            let file = make(&machine);
            let found = version(&file.inspect(&options()).unwrap());
            assert!(found >= before, "{found} after {before}");
            before = found;
        }
        stop.store(true, Ordering::Relaxed);
        assert!(before <= writer.join().unwrap());
    });
}

#[test]
fn a_passing_snapshot_replaces_none_and_leaves_no_file_behind() {
    let _turn = alone();
    let (folder, leader) = machine(3);
    let made = make(&leader).description();
    write(&leader.state, 4, 300, 3000);
    let passing = leader.snapshots.make_passing(&leader.state, |_| true);
    let passing = passing.unwrap();
    assert_ne!(passing.description().id, made.id);
    assert_eq!(content(&passing).len() as u64, passing.description().bytes);
    let (_to, follower) = machine(1);
    let mut incoming = follower.snapshots.receive(passing.description()).unwrap();
    transfer(&passing, &mut incoming, 64 << 10).unwrap();
    let received = incoming.finish().unwrap();
    assert_eq!(version(&received.inspect(&options()).unwrap()), 4);
    let newest = leader.snapshots.newest().expect("it is there");
    assert_eq!(newest.description(), made);
    let names = fs::read_dir(folder.path().join("snapshot")).unwrap();
    assert_eq!(names.count(), 1, "the other has a name, and this one none");
}

#[test]
fn a_break_costs_no_more_than_what_was_not_yet_durable() {
    let _turn = alone();
    let (_from, leader) = machine(3);
    let (folder, follower) = machine(1);
    let file = make(&leader);
    let mut incoming = follower.snapshots.receive(file.description()).unwrap();
    let chunk = content(&file);
    incoming.append(0, &chunk[..50_000]).unwrap();
    incoming.sync().unwrap();
    incoming.append(50_000, &chunk[50_000..90_000]).unwrap();
    drop((incoming, follower));
    let follower = open(folder.path());
    let mut incoming = follower.snapshots.receive(file.description()).unwrap();
    assert_eq!(incoming.received(), 50_000);
    transfer(&file, &mut incoming, 7_777).unwrap();
    incoming.finish().expect("the two parts make a whole");
}

#[test]
fn one_snapshot_is_received_at_a_time() {
    let _turn = alone();
    let (_from, leader) = machine(3);
    let (_folder, follower) = machine(1);
    let file = make(&leader);
    let busy = || match follower.snapshots.receive(file.description()) {
        Err(SnapshotError::Busy) => true,
        other => {
            other.expect("nothing else is wrong");
            false
        }
    };
    let mut incoming = follower.snapshots.receive(file.description()).unwrap();
    assert!(busy());
    transfer(&file, &mut incoming, 64 << 10).unwrap();
    let received = incoming.finish().unwrap();
    assert!(busy(), "it lies there until it is used or given up");
    received.discard().unwrap();
    assert!(!busy());
}

#[test]
fn another_snapshot_is_begun_anew() {
    let _turn = alone();
    let (_from, leader) = machine(3);
    let (_folder, follower) = machine(1);
    let first = make(&leader);
    let mut incoming = follower.snapshots.receive(first.description()).unwrap();
    incoming.append(0, &content(&first)[..60_000]).unwrap();
    incoming.sync().unwrap();
    drop(incoming);
    write(&leader.state, 4, 300, 3000);
    let second = make(&leader);
    assert_ne!(first.description().id, second.description().id);
    let mut incoming = follower.snapshots.receive(second.description()).unwrap();
    assert_eq!(incoming.received(), 0);
    transfer(&second, &mut incoming, 64 << 10).unwrap();
    let received = incoming.finish().unwrap();
    assert_eq!(version(&received.inspect(&options()).unwrap()), 4);
    assert_eq!(content(&first).len() as u64, first.description().bytes);
}

#[test]
fn a_sender_that_restarts_goes_on_with_the_snapshot_that_it_made() {
    let _turn = alone();
    let (folder, leader) = machine(3);
    let made = make(&leader).description();
    fs::write(
        folder.path().join("snapshot/outgoing.partial"),
        "of a crash",
    )
    .unwrap();
    drop(leader);
    let leader = open(folder.path());
    let found = leader.snapshots.newest().expect("it is there");
    assert_eq!(found.description(), made);
    write(&leader.state, 4, 300, 3000);
    make(&leader);
    let names = fs::read_dir(folder.path().join("snapshot"))
        .unwrap()
        .count();
    assert_eq!(names, 1, "one is kept, and nothing else");
}

#[test]
fn chunks_out_of_order_too_many_and_too_few_are_refused() {
    let _turn = alone();
    let (_from, leader) = machine(3);
    let (_folder, follower) = machine(1);
    let file = make(&leader);
    let content = content(&file);
    let mut incoming = follower.snapshots.receive(file.description()).unwrap();
    incoming.append(0, &content[..1000]).unwrap();
    for offset in [0, 999, 1001] {
        let error = incoming.append(offset, &content[..10]);
        let error = error.expect_err("it does not follow");
        assert!(
            matches!(error, SnapshotError::Gap { expected: 1000, found } if found == offset),
            "{error}"
        );
    }
    let error = incoming.append(1000, &content).expect_err("it is too long");
    assert!(matches!(error, SnapshotError::TooLong { .. }), "{error}");
    let error = incoming.finish().expect_err("most is missing");
    assert!(matches!(error, SnapshotError::Incomplete { .. }), "{error}");
    let vast = Description {
        bytes: u64::MAX,
        ..file.description()
    };
    let error = follower
        .snapshots
        .receive(vast)
        .expect_err("no map has room");
    assert!(matches!(error, SnapshotError::TooLarge { .. }), "{error}");
}

/// Sends these bytes under this name.
fn send(
    follower: &Machine,
    id: SnapshotId,
    content: &[u8],
) -> Result<rm_store::Received, SnapshotError> {
    let bytes = content.len() as u64;
    let mut incoming = follower.snapshots.receive(Description { id, bytes })?;
    incoming.append(0, content)?;
    incoming.finish()
}

#[test]
fn a_snapshot_with_a_bit_flipped_cut_short_or_of_garbage_is_refused() {
    let _turn = alone();
    let (_from, leader) = machine(3);
    let (folder, follower) = machine(1);
    let file = make(&leader);
    let good = content(&file);
    let id = file.description().id;
    let mut numbers = Numbers(1);
    let mut damaged: Vec<Vec<u8>> = (0..12)
        .map(|_| {
            let mut bytes = good.clone();
            let place = numbers.below(bytes.len() as u64 * 8) as usize;
            bytes[place / 8] ^= 1 << (place % 8);
            bytes
        })
        .collect();
    damaged.push(good[..good.len() / 2].to_vec());
    damaged.push(Vec::new());
    damaged.push((0..50_000).map(|_| numbers.next() as u8).collect());
    for bytes in damaged {
        let error = send(&follower, id, &bytes).expect_err("it is not what was sent");
        assert!(matches!(error, SnapshotError::Digest { .. }), "{error}");
        let left = fs::read_dir(folder.path().join("snapshot")).unwrap();
        assert_eq!(left.count(), 0, "what is refused is removed");
    }
    send(&follower, id, &good).expect("the right one is taken after that");
}

#[test]
fn a_damaged_file_under_its_own_digest_is_refused_before_it_is_mapped() {
    let _turn = alone();
    let (_from, leader) = machine(3);
    let (_folder, follower) = machine(1);
    let good = content(&make(&leader));
    let digest = |bytes: &[u8]| {
        let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
        SnapshotId(digest.as_ref().try_into().unwrap())
    };
    let mut cases = vec![
        good[..good.len() - 4096].to_vec(),
        vec![0; 8192],
        vec![7; 100],
    ];
    // The header of each page: its number, kind and bounds.
    for page in (0..good.len() / 4096).step_by(7) {
        for at in [0, 10] {
            let mut bytes = good.clone();
            // Only the first page of an overflow run has a header; the rest is content, which has its own checksums.
            if bytes[page * 4096..page * 4096 + 8] != (page as u64).to_ne_bytes() {
                continue;
            }
            bytes[page * 4096 + at] ^= 0x10;
            cases.push(bytes);
        }
    }
    assert!(cases.len() > 20);
    for bytes in cases {
        let error = send(&follower, digest(&bytes), &bytes).expect_err("it is damaged");
        assert!(matches!(error, SnapshotError::Damaged { .. }), "{error}");
    }
}

#[test]
fn a_copy_that_nobody_wants_any_more_is_stopped_and_leaves_nothing() {
    let _turn = alone();
    let (folder, machine) = machine(3);
    let polls = AtomicU8::new(0);
    let goes_on = |_| polls.fetch_add(1, Ordering::Relaxed) < 3;
    let error = machine.snapshots.make(&machine.state, goes_on);
    let error = error.expect_err("it was stopped");
    assert!(matches!(error, SnapshotError::Stopped), "{error}");
    let left = fs::read_dir(folder.path().join("snapshot")).unwrap();
    assert_eq!(left.count(), 0);
    make(&machine);
}

#[test]
fn no_snapshot_takes_the_reserve_of_the_disk() {
    let _turn = alone();
    let (_from, leader) = machine(3);
    let file = make(&leader);
    let folder = TempDir::new().unwrap();
    let all = SnapshotOptions {
        reserve_bytes: u64::MAX,
        ..SnapshotOptions::default()
    };
    let follower = open_with(folder.path(), all).unwrap();
    write(&follower.state, 1, 3, 30);
    let error = follower.snapshots.make(&follower.state, |_| true);
    assert!(error.expect_err("no space").is_no_space());
    let error = follower.snapshots.receive(file.description());
    assert!(error.expect_err("no space").is_no_space());
}
