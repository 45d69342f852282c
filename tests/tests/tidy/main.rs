//! What no compiler checks: which crate may use which, and what every source file must have or must not have,
//! and that the documents can be read.

mod documents;
mod files;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use cargo_metadata::MetadataCommand;

/// Which of our crates each of them may use. The tests may use all.
const ARROWS: [(&str, &[&str]); 13] = [
    ("rm-raft", &[]),
    ("rm-store", &["rm-raft"]),
    ("rm-kv", &["rm-raft", "rm-store"]),
    ("rm-wire", &["rm-raft"]),
    ("rm-config", &[]),
    ("rm-proto", &[]),
    ("rm-tls", &[]),
    ("rm-jwt", &["rm-config"]),
    (
        "rm-actors",
        &[
            "rm-config",
            "rm-jwt",
            "rm-kv",
            "rm-raft",
            "rm-store",
            "rm-wire",
        ],
    ),
    ("rm-api", &["rm-actors", "rm-proto", "rm-tls"]),
    ("rm-node", &["rm-actors", "rm-api", "rm-config"]),
    ("rm-backup", &["rm-kv", "rm-raft", "rm-store"]),
    ("rm-ctl", &["rm-backup", "rm-config", "rm-proto", "rm-tls"]),
];

/// The only crate that names actix.
const ACTOR_CRATE: &str = "rm-actors";

/// All that stands below the algorithm, macros aside: bytes, short lists held in place, and names for errors.
const BELOW_RAFT: [&str; 3] = ["bytes", "smallvec", "thiserror"];

/// The levels up to which slog compiles records in: of a build for debugging, and of one for release.
const LOG_LEVELS: [&str; 2] = ["max_level_trace", "release_max_level_trace"];

/// The most lines of a file, its tests not counted.
const LINES_MAX: usize = 500;

/// What must not be in a source file; written in two halves, so that it is not in this one.
const UNFINISHED: [&str; 5] = [
    concat!("to", "do!("),
    concat!("unimple", "mented!("),
    concat!("#[ig", "nore"),
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
];

/// Folders that only one host has.
const PRIVATE_FOLDERS: [&str; 4] = [
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/Us", "ers/"),
];

