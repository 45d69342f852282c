//! Queries that are answered in slices, while the key space is written to, compacted and opened again between them.

use bytes::Bytes;
use proptest::prelude::*;
use rm_kv::{
    Command, DeleteRange, Keyspace, Operation, Query, Range, Reply, ReplyMemory, RequestError,
    Signed, Slice, SortOrder, SortTarget, StateMachine, Txn, Unbounded, Work,
};
use rm_raft::{EntryId, Index, Term};

use crate::steps::{Step, changes, keys, read};
use crate::support::{Disk, apply, everything, put};

const KEYS: usize = 3_000;
const VALUE_BYTES: usize = 100;

fn steps(steps: u64) -> Work {
    Work {
        steps,
        ..Work::UNBOUNDED
    }
}

/// A key space with [`KEYS`] keys.
fn filled(disk: &Disk) -> Keyspace {
    let mut keyspace = disk.open();
    for number in 0..KEYS {
        let value = format!("{number:VALUE_BYTES$}");
        put(&mut keyspace, &key(number), value.as_bytes());
    }
    keyspace
}

fn key(number: usize) -> Bytes {
    format!("{number:06}").into()
}

/// What a query comes to when nothing happens between its slices, and how many there are.
fn in_slices(
    keyspace: &Keyspace,
    query: &Query,
    memory: &dyn ReplyMemory,
    budget: Work,
) -> (Result<Reply, RequestError>, u64) {
    let mut slices = 1;
    let mut slice = match keyspace.begin(query, memory, budget).unwrap() {
        Ok(slice) => slice,
        Err(error) => return (Err(error), slices),
    };
    loop {
        slice = match slice {
            Slice::Answered(reply) => return (Ok(reply), slices),
            Slice::Unsorted(unsorted) => return (Ok(unsorted.sort(memory)), slices),
            Slice::Unfinished(reading) => keyspace.go_on(reading, memory, budget).unwrap(),
            Slice::Refused(_, error) => return (Err(error), slices),
            Slice::Overtaken(_) => panic!("nothing is compacted"),
        };
        slices += 1;
    }
}

/// The key space of a machine, with the log that a crash has it apply again.
struct Machine {
    disk: Disk,
    keyspace: Option<Keyspace>,
    log: Vec<Command>,
}

impl Machine {
    fn new() -> Machine {
        let disk = Disk::new();
        let keyspace = Some(disk.open());
        let log = Vec::new();
        let mut machine = Machine {
            disk,
            keyspace,
            log,
        };
        for key in keys() {
            let put = rm_kv::Put {
                key,
                ..rm_kv::Put::default()
            };
            machine.happens(Step::Apply(None, Command::Put(put)));
        }
        machine
    }

    fn keyspace(&mut self) -> &mut Keyspace {
        self.keyspace.as_mut().expect("it is open")
    }

    fn happens(&mut self, step: Step) {
        match step {
            Step::Apply(_, command) => {
                let newest = self.keyspace().revision();
                let command = match command {
                    // Mostly beyond what is being read, and then much is removed.
                    Command::Compact { revision } => Command::Compact {
                        revision: newest - revision.rem_euclid(3),
                    },
                    Command::Scrub { changes, bytes } => Command::Scrub {
                        changes: 10 * changes,
                        bytes,
                    },
                    other => other,
                };
                // Whether it is refused is no matter here.
                let _ = apply(self.keyspace(), &command).unwrap().unwrap();
                self.log.push(command);
            }
            Step::Query(..) => panic!("there are none among the changes"),
            Step::Checkpoint => {
                self.keyspace().checkpoint().unwrap();
            }
            Step::Crash => {
                self.keyspace = None;
                let mut keyspace = self.disk.open();
                let lost = keyspace.applied().index.0 as usize..;
                for (number, command) in self.log.iter().enumerate().skip(lost.start) {
                    let entry = EntryId {
                        term: Term(1),
                        index: Index(number as u64 + 1),
                    };
                    let (by, command) = (None, command.clone());
                    let signed = Signed { by, command }.encode();
                    keyspace.apply(entry, Some(&signed), false).unwrap();
                }
                self.keyspace = Some(keyspace);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 384, ..ProptestConfig::default() })]

    #[test]
    fn a_query_in_slices_comes_to_what_it_would_have_come_to_when_it_began(
        before in changes(25),
        query in read(),
        budget in (1..5u64, prop::sample::select(vec![1, 600, u64::MAX])),
        between in changes(60),
    ) {
        let budget = Work { steps: budget.0, bytes: budget.1 };
        let mut machine = Machine::new();
        for step in before {
            machine.happens(step);
        }
        let mut between = between.into_iter();
        loop {
            let keyspace = machine.keyspace();
            let compacted = keyspace.compaction().revision;
            let expected = keyspace.query(&query).unwrap();
            let mut slice = keyspace.begin(&query, &Unbounded, budget).unwrap();
            while let Ok(Slice::Unfinished(reading)) = slice {
                if let Some(step) = between.next() {
                    machine.happens(step);
                }
                slice = Ok(machine.keyspace().go_on(reading, &Unbounded, budget).unwrap());
            }
            match slice {
                Err(error) => prop_assert_eq!(Err(error), expected, "{:?}", query),
                Ok(Slice::Answered(reply)) => prop_assert_eq!(Ok(reply), expected, "{:?}", query),
                Ok(Slice::Overtaken(_)) => {
                    prop_assert!(machine.keyspace().compaction().revision > compacted);
                    continue;
                }
                other => prop_assert!(false, "{:?}", other),
            }
            break;
        }
    }
}

