//! The faults of tests/mutants, by the rules that they break.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rm_tests::exploration::fault;

use crate::Outcome;

/// Where a fault lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the core: its file names those of src/raft. The simulator and the core's own tests look for it.
    Core,
    /// Around the core: its file names those of the workspace, and a test that fails.
    Around,
}

impl Place {
    /// The folder of its faults.
    fn folder(self) -> &'static str {
        match self {
            Place::Core => "tests/mutants",
            Place::Around => "tests/mutants/around",
        }
    }

    /// The folder in which it changes files.
    fn changes(self) -> &'static str {
        match self {
            Place::Core => "src/raft",
            Place::Around => ".",
        }
    }
}

/// A fault to plant.
pub(crate) struct Fault {
    pub(crate) name: String,
    place: Place,
    /// Its file.
    text: String,
}

impl Fault {
    /// The rule that it breaks.
    pub(crate) fn rule(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }

    /// What cargo is to test, as its file says after `test: ` in the second line.
    pub(crate) fn test(&self) -> Outcome<Vec<&str>> {
        let line = self.text.lines().nth(1).unwrap_or_default();
        let words = line.strip_prefix("test: ");
        let words = words.ok_or_else(|| format!("{}: its second line names no test", self.name))?;
        Ok(words.split_whitespace().collect())
    }

    /// The files that it changes, and what they become.
    pub(crate) fn planted(&self, root: &Path) -> Outcome<BTreeMap<&str, String>> {
        let planted = fault::parse(&self.text)
            .and_then(|edits| fault::planted(&edits, &root.join(self.place.changes())));
        planted.map_err(|error| format!("{}: {error}", self.name).into())
    }
}

/// All of them in one place.
pub(crate) fn faults(root: &Path, place: Place) -> Outcome<Vec<Fault>> {
    let mut faults = Vec::new();
    for entry in fs::read_dir(root.join(place.folder()))? {
        let path = entry?.path();
        if path.is_dir() {
            continue;
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        faults.push(Fault {
            name: name.into(),
            place,
            text: fs::read_to_string(&path)?,
        });
    }
    faults.sort_by(|one, other| (one.rule(), &one.name).cmp(&(other.rule(), &other.name)));
    Ok(faults)
}
