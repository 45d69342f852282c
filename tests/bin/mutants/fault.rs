//! The faults of tests/mutants, by the rules that they break.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rm_tests::exploration::fault;

use crate::Outcome;

/// A fault to plant.
pub(crate) struct Fault {
    pub(crate) name: String,
    /// Its file.
    text: String,
}

impl Fault {
    /// The rule that it breaks.
    pub(crate) fn rule(&self) -> &str {
        self.text.lines().next().unwrap_or_default()
    }

    /// The files of the core that it changes, and what they become.
    pub(crate) fn planted(&self, root: &Path) -> Outcome<BTreeMap<&str, String>> {
        let planted = fault::parse(&self.text)
            .and_then(|edits| fault::planted(&edits, &root.join("src/raft")));
        planted.map_err(|error| format!("{}: {error}", self.name).into())
    }
}

/// All of them.
pub(crate) fn faults(root: &Path) -> Outcome<Vec<Fault>> {
    let mut faults = Vec::new();
    for entry in fs::read_dir(root.join("tests/mutants"))? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        faults.push(Fault {
            name: name.into(),
            text: fs::read_to_string(&path)?,
        });
    }
    faults.sort_by(|one, other| (one.rule(), &one.name).cmp(&(other.rule(), &other.name)));
    Ok(faults)
}
