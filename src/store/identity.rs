//! Whose data a directory holds, and how often it was opened: a small file, replaced as a whole.

use std::{
    collections::BTreeSet,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use rm_raft::MachineId;
use serde::{Deserialize, Serialize};

use crate::{Era, OpenError, origin, sealed};

/// The format of a data directory that this program writes, and the newest that it reads.
pub(crate) const FORMAT: u32 = 3;

/// The format that knew no eras: there was only the first.
const FORMAT_WITHOUT_ERA: u32 = 2;

/// The format that noted with which machines the domain was begun. The log tells who takes part.
const FORMAT_WITH_MACHINES: u32 = 1;

const FILE: &str = "identity.json";

/// Whose data it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The domain.
    pub domain: String,
    /// The machine's name.
    pub machine: String,
    /// The machine's number in the domain. That of a directory which has data is the one that it was made with.
    pub id: MachineId,
    /// Whom the machine knew when it joined a domain that was there; none if it began one. It matters until the log tells
    /// more.
    pub joined: Option<Vec<Neighbour>>,
    /// The era in which the domain was when the machine joined it. It holds until the log names another.
    pub era: Era,
}

/// A machine of the domain that another one joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// Its number.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Where peers reach it, `host:port`.
    pub peer: String,
    /// Where clients reach it, `host:port`.
    pub client: String,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "machine {} of domain {}", self.machine, self.domain)
    }
}

/// What the file says. Its second line is the CRC-32C of the first, in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) format: u32,
    pub(crate) domain: String,
    pub(crate) machine: String,
    pub(crate) id: u64,
    #[serde(default)]
    pub(crate) joined: Option<Vec<Neighbour>>,
    #[serde(default)]
    pub(crate) era: Era,
    /// Whether the machine learned that it takes part no more.
    #[serde(default)]
    pub(crate) removed: bool,
    /// Whether the machine once had all that was committed at some moment.
    #[serde(default)]
    pub(crate) caught_up: bool,
    /// What every environment of this directory bears, and no file of another.
    pub(crate) data_id: String,
    /// How often the directory was opened.
    pub(crate) boot: u64,
    /// The environments that are known to exist: should one be missing, it was lost.
    pub(crate) environments: BTreeSet<String>,
}

impl Record {
    /// The record of a new directory, with a data id of its own.
    pub(crate) fn new(identity: &Identity) -> io::Result<Record> {
        Ok(Record {
            format: FORMAT,
            domain: identity.domain.clone(),
            machine: identity.machine.clone(),
            id: identity.id.0,
            joined: identity.joined.clone(),
            era: identity.era,
            removed: false,
            caught_up: false,
            data_id: origin::random_data_id()?,
            boot: 0,
            environments: BTreeSet::new(),
        })
    }

    pub(crate) fn identity(&self) -> Identity {
        Identity {
            domain: self.domain.clone(),
            machine: self.machine.clone(),
            id: MachineId(self.id),
            joined: self.joined.clone(),
            era: self.era,
        }
    }

    /// Where the record of a directory lies.
    pub(crate) fn path(directory: &Path) -> PathBuf {
        directory.join(FILE)
    }

    /// The record of a directory, or none if it never had one.
    pub(crate) fn read(directory: &Path) -> Result<Option<Record>, OpenError> {
        let path = Record::path(directory);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(OpenError::io("read", path, error)),
        };
        parse(&text).map(Some).map_err(|refusal| match refusal {
            Refusal::Newer(found) => OpenError::NewerFormat {
                path: directory.to_owned(),
                found,
                known: FORMAT,
            },
            Refusal::Damaged(reason) => OpenError::Identity { path, reason },
        })
    }

    /// Replaces the record of a directory, durably: after a crash either the old or the new one is there.
    pub(crate) fn write(&self, directory: &Path) -> Result<(), OpenError> {
        let path = Record::path(directory);
        sealed::replace(&path, self).map_err(|error| OpenError::io("write", &path, error))
    }
}

enum Refusal {
    Newer(u32),
    Damaged(String),
}

fn parse(text: &[u8]) -> Result<Record, Refusal> {
    let damaged = |reason: &str| Refusal::Damaged(reason.to_owned());
    let body = sealed::unseal(text).map_err(damaged)?;
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let explain = |error: serde_json::Error| Refusal::Damaged(error.to_string());
    match serde_json::from_str::<Format>(body)
        .map_err(explain)?
        .format
    {
        FORMAT | FORMAT_WITHOUT_ERA | FORMAT_WITH_MACHINES => {
            let mut record: Record = serde_json::from_str(body).map_err(explain)?;
            record.format = FORMAT;
            match origin::data_number(&record.data_id) {
                Some(_) => Ok(record),
                None => Err(damaged("its data id is not 128 bits in hexadecimal")),
            }
        }
        newer if newer > FORMAT => Err(Refusal::Newer(newer)),
        _ => Err(damaged("its format never existed")),
    }
}
