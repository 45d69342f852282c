//! Whose data a directory holds, who may open it, and what it refuses.

mod support;

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use rm_raft::MachineId;
use rm_store::{
    Damage, DataDirectory, Environment, Era, Identity, Log, Neighbour, OpenError, Options,
};
use support::{Refusal, alone, entry, hard_state, identity, open, options, persist};
use tempfile::TempDir;

#[test]
fn every_opening_counts_a_boot() {
    let _turn = alone();
    let folder = TempDir::new().unwrap();
    for boot in 1..4 {
        assert_eq!(
            DataDirectory::open(folder.path(), &identity())
                .unwrap()
                .boot(),
            boot
        );
    }
}

#[test]
fn data_of_another_domain_or_machine_is_refused() {
    let _turn = alone();
    let folder = TempDir::new().unwrap();
    drop(DataDirectory::open(folder.path(), &identity()).unwrap());
    let others = [
        Identity {
            domain: "other.example".into(),
            ..identity()
        },
        Identity {
            machine: "RM.02".into(),
            ..identity()
        },
    ];
    for other in others {
        let refusal = DataDirectory::open(folder.path(), &other).expect_err("it is another's");
        assert!(matches!(refusal, OpenError::Foreign { .. }), "{refusal}");
    }
    assert_eq!(
        DataDirectory::open(folder.path(), &identity())
            .unwrap()
            .boot(),
        2,
        "a refusal is no boot"
    );
}

#[test]
fn a_directory_keeps_the_number_that_it_was_made_with() {
    let _turn = alone();
    let folder = TempDir::new().unwrap();
    assert!(DataDirectory::is_new(folder.path()).unwrap());
    let neighbour = Neighbour {
        id: 7,
        name: "RM.07".into(),
        peer: "seven:1".into(),
        client: "seven:2".into(),
    };
    let joined = Identity {
        id: MachineId(9),
        joined: Some(vec![neighbour]),
        era: Era(0xfeed),
        ..identity()
    };
    drop(DataDirectory::open(folder.path(), &joined).unwrap());
    assert!(!DataDirectory::is_new(folder.path()).unwrap());
    let directory = DataDirectory::open(folder.path(), &identity()).unwrap();
    assert_eq!(directory.identity(), joined);
}

#[test]
fn the_directory_of_a_machine_that_was_removed_is_not_opened_again() {
    let _turn = alone();
    let folder = TempDir::new().unwrap();
    let directory = DataDirectory::open(folder.path(), &identity()).unwrap();
    directory.note_removed().unwrap();
    drop(directory);
    let refusal = DataDirectory::open(folder.path(), &identity()).expect_err("it left");
    assert!(matches!(refusal, OpenError::Removed { .. }), "{refusal}");
    assert!(refusal.to_string().contains("--join"), "{refusal}");
}

#[test]
fn that_the_machine_has_caught_up_is_remembered() {
    let _turn = alone();
    let folder = TempDir::new().unwrap();
    let directory = DataDirectory::open(folder.path(), &identity()).unwrap();
    assert!(!directory.has_caught_up());
    directory.note_caught_up().unwrap();
    assert!(directory.has_caught_up());
    drop(directory);
    let directory = DataDirectory::open(folder.path(), &identity()).unwrap();
    assert!(directory.has_caught_up());
}

#[test]
fn directories_of_the_formats_before_are_opened_and_are_of_the_first_era() {
    let _turn = alone();
    for rest in [
        r#""format":1,"machines":["RM.01"]"#,
        r#""format":2,"joined":null,"removed":false"#,
    ] {
        let folder = TempDir::new().unwrap();
        let body = format!(
            r#"{{{rest},"domain":"example.com","machine":"RM.01","id":1,"data_id":"0123456789abcdef0123456789abcdef","boot":4,"environments":[]}}"#
        );
        let text = format!("{body}\n{:08x}\n", crc32c::crc32c(body.as_bytes()));
        fs::write(folder.path().join("identity.json"), text).unwrap();
        let asked = Identity {
            domain: "example.com".into(),
            machine: "RM.01".into(),
            id: MachineId(3),
            joined: None,
            era: Era(9),
        };
        let directory = DataDirectory::open(folder.path(), &asked).unwrap();
        let found = directory.identity();
        assert_eq!(
            (directory.boot(), found.id, found.era),
            (5, MachineId(1), Era::FIRST)
        );
    }
}

