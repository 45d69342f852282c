//! A copy of rm-raft and the simulator, where faults are planted, built and looked for.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use rm_tests::simulation::SIMULATOR_ITSELF;
use tempfile::TempDir;

use crate::fault::Fault;
use crate::limit::within;
use crate::{Effort, Outcome};

/// What of this crate the simulator needs.
const MODULES: [&str; 2] = ["checker", "history"];
/// The seeds among which a fault is looked for.
const SEEDS: &str = "0..1000000";
/// The first of them, which nothing may break without a fault: more than it takes to catch any.
const SILENT_SEEDS: &str = "0..2000";
/// How many seconds the scripts and tests of the core may take with a fault in it.
const SCRIPTS_SECONDS_MAX: u64 = 60;
/// How many seconds longer than it was told the simulator may take: it looks at the clock between two runs only.
const SIMULATOR_SECONDS_MORE: u64 = 60;
/// Quick to build, and fast enough to find what there is to find.
const PROFILE: [&str; 5] = [
    "profile.release.lto=false",
    "profile.release.opt-level=1",
    "profile.release.debug=false",
    "profile.release.incremental=true",
    "profile.release.codegen-units=16",
];

/// A workspace of its own, with a copy of rm-raft and the simulator.
pub(crate) struct Copy {
    folder: TempDir,
}

/// What the simulator found.
pub(crate) struct Catch {
    pub(crate) seeds: String,
    pub(crate) property: String,
    pub(crate) seconds: String,
    /// Its own line about it, which names the seed.
    pub(crate) told: String,
}

/// Which scripts and tests of the core fail.
pub(crate) struct Scripts {
    pub(crate) names: Vec<String>,
    pub(crate) seconds: String,
}

impl Copy {
    pub(crate) fn new(root: &Path) -> Outcome<Copy> {
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

    /// Makes the core what it is without a fault.
    pub(crate) fn restore(&self, root: &Path) -> Outcome<()> {
        copy_folder(&root.join("src/raft"), &self.core())
    }

    pub(crate) fn plant(&self, root: &Path, fault: &Fault) -> Outcome<()> {
        self.restore(root)?;
        for (file, text) in fault.planted(root)? {
            fs::write(self.core().join(file), text)?;
        }
        Ok(())
    }

    fn core(&self) -> PathBuf {
        self.folder.path().join("src/raft")
    }

    fn cargo(&self, words: &[&str]) -> Command {
        let mut command = Command::new("cargo");
        command.current_dir(self.folder.path()).args(words);
        command.args(["--offline", "--release", "--quiet"]);
        for setting in PROFILE {
            command.args(["--config", setting]);
        }
        command.env("CARGO_TARGET_DIR", self.folder.path().join("target"));
        command
    }

    /// Builds the simulator around the core as it now is.
    pub(crate) fn build(&self) -> Outcome<()> {
        succeed(self.cargo(&["build", "-p", "rm-tests"]))
    }

    /// The simulator that was built last.
    pub(crate) fn simulator(&self) -> Command {
        Command::new(self.folder.path().join("target/release/simulate"))
    }

    /// Fails if the simulator, a script or a test finds something though no fault is planted, since that would count as the catch of
    /// every fault.
    pub(crate) fn require_silence(&self, effort: Effort) -> Outcome<()> {
        let cries = match self.simulate(SILENT_SEEDS, effort)? {
            Some(catch) => catch.told,
            None => match self.scripts()? {
                Some(scripts) if scripts.names.is_empty() => return Ok(()),
                Some(scripts) => scripts.names.join(", "),
                None => format!("its tests take more than {SCRIPTS_SECONDS_MAX} s"),
            },
        };
        Err(format!(
            "something is found in the core as it is, so that no catch of a fault would mean anything: {cries}"
        )
        .into())
    }

    /// Runs the simulator until it finds the fault.
    pub(crate) fn catch(&self, effort: Effort) -> Outcome<Option<Catch>> {
        self.simulate(SEEDS, effort)
    }

    fn simulate(&self, seeds: &str, (minutes, threads): Effort) -> Outcome<Option<Catch>> {
        self.build()?;
        let began = Instant::now();
        let mut simulator = self.simulator();
        simulator.args(["--seeds", seeds, "--first"]).args([
            "--threads",
            threads,
            "--minutes",
            minutes,
        ]);
        let seconds = (minutes.parse::<f64>()? * 60.0) as u64 + SIMULATOR_SECONDS_MORE;
        let Some(output) = within(seconds, &simulator)? else {
            return Ok(None);
        };
        if output.status.success() {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().find(|line| line.contains(" breaks "));
        let line = line.ok_or("the simulator failed and did not say why")?;
        let (_, property) = line.split_once(" breaks ").unwrap_or_default();
        if property.starts_with(SIMULATOR_ITSELF) {
            return Err(line.into());
        }
        let seeds = text.lines().rfind(|line| line.contains(" seeds, "));
        let seeds = seeds.and_then(|line| line.split(' ').next());
        Ok(Some(Catch {
            seeds: seeds.unwrap_or("?").into(),
            property: property.split(':').next().unwrap_or_default().into(),
            seconds: format!("{:.1}", began.elapsed().as_secs_f64()),
            told: line.into(),
        }))
    }

    /// The scripts and tests of rm-raft that fail; none when they take too long to say.
    pub(crate) fn scripts(&self) -> Outcome<Option<Scripts>> {
        let tests = ["test", "-p", "rm-raft", "--lib", "--no-fail-fast"];
        succeed(self.cargo(&[&tests[..], &["--no-run"]].concat()))?;
        let began = Instant::now();
        let output = within(SCRIPTS_SECONDS_MAX, &self.cargo(&tests))?;
        Ok(output.map(|output| Scripts {
            names: failed_in(&String::from_utf8_lossy(&output.stdout)),
            seconds: format!("{:.1}", began.elapsed().as_secs_f64()),
        }))
    }
}

/// Runs it, and fails with what it says if it fails.
fn succeed(mut command: Command) -> Outcome<()> {
    let output = command.output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned().into()),
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

/// Copies what changed, so that what did not change is not built again.
pub(crate) fn copy_folder(from: &Path, to: &Path) -> Outcome<()> {
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
