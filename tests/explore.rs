//! Explores all that three Raft cores can do within bounds; see `--help`.

use std::process::ExitCode;

use rm_tests::exploration::{HELP, Options, Verdict, explore, explore_planted};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--help") {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let result = Options::parse(&arguments).and_then(|options| match &options.mutant {
        Some(mutant) => explore_planted(mutant, &arguments).map(|told| {
            print!("{}", told.as_deref().unwrap_or_default());
            told.is_some()
        }),
        None => Ok(run(&options)),
    });
    match result {
        Ok(found) => ExitCode::from(u8::from(found)),
        Err(error) => {
            eprintln!("explore: {error}");
            ExitCode::from(2)
        }
    }
}

/// Explores, and tells whether something was found.
fn run(options: &Options) -> bool {
    println!("{:?}", options.bounds);
    let report = explore(&options.bounds, options.depth, options.patience, |line| {
        println!("{line}");
    });
    println!(
        "{} states by {} steps, of which the core took {} itself; {} states of one machine; all up to depth {}; {:.1} s",
        report.states,
        report.transitions,
        report.core_steps,
        report.machine_states,
        report.depth,
        report.took.as_secs_f64()
    );
    match report.verdict {
        Verdict::Complete => println!("complete: every state within the bounds holds"),
        Verdict::Stopped => println!("stopped: every state that was reached holds"),
        Verdict::Violation { property, trace } => {
            println!("violation of {property}");
            for (number, step) in trace.iter().enumerate() {
                println!("{:4}. {step}", number + 1);
            }
            return true;
        }
    }
    false
}
