//! A damaged file gives a clear error or unharmed data: never a crash, never a wrong value.

mod support;

use std::{fs, path::Path};

use rm_raft::Entry;
use support::{Numbers, Refusal, entry, hard_state, open, options, persist, read_all};
use tempfile::TempDir;

const PAGE: u64 = 4096;

/// How many damaged copies a test makes; more in the environment variable for a long run.
fn rounds() -> u64 {
    let rounds = std::env::var("RM_STORE_DAMAGE_ROUNDS").ok();
    rounds.and_then(|rounds| rounds.parse().ok()).unwrap_or(400)
}

/// A directory whose log has several terms, values of all sizes, branch pages and free pages.
fn original() -> (TempDir, Vec<Entry>) {
    let folder = TempDir::new().unwrap();
    let (_directory, log) = open(folder.path(), &options()).unwrap();
    for batch in 0..60 {
        let entries: Vec<Entry> = (batch * 10 + 1..batch * 10 + 11)
            .map(|index| {
                entry(
                    batch / 7 + 1,
                    index,
                    if index % 97 == 0 {
                        9000
                    } else {
                        (index % 331) as usize
                    },
                )
            })
            .collect();
        persist(&log, hard_state(batch / 7 + 1, batch * 10 / 2), &entries).unwrap();
    }
    persist(
        &log,
        hard_state(20, 300),
        &[entry(20, 520, 50), entry(20, 521, 50)],
    )
    .unwrap();
    let entries = read_all(&log).unwrap();
    (folder, entries)
}

fn copy(from: &Path, data: &[u8]) -> TempDir {
    let folder = TempDir::new().unwrap();
    fs::copy(
        from.join("identity.json"),
        folder.path().join("identity.json"),
    )
    .unwrap();
    fs::create_dir(folder.path().join("log")).unwrap();
    fs::write(folder.path().join("log/data.mdb"), data).unwrap();
    folder
}

/// Everything that a machine does with its log: load it, read it, append to it.
fn use_log(path: &Path) -> Result<Vec<Entry>, Refusal> {
    let (_directory, log) = open(path, &options())?;
    let loaded = log.load()?;
    assert_eq!(
        loaded.hard_state,
        hard_state(20, 300),
        "a hard state that was never the last"
    );
    let entries = read_all(&log)?;
    let next = loaded.last.index.0 + 1;
    for index in next..next + 3 {
        persist(&log, hard_state(20, 300), &[entry(20, index, 700)])?;
    }
    assert_eq!(log.load()?.last.index.0, next + 2);
    Ok(entries)
}

/// Half of the flips go where LMDB keeps its own numbers.
fn flip(data: &mut [u8], numbers: &mut Numbers) -> (u64, u32) {
    let pages = data.len() as u64 / PAGE;
    let at = match numbers.below(4) {
        0 => numbers.below(2) * PAGE + numbers.below(160),
        1 => numbers.below(pages) * PAGE + numbers.below(64),
        _ => numbers.below(data.len() as u64),
    };
    let bit = numbers.below(8) as u32;
    data[at as usize] ^= 1 << bit;
    (at, bit)
}

#[test]
fn etcd_20271_flipped_bits_give_an_error_or_unharmed_data() {
    let (folder, expected) = original();
    let data = fs::read(folder.path().join("log/data.mdb")).unwrap();
    let mut refused = 0;
    for seed in 0..rounds() {
        let mut numbers = Numbers(seed);
        let mut damaged = data.clone();
        let flips: Vec<_> = (0..=seed % 3)
            .map(|_| flip(&mut damaged, &mut numbers))
            .collect();
        let place = copy(folder.path(), &damaged);
        match use_log(place.path()) {
            Ok(entries) => assert!(
                entries == expected,
                "seed {seed}: wrong data after {flips:?}"
            ),
            Err(refusal) => {
                refused += 1;
                let text = refusal.to_string();
                assert!(
                    text.contains("damaged"),
                    "seed {seed}: {flips:?}: unclear: {text}"
                );
            }
        }
    }
    assert!(
        refused > rounds() / 4,
        "only {refused} refused: the flips missed the data"
    );
}

#[test]
fn a_truncated_file_gives_an_error_or_unharmed_data() {
    let (folder, expected) = original();
    let data = fs::read(folder.path().join("log/data.mdb")).unwrap();
    for seed in 0..rounds() / 4 {
        let mut numbers = Numbers(seed);
        let length = match numbers.below(3) {
            0 => numbers.below(3 * PAGE),
            1 => data.len() as u64 - numbers.below(4 * PAGE),
            _ => numbers.below(data.len() as u64),
        };
        let place = copy(folder.path(), &data[..length as usize]);
        match use_log(place.path()) {
            Ok(entries) => assert!(entries == expected, "cut to {length} bytes: wrong data"),
            Err(refusal) => {
                let text = refusal.to_string();
                assert!(
                    text.contains("damaged"),
                    "cut to {length} bytes: unclear: {text}"
                );
            }
        }
    }
}

#[test]
fn every_bit_of_the_two_descriptions_of_the_file_may_flip() {
    let (folder, expected) = original();
    let data = fs::read(folder.path().join("log/data.mdb")).unwrap();
    // A header of 16 bytes and a description of 136, in each of the first two pages.
    for page in 0..2 {
        for byte in 0..152 {
            let bit = byte % 8;
            let mut damaged = data.clone();
            damaged[page * PAGE as usize + byte] ^= 1 << bit;
            let place = copy(folder.path(), &damaged);
            match use_log(place.path()) {
                Ok(entries) => assert!(entries == expected, "page {page}, byte {byte}: wrong data"),
                Err(refusal) => {
                    let text = refusal.to_string();
                    assert!(
                        text.contains("damaged"),
                        "page {page}, byte {byte}: unclear: {text}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_stale_root_is_known_by_its_stamp() {
    let (folder, _) = original();
    let data = fs::read(folder.path().join("log/data.mdb")).unwrap();
    let transaction = |page: usize| {
        let at = page * PAGE as usize + 16 + 128;
        u64::from_ne_bytes(data[at..at + 8].try_into().unwrap())
    };
    let older = usize::from(transaction(1) < transaction(0));
    let mut damaged = data.clone();
    let at = older * PAGE as usize + 16 + 128;
    damaged[at..at + 8].copy_from_slice(&(transaction(older) + 2).to_ne_bytes());
    let refusal =
        use_log(copy(folder.path(), &damaged).path()).expect_err("an old root is not the last");
    assert!(
        refusal.to_string().contains("another transaction"),
        "{refusal}"
    );
}
