//! Measures durable appends, and how fast a file is verified: `cargo run --release -p rm-store --example append [DIRECTORY]`.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bytes::Bytes;
use rm_raft::{Entry, EntryId, HardState, Index, MachineId, Payload, Proposal, RequestId, Term};
use rm_store::{
    DataDirectory, Durability, Environment, Era, Extent, Identity, Log, Options, verify,
};

const COMMAND_BYTES: usize = 300;
const SPAN: Duration = Duration::from_secs(2);
const VERIFIED_BYTES: u64 = 1 << 30;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os()
        .nth(1)
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let path = path.join(format!("rm-store-append-{}", std::process::id()));
    let result = measure(&path);
    std::fs::remove_dir_all(&path)?;
    result
}

fn measure(path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let identity = Identity {
        domain: "bench".into(),
        machine: "RM.01".into(),
        id: MachineId(1),
        joined: None,
        era: Era::FIRST,
    };
    println!(
        "{:>6} {:>12} {:>12} {:>10}",
        "batch", "commits/s", "entries/s", "us/commit"
    );
    for batch in [1, 16, 64, 256] {
        let directory = DataDirectory::open(&path.join(batch.to_string()), &identity)?;
        let log = Log::open(&Environment::open(&directory, "log", &Options::default())?)?;
        let (commits, elapsed) = append(&log, batch, |_, elapsed| elapsed >= SPAN)?;
        let rate = commits as f64 / elapsed.as_secs_f64();
        println!(
            "{batch:>6} {rate:>12.0} {:>12.0} {:>10.0}",
            rate * batch as f64,
            1e6 / rate
        );
    }
    let directory = DataDirectory::open(&path.join("verified"), &identity)?;
    let options = Options {
        durability: Durability::System,
        ..Options::default()
    };
    {
        let log = Log::open(&Environment::open(&directory, "log", &options)?)?;
        let batches = VERIFIED_BYTES / (1024 * (COMMAND_BYTES as u64 + 50));
        append(&log, 1024, |commits, _| commits >= batches)?;
    }
    let file = path.join("verified/log/data.mdb");
    let start = Instant::now();
    verify(&file, Extent::Everything)?;
    let (elapsed, bytes) = (start.elapsed(), std::fs::metadata(&file)?.len());
    println!("verified {} MiB in {} ms", bytes >> 20, elapsed.as_millis());
    Ok(())
}

/// Appends batches until `enough` says so; gives how many, and how long it took.
fn append(
    log: &Log,
    batch: u64,
    enough: impl Fn(u64, Duration) -> bool,
) -> Result<(u64, Duration), Box<dyn std::error::Error>> {
    let command = Bytes::from(vec![7; COMMAND_BYTES]);
    let (mut commits, mut index) = (0, 0);
    let start = Instant::now();
    while !enough(commits, start.elapsed()) {
        let entries: Vec<Entry> = (index + 1..=index + batch)
            .map(|index| Entry {
                id: EntryId {
                    term: Term(1),
                    index: Index(index),
                },
                payload: Payload::Command(Proposal {
                    request: RequestId {
                        machine: MachineId(1),
                        number: index,
                    },
                    command: command.clone(),
                }),
            })
            .collect();
        let hard_state = HardState {
            term: Term(1),
            vote: None,
            commit: Index(index),
        };
        let mut append = log.begin()?;
        append.persist(&hard_state, &entries)?;
        append.commit()?;
        index += batch;
        commits += 1;
    }
    Ok((commits, start.elapsed()))
}
