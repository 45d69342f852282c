//! Where the binaries are, built once when they are not up to date.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The path of the machine under test: `RM_BINARY` when it is set, else the one of this workspace in the profile and the
/// target folder of the running test.
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

/// Cargo itself knows best whether a binary is stale: asking it costs little when it is not.
fn build(package: &str, binary: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a running test has a path");
    let folder = test
        .ancestors()
        .nth(2)
        .expect("cargo puts tests into TARGET/PROFILE/deps");
    let target = folder.parent().expect("a profile's folder has a parent");
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--quiet", "--package", package, "--bin", binary])
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
