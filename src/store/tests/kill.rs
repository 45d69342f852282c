//! A kill at any moment loses nothing that was told, and leaves the old or the new, never something between.

mod support;

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use rm_raft::Entry;
use rm_store::{DataDirectory, SnapshotOptions, Snapshots};
use support::state::{self, open_both};
use support::{Numbers, alone, entry, hard_state, identity, open, options, persist, read_all};
use tempfile::TempDir;

/// What a child does until it is killed, again and again.
struct Child {
    /// The test that is run once more, in a process of its own.
    test: &'static str,
    /// Tells that process where to work.
    variable: &'static str,
}

impl Child {
    /// Runs the child, waits for so many of its lines, kills it, and gives back the last number that it told of `what`.
    fn run_and_kill(&self, folder: &Path, lines_awaited: u64, what: &str) -> Option<u64> {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", self.test, "--nocapture"])
            .env(self.variable, folder)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut told = lines.map_while(|line| {
            let line = line.ok()?;
            let (found, number) = line.split_once(": ").unwrap_or_default();
            Some((found == what).then(|| number.parse().ok()).flatten())
        });
        let mut last = None;
        for _ in 0..lines_awaited {
            let number = told.next().expect("the child works until it is killed");
            last = number.or(last);
        }
        child.kill().unwrap();
        child.wait().unwrap();
        told.flatten().last().or(last)
    }
}

/// Appends for ever and tells each index once it is durable; only ever run as a process of its own.
fn append_until_killed(path: &str) {
    let (_directory, log) = open(path.as_ref(), &options()).expect("a kill damages nothing");
    let mut index = log.load().expect("a kill damages nothing").last.index.0;
    let mut numbers = Numbers(index);
    loop {
        let count = 1 + numbers.below(8);
        let entries: Vec<Entry> = (index + 1..=index + count)
            .map(|index| entry(1, index, 300))
            .collect();
        persist(&log, hard_state(1, index), &entries).expect("the disk takes it");
        index += count;
        println!("durable: {index}");
    }
}

#[test]
fn a_kill_at_any_moment_loses_nothing_that_was_acknowledged() {
    let _turn = alone();
    const CHILD: Child = Child {
        test: "a_kill_at_any_moment_loses_nothing_that_was_acknowledged",
        variable: "RM_STORE_APPEND_TO",
    };
    if let Ok(path) = std::env::var(CHILD.variable) {
        append_until_killed(&path);
    }
    let folder = TempDir::new().unwrap();
    let mut acknowledged = 0;
    for round in 0..8 {
        let told = CHILD.run_and_kill(folder.path(), Numbers(round).below(60) + 1, "durable");
        acknowledged = told.unwrap_or(acknowledged);
        let (_directory, log) = open(folder.path(), &options()).unwrap();
        let entries = read_all(&log).unwrap();
        assert!(
            entries.len() as u64 >= acknowledged,
            "{} < {acknowledged}",
            entries.len()
        );
        assert!(
            (1..)
                .zip(&entries)
                .all(|(index, found)| *found == entry(1, index, 300))
        );
    }
}

/// Appends and compacts for ever, and tells the base once it is durable.
fn compact_until_killed(path: &str) {
    let (_directory, log) = open(path.as_ref(), &options()).expect("a kill damages nothing");
    let mut last = log.load().expect("a kill damages nothing").last.index.0;
    let mut numbers = Numbers(last);
    loop {
        let count = 1 + numbers.below(3000);
        let entries: Vec<Entry> = (last + 1..=last + count)
            .map(|index| entry(1, index, 60))
            .collect();
        last += count;
        let mut append = log.begin().unwrap();
        append.persist(&hard_state(1, last), &entries).unwrap();
        let kept = numbers.below(20);
        let up_to = entry(1, last.saturating_sub(kept), 60).id;
        append.compact(up_to).unwrap();
        append.commit().unwrap();
        println!("base: {}", up_to.index);
    }
}

