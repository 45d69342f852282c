//! Faults that are planted to see that they are found: a copy of the core with one of the faults in `tests/mutants` is built,
//! with this same exploration around it. No build of the project itself contains them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::fault;

/// Builds an exploration of the core with a planted fault, and runs it with these arguments, `--mutant` and its name left out.
/// Gives back what it printed, if it found something.
///
/// # Errors
/// Why it could not be built or run.
pub fn explore_planted(mutant: &str, arguments: &[String]) -> Result<Option<String>, String> {
    let program = build(mutant)?;
    let place = arguments.iter().position(|argument| argument == "--mutant");
    let mut arguments = arguments.to_vec();
    if let Some(place) = place {
        arguments.drain(place..arguments.len().min(place + 2));
    }
    let mut exploration = Command::new(&program);
    // Its progress is for whoever waits.
    exploration.args(arguments).stderr(Stdio::inherit());
    let output = exploration.output();
    let output = output.map_err(|error| format!("{} cannot run: {error}", program.display()))?;
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.code() {
        Some(0) => Ok(None),
        Some(1) => Ok(Some(told)),
        _ => Err(format!(
            "the exploration with a planted fault ended with {}: {told}",
            output.status
        )),
    }
}

/// A workspace of two crates, the core's copy and the exploration, in the folder where everything is built.
fn build(mutant: &str) -> Result<PathBuf, String> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = tests.parent().expect("the tests lie in the workspace");
    let described = tests.join(format!("mutants/{mutant}.mutant"));
    let described = fs::read_to_string(&described).map_err(|error| {
        format!(
            "there is no fault {mutant}: {}: {error}",
            described.display()
        )
    })?;
    let edits =
        fault::parse(&described).map_err(|error| format!("{mutant} is no fault: {error}"))?;
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut folders = program.ancestors();
    let profile = folders.find(|folder| folder.ends_with("debug") || folder.ends_with("release"));
    let target = profile.and_then(Path::parent);
    let target = target.ok_or("this program does not lie in a folder of cargo's")?;
    let folder = target.join("exploration").join(mutant);
    write(root, mutant, &folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    fault::plant(&edits, &folder.join("src/raft"))
        .map_err(|error| format!("{mutant} cannot be planted: {error}"))?;
    let target = target.join("exploration/target");
    run(Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--release", "--offline", "--target-dir"])
        .arg(&target)
        // Quick to build and quick enough to run.
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "none")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
        .current_dir(&folder))?;
    Ok(target.join("release").join(format!("explore-{mutant}")))
}

fn write(root: &Path, mutant: &str, folder: &Path) -> std::io::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    copy(&root.join("src/raft"), &folder.join("src/raft"))?;
    fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock"))?;
    let manifest = fs::read_to_string(root.join("Cargo.toml"))?;
    let lines = manifest.lines().map(|line| {
        if line.starts_with("members = ") {
            "members = [\"src/raft\", \"explore\"]"
        } else {
            line
        }
    });
    fs::write(
        folder.join("Cargo.toml"),
        lines.collect::<Vec<_>>().join("\n"),
    )?;
    fs::create_dir_all(folder.join("explore"))?;
    let tests = root.join("tests");
    let manifest = format!(
        "[package]\nname = \"explore-{mutant}\"\nedition.workspace = true\n\n[lib]\nname = \"rm_tests\"\npath = \"lib.rs\"\n\n\
         [[bin]]\nname = \"explore-{mutant}\"\npath = {:?}\n\n[dependencies]\nbytes.workspace = true\n\
         rm-raft.workspace = true\n",
        tests.join("explore.rs")
    );
    fs::write(folder.join("explore/Cargo.toml"), manifest)?;
    let library = format!(
        "//! The exploration alone.\n\n#[path = {:?}]\npub mod exploration;\n",
        tests.join("exploration/mod.rs")
    );
    fs::write(folder.join("explore/lib.rs"), library)
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output();
    let output = output.map_err(|error| format!("{command:?} cannot run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    Err(format!(
        "{command:?} failed:\n{}",
        String::from_utf8_lossy(&said)
    ))
}