#[test]
fn data_of_a_newer_format_is_refused() {
    let _turn = alone();
    let folder = TempDir::new().unwrap();
    drop(DataDirectory::open(folder.path(), &identity()).unwrap());
    let body = r#"{"format":4,"unknown":"field"}"#;
    let text = format!("{body}\n{:08x}\n", crc32c::crc32c(body.as_bytes()));
    fs::write(folder.path().join("identity.json"), text).unwrap();
    let refusal = DataDirectory::open(folder.path(), &identity()).expect_err("it is newer");
    assert!(
        matches!(
            refusal,
            OpenError::NewerFormat {
                found: 4,
                known: 3,
                ..
            }
        ),
        "{refusal}"
    );
}

#[test]
fn every_flipped_bit_of_the_identity_is_refused() {
    let _turn = alone();
    let folder = TempDir::new().unwrap();
    drop(DataDirectory::open(folder.path(), &identity()).unwrap());
    let path = folder.path().join("identity.json");
    let text = fs::read(&path).unwrap();
    for place in 0..text.len() * 8 {
        let mut damaged = text.clone();
        damaged[place / 8] ^= 1 << (place % 8);
        fs::write(&path, damaged).unwrap();
        let refusal = DataDirectory::open(folder.path(), &identity()).expect_err("it is damaged");
        assert!(
            matches!(refusal, OpenError::Identity { .. }),
            "bit {place}: {refusal}"
        );
    }
}

/// Runs in a process of its own when the variable is set: says how opening the directory went.
#[test]
fn a_locked_directory_is_refused_with_its_holder() {
    let _turn = alone();
    const VARIABLE: &str = "RM_STORE_LOCKED_DIRECTORY";
    if let Ok(path) = std::env::var(VARIABLE) {
        let refusal = DataDirectory::open(path.as_ref(), &identity()).expect_err("it is locked");
        println!("{refusal}");
        return;
    }
    let folder = TempDir::new().unwrap();
    let _directory = DataDirectory::open(folder.path(), &identity()).unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "a_locked_directory_is_refused_with_its_holder",
            "--nocapture",
        ])
        .env(VARIABLE, folder.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let expected = format!("in use by process {}", std::process::id());
    assert!(
        output.status.success() && text.contains(&expected),
        "{text}"
    );
}

#[test]
fn a_lost_log_or_identity_is_refused() {
    let _turn = alone();
    let folder = TempDir::new().unwrap();
    {
        let (_directory, log) = open(folder.path(), &options()).unwrap();
        persist(&log, hard_state(1, 0), &[entry(1, 1, 10)]).unwrap();
    }
    fs::rename(
        folder.path().join("identity.json"),
        folder.path().join("kept"),
    )
    .unwrap();
    let refusal = DataDirectory::open(folder.path(), &identity()).expect_err("whose data is it?");
    assert!(matches!(refusal, OpenError::Missing { .. }), "{refusal}");
    fs::rename(
        folder.path().join("kept"),
        folder.path().join("identity.json"),
    )
    .unwrap();
    fs::remove_dir_all(folder.path().join("log")).unwrap();
    let directory = DataDirectory::open(folder.path(), &identity()).unwrap();
    let refusal = Environment::open(&directory, "log", &options()).expect_err("the log is gone");
    assert!(matches!(refusal, OpenError::Missing { .. }), "{refusal}");
}

