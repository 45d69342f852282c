//! Makes of a snapshot the data of one machine of a new domain.
//!
//! Every machine of the domain is restored from the same file, each on its host, without a word to the others. So what they must agree
//! on follows from the file and from what is asked: the log goes on behind the snapshot's last entry on all of them, and the era is a
//! digest. A machine of another restoration, or of the domain that the snapshot comes from, is of another era and is refused.

use std::path::Path;

use ring::digest::{Context, SHA256};
use rm_kv::Anew;
use rm_raft::{EntryId, MachineId};
use rm_store::{Era, Identity, Options, Restoration};

use crate::error::BackupError;
use crate::saved::Saved;

/// Whose data it is to be, and how the domain begins.
#[derive(Clone, Debug)]
pub struct NewDomain<'a> {
    /// The domain.
    pub domain: &'a str,
    /// The names of all machines that it begins with, in any order.
    pub machines: Vec<&'a str>,
    /// The machine.
    pub machine: &'a str,
    /// Its number.
    pub id: MachineId,
    /// What tells this restoration from others of the same file (etcd's `--initial-cluster-token`).
    pub token: &'a str,
    /// What becomes of the revision.
    pub anew: Anew,
}

/// What was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The last entry that the state holds, behind which the log goes on.
    pub applied: EntryId,
    /// The revision that the domain begins with.
    pub revision: i64,
    /// The era of the domain.
    pub era: Era,
}

/// Makes the data directory of a machine, durably. `each` is told of the bytes so far.
///
/// # Errors
/// The file is refused by name; [`BackupError::Restore`] also for a folder that is not empty. What is left in the folder then is removed
/// by the next attempt, and no machine starts on it.
pub fn restore(
    saved: &Saved,
    new: &NewDomain<'_>,
    data_dir: &Path,
    each: &dyn Fn(u64),
) -> Result<Restored, BackupError> {
    let path = saved.path().to_owned();
    let era = era(saved, new);
    let identity = Identity {
        domain: new.domain.to_owned(),
        machine: new.machine.to_owned(),
        id: new.id,
        joined: None,
        era,
    };
    let making = Restoration::begin(data_dir, &identity, &Options::default());
    let making = making.map_err(BackupError::Restore)?;
    let state = making.take_state(saved.content(), saved.state_bytes(), saved.digest(), each);
    let state = state.map_err(BackupError::restore(path.clone()))?;
    let begun = rm_kv::begin_anew(&state, new.anew).map_err(BackupError::keyspace(path));
    drop(state);
    let (applied, revision) = begun?;
    making.begin_log(applied).map_err(BackupError::Restore)?;
    making.finish().map_err(BackupError::Restore)?;
    Ok(Restored {
        applied,
        revision,
        era,
    })
}

/// The era: the same for all who restore the same file in the same way, and no other.
fn era(saved: &Saved, new: &NewDomain<'_>) -> Era {
    let mut machines = new.machines.clone();
    machines.sort_unstable();
    let raise = new.anew.raise_revision.to_le_bytes();
    let mut digest = Context::new(&SHA256);
    digest.update(&saved.digest().0);
    digest.update(&raise);
    digest.update(&[u8::from(new.anew.compact)]);
    for text in [new.token, new.domain].into_iter().chain(machines) {
        // The length keeps two texts from running into each other.
        digest.update(&(text.len() as u64).to_le_bytes());
        digest.update(text.as_bytes());
    }
    let digest = digest.finish();
    let first = digest.as_ref().first_chunk().expect("it has 32 bytes");
    Era(u64::from_le_bytes(*first).max(1))
}
