//! Plants faults in a copy of the project, one at a time, and shows what catches each: the simulator, scripts, tests.
//!
//!     cargo run -p rm-tests --release --bin mutants [-- [--all | --scripts] [--brief] NAME...]
//!     cargo run -p rm-tests --release --bin mutants -- --around [NAME...]
//!
//! First the faults of the core. The simulator has a minute and two threads for each, or with `--brief` a third of a minute and one. The
//! core's scripts and tests run when it found nothing, or always with `--all`, and have a minute too; with `--scripts` they run alone. First
//! of all they have as long for the core as it is, over the first 2000 seeds.
//!
//! Then, with `--around`, those of what lies around the core. Each names a test, which has a minute to fail, and which passes without the fault.
//!
//! If something is found where no fault is, this ends with exit code 2, since a false alarm would count as a catch; so it does for words that it
//! does not know. The exit code is 1 if nothing caught a fault.
//!
//! A fault is a file in tests/mutants: what rule it breaks, then what to replace in which file of src/raft; in tests/mutants/around what
//! rule it breaks, the test that shows it, and what to replace in which file of the workspace. Unlike a patch it names the text alone, so
//! that it outlives changes around it; where that text is not found exactly once, this fails. The copy lies in a temporary folder, so that
//! no build of the real project can contain a fault.

mod around;
mod copy;
mod fault;
mod limit;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use around::{Around, Verdict};
use copy::Copy;
use fault::{Fault, Place, faults};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// What looks for a fault of the core.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    /// The simulator, and the scripts where it finds nothing.
    Simulator,
    Both,
    Scripts,
}

/// For how many minutes the simulator looks for a fault, and with how many threads.
type Effort = (&'static str, &'static str);

/// What finds all that is known to be found.
const EFFORT: Effort = ("1", "2");
/// The same where that is to be over soon.
const BRIEF_EFFORT: Effort = ("0.33", "1");
/// All that may be asked for beside names.
const FLAGS: [&str; 4] = ["--all", "--scripts", "--brief", "--around"];

fn main() -> ExitCode {
    let words = std::env::args().skip(1);
    let (flags, names): (Vec<String>, Vec<String>) = words.partition(|word| word.starts_with("--"));
    let given = |flag: &str| flags.iter().any(|word| word == flag);
    let by = match (given("--all"), given("--scripts")) {
        (true, _) => By::Both,
        (false, true) => By::Scripts,
        (false, false) => By::Simulator,
    };
    let missed = match flags.iter().find(|flag| !FLAGS.contains(&flag.as_str())) {
        Some(flag) => Err(format!("{flag} is none of {}", FLAGS.join(", ")).into()),
        None if given("--around") => hunt_around(&names),
        None if given("--brief") => hunt(&names, by, BRIEF_EFFORT),
        None => hunt(&names, by, EFFORT),
    };
    match missed {
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

/// Plants each fault of the core; how many nothing caught.
fn hunt(names: &[String], by: By, effort: Effort) -> Outcome<usize> {
    let root = root()?;
    let faults = named(&root, Place::Core, names)?;
    let copy = Copy::new(&root)?;
    copy.restore(&root)?;
    copy.require_silence(effort)?;
    let mut missed = 0;
    println!(
        "| fault | breaks | seeds until the simulator caught it | by | s | scripts that fail | s |"
    );
    println!("|---|---|--:|---|--:|---|--:|");
    for fault in faults {
        copy.plant(&root, &fault)?;
        let catch = match by {
            By::Scripts => None,
            By::Simulator | By::Both => copy.catch(effort)?,
        };
        let scripts = match &catch {
            Some(_) if by == By::Simulator => None,
            _ => copy.scripts()?.filter(|scripts| !scripts.names.is_empty()),
        };
        missed += usize::from(catch.is_none() && scripts.is_none());
        let none = || "-".to_owned();
        let (seeds, property, seconds) = catch.map_or_else(
            || (none(), none(), none()),
            |catch| (catch.seeds, catch.property, catch.seconds),
        );
        let (scripts, took) = scripts.map_or_else(
            || (none(), none()),
            |scripts| (summary(&scripts.names), scripts.seconds),
        );
        println!(
            "| {} | {} | {seeds} | {property} | {seconds} | {scripts} | {took} |",
            fault.name,
            fault.rule()
        );
    }
    Ok(missed)
}

/// Plants each fault of what lies around the core; how many their tests do not catch.
fn hunt_around(names: &[String]) -> Outcome<usize> {
    let root = root()?;
    let faults = named(&root, Place::Around, names)?;
    let around = Around::new(&root)?;
    let mut tried = BTreeSet::new();
    for fault in &faults {
        if tried.insert(fault.test()?) && !matches!(around.test(fault)?, Verdict::Passed) {
            let test = fault.test()?.join(" ");
            return Err(format!(
                "{test} does not pass without a fault, so that its failure would mean nothing"
            )
            .into());
        }
    }
    let mut missed = 0;
    println!("| fault | breaks | test that fails | s |");
    println!("|---|---|---|--:|");
    for fault in &faults {
        around.plant(&root, fault)?;
        let seconds = match around.test(fault)? {
            Verdict::Failed { seconds } => seconds,
            Verdict::Passed => "it passes".into(),
            Verdict::Endless => "it does not end".into(),
        };
        missed += usize::from(seconds.starts_with("it "));
        let test = fault.test()?;
        let name = test.last().unwrap_or(&"-");
        println!("| {} | {} | {name} | {seconds} |", fault.name, fault.rule());
    }
    Ok(missed)
}

/// The faults with these names, or all.
///
/// # Errors
/// One of the names is of none, or one of all faults no longer fits: that is known before the first is tried.
fn named(root: &Path, place: Place, names: &[String]) -> Outcome<Vec<Fault>> {
    let mut faults = faults(root, place)?;
    for fault in &faults {
        fault.planted(root)?;
    }
    for name in names {
        if !faults.iter().any(|fault| fault.name == *name) {
            return Err(format!("there is no fault {name} among those {place:?}").into());
        }
    }
    faults.retain(|fault| names.is_empty() || names.contains(&fault.name));
    Ok(faults)
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