/// A directory with a log of one entry.
fn with_a_log(identity: &Identity) -> TempDir {
    let folder = TempDir::new().unwrap();
    let directory = DataDirectory::open(folder.path(), identity).unwrap();
    let environment = Environment::open(&directory, "log", &options()).unwrap();
    let log = Log::open(&environment).unwrap();
    persist(&log, hard_state(1, 0), &[entry(1, 1, 10)]).unwrap();
    folder
}

#[test]
fn a_log_that_was_made_in_another_data_directory_is_refused_by_name() {
    let _turn = alone();
    let other_machine = Identity {
        machine: "RM.02".into(),
        id: MachineId(2),
        ..identity()
    };
    let own = with_a_log(&identity());
    let file = own.path().join("log/data.mdb");
    let kept = fs::read(&file).unwrap();
    for other in [with_a_log(&other_machine), with_a_log(&identity())] {
        fs::copy(other.path().join("log/data.mdb"), &file).unwrap();
        let refusal = open(own.path(), &options()).expect_err("it is another's");
        assert!(
            matches!(&refusal, Refusal::Open(OpenError::ForeignFile { path }) if *path == file),
            "{refusal}"
        );
        assert!(
            refusal.to_string().contains(file.to_str().unwrap()),
            "{refusal}"
        );
    }
    fs::write(&file, kept).unwrap();
    let (_directory, log) = open(own.path(), &options()).expect("its own is taken");
    assert_eq!(log.load().unwrap().last, entry(1, 1, 10).id);
}

#[test]
fn an_empty_file_in_the_place_of_a_log_is_refused() {
    let _turn = alone();
    let empty = TempDir::new().unwrap();
    #[expect(unsafe_code, reason = "nothing else opens this file")]
    let env = unsafe { heed::EnvOpenOptions::new().open(empty.path()) }.unwrap();
    drop(env);
    let own = with_a_log(&identity());
    let file = own.path().join("log/data.mdb");
    fs::copy(empty.path().join("data.mdb"), &file).unwrap();
    let refusal = open(own.path(), &options()).expect_err("it holds nothing of this machine");
    assert!(
        matches!(
            &refusal,
            Refusal::Open(OpenError::Damaged { path, damage: Damage::Origin }) if *path == file
        ),
        "{refusal}"
    );
}

#[test]
fn a_log_in_the_place_of_another_environment_is_refused() {
    let _turn = alone();
    let folder = with_a_log(&identity());
    let directory = DataDirectory::open(folder.path(), &identity()).unwrap();
    fs::rename(folder.path().join("log"), folder.path().join("state")).unwrap();
    let refusal = Environment::open(&directory, "state", &options()).expect_err("it is the log");
    assert!(matches!(refusal, OpenError::Damaged { .. }), "{refusal}");
}

#[test]
fn an_environment_that_is_open_is_not_opened_again() {
    let _turn = alone();
    let folder = TempDir::new().unwrap();
    let directory = DataDirectory::open(folder.path(), &identity()).unwrap();
    let _first = Environment::open(&directory, "log", &options()).unwrap();
    let refusal = Environment::open(&directory, "log", &options()).expect_err("it is open");
    assert!(
        matches!(refusal, OpenError::AlreadyOpen { .. }),
        "{refusal}"
    );
}

#[test]
fn a_first_opening_that_was_cut_short_is_begun_anew() {
    let _turn = alone();
    let folder = TempDir::new().unwrap();
    let directory = DataDirectory::open(folder.path(), &identity()).unwrap();
    // What a power cut leaves: a part of the first pages, or their length and nothing in them.
    for (name, bytes) in [
        ("none", 0),
        ("part", 5000),
        ("zeros", 8192),
        ("more", 20_480),
    ] {
        fs::create_dir(folder.path().join(name)).unwrap();
        fs::write(folder.path().join(name).join("data.mdb"), vec![0; bytes]).unwrap();
        let environment = Environment::open(&directory, name, &options()).unwrap();
        let log = Log::open(&environment).unwrap();
        persist(&log, hard_state(1, 0), &[entry(1, 1, 10)]).unwrap();
    }
}

