//! Where the binary `raft-machine` is: what `cargo run` can build, what lies beside rmctl, or what is in PATH.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::{Error, Result};

/// The binary's name.
const NAME: &str = "raft-machine";

/// Finds the binary of the machine.
///
/// `cargo run --bin rmctl` builds rmctl only. Where cargo started us, it is asked for the neighbour too, in the same
/// profile, so that one command works from a fresh clone and never meets a stale machine.
pub(crate) fn find() -> Result<PathBuf> {
    let own = env::current_exe().map_err(Error::io("cannot tell where rmctl itself is"))?;
    let beside = own.with_file_name(format!("{NAME}{}", env::consts::EXE_SUFFIX));
    if let (Some(cargo), Some(manifest_dir)) =
        (env::var_os("CARGO"), env::var_os("CARGO_MANIFEST_DIR"))
        && let Some(mut build) = build(Path::new(&cargo), Path::new(&manifest_dir), &own)
    {
        let status = build.status().map_err(Error::io("cannot run cargo"))?;
        if !status.success() {
            return Err(Error::Demo(format!(
                "cargo could not build {NAME}; its reason is above"
            )));
        }
    }
    if beside.is_file() {
        return Ok(beside);
    }
    in_path().ok_or_else(|| {
        Error::Demo(format!(
            "{NAME} is neither at {} nor in PATH: build it with `cargo build --release --bin {NAME}`",
            beside.display()
        ))
    })
}

/// How cargo is told to build the machine beside us: into the same folder, `TARGET_DIR/PROFILE/rmctl`.
fn build(cargo: &Path, manifest_dir: &Path, own: &Path) -> Option<Command> {
    let profile_dir = own.parent()?;
    let profile = match profile_dir.file_name()?.to_str()? {
        "debug" => "dev",
        name => name,
    };
    let mut command = Command::new(cargo);
    command
        .args(["build", "--package", "rm-node", "--bin", NAME])
        .args(["--profile", profile])
        .arg("--manifest-path")
        .arg(manifest_dir.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(profile_dir.parent()?);
    Some(command)
}

fn in_path() -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|folder| folder.join(NAME))
        .find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_is_asked_for_the_same_profile_and_folder() {
        let arguments = |own: &str| {
            let command = build(Path::new("cargo"), Path::new("src/ctl"), Path::new(own));
            let command = command.expect("a command");
            let text = command
                .get_args()
                .map(|argument| argument.to_string_lossy());
            text.collect::<Vec<_>>().join(" ")
        };
        let release = arguments("/t/release/rmctl");
        assert!(
            release.contains("--profile release") && release.ends_with("--target-dir /t"),
            "{release}"
        );
        assert!(arguments("/t/debug/rmctl").contains("--profile dev"));
    }
}
