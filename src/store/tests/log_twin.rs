//! The log against a naive twin: whatever is asked, refused, dropped or made to fail, both hold the same.

mod support;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use proptest::prelude::*;
use rm_raft::{
    Configuration, Configured, Entry, EntryId, HardState, Index, MachineId, Payload, RequestId,
    Term,
};
use rm_store::{Append, FaultHook, LogError, Point};
use support::{entry, open, options, read_all};
use tempfile::TempDir;

/// The log as a vector of what is behind the base.
#[derive(Clone, Debug, Default)]
struct Twin {
    hard_state: HardState,
    generation: u64,
    base: EntryId,
    /// The configuration in force at the base.
    configured: Option<Configured>,
    entries: Vec<Entry>,
}

impl Twin {
    fn last(&self) -> EntryId {
        self.entries.last().map_or(self.base, |entry| entry.id)
    }

    /// The entry at an index behind the base, or the base itself.
    fn id_at(&self, index: Index) -> Option<EntryId> {
        match index.0.checked_sub(self.base.index.0)? {
            0 => Some(self.base),
            place => self.entries.get(place as usize - 1).map(|entry| entry.id),
        }
    }

    fn remove_up_to(&mut self, base: EntryId) {
        let mut held = self.configurations().into_iter();
        let at_base = held.rfind(|each| each.index <= base.index);
        self.configured = at_base;
        self.entries.retain(|entry| entry.id.index > base.index);
        self.base = base;
    }

    /// What the log must be after a compaction; none if it must be refused.
    fn compact(&self, up_to: EntryId) -> Option<Twin> {
        if up_to.index > self.hard_state.commit {
            return None;
        }
        let mut next = self.clone();
        if up_to.index > self.base.index {
            self.id_at(up_to.index).filter(|id| *id == up_to)?;
            next.remove_up_to(up_to);
        }
        Some(next)
    }

    /// What the log must be after a snapshot is installed; none if it must be refused.
    fn install(&self, generation: u64, base: EntryId, configured: &Configured) -> Option<Twin> {
        let stale = generation <= self.generation || base.index < self.base.index;
        if stale || base.term > self.hard_state.term {
            return None;
        }
        let matches = self.id_at(base.index) == Some(base);
        if !matches && base.index <= self.hard_state.commit {
            return None;
        }
        let mut next = self.clone();
        next.remove_up_to(base);
        if !matches {
            next.entries.clear();
        }
        next.configured = Some(configured.clone());
        next.generation = generation;
        next.hard_state.commit = next.hard_state.commit.max(base.index);
        Some(next)
    }

    /// What the log must hold after a persist that is in order; none if it must be refused.
    fn persist(&self, hard_state: HardState, entries: &[Entry]) -> Option<Twin> {
        let mut next = Twin {
            hard_state,
            ..self.clone()
        };
        let (old, new) = (&self.hard_state, &hard_state);
        let vote_kept = old.vote.is_none() || old.vote == new.vote || new.term > old.term;
        if new.term < old.term || !vote_kept || new.commit < old.commit {
            return None;
        }
        for entry in entries {
            entry.id.index.0.checked_sub(1)?;
            if entry.id.index > next.last().index.next() || entry.id.term > new.term {
                return None;
            }
            if entry.id.index <= old.commit && entry.id.index <= self.base.index {
                let is_base = entry.id.index == self.base.index;
                if entry.id.term > self.base.term || is_base && entry.id != self.base {
                    return None;
                }
                continue;
            }
            let place = (entry.id.index.0 - self.base.index.0 - 1) as usize;
            if entry.id.index <= old.commit {
                if next.entries[place] != *entry {
                    return None;
                }
                continue;
            }
            next.entries.truncate(place);
            if next.last().term > entry.id.term {
                return None;
            }
            next.entries.push(entry.clone());
        }
        (new.commit <= next.last().index).then_some(next)
    }

    fn terms(&self) -> Vec<EntryId> {
        let mut terms: Vec<EntryId> = self.entries.iter().map(|entry| entry.id).collect();
        terms.dedup_by_key(|id| id.term);
        terms
    }

    fn configurations(&self) -> Vec<Configured> {
        let configured = |entry: &Entry| match &entry.payload {
            Payload::Configuration { configuration, .. } => Some(Configured {
                index: entry.id.index,
                configuration: Configuration::clone(configuration),
            }),
            Payload::Empty | Payload::Command(_) => None,
        };
        let held = self.entries.iter().filter_map(configured);
        self.configured.iter().cloned().chain(held).collect()
    }
}

