//! `rmctl snapshot save`: takes a snapshot from a machine, checks it on the way, and puts it in the place of the file as a whole.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ring::digest::{Context, SHA256};
use rm_backup::DIGEST_BYTES;
use tonic::{Status, Streaming};

use crate::client::Endpoints;
use crate::error::{Error, Result};
use crate::proto::{SnapshotRequest, SnapshotResponse};
use crate::snapshot::bar;

/// Saves the state of the first machine that answers: how many bytes it has.
///
/// # Errors
/// No machine answers, the snapshot does not come whole, or the file cannot be written. What was there before is left as it was.
pub(crate) async fn save(endpoints: &Endpoints, file: &Path) -> Result<u64> {
    let link = endpoints.any().await?;
    let stream = link.maintenance().snapshot(SnapshotRequest {}).await;
    let mut stream = stream.map_err(link.failed("snapshot"))?.into_inner();
    let mut part = Part::begin(file)?;
    let mut taken = Taken::default();
    take(&mut stream, &mut part, &mut taken)
        .await
        .map_err(|ended| match ended {
            Ended::Refused(status) => link.failed("snapshot")(*status),
            Ended::Io(error) => Error::io(format!("cannot write {}", part.path.display()))(error),
        })?;
    part.finish(file)?;
    Ok(taken.bytes)
}

/// Why a snapshot did not come whole.
enum Ended {
    Refused(Box<Status>),
    Io(io::Error),
}

impl From<Status> for Ended {
    fn from(status: Status) -> Ended {
        Ended::Refused(Box::new(status))
    }
}

/// What has come of a snapshot.
struct Taken {
    /// How many bytes of the state.
    bytes: u64,
    /// How many are still to come.
    remaining: Option<u64>,
    digest: Context,
}

impl Default for Taken {
    fn default() -> Taken {
        Taken {
            bytes: 0,
            remaining: None,
            digest: Context::new(&SHA256),
        }
    }
}

async fn take(
    stream: &mut Streaming<SnapshotResponse>,
    part: &mut Part,
    taken: &mut Taken,
) -> std::result::Result<(), Ended> {
    let saving = bar("saving", 0);
    while let Some(piece) = stream.message().await? {
        let is_digest = taken.remaining == Some(0);
        part.file.write_all(&piece.blob).map_err(Ended::Io)?;
        if is_digest {
            saving.finish_and_clear();
            return compare(&taken.digest, &piece.blob);
        }
        taken.digest.update(&piece.blob);
        taken.bytes += piece.blob.len() as u64;
        taken.remaining = Some(piece.remaining_bytes);
        saving.set_length(taken.bytes + piece.remaining_bytes);
        saving.set_position(taken.bytes);
    }
    let text = "the snapshot ended before its digest came: try again";
    Err(Status::data_loss(text).into())
}

/// Compares what came with the digest that the machine made of it.
fn compare(digest: &Context, told: &[u8]) -> std::result::Result<(), Ended> {
    let found = digest.clone().finish();
    if told.len() == DIGEST_BYTES && found.as_ref() == told {
        return Ok(());
    }
    let text = "what came is not what was sent, by its SHA-256: try again, and look for a fault of the network";
    Err(Status::data_loss(text).into())
}

/// The file in the making, beside the one that it will replace. Dropped unfinished, it is removed.
struct Part {
    path: PathBuf,
    file: File,
    finished: bool,
}

impl Part {
    fn begin(target: &Path) -> Result<Part> {
        let mut name = OsString::from(target);
        name.push(".part");
        let path = PathBuf::from(name);
        let failed = format!("cannot write {}", path.display());
        let file = File::create(&path).map_err(Error::io(failed))?;
        Ok(Part {
            path,
            file,
            finished: false,
        })
    }

    /// Puts it in the place of the target, durably.
    fn finish(mut self, target: &Path) -> Result<()> {
        let folder = match target.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        self.file
            .sync_all()
            .and_then(|()| fs::rename(&self.path, target))
            .map_err(Error::io(format!("cannot write {}", target.display())))?;
        self.finished = true;
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(Error::io(format!("cannot write {}", folder.display())))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.finished {
            // Should it stay, the next attempt replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}
