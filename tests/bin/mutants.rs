//! Plants faults in a copy of rm-raft, one at a time, and shows what catches each: the simulator, and which scripts.
//!
//!     cargo run -p rm-tests --release --bin mutants [-- [--all] [--brief] NAME...]
//!
//! The simulator has a minute and two threads, or with `--brief` a third of a minute and one. The scripts run when it found
//! nothing, or always with `--all`.
//!
//! A fault is a file in tests/mutants: what rule it breaks, then what to replace in which file of src/raft. Unlike a patch it
//! names the text alone, so that it outlives changes around it; where that text is not found exactly once, this fails. The
//! copy lies in a temporary folder, so that no build of the real crate can contain a fault.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output};
use std::time::Instant;

use tempfile::TempDir;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// For how many minutes the simulator looks for a fault, and with how many threads.
const EFFORT: (&str, &str) = ("1", "2");
/// The same where that is to be over soon.
const BRIEF_EFFORT: (&str, &str) = ("0.33", "1");
/// What of this crate the simulator needs.
const MODULES: [&str; 2] = ["checker", "history"];
/// Quick to build, and fast enough to find what there is to find.
const PROFILE: [&str; 5] = [
    "profile.release.lto=false",
    "profile.release.opt-level=1",
    "profile.release.debug=false",
    "profile.release.incremental=true",
    "profile.release.codegen-units=16",
];

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
fn hunt(names: &[String], all: bool, effort: (&str, &str)) -> Outcome<usize> {
    let root = root()?;
    let mut faults = faults(&root)?;
    for fault in &faults {
        fault.planted(&root)?; // that one no longer fits is known before the first is tried
    }
    faults.retain(|fault| names.is_empty() || names.contains(&fault.name));
    let copy = Copy::new(&root)?;
    let mut missed = 0;
    println!(
        "| fault | breaks | seeds until the simulator caught it | by | s | scripts that fail |"
    );
    println!("|---|---|--:|---|--:|---|");
    for fault in faults {
        copy.plant(&root, &fault)?;
        let catch = copy.simulate(effort)?;
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
            fault.rule,
            summary(&scripts)
        );
    }
    Ok(missed)
}

/// A planted fault.
struct Fault {
    name: String,
    /// The rule that it breaks.
    rule: String,
    /// In which file to replace what by what.
    edits: Vec<(String, String, String)>,
}

impl Fault {
    /// The files that it changes, and what they become.
    fn planted(&self, root: &Path) -> Outcome<BTreeMap<&str, String>> {
        let mut files = BTreeMap::new();
        for (file, old, new) in &self.edits {
            let text = match files.remove(file.as_str()) {
                Some(text) => text,
                None => fs::read_to_string(root.join("src/raft").join(file))?,
            };
            let found = text.matches(old.as_str()).count();
            if found != 1 {
                let name = &self.name;
                return Err(
                    format!("{name}: its text is {found} times in {file}, not once").into(),
                );
            }
            files.insert(file.as_str(), text.replace(old.as_str(), new));
        }
        Ok(files)
    }
}

fn faults(root: &Path) -> Outcome<Vec<Fault>> {
    let mut faults = Vec::new();
    for entry in fs::read_dir(root.join("tests/mutants"))? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        faults.push(parse(&name, &fs::read_to_string(&path)?)?);
    }
    faults.sort_by(|one, other| (&one.rule, &one.name).cmp(&(&other.rule, &other.name)));
    Ok(faults)
}

fn parse(name: &str, text: &str) -> Outcome<Fault> {
    let malformed = || format!("{name} is no fault: RULE, then --- FILE, OLD, +++, NEW, ===");
    let (rule, mut rest) = text.split_once('\n').ok_or_else(malformed)?;
    let mut edits = Vec::new();
    while let Some((_, edit)) = rest.split_once("--- ") {
        let (file, edit) = edit.split_once('\n').ok_or_else(malformed)?;
        let (old, edit) = edit.split_once("\n+++\n").ok_or_else(malformed)?;
        let (new, after) = edit.split_once("===").ok_or_else(malformed)?;
        let new = new.strip_suffix('\n').unwrap_or(new);
        edits.push((file.into(), old.into(), new.into()));
        rest = after;
    }
    Ok(Fault {
        name: name.into(),
        rule: rule.into(),
        edits,
    })
}

/// A workspace of its own, with a copy of rm-raft and the simulator.
struct Copy {
    folder: TempDir,
}

/// What the simulator found.
struct Catch {
    seeds: String,
    property: String,
    seconds: String,
}

