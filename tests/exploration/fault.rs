//! A fault to plant, as a file in `tests/mutants` describes it: what rule it breaks, then what to replace in which file of
//! `src/raft`.
//!
//! Unlike a patch it names the text alone, so that it outlives changes around it. Where that text is not found exactly once, the
//! fault no longer fits the core, and must be written anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// What to replace in one file.
#[derive(Debug, PartialEq, Eq)]
pub struct Edit<'a> {
    file: &'a str,
    old: &'a str,
    new: &'a str,
}

/// Reads a fault: a line for the rule, then for each edit a line `--- FILE`, the old text, a line `+++`, the new text and a line
/// `===`.
///
/// # Errors
/// What it is not.
pub fn parse(text: &str) -> Result<Vec<Edit<'_>>, String> {
    let (_rule, mut rest) = text.split_once("\n\n").ok_or("it names no rule")?;
    let mut edits = Vec::new();
    while !rest.trim().is_empty() {
        let (edit, after) = parse_edit(rest.trim_start())
            .ok_or("an edit is not: --- FILE, old text, +++, new text, ===")?;
        edits.push(edit);
        rest = after;
    }
    if edits.is_empty() {
        return Err("it changes nothing".into());
    }
    Ok(edits)
}

fn parse_edit(text: &str) -> Option<(Edit<'_>, &str)> {
    let (file, rest) = text.strip_prefix("--- ")?.split_once('\n')?;
    let (old, rest) = rest.split_once("\n+++\n")?;
    // Without new text the end follows at once.
    let (new, rest) = match rest.strip_prefix("===\n") {
        Some(rest) => ("", rest),
        None => rest.split_once("\n===\n")?,
    };
    Some((Edit { file, old, new }, rest))
}

/// The files of a core that it changes, and what they become.
///
/// # Errors
/// It does not fit that core, or a file cannot be read.
pub fn planted<'a>(edits: &[Edit<'a>], core: &Path) -> Result<BTreeMap<&'a str, String>, String> {
    let mut files = BTreeMap::new();
    for Edit { file, old, new } in edits {
        let text = match files.remove(file) {
            Some(text) => text,
            None => {
                let path = core.join(file);
                fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?
            }
        };
        let found = text.matches(old).count();
        if found != 1 {
            return Err(format!(
                "its text is {found} times in {file}, not once: write the fault anew\n{old}"
            ));
        }
        files.insert(*file, text.replace(old, new));
    }
    Ok(files)
}

/// Plants it in a copy of the core.
///
/// # Errors
/// As [`planted`], or a file cannot be written.
pub fn plant(edits: &[Edit], core: &Path) -> Result<(), String> {
    for (file, text) in planted(edits, core)? {
        let path = core.join(file);
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_replaces_text_that_is_there_once() {
        let text = "rule 5: it matters\n\n--- a.rs\none\ntwo\n+++\nthree\n===\n\n--- a.rs\nfour\n+++\n===\n";
        let edits = parse(text).expect("it is a fault");
        let core = tempfile::tempdir().expect("there is space");
        let file = core.path().join("a.rs");
        fs::write(&file, "zero\none\ntwo\nfour\n").expect("there is space");
        plant(&edits, core.path()).expect("it fits");
        let planted = fs::read_to_string(&file).expect("it was written");
        assert_eq!(planted, "zero\nthree\n\n");
        let error = plant(&edits, core.path()).expect_err("it fits no more");
        assert!(error.starts_with("its text is 0 times in a.rs"), "{error}");
    }

    #[test]
    fn what_is_no_fault_is_refused() {
        for text in [
            "",
            "rule\n\n",
            "rule\n\n--- a.rs\nold\n",
            "rule\n\nold\n+++\nnew\n===\n",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