/// An entry of the twin's log: now and then a configuration.
fn some_entry(term: u64, index: u64, bytes: usize) -> Entry {
    let mut entry = entry(term, index, bytes);
    if bytes.is_multiple_of(7) {
        let machine = MachineId(term);
        let mut configuration = Configuration::of_voters([MachineId(index), machine]);
        configuration.outgoing = vec![machine];
        configuration.learners = vec![MachineId(index + term)];
        configuration.about = [(machine, vec![7; bytes / 8].into())].into();
        let request = bytes.is_multiple_of(2).then_some(RequestId {
            machine,
            number: index,
        });
        entry.payload = Payload::Configuration {
            request,
            configuration: Box::new(configuration),
        };
    }
    entry
}

/// How a batch ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Commit,
    Drop,
    Fail(Point),
    Reopen,
}

/// What is asked of an append.
#[derive(Clone, Debug)]
enum Act {
    Persist(Step),
    /// So far before the commit index, as if of a term so much later.
    Compact {
        before: i64,
        term_up: u64,
    },
    /// So far behind the commit index, of a term so much before the machine's.
    Install {
        generation_up: u64,
        behind: i64,
        term_down: u64,
    },
}

fn act() -> impl Strategy<Value = Act> {
    let compact = (
        prop_oneof![6 => 0_i64..6, 1 => -2_i64..0],
        prop_oneof![9 => Just(0), 1 => Just(1_u64)],
    );
    let install = (0_u64..3, -6_i64..12, 0_u64..3);
    prop_oneof![
        6 => step().prop_map(Act::Persist),
        2 => compact.prop_map(|(before, term_up)| Act::Compact { before, term_up }),
        1 => install.prop_map(|(generation_up, behind, term_down)| Act::Install {
            generation_up,
            behind,
            term_down,
        }),
    ]
}

/// Carries an act out on the append, and gives what the twin makes of it.
fn carry_out(
    append: &mut Append<'_>,
    twin: &Twin,
    act: &Act,
) -> (Result<(), LogError>, Option<Twin>) {
    let commit = twin.hard_state.commit.0 as i64;
    match act {
        Act::Persist(step) => {
            let (hard_state, entries) = ask(twin, step);
            let expected = twin.persist(hard_state, &entries);
            (append.persist(&hard_state, &entries), expected)
        }
        Act::Compact { before, term_up } => {
            let index = Index((commit - before).max(0) as u64);
            let mut up_to = twin.id_at(index).unwrap_or_default();
            up_to.index = index;
            up_to.term.0 += term_up;
            (append.compact(up_to), twin.compact(up_to))
        }
        Act::Install {
            generation_up,
            behind,
            term_down,
        } => {
            let index = Index((commit + behind).max(1) as u64);
            let term = twin.hard_state.term.0.saturating_sub(*term_down);
            let known = twin.id_at(index).filter(|_| *term_down == 2);
            let base = known.unwrap_or(EntryId {
                term: Term(term.max(twin.base.term.0)),
                index,
            });
            let generation = twin.generation + generation_up;
            let configured = Configured {
                index: Index(base.index.0 / 2),
                configuration: Configuration::of_voters([MachineId(generation + 1)]),
            };
            let expected = twin.install(generation, base, &configured);
            let installed = append.install(generation, base, &configured);
            (installed.map(drop), expected)
        }
    }
}

/// A persist, relative to what the log holds, so that most are in order.
#[derive(Clone, Debug)]
struct Step {
    term_up: u64,
    vote: Option<u64>,
    commit_up: i64,
    back: i64,
    count: u64,
    bytes: usize,
}

fn step() -> impl Strategy<Value = Step> {
    let numbers = (
        prop_oneof![6 => Just(0), 2 => 1_u64..3],
        prop_oneof![3 => Just(None), 1 => (1_u64..4).prop_map(Some)],
        prop_oneof![6 => 0_i64..4, 1 => -2_i64..0],
        prop_oneof![6 => Just(0_i64), 3 => 1_i64..12, 1 => -2_i64..0],
        0_u64..9,
        prop_oneof![9 => 0_usize..400, 1 => 4000_usize..9000],
    );
    numbers.prop_map(|(term_up, vote, commit_up, back, count, bytes)| Step {
        term_up,
        vote,
        commit_up,
        back,
        count,
        bytes,
    })
}

fn end() -> impl Strategy<Value = End> {
    prop_oneof![
        6 => Just(End::Commit),
        1 => Just(End::Drop),
        2 => prop_oneof![
            Just(Point::Write),
            Just(Point::Append),
            Just(Point::Commit),
            Just(Point::Committed),
            Just(Point::Trim),
            Just(Point::Install),
        ]
        .prop_map(End::Fail),
        2 => Just(End::Reopen),
    ]
}