#[test]
fn no_slice_is_longer_than_its_budget_whatever_is_asked() {
    const STEPS: u64 = 100;
    let disk = Disk::new();
    let mut keyspace = filled(&disk);
    let sorted = |sort_target, limit| Range {
        limit,
        sort_order: SortOrder::Descend,
        sort_target,
        ..everything()
    };
    let count = Range {
        count_only: true,
        ..everything()
    };
    let nothing = Range {
        min_mod_revision: i64::MAX,
        ..everything()
    };
    let all = KEYS as u64;
    for (range, steps_min) in [
        (everything(), 2 * all),
        (count.clone(), all),
        (nothing, all),
        (sorted(SortTarget::Mod, 0), 2 * all),
        (sorted(SortTarget::Mod, 1_000), all + 2 * 1_000),
        (
            Range {
                keys_only: true,
                ..sorted(SortTarget::Mod, 1_000)
            },
            all + 1_000,
        ),
        (sorted(SortTarget::Value, 1), 2 * all),
    ] {
        let query = Query::Range(range);
        let (reply, slices) = in_slices(&keyspace, &query, &Unbounded, steps(STEPS));
        assert_eq!(reply, keyspace.query(&query).unwrap(), "{query:?}");
        assert!(slices >= steps_min / STEPS, "{slices} slices of {query:?}");
    }
    let bytes = Work {
        bytes: 10 * VALUE_BYTES as u64,
        ..Work::UNBOUNDED
    };
    let values = Query::Range(everything());
    let (_, slices) = in_slices(&keyspace, &values, &Unbounded, bytes);
    assert!(slices >= all / 10, "{slices} slices");
    // What two ranges of a transaction take is not more either.
    let twice = Query::Txn(Txn {
        success: vec![Operation::Range(count.clone()); 2],
        ..Txn::default()
    });
    let (_, slices) = in_slices(&keyspace, &twice, &Unbounded, steps(STEPS));
    assert!(slices >= 2 * all / STEPS, "{slices} slices");
    let points = Query::Txn(Txn {
        success: (0..KEYS)
            .map(|number| {
                Operation::Range(Range {
                    key: key(number),
                    ..Range::default()
                })
            })
            .collect(),
        ..Txn::default()
    });
    let (_, slices) = in_slices(&keyspace, &points, &Unbounded, steps(STEPS));
    assert!(slices >= 2 * all / STEPS, "{slices} slices");
    // Keys that are deleted are looked at, too.
    let delete = DeleteRange {
        key: everything().key,
        range_end: everything().range_end,
        prev_kv: false,
    };
    let deleted = apply(&mut keyspace, &Command::DeleteRange(delete));
    deleted.unwrap().unwrap().unwrap();
    let (_, slices) = in_slices(&keyspace, &Query::Range(count), &Unbounded, steps(STEPS));
    assert!(slices >= all / STEPS, "{slices} slices");
}

#[test]
fn many_keys_are_left_to_be_sorted_by_somebody_else() {
    let disk = Disk::new();
    let keyspace = filled(&disk);
    let descending = |limit| {
        Query::Range(Range {
            limit,
            sort_order: SortOrder::Descend,
            ..everything()
        })
    };
    let begin = |limit| keyspace.begin(&descending(limit), &Unbounded, Work::UNBOUNDED);
    match begin(0).unwrap() {
        Ok(Slice::Unsorted(unsorted)) => {
            let reply = unsorted.sort(&Unbounded);
            assert_eq!(Ok(reply), keyspace.query(&descending(0)).unwrap());
        }
        other => panic!("{other:?}"),
    }
    let few = begin(1_000).unwrap();
    assert!(matches!(few, Ok(Slice::Answered(_))), "{few:?}");
}

#[test]
fn a_reply_has_its_bound_over_all_slices() {
    let disk = Disk::new();
    let mut keyspace = filled(&disk);
    keyspace.bound_replies(KEYS * 2 * VALUE_BYTES);
    let query = Query::Range(everything());
    let (outcome, slices) = in_slices(&keyspace, &query, &Unbounded, steps(100));
    assert_eq!(outcome, Err(RequestError::ReplyTooLarge));
    assert!(slices > 10, "{slices} slices");
}
