//! Keys as the real `openssl` makes them, for what signs tokens.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What `openssl genpkey` needs to make a key of RSA that is large enough.
pub const RSA: &[&str] = &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
/// The same for a key on the curve P-256.
pub const P256: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
/// The same for a key on the curve P-384.
pub const P384: &[&str] = &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"];
/// The same for a key of Ed25519.
pub const ED25519: &[&str] = &["-algorithm", "ED25519"];

/// A file with a new private key, in the folder.
///
/// # Panics
///
/// When openssl is not installed, or does not do it.
pub fn private_key(folder: &Path, name: &str, kind: &[&str]) -> PathBuf {
    let path = folder.join(name);
    openssl(&[&["genpkey"], kind].concat(), &path);
    path
}

/// A file with its public key, beside it.
///
/// # Panics
///
/// When openssl is not installed, or does not do it.
pub fn public_key(private: &Path) -> PathBuf {
    let path = private.with_extension("pub");
    let from = private.to_str().expect("a temporary folder has a text");
    openssl(&["pkey", "-in", from, "-pubout"], &path);
    path
}

/// Has openssl write a file.
///
/// # Panics
///
/// When openssl is not installed, or does not do it.
pub fn openssl(arguments: &[&str], out: &Path) {
    let output = Command::new("openssl")
        .args(arguments)
        .arg("-out")
        .arg(out)
        .output()
        .unwrap_or_else(|error| {
            panic!("openssl cannot be run: {error}; install it (Debian: openssl)")
        });
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments:?}: {error}");
}
