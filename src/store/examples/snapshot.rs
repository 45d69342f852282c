//! Makes, receives and installs a snapshot of a state of so many MiB while a writer goes on, and tells what it took.
//!
//! `cargo run --release -p rm-store --example snapshot -- 1024`

use std::{
    error::Error,
    fs,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Instant,
};

use heed::{CommitOrAbort, Database, types::Bytes};
use rm_raft::{Configured, EntryId, HardState, Index, MachineId, Term};
use rm_store::{
    DataDirectory, Environment, Era, Identity, Log, Options, SnapshotOptions, Snapshots,
    remove_others,
};

/// The size of a value, in bytes: two of them fill a page, as those of small puts do.
const VALUE_BYTES: u64 = 1500;
/// How much is written in one commit, in bytes.
const COMMIT_BYTES: u64 = 8 << 20;
/// The size of a chunk on the wire, in bytes.
const CHUNK_BYTES: usize = 1 << 20;

type Table = Database<'static, Bytes, Bytes>;
type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let mebibytes: u64 = std::env::args()
        .nth(1)
        .map_or(Ok(256), |argument| argument.parse())?;
    let folder = tempfile::tempdir()?;
    let sender = open(&folder.path().join("sender"))?;
    let receiver = open(&folder.path().join("receiver"))?;
    let table = create_table(&sender.state)?;
    let count = (mebibytes << 20) / VALUE_BYTES;
    fill(&sender.state, table, 0..count)?;
    println!("state: {:?}", sender.state.space()?);
    let peak = AtomicU64::new(anonymous_bytes()?);
    println!("anonymous memory before: {} MiB", mib(&peak));

    let stop = AtomicBool::new(false);
    let (made, written, seconds) = thread::scope(|scope| -> Outcome<_> {
        let writer = scope.spawn(|| {
            let mut commits = 0;
            while !stop.load(Ordering::Relaxed) {
                let first = commits * 100 % count;
                fill(&sender.state, table, first..first + 100).expect("the disk takes it");
                commits += 1;
            }
            commits
        });
        let started = Instant::now();
        let made = sender.snapshots.make(&sender.state, |_| {
            note_peak(&peak);
            true
        });
        let seconds = started.elapsed();
        stop.store(true, Ordering::Relaxed);
        let commits = writer.join().map_err(|_| "the writer panicked")?;
        Ok((made?, commits, seconds))
    })?;
    let bytes = made.description().bytes;
    println!("made: {bytes} bytes in {seconds:?}, {written} commits meanwhile");

    let started = Instant::now();
    let mut incoming = receiver.snapshots.receive(made.description())?;
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let offset = incoming.received();
        match made.read(offset, &mut chunk)? {
            0 => break,
            read => incoming.append(offset, &chunk[..read])?,
        }
        note_peak(&peak);
    }
    println!("received in {:?}", started.elapsed());
    let started = Instant::now();
    let received = incoming.finish()?;
    note_peak(&peak);
    println!("checked in {:?}", started.elapsed());
    let started = Instant::now();
    let state = received.prepare(&receiver.directory, 1, &Options::default())?;
    let mut append = receiver.log.begin()?;
    let hard_state = HardState {
        term: Term(1),
        ..HardState::default()
    };
    append.persist(&hard_state, &[])?;
    let base = EntryId {
        term: Term(1),
        index: Index(1),
    };
    append.install(1, base, &Configured::default())?;
    append.commit()?;
    remove_others(&receiver.directory, 1)?;
    note_peak(&peak);
    println!("installed in {:?}: {:?}", started.elapsed(), state.space()?);
    println!("peak of anonymous memory: {} MiB", mib(&peak));
    println!(
        "peak with the system's cache of the files: {} MiB",
        status("VmHWM:")? >> 20
    );
    Ok(())
}

struct Machine {
    directory: DataDirectory,
    log: Log,
    state: Environment,
    snapshots: Snapshots,
}

fn open(path: &Path) -> Outcome<Machine> {
    let identity = Identity {
        domain: "example".into(),
        machine: "RM.01".into(),
        id: MachineId(1),
        joined: None,
        era: Era::FIRST,
    };
    let options = Options::default();
    let directory = DataDirectory::open(path, &identity)?;
    let log = Log::open(&Environment::open(&directory, "log", &options)?)?;
    let state = Environment::open_state(&directory, log.generation()?, &options)?;
    let snapshots = Snapshots::open(&directory, SnapshotOptions::default())?;
    Ok(Machine {
        directory,
        log,
        state,
        snapshots,
    })
}

fn create_table(state: &Environment) -> heed::Result<Table> {
    let env = state.env();
    let created = env.create_databases_and_commit(env.write_txn()?, |opener, txn| {
        let table = opener.create_database::<Bytes, Bytes>(txn, Some("value"))?;
        state.stamp(txn)?;
        Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(table))
    })?;
    Ok(created.commit().expect("the closure commits or fails"))
}

fn fill(state: &Environment, table: Table, numbers: std::ops::Range<u64>) -> heed::Result<()> {
    let per_commit = (COMMIT_BYTES / VALUE_BYTES) as usize;
    for first in numbers.clone().step_by(per_commit) {
        let mut txn = state.env().write_txn()?;
        for number in first..numbers.end.min(first + per_commit as u64) {
            let value = vec![number as u8; VALUE_BYTES as usize];
            table.put(&mut txn, &number.to_be_bytes(), &value)?;
        }
        state.commit(txn)?;
    }
    Ok(())
}

fn note_peak(peak: &AtomicU64) {
    let now = anonymous_bytes().expect("this system tells the memory of a process");
    peak.fetch_max(now, Ordering::Relaxed);
}

/// What the process holds that is no page of a file, in bytes.
fn anonymous_bytes() -> Outcome<u64> {
    status("RssAnon:")
}

/// A size in the process's status, in bytes.
fn status(name: &str) -> Outcome<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kibibytes = line.and_then(|line| line.trim().split(' ').next());
    Ok(kibibytes.ok_or("it is not told")?.parse::<u64>()? << 10)
}

fn mib(bytes: &AtomicU64) -> u64 {
    bytes.load(Ordering::Relaxed) >> 20
}
