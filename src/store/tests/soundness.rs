//! Whatever LMDB itself writes is found sound: a check that cries wolf would keep a healthy machine down.

mod support;

use heed::{CommitOrAbort, Database, types::Bytes};
use rm_store::{DataDirectory, Durability, Environment, Extent, Options, verify};
use support::{Numbers, identity, options};
use tempfile::TempDir;

#[test]
fn random_puts_and_deletes_leave_a_file_that_is_sound() {
    for seed in 0..6 {
        let folder = TempDir::new().unwrap();
        let options = Options {
            durability: Durability::System,
            ..options()
        };
        let directory = DataDirectory::open(folder.path(), &identity()).unwrap();
        let file = folder.path().join("state/data.mdb");
        let environment = Environment::open(&directory, "state", &options).unwrap();
        let env = environment.env();
        let tables = env
            .create_databases_and_commit(env.write_txn().unwrap(), |opener, txn| {
                let one: Database<Bytes, Bytes> = opener.create_database(txn, Some("one"))?;
                let two: Database<Bytes, Bytes> = opener.create_database(txn, Some("two"))?;
                environment.stamp(txn)?;
                Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit([one, two]))
            })
            .unwrap()
            .commit()
            .unwrap();
        let mut numbers = Numbers(seed);
        // Grows first, shrinks later, so that pages split, merge, and are freed and used again.
        for round in 0..24 {
            let mut txn = env.write_txn().unwrap();
            for _ in 0..250 {
                let table = tables[numbers.below(2) as usize];
                let mut key = numbers.below(4000).to_le_bytes().to_vec();
                key.resize(
                    4 + numbers.below(if seed % 2 == 0 { 5 } else { 300 }) as usize,
                    7,
                );
                let bytes = if numbers.below(20) == 0 {
                    numbers.below(20_000)
                } else {
                    numbers.below(300)
                };
                if numbers.below(24) < round {
                    let from = (
                        std::ops::Bound::Included(&key[..]),
                        std::ops::Bound::Unbounded,
                    );
                    let next = table
                        .range(&txn, &from)
                        .unwrap()
                        .next()
                        .transpose()
                        .unwrap();
                    if let Some(next) = next.map(|(key, _)| key.to_vec()) {
                        table.delete(&mut txn, &next).unwrap();
                    }
                } else {
                    table
                        .put(&mut txn, &key, &vec![round as u8; bytes as usize])
                        .unwrap();
                }
            }
            if numbers.below(8) == 0 {
                drop(txn);
            } else {
                environment.commit(txn).unwrap();
            }
            if let Err(damage) = verify(&file, Extent::Everything) {
                panic!("seed {seed}, round {round}: {damage}");
            }
        }
        for table in tables {
            let mut txn = env.write_txn().unwrap();
            table.clear(&mut txn).unwrap();
            environment.commit(txn).unwrap();
            verify(&file, Extent::Everything).expect("an empty table is sound");
        }
    }
}
