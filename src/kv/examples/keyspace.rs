//! Measures the key space: puts and gets at many keys in random order, checkpoints, and what it takes of memory and disk.
//!
//!     cargo run --release -p rm-kv --example keyspace -- [KEYS] [CHECKPOINT_MIB]

use std::error::Error;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rm_kv::{Command, Keyspace, Put, Query, Range, StateMachine};
use rm_raft::{EntryId, MachineId, Term};
use rm_store::{DataDirectory, Environment, Era, Identity, Options};

const VALUE_BYTES: usize = 256;
const GETS: u64 = 300_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let keys: u64 = arguments
        .next()
        .map_or(Ok(1_000_000), |keys| keys.parse())?;
    let checkpoint_mib: usize = arguments.next().map_or(Ok(64), |mib| mib.parse())?;

    let folder = tempfile::tempdir()?;
    let directory = DataDirectory::open(
        folder.path(),
        &Identity {
            domain: "bench".into(),
            machine: "RM.01".into(),
            id: MachineId(1),
            joined: None,
            era: Era::FIRST,
        },
    )?;
    let options = Options {
        read_ahead: false,
        ..Options::default()
    };
    let environment = Environment::open(&directory, "state", &options)?;
    let mut keyspace = Keyspace::open(&environment)?;

    for round in ["first puts", "overwrites"] {
        let mut puts = Puts::default();
        let cpu = cpu();
        for number in 0..keys {
            puts.put(&mut keyspace, key(number))?;
            if number % 256 == 0 && keyspace.dirty_bytes() > checkpoint_mib << 20 {
                puts.checkpoint(&mut keyspace)?;
            }
        }
        puts.checkpoint(&mut keyspace)?;
        puts.report(round, keys, cpu);
    }
    gets(&keyspace, keys)?;
    walk(&keyspace)?;
    let started = Instant::now();
    let hash = rm_kv::hash(&environment, 0)?;
    println!("hash          {:08x} in {:?}", hash.hash, started.elapsed());
    println!(
        "size          {} MiB, {} MiB anonymous memory",
        keyspace.size()?.file_bytes >> 20,
        anonymous_mib()
    );

    drop(keyspace);
    let started = Instant::now();
    let keyspace = Keyspace::open(&environment)?;
    get(&keyspace, key(1))?;
    println!("open, one get {:?}", started.elapsed());
    Ok(())
}

/// Puts and checkpoints, with the time that they take.
#[derive(Default)]
struct Puts {
    apply: Duration,
    checkpoints: u32,
    checkpoint: Duration,
    checkpoint_max: Duration,
    checkpoint_bytes: usize,
    anonymous_mib_max: u64,
}

impl Puts {
    fn put(&mut self, keyspace: &mut Keyspace, key: Bytes) -> Result<(), Box<dyn Error>> {
        let command = Command::Put(Put {
            key,
            value: vec![b'v'; VALUE_BYTES].into(),
            ..Put::default()
        });
        let command = command.encode();
        let entry = EntryId {
            term: Term(1),
            index: keyspace.applied().index.next(),
        };
        let started = Instant::now();
        keyspace
            .apply(entry, Some(&command), true)?
            .ok_or("a put has an outcome")??;
        self.apply += started.elapsed();
        Ok(())
    }

    fn checkpoint(&mut self, keyspace: &mut Keyspace) -> Result<(), Box<dyn Error>> {
        self.anonymous_mib_max = self.anonymous_mib_max.max(anonymous_mib());
        let report = keyspace.checkpoint()?;
        self.checkpoints += 1;
        self.checkpoint += report.commit + report.begin;
        self.checkpoint_max = self.checkpoint_max.max(report.commit + report.begin);
        self.checkpoint_bytes += report.bytes;
        Ok(())
    }

    fn report(&self, round: &str, keys: u64, cpu_before: Duration) {
        println!(
            "{round}: {:.2} us a put in the open transaction; {:.2} us of CPU, encoding and checkpoints included",
            micros_each(self.apply, keys),
            micros_each(cpu() - cpu_before, keys)
        );
        println!(
            "  {} checkpoints, {:?} in all, longest {:?}, {} MiB by estimate, at most {} MiB anonymous memory",
            self.checkpoints,
            self.checkpoint,
            self.checkpoint_max,
            self.checkpoint_bytes >> 20,
            self.anonymous_mib_max
        );
    }
}

fn gets(keyspace: &Keyspace, keys: u64) -> Result<(), Box<dyn Error>> {
    let (started, cpu_before) = (Instant::now(), cpu());
    for number in 0..GETS {
        get(keyspace, key(mix(number) % keys))?;
    }
    println!(
        "gets          {:.2} us a get; {:.2} us of CPU",
        micros_each(started.elapsed(), GETS),
        micros_each(cpu() - cpu_before, GETS)
    );
    Ok(())
}

fn get(keyspace: &Keyspace, key: Bytes) -> Result<(), Box<dyn Error>> {
    let query = Query::Range(Range {
        key,
        ..Range::default()
    });
    keyspace.query(&query)??;
    Ok(())
}

/// Counts all keys, now and as of the first half of the puts.
fn walk(keyspace: &Keyspace) -> Result<(), Box<dyn Error>> {
    for revision in [0, keyspace.revision() / 2] {
        let query = Query::Range(Range {
            key: Bytes::from_static(&[0]),
            range_end: Bytes::from_static(&[0]),
            count_only: true,
            revision,
            ..Range::default()
        });
        let started = Instant::now();
        keyspace.query(&query)??;
        println!(
            "count         {:?} for all keys at revision {revision}",
            started.elapsed()
        );
    }
    Ok(())
}

/// A key of 16 bytes; consecutive numbers lie far apart.
fn key(number: u64) -> Bytes {
    format!("{:016x}", mix(number)).into()
}

/// The finalizer of SplitMix64: one number for each number, in no visible order.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn micros_each(time: Duration, count: u64) -> f64 {
    time.as_secs_f64() * 1e6 / count as f64
}

/// The processor's time that this thread has had; zero where the system does not tell.
fn cpu() -> Duration {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = times.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

/// The anonymous memory of this process; zero where the system does not tell.
fn anonymous_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) >> 10
}
