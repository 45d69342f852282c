//! The documents: tables that every reader of Markdown shows as tables, and links that lead somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::{collect, root};

/// The documents of the project, by their paths from the root.
fn documents() -> BTreeMap<PathBuf, String> {
    let mut files = Vec::new();
    collect(&root(), &mut files);
    let is_document = |path: &PathBuf| path.extension().is_some_and(|end| end == "md");
    let documents = files.into_iter().filter(is_document);
    documents
        .map(|path| {
            let text = fs::read_to_string(root().join(&path)).expect("a document is text");
            (path, text)
        })
        .collect()
}

/// The text without its blocks of code, whose lines are left empty so that the others keep their numbers.
fn prose(text: &str) -> Vec<&str> {
    let mut is_code = false;
    let line = |line| {
        let is_fence = str::starts_with(line, "```");
        is_code ^= is_fence;
        let is_indented = line.starts_with("    ");
        if is_code || is_fence || is_indented {
            ""
        } else {
            line
        }
    };
    text.lines().map(line).collect()
}

/// How many cells a row of a table has: a bar parts two of them, in code too, unless a backslash stands before it.
fn cells(row: &str) -> usize {
    let bars = row.replace("\\|", "").matches('|').count();
    bars.saturating_sub(1)
}

fn is_separator(row: &str) -> bool {
    row.contains('-') && row.chars().all(|character| "|-: ".contains(character))
}

/// What is wrong with the tables of a document, to be written behind its path.
fn faults_in_tables(text: &str) -> Vec<String> {
    let lines = prose(text);
    let is_row = |place: usize| lines.get(place).is_some_and(|line| line.starts_with('|'));
    let mut faults = Vec::new();
    let mut head = 0;
    while head < lines.len() {
        if !is_row(head) {
            head += 1;
            continue;
        }
        let end = (head..).find(|place| !is_row(*place)).unwrap_or(head);
        match lines[head..end].get(1) {
            Some(separator) if is_separator(separator) => {
                let wanted = cells(separator);
                let wrong = (head..end).filter(|place| cells(lines[*place]) != wanted);
                faults.extend(wrong.map(|place| {
                    let found = cells(lines[place]);
                    let number = place + 1;
                    format!(":{number}: a row of {found} cells in a table of {wanted}")
                }));
            }
            _ => faults.push(format!(":{}: a table without a line of dashes", head + 1)),
        }
        head = end;
    }
    faults
}

/// The anchors of a document, made of its headings as GitHub makes them; of two alike the second is counted.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    let headings = prose(text).into_iter().filter(|line| line.starts_with('#'));
    headings
        .map(|heading| {
            let words = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = words
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            let anchor = kept.collect::<String>().replace(' ', "-");
            let before = times.entry(anchor.clone()).or_default();
            *before += 1;
            match *before {
                1 => anchor,
                again => format!("{anchor}-{}", again - 1),
            }
        })
        .collect()
}

/// Where a document leads to: the line, and what stands in the brackets behind the words.
fn links(text: &str) -> Vec<(usize, &str)> {
    let lines = prose(text).into_iter().enumerate();
    lines
        .flat_map(|(place, line)| {
            let behind = line.split("](").skip(1);
            let target = behind.filter_map(|rest| rest.split_once(')'));
            target.map(move |(target, _)| (place + 1, target))
        })
        .filter(|(_, target)| !target.contains("://"))
        .collect()
}

/// The path from the root of what a document in some folder names.
fn resolve(folder: &Path, named: &str) -> PathBuf {
    let mut path = PathBuf::new();
    for part in folder.join(named).components() {
        match part {
            Component::ParentDir => drop(path.pop()),
            other => path.push(other),
        }
    }
    path
}

/// The links of a document that lead nowhere, to be written behind its path. `has` tells whether there is such a file or folder.
fn dead_links(
    path: &Path,
    documents: &BTreeMap<PathBuf, String>,
    has: impl Fn(&Path) -> bool,
) -> Vec<String> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let is_dead = |target: &str| {
        let (named, anchor) = target.split_once('#').unwrap_or((target, ""));
        let to = match named {
            "" => path.to_owned(),
            _ => resolve(folder, named),
        };
        let has_anchor = || {
            let text = documents.get(&to);
            text.is_some_and(|text| anchors(text).contains(anchor))
        };
        !has(&to) || !(anchor.is_empty() || has_anchor())
    };
    let dead = links(&documents[path]).into_iter();
    dead.filter(|(_, target)| is_dead(target))
        .map(|(line, target)| format!(":{line}: {target:?} leads nowhere"))
        .collect()
}

#[test]
fn every_table_of_a_document_is_one() {
    let documents = documents();
    assert!(documents.len() > 10, "only {} were found", documents.len());
    let faults: Vec<String> = documents
        .iter()
        .flat_map(|(path, text)| {
            let found = faults_in_tables(text).into_iter();
            found.map(move |fault| format!("{}{fault}", path.display()))
        })
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_link_of_a_document_leads_somewhere() {
    let documents = documents();
    let has = |path: &Path| root().join(path).exists();
    let faults: Vec<String> = documents
        .keys()
        .flat_map(|path| {
            let found = dead_links(path, &documents, has).into_iter();
            found.map(move |fault| format!("{}{fault}", path.display()))
        })
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_list_of_decisions_has_each_of_them() {
    let documents = documents();
    let list = Path::new("docs/decisions/README.md");
    let there = documents
        .keys()
        .filter(|path| path.parent() == list.parent() && *path != list);
    let there: BTreeSet<PathBuf> = there.cloned().collect();
    let folder = list.parent().expect("it lies in a folder");
    let listed = links(&documents[list]).into_iter();
    let listed: BTreeSet<PathBuf> = listed.map(|(_, target)| resolve(folder, target)).collect();
    assert!(there.len() > 5, "{there:?}");
    assert_eq!(listed, there);
}

#[test]
fn a_table_that_is_none_is_found() {
    let good = "| a | b |\n|---|--:|\n| `x\\|y` | 2 |\n";
    assert_eq!(faults_in_tables(good), [""; 0]);
    let code = "    | a | b\n\n```\n| a |\n```\n";
    assert_eq!(faults_in_tables(code), [""; 0]);
    let head = "text\n\n| a | b | c |\n|---|---|\n| 1 | 2 |\n";
    assert_eq!(
        faults_in_tables(head),
        [":3: a row of 3 cells in a table of 2"]
    );
    let bar = "| a | b |\n|---|---|\n| `x|y` | 2 |";
    assert_eq!(
        faults_in_tables(bar),
        [":3: a row of 3 cells in a table of 2"]
    );
    assert_eq!(
        faults_in_tables("| a |\n"),
        [":1: a table without a line of dashes"]
    );
}

#[test]
fn a_link_that_leads_nowhere_is_found() {
    let text = "# A `b`, and c\n\n## Again\n## Again\n[1](#a-b-and-c) [2](#again-1) [3](../x.md#y) [4](https://a.b/c)\n\
                [5](#nothing) [6](z.md)\n    [7](code.md)\n";
    let documents = BTreeMap::from([
        (PathBuf::from("docs/a.md"), text.to_owned()),
        (PathBuf::from("x.md"), "# Y\n".to_owned()),
    ]);
    let has = |path: &Path| documents.contains_key(path);
    assert_eq!(
        dead_links(Path::new("docs/a.md"), &documents, has),
        [
            ":6: \"#nothing\" leads nowhere",
            ":6: \"z.md\" leads nowhere"
        ]
    );
}
