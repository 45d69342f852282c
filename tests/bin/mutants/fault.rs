//! A fault to plant, as a file of tests/mutants describes it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::Outcome;

/// A planted fault.
pub(crate) struct Fault {
    pub(crate) name: String,
    /// The rule that it breaks.
    pub(crate) rule: String,
    /// In which file to replace what by what.
    edits: Vec<(String, String, String)>,
}

impl Fault {
    /// The files that it changes, and what they become.
    pub(crate) fn planted(&self, root: &Path) -> Outcome<BTreeMap<&str, String>> {
        let mut files = BTreeMap::new();
        for (file, old, new) in &self.edits {
            let text = match files.remove(file.as_str()) {
                Some(text) => text,
                None => fs::read_to_string(root.join("src/raft").join(file))?,
            };
            let found = text.matches(old.as_str()).count();
            if found != 1 {
                let name = &self.name;
                return Err(
                    format!("{name}: its text is {found} times in {file}, not once").into(),
                );
            }
            files.insert(file.as_str(), text.replace(old.as_str(), new));
        }
        Ok(files)
    }
}

/// All of them, by the rules that they break.
pub(crate) fn faults(root: &Path) -> Outcome<Vec<Fault>> {
    let mut faults = Vec::new();
    for entry in fs::read_dir(root.join("tests/mutants"))? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        faults.push(parse(&name, &fs::read_to_string(&path)?)?);
    }
    faults.sort_by(|one, other| (&one.rule, &one.name).cmp(&(&other.rule, &other.name)));
    Ok(faults)
}

fn parse(name: &str, text: &str) -> Outcome<Fault> {
    let malformed = || format!("{name} is no fault: RULE, then --- FILE, OLD, +++, NEW, ===");
    let (rule, mut rest) = text.split_once('\n').ok_or_else(malformed)?;
    let mut edits = Vec::new();
    while let Some((_, edit)) = rest.split_once("--- ") {
        let (file, edit) = edit.split_once('\n').ok_or_else(malformed)?;
        let (old, edit) = edit.split_once("\n+++\n").ok_or_else(malformed)?;
        let (new, after) = edit.split_once("===").ok_or_else(malformed)?;
        let new = new.strip_suffix('\n').unwrap_or(new);
        edits.push((file.into(), old.into(), new.into()));
        rest = after;
    }
    Ok(Fault {
        name: name.into(),
        rule: rule.into(),
        edits,
    })
}
