//! Plants faults in a copy of rm-raft, one at a time, and shows what catches each: the simulator, and which scripts.
//!
//!     cargo run -p rm-tests --release --bin mutants [-- [--all] [--brief] NAME...]
//!
//! The simulator has a minute and two threads, or with `--brief` a third of a minute and one. The scripts run when it found
//! nothing, or always with `--all`. First of all it has as long for the core as it is, over the first 2000 seeds: if it finds
//! something there, this ends with exit code 2, since a false alarm would count as a catch. The exit code is 1 if nothing caught
//! a fault.
//!
//! A fault is a file in tests/mutants: what rule it breaks, then what to replace in which file of src/raft. Unlike a patch it
//! names the text alone, so that it outlives changes around it; where that text is not found exactly once, this fails. The
//! copy lies in a temporary folder, so that no build of the real crate can contain a fault.

mod copy;
mod fault;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use copy::Copy;
use fault::faults;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// For how many minutes the simulator looks for a fault, and with how many threads.
type Effort = (&'static str, &'static str);

/// What finds all that is known to be found.
const EFFORT: Effort = ("1", "2");
/// The same where that is to be over soon.
const BRIEF_EFFORT: Effort = ("0.33", "1");

fn main() -> ExitCode {
    let words = std::env::args().skip(1);
    let (flags, names): (Vec<String>, Vec<String>) = words.partition(|word| word.starts_with("--"));
    let given = |flag: &str| flags.iter().any(|word| word == flag);
    let effort = match given("--brief") {
        true => BRIEF_EFFORT,
        false => EFFORT,
    };
    match hunt(&names, given("--all"), effort) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(missed) => {
            println!("{missed} faults were caught by nothing");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// Plants each fault; how many nothing caught.
fn hunt(names: &[String], all: bool, effort: Effort) -> Outcome<usize> {
    let root = root()?;
    let mut faults = faults(&root)?;
    for fault in &faults {
        fault.planted(&root)?; // that one no longer fits is known before the first is tried
    }
    faults.retain(|fault| names.is_empty() || names.contains(&fault.name));
    let copy = Copy::new(&root)?;
    copy.restore(&root)?;
    copy.require_silence(effort)?;
    let mut missed = 0;
    println!(
        "| fault | breaks | seeds until the simulator caught it | by | s | scripts that fail |"
    );
    println!("|---|---|--:|---|--:|---|");
    for fault in faults {
        copy.plant(&root, &fault)?;
        let catch = copy.catch(effort)?;
        let scripts = match &catch {
            Some(_) if !all => Vec::new(),
            _ => copy.scripts()?,
        };
        missed += usize::from(catch.is_none() && scripts.is_empty());
        let (seeds, property, seconds) = match catch {
            Some(catch) => (catch.seeds, catch.property, catch.seconds),
            None => ("-".into(), "-".into(), "-".into()),
        };
        println!(
            "| {} | {} | {seeds} | {property} | {seconds} | {} |",
            fault.name,
            fault.rule(),
            summary(&scripts)
        );
    }
    Ok(missed)
}

/// The first of many names, and how many more there are.
fn summary(names: &[String]) -> String {
    match names {
        [] => "-".into(),
        [one] => one.clone(),
        [one, rest @ ..] => format!("{one}, {} more", rest.len()),
    }
}

/// The workspace: the folder above that has the crate.
fn root() -> Outcome<PathBuf> {
    let here = std::env::current_dir()?;
    let root = here
        .ancestors()
        .find(|folder| folder.join("src/raft/lib.rs").exists());
    Ok(root.ok_or("run this inside the workspace")?.to_owned())
}
