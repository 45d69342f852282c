//! How many proposals a second three Raft cores in one process take, with no disk and no network: ours, and those of the
//! crates `raft` (TiKV's) and `openraft`.

mod allocations;
mod measure;
mod memory_log;
mod open_raft;
mod raft_machine;
mod report;
mod tikv_raft;
mod work;

use std::time::Duration;

use clap::Parser;

use crate::measure::{Round, measure};
use crate::open_raft::OpenRaft;
use crate::raft_machine::RaftMachine;
use crate::tikv_raft::TikvRaft;
use crate::work::Cluster;

#[global_allocator]
static ALLOCATOR: allocations::Counting = allocations::Counting;

/// Proposals that a client has under way at a time.
const BATCHES: [usize; 3] = [1, 64, 256];

/// Runs three Raft cores by turns, and prints how they compare.
#[derive(Parser)]
struct Options {
    /// How often each core has its turn at each batch size.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// How long a turn is, in milliseconds, after a warm-up of a fifth of it.
    #[arg(long, default_value_t = 1000)]
    millis: u64,
    /// Only the core whose name holds this, for profiling.
    #[arg(long, default_value = "")]
    only: String,
    /// Only this batch size.
    #[arg(long)]
    batch: Option<usize>,
}

/// A core, by its name and how to measure a round of it.
type System = (&'static str, fn(usize, Duration) -> Round);

fn main() {
    let options = Options::parse();
    let all: [System; 3] = [
        (RaftMachine::NAME, measure::<RaftMachine>),
        (TikvRaft::NAME, measure::<TikvRaft>),
        (OpenRaft::NAME, measure::<OpenRaft>),
    ];
    let systems: Vec<System> = all
        .into_iter()
        .filter(|(name, _)| name.contains(&options.only))
        .collect();
    let turn = Duration::from_millis(options.millis);
    let mut sections = Vec::new();
    for batch in BATCHES {
        if options.batch.is_some_and(|only| only != batch) {
            continue;
        }
        let mut rounds = vec![Vec::new(); systems.len()];
        for _ in 0..options.rounds {
            for ((name, measure), rounds) in systems.iter().zip(&mut rounds) {
                let round = measure(batch, turn);
                eprintln!("batch {batch}, {name}: {:.0}/s", round.per_second());
                rounds.push(round);
            }
        }
        sections.push((batch, rounds));
    }
    let names: Vec<&str> = systems.iter().map(|(name, _)| *name).collect();
    print!("{}", report::table(&names, &sections));
}
