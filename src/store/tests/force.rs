//! A crash on the way to another era leaves the old one or the new one, and what was half received of a snapshot is gone.

mod support;

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use bytes::Bytes;
use rm_raft::MachineId;
use rm_store::{
    Description, Era, FaultHook, Loaded, Log, LogError, Options, Point, SnapshotError, SnapshotId,
    SnapshotOptions, Snapshots,
};
use support::{alone, entry, hard_state, open, options, persist, read_all};
use tempfile::TempDir;

const NEXT: Era = Era(0x1234);

fn force(log: &Log) -> Result<(), LogError> {
    let mut append = log.begin()?;
    append.begin_era(NEXT, MachineId(1), Bytes::new())?;
    append.commit()
}

/// All that a start finds.
fn found(path: &Path) -> (Option<Era>, Loaded, usize) {
    let (_directory, log) = open(path, &options()).expect("it opens whatever happened");
    let entries = read_all(&log).expect("no entry is damaged");
    (log.era().unwrap(), log.load().unwrap(), entries.len())
}

/// A log of five entries, of which three are known to be committed.
fn begun(path: &Path) {
    let (_directory, log) = open(path, &options()).unwrap();
    let entries: Vec<_> = (1..=5).map(|index| entry(1, index, 300)).collect();
    persist(&log, hard_state(1, 3), &entries).unwrap();
}

#[test]
fn a_crash_at_any_step_leaves_the_old_era_or_the_new_one() {
    let _turn = alone();
    let untouched = TempDir::new().unwrap();
    begun(untouched.path());
    let old = found(untouched.path());
    let mut outcomes = Vec::new();
    for point in [Point::Write, Point::Append, Point::Commit, Point::Committed] {
        for panics in [false, true] {
            let folder = TempDir::new().unwrap();
            begun(folder.path());
            let fault = FaultHook::new(move |at| match at == point {
                true if panics => panic!("as the test asked"),
                true => Err(io::Error::from_raw_os_error(5)),
                false => Ok(()),
            });
            {
                let options = Options { fault, ..options() };
                let (_directory, log) = open(folder.path(), &options).unwrap();
                let forced = catch_unwind(AssertUnwindSafe(|| force(&log)));
                assert!(!matches!(forced, Ok(Ok(()))), "it failed at {point:?}");
            }
            let (era, loaded, count) = found(folder.path());
            match era {
                None => assert_eq!((&loaded, count), (&old.1, old.2), "{point:?}"),
                Some(_) => assert_new(era, &loaded, count),
            }
            outcomes.push(era.is_some());
            if era.is_none() {
                let (_directory, log) = open(folder.path(), &options()).unwrap();
                force(&log).expect("it may be done again");
            }
            let (era, loaded, count) = found(folder.path());
            assert_new(era, &loaded, count);
        }
    }
    assert!(outcomes.contains(&false) && outcomes.contains(&true));
}

fn assert_new(era: Option<Era>, loaded: &Loaded, count: usize) {
    assert_eq!((era, count), (Some(NEXT), 6));
    assert_eq!(loaded.hard_state, hard_state(2, 6));
    let latest = loaded.configurations.last().expect("it is in the log");
    assert_eq!(latest.configuration.voters, [MachineId(1)]);
    assert_eq!(latest.index, loaded.last.index);
}

#[test]
fn what_was_received_of_a_snapshot_is_removed_unless_more_is_coming() {
    let _turn = alone();
    let folder = TempDir::new().unwrap();
    let (directory, _log) = open(folder.path(), &options()).unwrap();
    let snapshots = Snapshots::open(&directory, SnapshotOptions::default()).unwrap();
    assert!(!snapshots.discard_received().unwrap());
    let description = Description {
        id: SnapshotId([7; 32]),
        bytes: 1 << 20,
    };
    let mut incoming = snapshots.receive(description).unwrap();
    incoming.append(0, &[1; 4096]).unwrap();
    incoming.sync().unwrap();
    let busy = snapshots.discard_received().expect_err("more is coming");
    assert!(matches!(busy, SnapshotError::Busy), "{busy}");
    drop(incoming);
    assert!(snapshots.discard_received().unwrap());
    assert_eq!(snapshots.receive(description).unwrap().received(), 0);
}
