//! A folder in memory, for what need not survive the host.

use std::path::Path;

use tempfile::TempDir;

/// Where Linux keeps files in memory.
const MEMORY: &str = "/dev/shm";

/// A new folder, in memory where the system has such; else where temporary files are. The real etcd is asked what it answers, not how long its
/// flushes take: on a disk that stands still for seconds its members depose each other, and a test would fail for that.
///
/// # Panics
///
/// When neither can be made.
pub(crate) fn folder_in_memory(prefix: &str) -> TempDir {
    let builder = || {
        let mut builder = tempfile::Builder::new();
        builder.prefix(prefix);
        builder
    };
    let in_memory = Path::new(MEMORY)
        .is_dir()
        .then(|| builder().tempdir_in(MEMORY));
    match in_memory {
        Some(Ok(folder)) => folder,
        // There is none, or none that this user may write to.
        _ => builder().tempdir().expect("a temporary folder"),
    }
}
