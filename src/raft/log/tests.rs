//! The log against its naive twin, and by hand where the twin does not go.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::Payload;

/// The naive twin: all entries in a vector, those that are compacted too, and what is durable counted by the letter of the
/// rule.
#[derive(Default)]
struct Twin {
    entries: Vec<EntryId>,
    base: usize,
    durable: usize,
}

impl Twin {
    fn term_at(&self, index: u64) -> Option<Term> {
        match index {
            _ if index < self.base as u64 => None,
            0 => Some(Term(0)),
            _ => self.entries.get(index as usize - 1).map(|id| id.term),
        }
    }

    fn last_compatible(&self, limit: EntryId) -> Option<EntryId> {
        let compatible = |id: &&EntryId| id.index <= limit.index && id.term <= limit.term;
        let last = self.entries.iter().rfind(compatible).copied();
        let last = last.unwrap_or_default();
        (last.index.0 >= self.base as u64).then_some(last)
    }
}

/// What may happen to a log.
#[derive(Clone, Debug)]
enum Step {
    Append {
        count: u64,
        later_term: bool,
    },
    Truncate {
        share: u64,
    },
    Ask,
    Persist,
    Evict {
        bytes_max: usize,
    },
    Compact {
        share: u64,
    },
    /// A snapshot that ends at an entry of the log.
    InstallKnown {
        share: u64,
    },
    /// A snapshot that ends beyond the log.
    InstallBeyond {
        gap: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1u64..5, any::<bool>()).prop_map(|(count, later_term)| Step::Append { count, later_term }),
        1 => (0u64..100).prop_map(|share| Step::Truncate { share }),
        3 => Just(Step::Ask),
        3 => Just(Step::Persist),
        2 => (0usize..300).prop_map(|bytes_max| Step::Evict { bytes_max }),
        1 => (0u64..=100).prop_map(|share| Step::Compact { share }),
        1 => (0u64..=100).prop_map(|share| Step::InstallKnown { share }),
        1 => (0u64..5).prop_map(|gap| Step::InstallBeyond { gap }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_log_is_what_its_naive_twin_is(steps in prop::collection::vec(step(), 1..60)) {
        let mut log = Log::new(EntryId::default(), Vec::new(), EntryId::default());
        let mut twin = Twin::default();
        let mut term = Term(1);
        // What Storage was asked and has not said to be done: the machine's term then, and the last entry.
        let mut asked: VecDeque<(Term, EntryId, usize)> = VecDeque::new();
        for step in steps {
            match step {
                Step::Append { count, later_term } => {
                    if later_term {
                        term = term.next();
                    }
                    for _ in 0..count {
                        let id = EntryId { term, index: log.last().index.next() };
                        log.append(Entry { id, payload: Payload::Empty });
                        twin.entries.push(id);
                    }
                }
                Step::Truncate { share } => {
                    let keep = twin.base + (twin.entries.len() - twin.base) * share as usize / 100;
                    if keep < twin.entries.len() {
                        term = term.next();
                        log.truncate(Index(keep as u64 + 1), term);
                        twin.entries.truncate(keep);
                        twin.durable = twin.durable.min(keep);
                        // What was asked before no longer tells about what is written after, and a leader
                        // truncates only to put something else there.
                        for (_, _, proves) in &mut asked {
                            *proves = (*proves).min(keep);
                        }
                        let index = log.last().index.next();
                        let id = EntryId { term, index };
                        let payload = Payload::Empty;
                        log.append(Entry { id, payload });
                        twin.entries.push(id);
                    }
                }
                Step::Ask => {
                    log.take_unasked();
                    asked.push_back((term, log.last(), twin.entries.len()));
                }
                Step::Persist => {
                    if let Some((then, last, proves)) = asked.pop_front() {
                        log.persisted(then, last);
                        // The log may know less than the twin, never more: it counts only whole notices.
                        prop_assert!(log.durable().0 as usize <= twin.durable.max(proves));
                        if proves as u64 == last.index.0 {
                            twin.durable = twin.durable.max(proves);
                        }
                        if asked.is_empty() && !log.has_unasked() && proves as u64 == last.index.0 {
                            prop_assert_eq!(log.durable(), last.index.max(log.base().index));
                        }
                    }
                }
                Step::Evict { bytes_max } => log.evict(log.durable(), bytes_max),
                Step::Compact { share } => {
                    let up_to = twin.base + (log.durable().0 as usize - twin.base) * share as usize / 100;
                    log.compact(Index(up_to as u64));
                    twin.base = up_to;
                }
                Step::InstallKnown { share } => {
                    // Storage was asked for all of it before the snapshot was installed, and does things in order.
                    log.take_unasked();
                    asked.push_back((term, log.last(), twin.entries.len()));
                    let up_to = twin.base + (twin.entries.len() - twin.base) * share as usize / 100;
                    let last = log.id_at(Index(up_to as u64)).expect("it is known");
                    log.install(last, term);
                    twin.base = up_to;
                    twin.durable = twin.durable.max(up_to);
                }
                Step::InstallBeyond { gap } => {
                    term = term.next();
                    let index = Index(log.last().index.0 + 1 + gap);
                    let id = EntryId { term, index };
                    log.install(id, term);
                    twin.base = index.0 as usize;
                    twin.durable = twin.base;
                    // What the snapshot stands for has no names but that of its last entry.
                    twin.entries = vec![EntryId::default(); twin.base - 1];
                    twin.entries.push(id);
                    for (_, _, proves) in &mut asked {
                        *proves = 0;
                    }
                }
            }
            log.check();
            compare(&mut log, &twin)?;
            prop_assert_eq!(log.base().index.0 as usize, twin.base);
        }
    }
}

fn compare(log: &mut Log, twin: &Twin) -> Result<(), TestCaseError> {
    let last = twin.entries.len() as u64;
    for index in 0..last + 3 {
        prop_assert_eq!(log.term_at(Index(index)), twin.term_at(index));
    }
    for index in 0..last + 2 {
        for term in 0..last + 2 {
            let limit = EntryId {
                term: Term(term),
                index: Index(index),
            };
            prop_assert_eq!(log.last_compatible(limit), twin.last_compatible(limit));
        }
    }
    let first = log.first_in_memory();
    let in_memory = log.entries(first, Index(last));
    let ids: Vec<EntryId> = in_memory.iter().map(|entry| entry.id).collect();
    prop_assert_eq!(&ids[..], &twin.entries[first.0 as usize - 1..]);
    for entry in in_memory.iter() {
        let index = entry.id.index;
        let bytes: usize = in_memory
            .iter()
            .filter(|e| e.id.index > index)
            .map(Entry::size)
            .sum();
        prop_assert_eq!(log.bytes_after(index), bytes);
        let end = log.chunk_end(index, 2 * entry.size());
        prop_assert_eq!(end, index.next().min(Index(last)));
        prop_assert_eq!(log.chunk_end(index, 1), index);
    }
    Ok(())
}

#[test]
fn a_notice_of_an_entrys_first_life_does_not_count() {
    let entry = |term, index| Entry {
        id: EntryId {
            term: Term(term),
            index: Index(index),
        },
        payload: Payload::Empty,
    };
    let mut log = Log::new(EntryId::default(), Vec::new(), EntryId::default());
    log.append(entry(2, 1));
    log.take_unasked();
    log.truncate(Index(1), Term(3));
    log.append(entry(3, 1));
    log.take_unasked();
    log.truncate(Index(1), Term(4));
    log.append(entry(2, 1));
    log.take_unasked();
    log.persisted(Term(2), entry(2, 1).id);
    assert_eq!(log.durable(), Index(0));
    log.persisted(Term(4), entry(2, 1).id);
    assert_eq!(log.durable(), Index(1));
}

#[test]
fn a_notice_from_before_an_install_does_not_count() {
    let entry = |term, index| Entry {
        id: EntryId {
            term: Term(term),
            index: Index(index),
        },
        payload: Payload::Empty,
    };
    let mut log = Log::new(EntryId::default(), Vec::new(), EntryId::default());
    log.append(entry(1, 1));
    log.append(entry(1, 2));
    log.take_unasked();
    log.install(entry(2, 4).id, Term(3));
    assert_eq!(log.durable(), Index(4));
    log.append(entry(2, 5));
    log.take_unasked();
    log.persisted(Term(2), entry(1, 2).id);
    log.persisted(Term(2), entry(2, 5).id);
    assert_eq!(log.durable(), Index(4));
    log.persisted(Term(3), entry(2, 5).id);
    assert_eq!(log.durable(), Index(5));
}

#[test]
fn the_tail_is_known_for_entries_that_left_memory() {
    let size = Entry {
        id: EntryId::default(),
        payload: Payload::Empty,
    }
    .size();
    let mut log = Log::new(EntryId::default(), Vec::new(), EntryId::default());
    for index in 1..=500 {
        let id = EntryId {
            term: Term(1),
            index: Index(index),
        };
        log.append(Entry {
            id,
            payload: Payload::Empty,
        });
    }
    log.take_unasked();
    log.persisted(Term(1), log.last());
    assert_eq!(log.tail_start(1000 * size), Index(0));
    assert_eq!(log.tail_start(400 * size), Index(100));
    log.evict(Index(500), 10 * size);
    // To the next mark, and exactly in memory.
    assert_eq!(log.tail_start(400 * size), Index(128));
    assert_eq!(log.tail_start(10 * size), Index(490));
    assert_eq!(log.tail_start(3 * size), Index(497));
    assert_eq!(log.tail_start(0), Index(500));
    // A longer tail is known all the same after a shorter one was asked for.
    assert_eq!(log.tail_start(400 * size), Index(128));
}
