//! What was acknowledged is there after a full disk, a failing disk and a panic.

mod support;

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicI32, Ordering},
    },
};

use rm_raft::Entry;
use rm_store::{FaultHook, LogError, Options, Point};
use support::{alone, entry, hard_state, open, options, persist, read_all};
use tempfile::TempDir;

/// An options' hook that fails at one point with an error number while it is not zero; a negative one panics.
fn armed(point: Point) -> (Options, Arc<AtomicI32>) {
    let number = Arc::new(AtomicI32::new(0));
    let hook = number.clone();
    let fault = FaultHook::new(move |at| match hook.load(Ordering::Relaxed) {
        number if at != point || number == 0 => Ok(()),
        number if number < 0 => panic!("as the test asked"),
        number => Err(io::Error::from_raw_os_error(number)),
    });
    (Options { fault, ..options() }, number)
}

#[test]
fn a_full_disk_refuses_writes_and_takes_them_again_when_there_is_space() {
    let _turn = alone();
    let folder = TempDir::new().unwrap();
    for point in [Point::Write, Point::Append, Point::Commit] {
        let (options, number) = armed(point);
        let (_directory, log) = open(folder.path(), &options).unwrap();
        let before = read_all(&log).unwrap();
        let next = before.len() as u64 + 1;
        for full in [28, 122] {
            number.store(full, Ordering::Relaxed);
            let error =
                persist(&log, hard_state(1, 0), &[entry(1, next, 300)]).expect_err("it is full");
            assert!(error.is_no_space(), "{error}");
            assert_eq!(
                read_all(&log).unwrap(),
                before,
                "reads go on, and nothing was written"
            );
        }
        number.store(0, Ordering::Relaxed);
        persist(&log, hard_state(1, 0), &[entry(1, next, 300)]).unwrap();
        assert_eq!(read_all(&log).unwrap().len() as u64, next);
    }
}

#[test]
fn a_map_that_is_full_refuses_writes_and_reads_go_on() {
    let _turn = alone();
    let folder = TempDir::new().unwrap();
    let options = Options {
        map_bytes: 1 << 20,
        ..options()
    };
    let (_directory, log) = open(folder.path(), &options).unwrap();
    let mut last = 0;
    let error = loop {
        match persist(&log, hard_state(1, 0), &[entry(1, last + 1, 60_000)]) {
            Ok(()) => last += 1,
            Err(error) => break error,
        }
    };
    assert!(error.is_no_space(), "{error}");
    assert_eq!(read_all(&log).unwrap().len() as u64, last);
    persist(&log, hard_state(1, 0), &[entry(1, 2, 100)]).expect("a truncation makes room");
    assert_eq!(read_all(&log).unwrap().len(), 2);
}

#[test]
fn an_error_of_the_disk_is_told_from_a_full_one() {
    let _turn = alone();
    let folder = TempDir::new().unwrap();
    let (options, number) = armed(Point::Commit);
    let (_directory, log) = open(folder.path(), &options).unwrap();
    number.store(5, Ordering::Relaxed);
    let error = persist(&log, hard_state(1, 0), &[entry(1, 1, 300)]).expect_err("the disk failed");
    assert!(matches!(error, LogError::Lmdb { .. }), "{error}");
    assert_eq!(read_all(&log).unwrap(), []);
}

#[test]
fn a_panic_inside_a_transaction_leaves_the_log_as_it_was() {
    let _turn = alone();
    let folder = TempDir::new().unwrap();
    for point in [Point::Write, Point::Append, Point::Commit] {
        let (options, number) = armed(point);
        let (_directory, log) = open(folder.path(), &options).unwrap();
        let before = read_all(&log).unwrap();
        let next = [entry(1, before.len() as u64 + 1, 300)];
        number.store(-1, Ordering::Relaxed);
        let unwound = catch_unwind(AssertUnwindSafe(|| persist(&log, hard_state(1, 0), &next)));
        assert!(unwound.is_err(), "the hook panics");
        number.store(0, Ordering::Relaxed);
        assert_eq!(read_all(&log).unwrap(), before);
        persist(&log, hard_state(1, 0), &next).expect("the writer's lock was given back");
    }
}

#[test]
fn readers_see_whole_commits_while_the_writer_goes_on() {
    let _turn = alone();
    let folder = TempDir::new().unwrap();
    let (_directory, log) = open(folder.path(), &options()).unwrap();
    let reader = log.reader();
    std::thread::scope(|scope| {
        let reading = scope.spawn(move || {
            let mut seen = 0;
            while seen < 400 {
                let entries = reader
                    .entries(rm_raft::Index(1), rm_raft::Index(400), usize::MAX)
                    .unwrap();
                assert!(
                    entries.len() % 4 == 0 && entries.len() >= seen,
                    "{} after {seen}",
                    entries.len()
                );
                seen = entries.len();
            }
        });
        for first in (1..400).step_by(4) {
            let entries: Vec<Entry> = (first..first + 4)
                .map(|index| entry(1, index, 100))
                .collect();
            persist(&log, hard_state(1, 0), &entries).unwrap();
        }
        reading.join().unwrap();
    });
}

/// A tmpfs of a megabyte.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> SmallDisk {
        let folder = TempDir::new().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(folder.path())
            .output();
        let said = match &mounted {
            Ok(output) if output.status.success() => return SmallDisk(folder),
            Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
            Err(error) => error.to_string(),
        };
        panic!(
            "a small file system cannot be mounted ({}), so no disk can be filled: run this test as root, or set \
             RM_NO_MOUNT=1 to do without it",
            said.trim()
        );
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, so that a failed test, whose files are still open, leaves nothing behind either.
        Command::new("umount")
            .arg("--lazy")
            .arg(self.0.path())
            .status()
            .expect("what was mounted unmounts");
    }
}

/// Fills a small file system in memory. Where mounting one is not permitted, `RM_NO_MOUNT=1` says that the injected errors
/// above must do.
#[test]
fn a_disk_that_fills_up_loses_nothing_and_serves_again_when_there_is_space() {
    let _turn = alone();
    if std::env::var_os("RM_NO_MOUNT").is_some_and(|value| value == "1") {
        return;
    }
    let disk = SmallDisk::mount();
    let path = disk.0.path();
    let ballast = path.join("ballast");
    std::fs::write(&ballast, [0; 256 << 10]).unwrap();
    let (_directory, log) = open(path, &options()).unwrap();
    let mut last = 0;
    let mut append = |log| {
        let result = persist(log, hard_state(1, last), &[entry(1, last + 1, 3000)]);
        last += u64::from(result.is_ok());
        (last, result)
    };
    let (kept, error) = loop {
        if let (kept, Err(error)) = append(&log) {
            break (kept, error);
        }
    };
    assert!(error.is_no_space(), "{error}");
    assert_eq!(read_all(&log).unwrap().len() as u64, kept);
    std::fs::remove_file(ballast).unwrap();
    for _ in 0..20 {
        append(&log).1.expect("there is space again");
    }
    drop((_directory, log));
    let (_directory, log) = open(path, &options()).unwrap();
    assert_eq!(read_all(&log).unwrap().len() as u64, kept + 20);
}