#[test]
fn a_file_that_was_opened_once_is_never_begun_anew() {
    let _turn = alone();
    let folder = with_a_log(&identity());
    let file = folder.path().join("log/data.mdb");
    fs::write(&file, [0; 8192]).unwrap();
    let refusal = open(folder.path(), &options()).expect_err("it held a log");
    assert!(
        matches!(refusal, Refusal::Open(OpenError::Damaged { .. })),
        "{refusal}"
    );
    assert_eq!(fs::read(&file).unwrap(), [0; 8192], "it is left as it was");
}

/// The content of every file of a directory with environments.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = ["identity.json", "lock", "log/data.mdb", "log/lock.mdb"];
    let read = |name: &str| (name.to_owned(), fs::read(folder.join(name)).unwrap());
    files.into_iter().map(read).collect()
}

#[test]
fn verifying_checks_every_page_of_a_closed_directory_and_changes_nothing() {
    let _turn = alone();
    let folder = with_a_log(&identity());
    let file = folder.path().join("log/data.mdb");
    let before = contents(folder.path());
    let found = DataDirectory::verify(folder.path(), &identity()).unwrap();
    let pages: Vec<_> = found.into_iter().map(Result::unwrap).collect();
    assert_eq!(pages.len(), 1);
    assert_eq!(pages[0].path, file);
    assert!(
        (3..=before["log/data.mdb"].len() as u64 / 4096).contains(&pages[0].pages),
        "{pages:?}"
    );
    assert!(contents(folder.path()) == before, "something was changed");
    let names = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(names, 3, "identity, lock and log, and nothing new");
}

#[test]
fn verifying_finds_what_a_check_of_the_ends_alone_does_not() {
    let _turn = alone();
    let folder = with_a_log(&identity());
    let file = folder.path().join("log/data.mdb");
    let sound = fs::read(&file).unwrap();
    let only_ends = Options {
        verify_bytes_max: 0,
        ..options()
    };
    // Every page bears its number, in its first eight bytes. Those at the ends are refused either way.
    let found = (2..sound.len() / 4096).any(|page| {
        let mut damaged = sound.clone();
        damaged[page * 4096 + 1] ^= 0x40;
        fs::write(&file, &damaged).unwrap();
        let directory = DataDirectory::open(folder.path(), &identity()).unwrap();
        let opened = Environment::open(&directory, "log", &only_ends).is_ok();
        drop(directory);
        let results = DataDirectory::verify(folder.path(), &identity()).unwrap();
        opened
            && matches!(
                &results[..],
                [Err(OpenError::Damaged { path, damage: Damage::Page { .. } })] if *path == file
            )
    });
    assert!(found, "every page is at the ends");
}

#[test]
fn verifying_refuses_what_is_missing_foreign_or_in_use() {
    let _turn = alone();
    let folder = with_a_log(&identity());
    let other = Identity {
        domain: "other.example".into(),
        ..identity()
    };
    let verify = |identity: Identity| DataDirectory::verify(folder.path(), &identity);
    let refusal = verify(other).expect_err("it is another's");
    assert!(matches!(refusal, OpenError::Foreign { .. }), "{refusal}");
    let directory = DataDirectory::open(folder.path(), &identity()).unwrap();
    let refusal = verify(identity()).expect_err("it is in use");
    assert!(matches!(refusal, OpenError::Locked { .. }), "{refusal}");
    drop(directory);
    fs::remove_file(folder.path().join("log/data.mdb")).unwrap();
    let results = verify(identity()).unwrap();
    assert!(
        matches!(&results[..], [Err(OpenError::Missing { .. })]),
        "{results:?}"
    );
    let nowhere = folder.path().join("nowhere");
    DataDirectory::verify(&nowhere, &identity()).expect_err("there is no directory");
    assert!(!nowhere.exists(), "and none is made");
}
