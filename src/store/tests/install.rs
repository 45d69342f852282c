//! A snapshot is put in force by one commit of the log: before it the old state is, after it the new one.

mod support;

use std::{
    fs, io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
};

use rm_raft::{Configured, EntryId, Index, Term};
use rm_store::{
    DataDirectory, Environment, FaultHook, OpenError, Point, SnapshotOptions, Snapshots,
};
use support::state::{
    Machine, Trouble, content, install, machine, make, open, open_both, open_with, receive,
    version, write,
};
use support::{Refusal, alone, identity, options};
use tempfile::TempDir;

fn base(index: u64) -> EntryId {
    EntryId {
        term: Term(2),
        index: Index(index),
    }
}

#[test]
fn an_installed_snapshot_is_the_state_and_the_base_of_the_log() {
    let _turn = alone();
    let (_from, leader) = machine(9);
    let (folder, follower) = machine(1);
    let file = make(&leader);
    let received = receive(&file, &follower.snapshots).unwrap();
    assert_eq!(version(&received.inspect(&options()).unwrap()), 9);
    let Machine {
        directory,
        log,
        state,
        snapshots,
    } = follower;
    let fresh = install(received, &directory, &log, base(50), &options()).unwrap();
    assert_eq!(version(&fresh), 9);
    assert_eq!(
        version(&state),
        1,
        "whoever has the old one open may read it"
    );
    assert!(!folder.path().join("state").exists(), "its name is gone");
    write(&fresh, 10, 300, 3000);
    drop((directory, log, state, fresh, snapshots));
    for result in DataDirectory::verify(folder.path(), &identity()).unwrap() {
        result.expect("every file is sound, and none is missing");
    }
    let follower = open(folder.path());
    assert_eq!(version(&follower.state), 10);
    let loaded = follower.log.load().unwrap();
    assert_eq!((loaded.base, loaded.last), (base(50), base(50)));
    assert_eq!(
        (loaded.generation, loaded.hard_state.commit),
        (1, Index(50))
    );
}

#[test]
fn the_space_of_an_old_state_is_given_back_when_its_last_user_closes_it() {
    let _turn = alone();
    let (_from, leader) = machine(9);
    let (_folder, follower) = machine(1);
    let received = receive(&make(&leader), &follower.snapshots).unwrap();
    let Machine {
        directory,
        log,
        state,
        ..
    } = follower;
    let closing = state.env().clone().prepare_for_closing();
    let _fresh = install(received, &directory, &log, base(50), &options()).unwrap();
    drop(state);
    let closed = closing.wait_timeout(std::time::Duration::ZERO);
    assert!(closed, "something holds it open still");
}

/// A hook that fails with this error number at one point only.
fn full_at(point: Point) -> (FaultHook, Arc<AtomicI32>) {
    let number = Arc::new(AtomicI32::new(28));
    let armed = number.clone();
    let hook = FaultHook::new(move |at| match armed.load(Ordering::Relaxed) {
        0 => Ok(()),
        _ if at != point => Ok(()),
        number => Err(io::Error::from_raw_os_error(number)),
    });
    (hook, number)
}

#[test]
fn a_full_disk_at_any_step_leaves_the_old_state_and_the_next_try_succeeds() {
    let _turn = alone();
    let (_from, leader) = machine(9);
    let points = [
        Point::Copy,
        Point::Receive,
        Point::Sync,
        Point::Mark,
        Point::Rename,
        Point::Install,
        Point::Commit,
    ];
    for point in points {
        let (folder, first) = machine(1);
        drop(first);
        let (fault, armed) = full_at(point);
        let snapshot_options = SnapshotOptions {
            fault: fault.clone(),
            ..SnapshotOptions::default()
        };
        let mut log_options = options();
        log_options.fault = fault.clone();
        let directory = DataDirectory::open(folder.path(), &identity()).unwrap();
        let (log, state) = open_both(&directory, &log_options).unwrap();
        let snapshots = Snapshots::open(&directory, snapshot_options).unwrap();
        let attempt = || -> Result<Environment, Trouble> {
            snapshots.make(&state, |_| true)?;
            let file = leader.snapshots.make(&leader.state, |_| true)?;
            let received = receive(&file, &snapshots)?;
            install(received, &directory, &log, base(50), &options())
        };
        attempt().expect_err("the disk is full");
        assert_eq!(version(&state), 1, "{point:?}");
        assert_eq!(log.load().unwrap().generation, 0, "{point:?}");
        armed.store(0, Ordering::Relaxed);
        let fresh = attempt().expect("there is space again");
        assert_eq!(version(&fresh), 9, "{point:?}");
        drop((log, state, fresh, snapshots, directory));
        assert_eq!(version(&open(folder.path()).state), 9, "{point:?}");
    }
}

