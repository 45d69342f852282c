//! A machine is down while the others write and compact a gibibyte, and comes back: what it takes the leader's clients, how much
//! memory, and how late heartbeats are, while a snapshot brings it up to date. Exit code 1 when that is too much. Run by hand:
//!
//!     cargo run --release --locked -p rm-tests --bin catch-up -- 1024
//!
//! A second argument is the pace of the snapshot, in MiB a second. What the leader keeps is judged by what it does with three machines
//! that need no snapshot, before and after: on one host they share their processors, so that two of them alone do more. It builds the machine first, unless `RM_BINARY` says where one is.

mod load;
mod verdict;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use rm_tests::host::Host;
use rm_tests::restarts::{restart, restarts};
use rm_tests::{Behind, Client, Cluster, Settings, until, until_within};

use load::{CLIENTS, Load, SMALL_BYTES, fill};
use verdict::{Measured, Rates, silences};

/// How long the throughput is measured each time that no machine catches up.
const QUIET: Duration = Duration::from_secs(15);

/// How long each step may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// How far a machine that has caught up may be behind the leader, in entries, while the clients go on.
const BEHIND_MAX: u64 = 1_000;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).map(|text| {
        let number = text.parse::<u64>();
        number.unwrap_or_else(|error| panic!("{text:?} is no number of MiB: {error}"))
    });
    let mebibytes = arguments.next().unwrap_or(1_024) as usize;
    // The timings of an operator, not the short ones of the tests.
    let mut settings = Settings::trio()
        .with_timings_of_an_operator()
        .with("supervision.hang_ms", 2_000);
    if let Some(pace) = arguments.next() {
        settings = settings.with("limits.snapshot_bytes_per_second", pace << 20);
    }
    let mut cluster = Cluster::start(settings).await;
    let client = cluster.client();
    let leader = cluster.leader().await;
    let load = Load::start(&client, leader);
    let three_before = load.over(QUIET).await;
    load.stop().await;
    let failed_before = load.failed();

    let behind = Behind::kill(&mut cluster, (leader + 1) % 3);
    let other = (leader + 2) % 3;
    fill(&client, leader, mebibytes << 20).await;
    let filled = client.info_until(leader).await.commit_index;
    let load = Load::start(&client, leader);
    behind.needs_a_snapshot(&client, filled, PATIENCE).await;
    let term = client.info_until(leader).await.term;
    let two = load.over(QUIET).await;

    // No heartbeat waits for a disk, so that what the disk does excuses nothing.
    let host = Host::watch_processors(&cluster.folder());
    // So that the third's silences from before do not count.
    restart(&client, other, "logic_center").await;
    until("it follows its leader again", async || {
        let follows = client.info_until(other).await.leader_silence_ms.is_some();
        follows.then_some(()).ok_or("not yet".to_owned())
    })
    .await;
    let restarted = [
        restarts(&client, leader).await,
        restarts(&client, other).await,
    ];

    // Not that of the time in which it was filled. The process of the other begins here.
    cluster.machines[leader].process().forget_peak();
    cluster.machines[behind.place].start();
    let (began, puts) = (Instant::now(), load.puts());
    let pair = [leader, behind.place].map(|place| cluster.machines[place].process());
    let mut most_seen = [0; 2];
    let mut sent_at = None;
    until_within(PATIENCE, "the machine has caught up", async || {
        for (most, process) in most_seen.iter_mut().zip(pair) {
            *most = process.anonymous_bytes().max(*most);
        }
        let goal = client.info_until(leader).await;
        if !goal.sending.is_empty() {
            sent_at.get_or_insert_with(|| began.elapsed());
        }
        let applied = applied_by(&client, behind.place).await;
        match applied + BEHIND_MAX >= goal.commit_index && behind.took_a_snapshot(&cluster) {
            true => Ok(()),
            false => Err(format!("{applied} of {} applied", goal.commit_index)),
        }
    })
    .await;
    let took = began.elapsed();
    let during = (load.puts() - puts) as f64 / took.as_secs_f64();
    let longest_put = load.longest();
    let peaks = pair.map(|process| process.peak_bytes());
    let mut measured = Measured {
        rates: Rates {
            three_before,
            two,
            during,
            three_after: f64::NAN,
        },
        anonymous: most_seen,
        failed: 0,
        silences: silences(&client, [behind.place, other]).await,
        stood_still: host.stood_still(),
        terms: [term, client.info_until(leader).await.term],
        restarted: [
            restarts(&client, leader).await != restarted[0],
            restarts(&client, other).await != restarted[1],
            restarts(&client, behind.place)
                .await
                .values()
                .any(|&it| it > 0),
        ],
    };
    measured.rates.three_after = load.over(QUIET).await;
    load.stop().await;
    measured.failed = failed_before + load.failed();

    println!("state of {mebibytes} MiB, {CLIENTS} clients that put {SMALL_BYTES} bytes");
    println!("each rate over {QUIET:?}, but the one while it catches up over {took:.1?}");
    match sent_at {
        Some(after) => println!("the snapshot leaves after {after:.1?}"),
        None => println!("the snapshot left between two looks"),
    }
    println!("longest put while it lasted: {longest_put:.1?}");
    for (name, (seen, peak)) in ["leader", "machine that catches up"]
        .iter()
        .zip(most_seen.into_iter().zip(peaks))
    {
        println!(
            "memory of the {name}, from the start of the second on: at most {} MiB anonymous of what was seen several times a second, \
             a peak of {} MiB with mapped pages of files",
            seen >> 20,
            peak >> 20
        );
    }
    measured.tell();
    cluster.same_history_everywhere().await;
    println!("all machines hold the same");
    let faults = measured.faults();
    for fault in &faults {
        eprintln!("{fault}");
    }
    match faults[..] {
        [] => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// What a machine has applied, as far as it answers.
async fn applied_by(client: &Client, machine: usize) -> u64 {
    let info = client.info(machine).await;
    info.map_or(0, |info| info.applied_index)
}
