//! Compares the code that the page shows with the code that the tests run.

use std::fs;
use std::path::Path;

/// The file that the page shows from its first line to its last, and those of which it shows parts.
const FILES: [&str; 4] = ["counter.rs", "driver.rs", "domain.rs", "main.rs"];

/// The lines of code, without the doc of the module.
fn code(text: &str) -> Vec<&str> {
    let lines = text.lines();
    lines
        .filter(|line| !line.is_empty() && !line.starts_with("//!"))
        .collect()
}

/// The blocks of Rust in a page.
fn blocks(page: &str) -> Vec<Vec<&str>> {
    let parts = page.split("\n```rust\n").skip(1);
    parts
        .map(|part| code(part.split("\n```\n").next().unwrap_or(part)))
        .collect()
}

#[test]
fn the_page_shows_the_code_that_runs() {
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &Path| fs::read_to_string(path).expect("the file is in the project");
    let page = read(&crate_folder.join("../../docs/state-machine.md"));
    let files = FILES.map(|name| read(&crate_folder.join("tests/counter").join(name)));
    let files = files.each_ref().map(|text| code(text));
    let blocks = blocks(&page);
    assert!(blocks.len() > FILES.len(), "the page has code");
    for block in &blocks {
        let in_some = |file: &Vec<&str>| file.windows(block.len()).any(|run| run == block);
        assert!(
            files.iter().any(in_some),
            "this stands in none of the files as it does in the page:\n{}",
            block.join("\n")
        );
    }
    let (whole, shown) = (&files[0], blocks.concat());
    let is_shown = shown.windows(whole.len()).any(|run| run == whole);
    assert!(is_shown, "the page shows all of {}, in order", FILES[0]);
}