/// The persist that a step asks for, given what the batch has so far.
fn ask(twin: &Twin, step: &Step) -> (HardState, Vec<Entry>) {
    let term = twin.hard_state.term.0.max(1) + step.term_up;
    let kept = if step.term_up == 0 {
        twin.hard_state.vote
    } else {
        None
    };
    let first = (twin.last().index.0 as i64 + 1 - step.back).max(0) as u64;
    let entries: Vec<Entry> = (first..first + step.count)
        .map(|index| some_entry(term, index, step.bytes))
        .collect();
    let commit = (twin.hard_state.commit.0 as i64 + step.commit_up).max(0) as u64;
    let hard_state = HardState {
        term: Term(term),
        vote: step.vote.map(rm_raft::MachineId).or(kept),
        commit: Index(commit),
    };
    (hard_state, entries)
}

/// Whether the caller asked for what a log never does.
fn is_refusal(error: &LogError) -> bool {
    use LogError::*;
    matches!(
        error,
        Gap { .. }
            | EntryTerm { .. }
            | TermRegressed { .. }
            | VoteChanged { .. }
            | CommitRegressed { .. }
            | Committed { .. }
            | CommitBeyondLog { .. }
            | CompactBeyondCommit { .. }
            | StaleSnapshot { .. }
    )
}

fn number(point: Point) -> u8 {
    match point {
        Point::Write => 1,
        Point::Append => 2,
        Point::Commit => 3,
        Point::Committed => 4,
        Point::Trim => 5,
        Point::Install => 6,
        other => panic!("the log never comes to {other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, ..ProptestConfig::default() })]

    #[test]
    fn the_log_does_what_a_vector_would(
        batches in prop::collection::vec((prop::collection::vec(act(), 1..4), end()), 1..25)
    ) {
        let folder = TempDir::new().unwrap();
        let armed = Arc::new(AtomicU8::new(0));
        let hook = armed.clone();
        let mut options = options();
        options.fault = FaultHook::new(move |point| {
            if hook.load(Ordering::Relaxed) == number(point) {
                return Err(io::Error::from_raw_os_error(28));
            }
            Ok(())
        });
        let mut opened = open(folder.path(), &options).unwrap();
        let mut twin = Twin::default();
        for (acts, end) in batches {
            if let End::Fail(point) = end {
                armed.store(number(point), Ordering::Relaxed);
            }
            let mut append = opened.1.begin().unwrap();
            let mut next = twin.clone();
            let mut failed = false;
            for act in &acts {
                let (result, expected) = carry_out(&mut append, &next, act);
                match result {
                    Ok(()) => next = expected.expect("the log took what the twin refuses"),
                    Err(error) if is_refusal(&error) => {
                        prop_assert!(expected.is_none(), "{error}");
                    }
                    Err(error) => {
                        let expected = error.is_no_space() || matches!(error, LogError::Broken);
                        prop_assert!(expected && armed.load(Ordering::Relaxed) != 0, "{error}");
                        failed = true;
                    }
                }
                prop_assert_eq!(append.last(), next.last());
            }
            match end {
                End::Drop => drop(append),
                End::Commit | End::Reopen | End::Fail(_) => match append.commit() {
                    Ok(()) => {
                        prop_assert!(!failed, "a broken batch was committed");
                        twin = next;
                    }
                    Err(error) => {
                        prop_assert!(armed.load(Ordering::Relaxed) != 0, "{error}");
                        if matches!(end, End::Fail(Point::Committed)) {
                            prop_assert!(!failed, "{error}");
                            // All of it is durable, though nobody was told.
                            twin = next;
                        }
                    }
                },
            }
            armed.store(0, Ordering::Relaxed);
            if matches!(end, End::Reopen) {
                drop(opened);
                opened = open(folder.path(), &options).unwrap();
            }
            let loaded = opened.1.load().unwrap();
            prop_assert_eq!(loaded.hard_state, twin.hard_state);
            prop_assert_eq!(loaded.last, twin.last());
            prop_assert_eq!(loaded.terms, twin.terms());
            prop_assert_eq!(loaded.configurations, twin.configurations());
            prop_assert_eq!((loaded.base, loaded.generation), (twin.base, twin.generation));
            prop_assert_eq!(loaded.first, twin.base.index.next());
            prop_assert_eq!(read_all(&opened.1).unwrap(), twin.entries.clone());
        }
    }
}
