//! What the unit tests share: an environment in a temporary folder.

use rm_raft::MachineId;
use rm_store::{DataDirectory, Environment, Era, Identity, Options};
use tempfile::TempDir;

/// The environment of a machine's key space, and the folder that goes with it.
pub(crate) struct Disk {
    pub(crate) environment: Environment,
    _directory: DataDirectory,
    _folder: TempDir,
}

impl Disk {
    pub(crate) fn new() -> Disk {
        let folder = tempfile::tempdir().unwrap();
        let identity = Identity {
            domain: "test".into(),
            machine: "RM.01".into(),
            id: MachineId(1),
            joined: None,
            era: Era::FIRST,
        };
        let directory = DataDirectory::open(folder.path(), &identity).unwrap();
        let environment = Environment::open(&directory, "state", &Options::default()).unwrap();
        Disk {
            environment,
            _directory: directory,
            _folder: folder,
        }
    }
}