#[test]
fn a_state_of_another_data_directory_is_refused_in_every_generation() {
    let _turn = alone();
    let installed = || {
        let (_from, leader) = machine(9);
        let (folder, follower) = machine(1);
        let received = receive(&make(&leader), &follower.snapshots).unwrap();
        let (directory, log) = (&follower.directory, &follower.log);
        install(received, directory, log, base(50), &options()).unwrap();
        folder
    };
    let (own, other) = (installed(), installed());
    let file = own.path().join("state-1/data.mdb");
    fs::copy(other.path().join("state-1/data.mdb"), &file).unwrap();
    let refusal = open_with(own.path(), SnapshotOptions::default()).err();
    assert!(
        matches!(&refusal, Some(Refusal::Open(OpenError::ForeignFile { path })) if *path == file),
        "{refusal:?}"
    );
    // A snapshot that was never adopted bears the mark of its maker.
    let (_from, leader) = machine(9);
    fs::write(&file, content(&make(&leader))).unwrap();
    let refusal = open_with(own.path(), SnapshotOptions::default()).err();
    assert!(
        matches!(&refusal, Some(Refusal::Open(OpenError::Damaged { path, .. })) if *path == file),
        "{refusal:?}"
    );
    fs::remove_dir_all(own.path().join("state-1")).unwrap();
    let refusal = open_with(own.path(), SnapshotOptions::default()).err();
    assert!(
        matches!(&refusal, Some(Refusal::Open(OpenError::Missing { path })) if *path == file),
        "{refusal:?}"
    );
}

#[test]
fn a_log_from_before_a_snapshot_does_not_begin_an_empty_state() {
    let _turn = alone();
    let (_from, leader) = machine(9);
    let (folder, follower) = machine(1);
    let file = folder.path().join("log/data.mdb");
    let old_log = fs::read(&file).unwrap();
    let received = receive(&make(&leader), &follower.snapshots).unwrap();
    let (directory, log) = (&follower.directory, &follower.log);
    install(received, directory, log, base(50), &options()).unwrap();
    drop(follower);
    fs::write(&file, old_log).unwrap();
    let refusal = open_with(folder.path(), SnapshotOptions::default()).err();
    assert!(
        matches!(&refusal, Some(Refusal::Open(OpenError::Missing { .. }))),
        "{refusal:?}"
    );
    assert!(
        folder.path().join("state-1").exists(),
        "nothing was removed"
    );
}

/// Copies a folder with all that is in it.
fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn a_crash_after_each_step_of_an_installation_leaves_the_old_or_the_new_state() {
    let _turn = alone();
    let (_from, leader) = machine(9);
    let (folder, follower) = machine(1);
    let received = receive(&make(&leader), &follower.snapshots).unwrap();
    let moments = TempDir::new().unwrap();
    let moment = |name: &str| moments.path().join(name);
    let keep = |name: &str| copy_folder(folder.path(), &moment(name));
    let Machine { directory, log, .. } = &follower;
    keep("received");
    drop(received.prepare(directory, 1, &options()).unwrap());
    keep("noted");
    copy_folder(&moment("noted"), &moment("renamed"));
    fs::copy(
        moment("received").join("identity.json"),
        moment("renamed").join("identity.json"),
    )
    .unwrap();
    let mut append = log.begin().unwrap();
    append.install(1, base(50), &Configured::default()).unwrap();
    append.commit().unwrap();
    keep("installed");
    rm_store::remove_others(directory, 1).unwrap();
    keep("removed");
    copy_folder(&moment("installed"), &moment("forgotten"));
    fs::copy(
        moment("removed").join("identity.json"),
        moment("forgotten").join("identity.json"),
    )
    .unwrap();
    fs::remove_file(moment("forgotten").join("state/data.mdb")).unwrap();
    for (name, expected) in [
        ("received", 1),
        ("renamed", 1),
        ("noted", 1),
        ("installed", 9),
        ("forgotten", 9),
        ("removed", 9),
    ] {
        for result in DataDirectory::verify(&moment(name), &identity()).unwrap() {
            result.unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        let machine = open(&moment(name));
        assert_eq!(version(&machine.state), expected, "{name}");
        let generation = machine.log.load().unwrap().generation;
        assert_eq!(generation, u64::from(expected == 9), "{name}");
        let states = [moment(name).join("state"), moment(name).join("state-1")];
        assert_eq!(
            states.map(|state| state.exists()),
            [expected == 1, expected == 9],
            "{name}"
        );
    }
}
