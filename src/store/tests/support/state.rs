//! What the tests of snapshots share: a machine's data, and a state that is one table of numbered values.

use std::{path::Path, sync::Arc};

use heed::types::Bytes;
use heed::{CommitOrAbort, Database};
use rm_raft::{Configured, EntryId};
use rm_store::{
    DataDirectory, Environment, Incoming, Log, OpenError, Options, Received, SnapshotError,
    SnapshotFile, SnapshotOptions, Snapshots,
};

use super::{Numbers, Refusal, entry, hard_state, identity, options, persist};
use tempfile::TempDir;

/// The table of a state.
pub(crate) type Table = Database<'static, Bytes, Bytes>;

/// The log of a directory and the state that it says is in force.
pub(crate) fn open_both(
    directory: &DataDirectory,
    options: &Options,
) -> Result<(Log, Environment), Refusal> {
    let log = Log::open(&Environment::open(directory, "log", options)?)?;
    let state = Environment::open_state(directory, log.generation()?, options)?;
    Ok((log, state))
}

pub(crate) fn table(state: &Environment) -> Table {
    let env = state.env();
    let txn = env.read_txn().unwrap();
    let found = env.open_databases_and_commit(txn, |opener, txn| {
        let table = opener.open_database::<Bytes, Bytes>(txn, Some("value"))?;
        Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(table))
    });
    if let Some(Some(table)) = found.unwrap().commit() {
        return table;
    }
    let txn = env.write_txn().unwrap();
    let made = env.create_databases_and_commit(txn, |opener, txn| {
        let table = opener.create_database::<Bytes, Bytes>(txn, Some("value"))?;
        state.stamp(txn)?;
        Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit(table))
    });
    made.unwrap().commit().unwrap()
}

/// Writes the values of a version, all in one durable commit.
pub(crate) fn write(state: &Environment, version: u64, count: u64, bytes: usize) {
    let table = table(state);
    let mut txn = state.env().write_txn().unwrap();
    for number in 0..count {
        let value = value(version, number, bytes);
        table.put(&mut txn, &number.to_be_bytes(), &value).unwrap();
    }
    table
        .put(&mut txn, b"version", &version.to_be_bytes())
        .unwrap();
    state.commit(txn).unwrap();
}

/// The version of a state whose values are all of that version; zero if it has none.
pub(crate) fn version(state: &Environment) -> u64 {
    let table = table(state);
    let txn = state.env().read_txn().unwrap();
    let version = table.get(&txn, b"version").unwrap();
    let version = version.map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().unwrap()));
    for item in table.iter(&txn).unwrap() {
        let (key, found) = item.unwrap();
        if let Ok(number) = key.try_into() {
            if key == b"version" {
                continue;
            }
            let number = u64::from_be_bytes(number);
            assert!(
                found == value(version, number, found.len()),
                "value {number} is not of version {version}"
            );
        }
    }
    version
}

fn value(version: u64, number: u64, bytes: usize) -> Vec<u8> {
    let mut numbers = Numbers(version << 32 | number);
    let mut value = Vec::with_capacity(bytes);
    while value.len() < bytes {
        value.extend_from_slice(&numbers.next().to_le_bytes());
    }
    value.truncate(bytes);
    value
}

/// Receives what is missing of a snapshot.
pub(crate) fn transfer(
    from: &SnapshotFile,
    incoming: &mut Incoming,
    chunk_bytes: usize,
) -> Result<(), SnapshotError> {
    let mut chunk = vec![0; chunk_bytes];
    loop {
        let offset = incoming.received();
        match from.read(offset, &mut chunk)? {
            0 => return Ok(()),
            count => incoming.append(offset, &chunk[..count])?,
        }
    }
}

/// Receives a snapshot as a whole.
pub(crate) fn receive(from: &SnapshotFile, into: &Snapshots) -> Result<Received, SnapshotError> {
    let mut incoming = into.receive(from.description())?;
    transfer(from, &mut incoming, 64 << 10)?;
    incoming.finish()
}

/// Puts a snapshot in force.
pub(crate) fn install(
    received: Received,
    directory: &DataDirectory,
    log: &Log,
    base: EntryId,
    options: &Options,
) -> Result<Environment, Trouble> {
    let generation = log.generation()? + 1;
    let state = received.prepare(directory, generation, options)?;
    let mut append = log.begin()?;
    append.install(generation, base, &Configured::default())?;
    append.commit()?;
    rm_store::remove_others(directory, generation)?;
    Ok(state)
}

/// Whatever may go wrong between a snapshot and its being in force.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    Log(#[from] rm_store::LogError),
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// A machine's data: its directory, log, state and snapshots.
pub(crate) struct Machine {
    pub(crate) directory: DataDirectory,
    pub(crate) log: Log,
    pub(crate) state: Environment,
    pub(crate) snapshots: Snapshots,
}

pub(crate) fn open(path: &Path) -> Machine {
    open_with(path, SnapshotOptions::default()).expect("it opens")
}

pub(crate) fn open_with(
    path: &Path,
    snapshot_options: SnapshotOptions,
) -> Result<Machine, Refusal> {
    let directory = DataDirectory::open(path, &identity())?;
    let (log, state) = open_both(&directory, &options())?;
    let snapshots = Snapshots::open(&directory, snapshot_options).expect("the folder is there");
    Ok(Machine {
        directory,
        log,
        state,
        snapshots,
    })
}

/// A machine's data in a new folder, with a state of this version.
pub(crate) fn machine(state_version: u64) -> (TempDir, Machine) {
    let folder = TempDir::new().unwrap();
    let machine = open(folder.path());
    persist(&machine.log, hard_state(2, 0), &[entry(1, 1, 10)]).unwrap();
    write(&machine.state, state_version, 300, 3000);
    (folder, machine)
}

pub(crate) fn make(machine: &Machine) -> Arc<SnapshotFile> {
    machine.snapshots.make(&machine.state, |_| true).unwrap()
}

pub(crate) fn content(file: &SnapshotFile) -> Vec<u8> {
    let mut content = vec![0; file.description().bytes as usize];
    assert_eq!(file.read(0, &mut content).unwrap(), content.len());
    content
}
