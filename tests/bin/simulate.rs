//! Runs the simulator over many seeds, or over one with its trace.
//!
//!     cargo run -p rm-tests --release --bin simulate -- --seeds 0..100000 --minutes 10
//!     cargo run -p rm-tests --release --bin simulate -- --seed 7 --trace

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rm_tests::simulation::{Coverage, Outcome, Plan, Scale, Violation, run, shrink};

const HELP: &str = "\
simulate: runs whole machines under one virtual clock and one seed, and checks every property of Raft

  --seeds FROM..TO   these seeds (0..1000)
  --seed N           one seed
  --trace            print what happened in it
  --minutes N        stop after so many minutes, say 0.5
  --seconds N        virtual seconds of faults in a run (10)
  --all-faults       every run has every kind of fault, rather than some
  --report FILE      write the summary there too, now and then and at the end
  --threads N        how many runs at a time (1)
  --nightly          a night's work: 60 virtual seconds a run, seeds without an end, 480 minutes
  --keep-going       do not stop at the first violation
  --first            stop at the first violation, and do not make it smaller

Exit code 1 if a property was broken, 2 if the arguments make no sense.";

/// How many runs a shrinking may take.
const SHRINK_RUNS: usize = 2_000;
/// How often the progress is told.
const TELL_SECONDS: u64 = 10;
/// The last lines of a trace that a failure shows.
const LINES_SHOWN: usize = 400;

struct Options {
    from: u64,
    to: u64,
    trace: bool,
    keep_going: bool,
    first: bool,
    limit: Option<Duration>,
    scale: Scale,
    threads: u64,
    report: Option<PathBuf>,
}

impl Options {
    /// What the scale of the runs is called on the command line.
    fn scale_words(&self) -> String {
        let all_faults = if self.scale.all_faults {
            " --all-faults"
        } else {
            ""
        };
        format!(" --seconds {}{all_faults}", self.scale.seconds)
    }
}

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    // A core that breaks its own invariants panics; the run tells of it.
    std::panic::set_hook(Box::new(|_| ()));
    if options.trace {
        return one(&options);
    }
    let total = many(&options);
    print!("{}", total.report());
    total.keep(&options);
    let broken = total.broken.load(Ordering::Relaxed) > 0;
    ExitCode::from(u8::from(broken))
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options {
        from: 0,
        to: 1_000,
        trace: false,
        keep_going: false,
        first: false,
        limit: None,
        scale: Scale {
            seconds: 10,
            all_faults: false,
        },
        threads: 1,
        report: None,
    };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--seeds" => {
                let range = value()?;
                let (from, to) = range.split_once("..").ok_or("--seeds is FROM..TO")?;
                (options.from, options.to) = (number(from)?, number(to)?);
            }
            "--seed" => {
                options.from = number(&value()?)?;
                options.to = options.from + 1;
            }
            "--minutes" => options.limit = Some(minutes(&value()?)?),
            "--seconds" => options.scale.seconds = number(&value()?)?.max(1),
            "--all-faults" => options.scale.all_faults = true,
            "--report" => options.report = Some(value()?.into()),
            "--threads" => options.threads = number(&value()?)?.max(1),
            "--trace" => options.trace = true,
            "--first" => options.first = true,
            "--keep-going" => options.keep_going = true,
            "--nightly" => {
                options.scale.seconds = 60;
                options.to = u64::MAX;
                options.limit = Some(Duration::from_secs(8 * 3600));
            }
            _ => return Err(format!("{word} is no option")),
        }
    }
    Ok(options)
}

fn minutes(text: &str) -> Result<Duration, String> {
    let minutes: f64 = text.parse().map_err(|_| format!("{text} is no number"))?;
    Duration::try_from_secs_f64(60.0 * minutes).map_err(|error| format!("{text} minutes: {error}"))
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text} is no number"))
}

/// Runs one seed and prints all of it.
fn one(options: &Options) -> ExitCode {
    let outcome = run(&Plan::draw(options.from, options.scale), true);
    for line in &outcome.lines {
        println!("{line}");
    }
    println!("{} steps, hash {:016x}", outcome.steps, outcome.hash);
    match &outcome.violation {
        None => ExitCode::SUCCESS,
        Some(violation) => {
            println!("{}: {}", violation.property, violation.text);
            ExitCode::FAILURE
        }
    }
}

/// What all runs came to.
struct Total {
    began: Instant,
    runs: AtomicU64,
    steps: AtomicU64,
    micros: AtomicU64,
    acknowledged: AtomicU64,
    broken: AtomicU64,
    hash: AtomicU64,
    coverage: Mutex<Coverage>,
    /// How often the progress was told.
    told: AtomicU64,
}

