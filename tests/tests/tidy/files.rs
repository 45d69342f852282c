//! The table of files: it names every source file, and nothing that is none.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::{collect, is_rust, root};

/// The parts of the tests that a file at their top tells of as a whole, and those that are no crate of the workspace.
const AS_A_WHOLE: [&str; 4] = [
    "tests/simulation/",
    "tests/exploration/",
    "tests/etcd/",
    "tests/versus",
];

/// The files that a page names: in each section the first cell of each row, below the folder that the section's head has.
fn named(page: &str) -> Vec<String> {
    let mut folder = "";
    let mut files = Vec::new();
    let quoted = |text| str::split(text, '`').skip(1).step_by(2);
    for line in page.lines() {
        if line.starts_with("## ") {
            folder = quoted(line).next().unwrap_or_default();
        } else if let Some(row) = line.strip_prefix('|') {
            let cell = row.split('|').next().unwrap_or_default();
            files.extend(quoted(cell).map(|name| format!("{folder}/{name}")));
        }
    }
    files
}

/// Whether the page must name a file: tests of a crate and what they share are told of by their folder.
fn is_told_of(path: &Path) -> bool {
    let text = path.to_string_lossy();
    let is_of_the_harness = text.starts_with("tests/");
    let is_of_tests = || text.contains("/tests/") || text.contains("/testing/");
    let is_part = || AS_A_WHOLE.iter().any(|whole| text.starts_with(whole));
    is_rust(path)
        && match is_of_the_harness {
            true => !is_part(),
            false => !is_of_tests(),
        }
}

/// What is wrong with the page.
fn faults(page: &str, files: &[PathBuf]) -> Vec<String> {
    let there = files.iter().filter(|path| is_told_of(path));
    let there: BTreeSet<String> = there
        .map(|path| path.to_string_lossy().into_owned())
        .collect();
    let mut left = there.clone();
    let mut faults = Vec::new();
    for name in named(page) {
        if !there.contains(&name) {
            faults.push(format!("{name} is in the table and is no source file"));
        } else if !left.remove(&name) {
            faults.push(format!("{name} is in the table twice"));
        }
    }
    faults.extend(
        left.iter()
            .map(|name| format!("{name} is not in the table")),
    );
    faults
}

#[test]
fn the_table_of_files_names_every_source_file() {
    let mut files = Vec::new();
    collect(&root(), &mut files);
    let page = include_str!("../../../docs/files.md");
    let faults = faults(page, &files);
    assert!(faults.is_empty(), "docs/files.md:\n{}", faults.join("\n"));
}

#[test]
fn a_file_that_the_table_leaves_out_or_makes_up_is_found() {
    let page = "## rm-a: `src/a`\n\n| file | what |\n|---|---|\n| `lib.rs`, `b/c.rs` | `x.rs` |\n| `d.rs` | d |\n| `lib.rs` | e |\n";
    let files = [
        "src/a/lib.rs",
        "src/a/b/c.rs",
        "src/a/e.rs",
        "src/a/tests/f.rs",
        "src/a/README.md",
        "tests/exploration/g.rs",
    ];
    let files = files.map(PathBuf::from);
    assert_eq!(
        faults(page, &files),
        [
            "src/a/d.rs is in the table and is no source file",
            "src/a/lib.rs is in the table twice",
            "src/a/e.rs is not in the table",
        ]
    );
}