impl Copy {
    fn new(root: &Path) -> Outcome<Copy> {
        let folder = tempfile::tempdir()?;
        let to = folder.path();
        let manifest = fs::read_to_string(root.join("Cargo.toml"))?;
        let members = r#"members = ["src/*", "actors", "tests"]"#;
        let ours = r#"members = ["src/raft", "tests"]"#;
        if !manifest.contains(members) {
            return Err(format!("Cargo.toml no longer has the line {members}").into());
        }
        fs::write(to.join("Cargo.toml"), manifest.replace(members, ours))?;
        fs::copy(root.join("Cargo.lock"), to.join("Cargo.lock"))?;
        let tests = to.join("tests");
        copy_folder(&root.join("tests/simulation"), &tests.join("simulation"))?;
        for file in ["simulation", "bin/simulate"].iter().chain(&MODULES) {
            let file = format!("{file}.rs");
            fs::create_dir_all(tests.join(&file).parent().unwrap_or(&tests))?;
            fs::copy(root.join("tests").join(&file), tests.join(&file))?;
        }
        let modules: String = MODULES.map(|name| format!("pub mod {name};\n")).concat();
        let library = format!("//! The simulator.\n{modules}pub mod simulation;\n");
        fs::write(tests.join("lib.rs"), library)?;
        fs::write(tests.join("Cargo.toml"), TESTS_MANIFEST)?;
        Ok(Copy { folder })
    }

    fn plant(&self, root: &Path, fault: &Fault) -> Outcome<()> {
        let to = self.folder.path().join("src/raft");
        copy_folder(&root.join("src/raft"), &to)?;
        for (file, text) in fault.planted(root)? {
            fs::write(to.join(file), text)?;
        }
        Ok(())
    }

    fn cargo(&self, words: &[&str]) -> Outcome<Output> {
        let mut command = Command::new("cargo");
        command.current_dir(self.folder.path()).args(words);
        command.args(["--offline", "--release", "--quiet"]);
        for setting in PROFILE {
            command.args(["--config", setting]);
        }
        command.env("CARGO_TARGET_DIR", self.folder.path().join("target"));
        Ok(command.output()?)
    }

    /// Runs the simulator until it finds the fault.
    fn simulate(&self, (minutes, threads): (&str, &str)) -> Outcome<Option<Catch>> {
        let built = self.cargo(&["build", "-p", "rm-tests"])?;
        if !built.status.success() {
            let text = String::from_utf8_lossy(&built.stderr).into_owned();
            return Err(text.into());
        }
        let began = Instant::now();
        let program = self.folder.path().join("target/release/simulate");
        let output = Command::new(program)
            .args(["--seeds", "0..1000000", "--first"])
            .args(["--threads", threads, "--minutes", minutes])
            .output()?;
        if output.status.success() {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().find(|line| line.contains(" breaks "));
        let line = line.ok_or("the simulator failed and did not say why")?;
        let (_, property) = line.split_once(" breaks ").unwrap_or_default();
        let seeds = text.lines().rfind(|line| line.contains(" seeds, "));
        let seeds = seeds.and_then(|line| line.split(' ').next());
        Ok(Some(Catch {
            seeds: seeds.unwrap_or("?").into(),
            property: property.split(':').next().unwrap_or_default().into(),
            seconds: format!("{:.1}", began.elapsed().as_secs_f64()),
        }))
    }

    /// The scripts and tests of rm-raft that fail.
    fn scripts(&self) -> Outcome<Vec<String>> {
        let tests = ["test", "-p", "rm-raft", "--lib", "--no-fail-fast"];
        let built = self.cargo(&[&tests[..], &["--no-run"]].concat())?;
        if !built.status.success() {
            return Err(String::from_utf8_lossy(&built.stderr).into_owned().into());
        }
        let output = self.cargo(&tests)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(failed_in(&text))
    }
}

/// The names in the report of a failed test run: of scripts, and of other tests than the one that runs the scripts.
fn failed_in(report: &str) -> Vec<String> {
    let list = report.lines().find_map(|line| {
        let (_, names) = line.split_once("these scripts differ: [")?;
        Some(names.trim_end_matches(']'))
    });
    let scripts = list.into_iter().flat_map(|names| names.split(", "));
    let scripts = scripts.map(|name| name.trim_matches('"').to_owned());
    let tests = report.lines().filter_map(|line| {
        let name = line.strip_prefix("test ")?.strip_suffix(" ... FAILED")?;
        let name = name.rsplit("::").next().unwrap_or(name);
        (name != "scripts_say_what_comes_out").then(|| name.to_owned())
    });
    scripts.chain(tests).collect()
}

/// The manifest of what the copy has of this crate.
const TESTS_MANIFEST: &str = r#"[package]
name = "rm-tests"
version.workspace = true
edition.workspace = true

[lib]
path = "lib.rs"

[[bin]]
name = "simulate"
path = "bin/simulate.rs"

[dependencies]
bytes.workspace = true
rm-raft.workspace = true
"#;

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

/// Copies what changed, so that what did not change is not built again.
fn copy_folder(from: &Path, to: &Path) -> Outcome<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let to = to.join(path.file_name().unwrap_or_default());
        if path.is_dir() {
            copy_folder(&path, &to)?;
        } else {
            let text = fs::read(&path)?;
            if fs::read(&to).ok().as_ref() != Some(&text) {
                fs::write(&to, text)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_fits_the_core_as_it_is() {
        let root = root().expect("the tests run in the workspace");
        let faults = faults(&root).expect("each is a fault");
        assert!(!faults.is_empty());
        let misfits = faults.iter().filter_map(|fault| fault.planted(&root).err());
        let misfits: Vec<String> = misfits.map(|error| error.to_string()).collect();
        assert!(misfits.is_empty(), "{misfits:#?}");
    }
}