fn many(options: &Options) -> Total {
    let total = Total {
        began: Instant::now(),
        runs: AtomicU64::new(0),
        steps: AtomicU64::new(0),
        micros: AtomicU64::new(0),
        acknowledged: AtomicU64::new(0),
        broken: AtomicU64::new(0),
        hash: AtomicU64::new(0),
        coverage: Mutex::default(),
        told: AtomicU64::new(0),
    };
    let next = AtomicU64::new(options.from);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..options.threads {
            scope.spawn(|| work(options, &total, &next, &stop));
        }
    });
    total
}

fn work(options: &Options, total: &Total, next: &AtomicU64, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        let late = options
            .limit
            .is_some_and(|limit| total.began.elapsed() > limit);
        if seed >= options.to || late {
            return;
        }
        let plan = Plan::draw(seed, options.scale);
        let outcome = run(&plan, false);
        total.add(&outcome, options);
        if let Some(violation) = &outcome.violation {
            total.broken.fetch_add(1, Ordering::Relaxed);
            if options.keep_going {
                let text = violation.text.lines().next().unwrap_or_default();
                println!("seed {seed}: {}: {text}", violation.property);
            } else {
                stop.store(true, Ordering::Relaxed);
                tell(&plan, violation, options);
            }
        }
    }
}

/// Prints all that is needed to understand a failure.
fn tell(plan: &Plan, violation: &Violation, options: &Options) {
    println!(
        "seed {} breaks {}: {}",
        plan.seed, violation.property, violation.text
    );
    if options.first {
        return;
    }
    let (small, violation) = shrink(plan, violation, SHRINK_RUNS);
    println!(
        "\nshrunk from {} actions to {}, {} machines, {:?}:",
        plan.actions.len(),
        small.actions.len(),
        small.machines,
        small.residual
    );
    for (at, action) in &small.actions {
        println!("  {}.{:06} {action:?}", at / 1_000_000, at % 1_000_000);
    }
    let outcome = run(&small, true);
    println!("\nthe end of its trace:");
    let from = outcome.lines.len().saturating_sub(LINES_SHOWN);
    for line in &outcome.lines[from..] {
        println!("{line}");
    }
    println!("\n{}: {}", violation.property, violation.text);
    println!(
        "again: simulate --seed {}{} --trace",
        plan.seed,
        options.scale_words()
    );
}

impl Total {
    fn add(&self, outcome: &Outcome, options: &Options) {
        self.runs.fetch_add(1, Ordering::Relaxed);
        self.steps.fetch_add(outcome.steps, Ordering::Relaxed);
        self.micros.fetch_add(outcome.micros, Ordering::Relaxed);
        self.acknowledged
            .fetch_add(outcome.acknowledged, Ordering::Relaxed);
        // Whatever the order in which threads finish.
        self.hash.fetch_xor(outcome.hash, Ordering::Relaxed);
        if let Ok(mut coverage) = self.coverage.lock() {
            coverage.add(&outcome.coverage);
        }
        let elapsed = self.began.elapsed().as_secs();
        if self
            .told
            .fetch_max(elapsed / TELL_SECONDS, Ordering::Relaxed)
            < elapsed / TELL_SECONDS
        {
            println!("{}", self.progress());
            self.keep(options);
        }
    }

    /// Writes the report where it is wanted.
    fn keep(&self, options: &Options) {
        if let Some(path) = &options.report
            && let Err(error) = std::fs::write(path, self.report())
        {
            eprintln!("{}: {error}", path.display());
        }
    }

    fn progress(&self) -> String {
        let elapsed = self.began.elapsed().as_secs_f64();
        let (runs, steps) = (
            self.runs.load(Ordering::Relaxed),
            self.steps.load(Ordering::Relaxed),
        );
        format!(
            "{runs} seeds, {steps} steps, {:.0} virtual s, {} operations answered in {elapsed:.1} s: {:.1} seeds/s, {:.0} steps/s",
            self.micros.load(Ordering::Relaxed) as f64 / 1e6,
            self.acknowledged.load(Ordering::Relaxed),
            runs as f64 / elapsed,
            steps as f64 / elapsed,
        )
    }

    fn report(&self) -> String {
        let mut report = format!("\n{:>12} {:>8}  state\n", "times", "seeds");
        if let Ok(coverage) = self.coverage.lock() {
            for (name, times, runs) in coverage.rows() {
                let mark = if times == 0 { "  <- never" } else { "" };
                let _ = writeln!(report, "{times:>12} {runs:>8}  {name}{mark}");
            }
        }
        let (hash, broken) = (
            self.hash.load(Ordering::Relaxed),
            self.broken.load(Ordering::Relaxed),
        );
        let progress = self.progress();
        let _ = writeln!(
            report,
            "\n{progress}\nhash {hash:016x}\n{broken} violations"
        );
        report
    }
}