#[test]
fn every_arrow_between_crates_is_one_of_the_design() {
    let faults: Vec<String> = dependencies()
        .iter()
        .flat_map(|(package, uses)| wrong_arrows(package, uses))
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn a_wrong_arrow_is_found() {
    let uses =
        |names: &[&str]| -> Vec<String> { names.iter().map(|name| (*name).to_owned()).collect() };
    assert_eq!(
        wrong_arrows("rm-raft", &uses(&["bytes", "rm-store"])),
        ["rm-raft uses rm-store, which the design forbids"]
    );
    assert_eq!(
        wrong_arrows("rm-api", &uses(&["actix-rt", "rm-proto"])),
        ["rm-api uses actix-rt, which only rm-actors may"]
    );
    assert_eq!(
        wrong_arrows("rm-util", &uses(&[])),
        ["rm-util is not in the design: say in ARROWS what it may use"]
    );
    assert_eq!(wrong_arrows("rm-tests", &uses(&["rm-node"])), [""; 0]);
}

#[test]
fn the_algorithm_stands_on_no_runtime_and_no_clock() {
    let text = tree("--package rm-raft --edges normal,no-proc-macro --format {p}");
    let names: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert!(names.contains("rm-raft"), "this is no tree of it: {text}");
    let extra: Vec<&&str> = names
        .iter()
        .filter(|name| **name != "rm-raft" && !BELOW_RAFT.contains(name))
        .collect();
    assert!(
        extra.is_empty(),
        "rm-raft uses {extra:?}: the algorithm takes time, disk and network as arguments"
    );
}

/// slog strips at compile time what is below the levels of its features: without them a build for release could be switched
/// to trace and would log nothing, and of several that are asked for the strictest wins, whoever in the tree asks.
#[test]
fn a_build_for_release_can_log_everything() {
    let text = tree("--package rm-node --edges normal --invert slog --depth 0 --format {f}");
    let features = text.trim().split(',');
    let levels: BTreeSet<&str> = features
        .filter(|name| name.contains("max_level_"))
        .collect();
    assert_eq!(levels, BTreeSet::from(LOG_LEVELS), "of {text}");
}

#[test]
fn every_file_is_tidy() {
    let mut files = Vec::new();
    collect(&root(), &mut files);
    let sources = files.iter().filter(|path| is_rust(path)).count();
    assert!(sources > 50, "only {sources} source files were found");
    let mut faults = Vec::new();
    for path in files {
        // What is not UTF-8 is no text.
        if let Ok(text) = fs::read_to_string(root().join(&path)) {
            let found = faults_in(&path, &text).into_iter();
            faults.extend(found.map(|fault| format!("{}{fault}", path.display())));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn an_untidy_file_is_found() {
    let find = |path: &str, text: &str| faults_in(Path::new(path), text);
    let long = "//! Doc.\n".to_owned() + &"\n".repeat(500);
    let tested = format!("//! Doc.\n#[cfg(test)]\nmod tests {{\n{long}}}\n");
    let unfinished = format!("//! Doc.\nfn f() {{ {}) }}\n", UNFINISHED[0]);
    let private = format!("//! Doc.\n\nconst F: &str = \"{}a\";\n", PRIVATE_FOLDERS[0]);
    assert_eq!(
        find("src/a.rs", &long),
        [" has 501 lines without its tests: split it by subject"]
    );
    assert_eq!(find("src/kv/tests/a.rs", &long), [""; 0]);
    assert_eq!(find("src/a.rs", &tested), [""; 0]);
    assert_eq!(
        find("src/a.rs", "use std::fs;\n"),
        [": its first line is no module doc that says what it is for"]
    );
    assert_eq!(
        find("src/a.rs", &unfinished),
        [format!(":2: {:?} is unfinished work", UNFINISHED[0])]
    );
    assert_eq!(
        find("a.md", &private),
        [format!(
            ":3: {:?} is a folder of one host",
            PRIVATE_FOLDERS[0]
        )]
    );
}

/// What `cargo tree` prints in this workspace, without the drawing of the tree.
fn tree(arguments: &str) -> String {
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--prefix", "none"])
        .args(arguments.split(' '))
        .current_dir(root())
        .output()
        .expect("cargo can be run");
    let error = String::from_utf8_lossy(&tree.stderr);
    assert!(tree.status.success(), "cargo tree failed: {error}");
    String::from_utf8_lossy(&tree.stdout).into_owned()
}

fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = tests.parent().expect("the tests lie in the workspace");
    root.to_owned()
}

/// The crates of the workspace, each with what its manifest names, whether for use, for building or for tests.
fn dependencies() -> BTreeMap<String, Vec<String>> {
    let metadata = MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo metadata can be read");
    let packages = metadata.packages.into_iter();
    packages
        .map(|package| {
            let uses = package.dependencies.into_iter().map(|used| used.name);
            (package.name.to_string(), uses.collect())
        })
        .collect()
}

fn wrong_arrows(package: &str, uses: &[String]) -> Vec<String> {
    if package == "rm-tests" {
        return Vec::new();
    }
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == package) else {
        return vec![format!(
            "{package} is not in the design: say in ARROWS what it may use"
        )];
    };
    uses.iter()
        .filter_map(|used| {
            if used.starts_with("rm-") && !allowed.contains(&used.as_str()) {
                Some(format!("{package} uses {used}, which the design forbids"))
            } else if used.starts_with("actix") && package != ACTOR_CRATE {
                Some(format!(
                    "{package} uses {used}, which only {ACTOR_CRATE} may"
                ))
            } else {
                None
            }
        })
        .collect()
}

/// The files of the project below a folder, as paths from the root; not what is built, hidden or running.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the project can be read") {
        let path = entry.expect("the project can be read").path();
        let name = path
            .file_name()
            .expect("an entry has a name")
            .to_string_lossy();
        let is_build = path.join("CACHEDIR.TAG").exists() || name == "target";
        let is_hidden = name.starts_with('.') && name != ".ci";
        if is_build || is_hidden || name == "data" || name.ends_with(".log") {
            continue;
        }
        if path.is_dir() {
            collect(&path, files);
        } else {
            let from_root = path.strip_prefix(root()).expect("it lies below the root");
            files.push(from_root.to_owned());
        }
    }
}

fn is_rust(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "rs")
}

/// What is wrong with a file, to be written behind its path.
fn faults_in(path: &Path, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if is_rust(path) {
        if !text.starts_with("//! ") {
            faults.push(": its first line is no module doc that says what it is for".to_owned());
        }
        let lines = text
            .lines()
            .take_while(|line| *line != "#[cfg(test)]")
            .count();
        if lines > LINES_MAX && !is_test(path) {
            faults.push(format!(
                " has {lines} lines without its tests: split it by subject"
            ));
        }
        faults.extend(occurrences(text, &UNFINISHED, "unfinished work"));
    }
    faults.extend(occurrences(text, &PRIVATE_FOLDERS, "a folder of one host"));
    faults
}

/// Whether the whole file is tests: it lies in a `tests` folder of its crate, or in a module that only tests have.
fn is_test(path: &Path) -> bool {
    let folders = path.parent().into_iter().flat_map(Path::components).skip(1);
    folders
        .map(|folder| folder.as_os_str())
        .any(|folder| folder == "tests" || folder == "testing")
}

fn occurrences(text: &str, words: &[&str], what: &str) -> Vec<String> {
    let lines = text.lines().enumerate();
    lines
        .flat_map(|(number, line)| {
            let found = words.iter().filter(move |word| line.contains(**word));
            found.map(move |word| format!(":{}: {word:?} is {what}", number + 1))
        })
        .collect()
}