#[test]
fn a_kill_during_compaction_loses_neither_the_base_nor_what_is_behind_it() {
    let _turn = alone();
    const CHILD: Child = Child {
        test: "a_kill_during_compaction_loses_neither_the_base_nor_what_is_behind_it",
        variable: "RM_STORE_COMPACT_IN",
    };
    if let Ok(path) = std::env::var(CHILD.variable) {
        compact_until_killed(&path);
    }
    let folder = TempDir::new().unwrap();
    for round in 0..6 {
        let told = CHILD.run_and_kill(folder.path(), Numbers(round).below(12) + 1, "base");
        let (_directory, log) = open(folder.path(), &options()).unwrap();
        let loaded = log.load().unwrap();
        assert!(
            Some(loaded.base.index.0) >= told,
            "{loaded:?} after {told:?}"
        );
        let entries = read_all(&log).unwrap();
        let expected = (loaded.first.0..=loaded.last.index.0).map(|index| entry(1, index, 60));
        assert!(entries.into_iter().eq(expected));
    }
}

/// Makes, receives and installs snapshots for ever, each of a later version than the one before, and tells each step.
fn install_until_killed(path: &str) {
    let sender_path = Path::new(path).join("sender");
    let receiver_path = Path::new(path).join("receiver");
    let sender_directory = DataDirectory::open(&sender_path, &identity()).unwrap();
    let (_, sender) = open_both(&sender_directory, &options()).expect("a kill damages nothing");
    let snapshots = Snapshots::open(&sender_directory, SnapshotOptions::default()).unwrap();
    let directory = DataDirectory::open(&receiver_path, &identity()).unwrap();
    let (log, mut state) = open_both(&directory, &options()).expect("a kill damages nothing");
    let store = Snapshots::open(&directory, SnapshotOptions::default()).unwrap();
    let mut next = 1 + state::version(&sender).max(state::version(&state));
    loop {
        state::write(&sender, next, 60, 9000);
        println!("written: {next}");
        let file = snapshots.make(&sender, |_| true).unwrap();
        println!("made: {next}");
        let mut incoming = store.receive(file.description()).unwrap();
        let mut chunk = vec![0; 32 << 10];
        loop {
            let offset = incoming.received();
            match file.read(offset, &mut chunk).unwrap() {
                0 => break,
                count => incoming.append(offset, &chunk[..count]).unwrap(),
            }
            incoming.sync().unwrap();
            println!("received: {offset}");
        }
        let received = incoming.finish().unwrap();
        println!("finished: {next}");
        persist(&log, hard_state(1, log.load().unwrap().base.index.0), &[]).unwrap();
        let base = entry(1, next, 0).id;
        state = state::install(received, &directory, &log, base, &options()).unwrap();
        println!("installed: {}", state::version(&state));
        next += 1;
    }
}

#[test]
fn a_kill_while_a_snapshot_is_made_received_or_installed_leaves_the_old_or_the_new_state() {
    let _turn = alone();
    const CHILD: Child = Child {
        test: "a_kill_while_a_snapshot_is_made_received_or_installed_leaves_the_old_or_the_new_state",
        variable: "RM_STORE_INSTALL_IN",
    };
    if let Ok(path) = std::env::var(CHILD.variable) {
        install_until_killed(&path);
    }
    let folder = TempDir::new().unwrap();
    let mut installed = 0;
    for round in 0..12 {
        let told = CHILD.run_and_kill(folder.path(), Numbers(round).below(70) + 1, "installed");
        installed = told.unwrap_or(installed);
        let path = folder.path().join("receiver");
        for result in DataDirectory::verify(&path, &identity()).unwrap() {
            result.expect("every file that is known is there and sound");
        }
        let directory = DataDirectory::open(&path, &identity()).unwrap();
        let (log, state) = open_both(&directory, &options()).unwrap();
        let found = state::version(&state);
        assert!(found >= installed, "{found} after {installed}");
        assert_eq!(log.load().unwrap().base.index.0, found, "both or neither");
        let names = std::fs::read_dir(&path).unwrap();
        let states = names.filter(|name| {
            let name = name.as_ref().unwrap().file_name();
            name.to_str().unwrap().starts_with("state")
        });
        assert_eq!(states.count(), 1, "whatever is not in force is removed");
        installed = found;
    }
    assert!(installed > 3, "hardly anything was installed");
}
