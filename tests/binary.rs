//! Where the binaries are, built once when they are not up to date.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The path of the machine under test: `RM_BINARY` when it is set, else the one of this workspace in the profile and the
/// target folder of the running test or binary.
///
/// # Panics
///
/// When cargo cannot build it.
pub fn raft_machine() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("RM_BINARY") {
        Some(path) => path.into(),
        None => build("rm-node", "raft-machine"),
    })
}

/// The path of `rmctl`, with a machine beside it for its demonstration.
///
/// # Panics
///
/// When cargo cannot build them.
pub fn rmctl() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        build("rm-node", "raft-machine");
        build("rm-ctl", "rmctl")
    })
}

/// What cargo tells a program that it runs of the program's own package. How cargo is to build (`CARGO_HOME`, `CARGO_BUILD_..`,
/// `CARGO_PROFILE_..`) is not among it.
const OWN_PACKAGE: [&str; 7] = [
    "CARGO_MANIFEST_",
    "CARGO_PKG_",
    "CARGO_BIN_",
    "CARGO_CRATE_NAME",
    "CARGO_PRIMARY_PACKAGE",
    "CARGO_TARGET_TMPDIR",
    "OUT_DIR",
];

/// The cargo that runs this test, told as little of the test as one that is run in a shell. The build script of `ring` is run again,
/// and all that rests on it is compiled again, whenever the variables for its own package have other values than at the last build:
/// what cargo has set for the test would change them, and the next build outside of a test would change them back.
fn cargo() -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    for (name, _) in std::env::vars_os() {
        let starts_with = |start| name.to_str().is_some_and(|name| name.starts_with(start));
        if OWN_PACKAGE.into_iter().any(starts_with) {
            command.env_remove(name);
        }
    }
    command
}

/// Where cargo puts the binaries of a profile, given a program that it has built: a test lies in `TARGET/PROFILE/deps`, a binary one
/// folder higher.
fn profile_folder(program: &Path) -> &Path {
    let folder = program.parent().expect("a program lies in a folder");
    match folder.parent() {
        Some(profile) if folder.ends_with("deps") => profile,
        _ => folder,
    }
}

/// Cargo itself knows best whether a binary is stale: asking it costs little when it is not.
fn build(package: &str, binary: &str) -> PathBuf {
    let program = std::env::current_exe().expect("a running program has a path");
    let folder = profile_folder(&program);
    let target = folder.parent().expect("a profile's folder has a parent");
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let output = cargo()
        .args(["build", "--quiet", "--locked"])
        .args(["--package", package, "--bin", binary])
        .args(["--profile", profile, "--target-dir"])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap_or_else(|error| panic!("cargo cannot be run to build {binary}: {error}"));
    assert!(
        output.status.success(),
        "{binary} does not build:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    folder.join(format!("{binary}{}", std::env::consts::EXE_SUFFIX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_a_profile_is_found_from_a_test_and_from_a_binary() {
        let profile = Path::new("/target/release");
        for program in ["deps/membership-0f", "catch-up"] {
            assert_eq!(profile_folder(&profile.join(program)), profile);
        }
    }

    #[test]
    fn a_cargo_that_a_test_runs_learns_nothing_of_the_tests_own_package() {
        let command = cargo();
        let left_out: Vec<_> = command
            .get_envs()
            .filter_map(|(name, value)| value.is_none().then_some(name))
            .collect();
        // These are among what decides whether `ring` is built again.
        for name in [
            "CARGO_MANIFEST_DIR",
            "CARGO_PKG_NAME",
            "CARGO_PKG_VERSION_MINOR",
        ] {
            assert!(std::env::var(name).is_ok(), "cargo tells a test {name}");
            assert!(left_out.contains(&name.as_ref()), "{name}: {left_out:?}");
        }
        for name in ["PATH", "CARGO", "CARGO_HOME", "CARGO_TARGET_DIR"] {
            assert!(!left_out.contains(&name.as_ref()), "{name}: {left_out:?}");
        }
    }
}
