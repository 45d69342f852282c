//! Random requests that the key space and its naive twin must answer alike: at old revisions, with long keys, across checkpoints and
//! crashes.

use proptest::prelude::*;
use rm_kv::{
    AuthQuery, Command, Keyspace, Query, Reply, RequestError, Signature, Signed, StateMachine,
};
use rm_raft::{EntryId, Index, Term};

use crate::steps::{Step, steps};
use crate::support::{Disk, apply_signed, hash};
use crate::twin_keyspace::{Records, Twin};
use crate::user_steps::signature;

fn by_whom(by: Option<Signature>, query: Query) -> Query {
    let signed = |by| Query::Signed {
        by,
        query: Box::new(query.clone()),
    };
    by.map_or(query.clone(), signed)
}

/// Applies again what the key space has lost.
fn replay(keyspace: &mut Keyspace, log: &[(Signed, Result<Reply, RequestError>)]) {
    let lost = keyspace.applied().index.0 as usize..;
    for (number, (signed, outcome)) in log.iter().enumerate().skip(lost.start) {
        let entry = EntryId {
            term: Term(1),
            index: Index(number as u64 + 1),
        };
        // Nobody waits for the answer: only whether it is an error is to be as before.
        let again = keyspace.apply(entry, Some(&signed.encode()), false);
        let again = again.unwrap().unwrap();
        assert_eq!(again.as_ref().err(), outcome.as_ref().err());
        if let (Ok(again), Ok(before)) = (again, outcome) {
            assert_eq!(again.revision, before.revision);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_key_space_answers_as_its_naive_twin_and_every_machine_alike(
        steps in steps(),
    ) {
        let (disk, other_disk, dusty_disk) = (Disk::new(), Disk::new(), Disk::new());
        let mut keyspace = disk.open();
        let mut other = other_disk.open();
        let mut dusty = dusty_disk.open();
        let mut twin = Twin::new();
        let mut log = Vec::new();
        for step in steps {
            match step {
                Step::Apply(asker, command) => {
                    let by = signature(asker, twin.users.revision());
                    let signed = Signed { by, command };
                    let outcome = apply_signed(&mut keyspace, &signed).unwrap().unwrap();
                    let news = keyspace.take_lease_news().changes;
                    prop_assert_eq!(&outcome, &twin.apply(&signed), "{:?}", signed);
                    prop_assert_eq!(news, std::mem::take(&mut twin.news));
                    let news = keyspace.take_auth_news().into_iter();
                    let news = news.map(|(entry, news)| (entry.index.0, news)).collect::<Vec<_>>();
                    prop_assert_eq!(news, std::mem::take(&mut twin.users.news));
                    log.push((signed, outcome));
                }
                Step::Query(asker, query) => {
                    let by = signature(asker, twin.users.revision());
                    let answer = twin.query(by.as_ref(), &query);
                    let query = by_whom(by, query);
                    let reply = keyspace.query(&query).unwrap();
                    prop_assert_eq!(reply, answer, "{:?}", query);
                }
                Step::Checkpoint => {
                    keyspace.checkpoint().unwrap();
                    prop_assert_eq!(keyspace.checkpointed(), keyspace.applied());
                }
                Step::Crash => {
                    drop(keyspace);
                    keyspace = disk.open();
                    replay(&mut keyspace, &log);
                    keyspace.take_lease_news();
                    keyspace.take_auth_news();
                }
            }
            prop_assert_eq!(keyspace.revision(), twin.revision());
            prop_assert_eq!(
                keyspace.auth_status(),
                (twin.users.enabled, twin.users.revision())
            );
            for user in ["root", "alice", "bob"] {
                // Everybody may ask for its own.
                let by = signature(Some((user, 0)), twin.users.revision());
                let query = Query::Auth(AuthQuery::User(user.to_owned()));
                let answer = twin.query(by.as_ref(), &query);
                prop_assert_eq!(keyspace.query(&by_whom(by, query)).unwrap(), answer);
            }
            prop_assert_eq!(keyspace.compaction(), twin.compaction());
            prop_assert_eq!(keyspace.size().unwrap().changes, twin.records.len() as u64);
            if twin.compaction().is_complete() {
                prop_assert_eq!(twin.needless(), Records::new());
            }
        }
        // A machine that never crashed and makes its one checkpoint at the end has the same bytes.
        replay(&mut other, &log);
        prop_assert_eq!(
            hash(&disk, &mut keyspace, 0),
            hash(&other_disk, &mut other, 0)
        );
        prop_assert_eq!(disk.dump(), other_disk.dump());
        // One that has scrubbed nothing answers by the same hash, at every revision that can be read.
        for (signed, _) in &mut log {
            if let Command::Scrub { changes, .. } = &mut signed.command {
                *changes = 0;
            }
        }
        replay(&mut dusty, &log);
        for revision in twin.compacted.max(1)..=twin.revision() {
            prop_assert_eq!(
                hash(&disk, &mut keyspace, revision),
                hash(&dusty_disk, &mut dusty, revision)
            );
        }
    }
}
