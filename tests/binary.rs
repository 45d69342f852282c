//! Where the binary `raft-machine` is, built once when it is not up to date.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The path of the binary under test: `RM_BINARY` when it is set, else the one of this workspace in the profile and the
/// target folder of the running test.
///
/// # Panics
///
/// When cargo cannot build it.
pub(crate) fn raft_machine() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match std::env::var_os("RM_BINARY") {
        Some(path) => path.into(),
        None => build(),
    })
}

/// Cargo itself knows best whether the binary is stale: asking it costs little when it is not.
fn build() -> PathBuf {
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
        .args(["build", "--quiet", "--package", "rm-node", "--bin"])
        .args(["raft-machine", "--profile", profile, "--target-dir"])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap_or_else(|error| panic!("cargo cannot be run to build raft-machine: {error}"));
    assert!(
        output.status.success(),
        "raft-machine does not build:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    folder.join(format!("raft-machine{}", std::env::consts::EXE_SUFFIX))
}
