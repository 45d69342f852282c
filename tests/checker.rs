//! Whether what clients saw of a key could have come from one copy of it: linearizability, after Wing and Gong, with the
//! memory of visited configurations that Lowe added ("Testing for linearizability", 2016).
//!
//! Keys are checked one by one, which suffices: linearizability is local (Herlihy and Wing, 1990, theorem 1).

use std::collections::{HashMap, HashSet};

use crate::history::{Answer, History, Operation, Request, Value};

/// Proves that a history is linearizable, and gives back how many operations were answered.
///
/// # Panics
///
/// When a key's history is not, with its beginning up to the answer that nothing can explain.
pub fn assert_linearizable(history: History) -> usize {
    let answered = history.answered();
    for (key, operations) in history.into_keys() {
        if let Some(beginning) = unexplained(&operations) {
            let lines: Vec<String> = beginning.iter().map(|o| format!("{o:?}")).collect();
            panic!(
                "{key} is not linearizable, nothing explains the last answer:\n{}",
                lines.join("\n")
            );
        }
    }
    answered
}

/// The shortest beginning of a history that is not linearizable, or nothing when all of it is.
fn unexplained(operations: &[Operation]) -> Option<Vec<Operation>> {
    if linearizable(operations) {
        return None;
    }
    let answers = operations.iter().filter(|o| o.answer.is_some());
    let mut moments: Vec<_> = answers.map(|operation| operation.answered).collect();
    moments.sort_unstable();
    let beginning = |moment| {
        let asked = operations.iter().filter(move |o| o.asked <= moment);
        // What was not answered by then was not known by then.
        let known = |o: &Operation| o.answer.filter(|_| o.answered <= moment);
        let cut: Vec<_> = asked
            .map(|o| Operation {
                answer: known(o),
                ..*o
            })
            .collect();
        in_order(&relevant(&cut))
    };
    let mut beginnings = moments.into_iter().map(beginning);
    beginnings.find(|beginning| !linearizable(beginning))
}

/// Whether the operations on one key, which holds nothing at first, are linearizable.
pub fn linearizable(operations: &[Operation]) -> bool {
    let operations = in_order(&relevant(operations));
    let twins = twins(&operations);
    let first = Configuration {
        done: vec![0; operations.len().div_ceil(64)],
        value: None,
        to_be_seen: false,
    };
    let mut visited = HashSet::new();
    let mut open = vec![first];
    while let Some(configuration) = open.pop() {
        let undone = || {
            let left = operations.iter().enumerate();
            left.filter(|(place, _)| !configuration.has_done(*place))
        };
        // Operations are in the order of their answers, so the first that is left bounds what may come next.
        let Some(deadline) = undone().find_map(|(_, o)| o.answer.map(|_| o.answered)) else {
            return true;
        };
        // Pushed from the last answer to the first, so that the likeliest is tried first.
        let next: Vec<Configuration> = undone()
            .filter(|(_, operation)| operation.asked <= deadline)
            .filter(|(place, _)| twins[*place].is_none_or(|twin| configuration.has_done(twin)))
            .filter_map(|(place, operation)| configuration.after(place, operation))
            .collect();
        for configuration in next.into_iter().rev() {
            if visited.insert(configuration.clone()) {
                open.push(configuration);
            }
        }
    }
    false
}

/// Which operations have taken effect, and what the key then holds.
///
/// An operation without an answer need not have happened. So it is taken only where it changes what the key holds, and the next
/// operation must depend on that: where it does not, leaving the first out explains as much. Otherwise each would double the work.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Configuration {
    done: Vec<u64>,
    value: Value,
    /// Whether the last operation has no answer.
    to_be_seen: bool,
}

impl Configuration {
    fn has_done(&self, place: usize) -> bool {
        self.done[place / 64] & (1 << (place % 64)) != 0
    }

    /// What it is after that operation, unless this cannot be the next one, or need not be.
    fn after(&self, place: usize, operation: &Operation) -> Option<Self> {
        let value = step(self.value, operation)?;
        let is_unknown = operation.answer.is_none();
        if is_unknown && value == self.value || self.to_be_seen && is_blind(operation) {
            return None;
        }
        let mut done = self.done.clone();
        done[place / 64] |= 1 << (place % 64);
        Some(Configuration {
            done,
            value,
            to_be_seen: is_unknown,
        })
    }
}

/// Whether neither its effect nor its answer depends on what the key holds.
fn is_blind(operation: &Operation) -> bool {
    match operation.request {
        Request::Put(_) => true,
        Request::Delete => operation.answer.is_none(),
        Request::Get | Request::CompareAndSwap(..) => false,
    }
}

/// For each operation without an answer, the place of the last one before it that asks for the same: any order in which the later
/// one comes first explains as much with the two exchanged.
fn twins(operations: &[Operation]) -> Vec<Option<usize>> {
    let mut last = HashMap::new();
    let twin = |(place, operation): (usize, &Operation)| match operation.answer {
        Some(_) => None,
        None => last.insert(operation.request, place),
    };
    operations.iter().enumerate().map(twin).collect()
}

/// What the key holds after the operation, or nothing when its answer is impossible where it held `value`.
fn step(value: Value, operation: &Operation) -> Option<Value> {
    let (right_answer, after) = match operation.request {
        Request::Get => (Answer::Held(value), value),
        Request::Put(new) => (Answer::Written, Some(new)),
        Request::Delete => (Answer::Deleted(value), None),
        Request::CompareAndSwap(expected, new) if value == expected => (Answer::Written, Some(new)),
        Request::CompareAndSwap(..) => (Answer::Held(value), value),
    };
    let possible = operation.answer.is_none_or(|answer| answer == right_answer);
    possible.then_some(after)
}

/// The operations by the time of their answers, and last those without one, by the time when they were asked for.
fn in_order(operations: &[Operation]) -> Vec<Operation> {
    let mut operations = operations.to_vec();
    operations.sort_by_key(|operation| match operation.answer {
        Some(_) => (false, operation.answered),
        None => (true, operation.asked),
    });
    operations
}

/// Leaves out what has no outcome and left no trace: each would double the work, and none changes the verdict.
///
/// Without its answer a read says nothing. A write without an answer whose value nobody saw or expected can be taken out of
/// any order that explains the rest.
fn relevant(operations: &[Operation]) -> Vec<Operation> {
    let seen: HashSet<u64> = operations
        .iter()
        .flat_map(|operation| {
            let answer = match operation.answer {
                Some(Answer::Held(value) | Answer::Deleted(value)) => value,
                Some(Answer::Written) | None => None,
            };
            let expected = match operation.request {
                Request::CompareAndSwap(expected, _) => expected,
                _ => None,
            };
            [answer, expected]
        })
        .flatten()
        .collect();
    let leaves_a_trace = |operation: &&Operation| match operation.request {
        _ if operation.answer.is_some() => true,
        Request::Get => false,
        Request::Put(value) | Request::CompareAndSwap(_, value) => seen.contains(&value),
        Request::Delete => true,
    };
    operations.iter().filter(leaves_a_trace).copied().collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    /// Tries every order of every choice of the operations that may have happened.
    fn linearizable_by_force(operations: &[Operation]) -> bool {
        fn explain(value: Value, left: &[Operation]) -> bool {
            if left.iter().all(|operation| operation.answer.is_none()) {
                return true;
            }
            (0..left.len()).any(|place| {
                let next = left[place];
                let too_late = left
                    .iter()
                    .any(|o| o.answer.is_some() && o.answered < next.asked);
                let mut rest = left.to_vec();
                rest.remove(place);
                !too_late && step(value, &next).is_some_and(|value| explain(value, &rest))
            })
        }
        explain(None, operations)
    }

    fn operation(asked: u64, answered: u64, request: Request, answer: Option<Answer>) -> Operation {
        Operation {
            request,
            answer,
            asked: Duration::from_secs(asked),
            answered: Duration::from_secs(answered),
        }
    }

    const ONE: Value = Some(1);

    #[test]
    fn a_read_after_an_acknowledged_write_must_see_it() {
        let write = operation(0, 1, Request::Put(1), Some(Answer::Written));
        let fresh = operation(2, 3, Request::Get, Some(Answer::Held(ONE)));
        let stale = operation(2, 3, Request::Get, Some(Answer::Held(None)));
        assert!(linearizable(&[write, fresh]));
        assert!(!linearizable(&[write, stale]));
    }

    #[test]
    fn a_read_beside_a_write_may_see_it_or_not_but_not_both_in_turn() {
        let write = operation(0, 9, Request::Put(1), Some(Answer::Written));
        let sees = operation(1, 2, Request::Get, Some(Answer::Held(ONE)));
        let misses = operation(3, 4, Request::Get, Some(Answer::Held(None)));
        assert!(linearizable(&[write, sees]));
        assert!(linearizable(&[write, misses]));
        assert!(!linearizable(&[write, sees, misses]));
    }

    #[test]
    fn a_write_of_unknown_outcome_may_happen_at_any_later_time() {
        let write = operation(0, 0, Request::Put(1), None);
        let before = operation(1, 2, Request::Get, Some(Answer::Held(None)));
        let after = operation(3, 4, Request::Get, Some(Answer::Held(ONE)));
        assert!(linearizable(&[write, before, after]));
        assert!(linearizable(&[write, before]));
    }

    #[test]
    fn of_two_swaps_from_the_same_value_one_must_lose() {
        let one = operation(
            0,
            5,
            Request::CompareAndSwap(None, 1),
            Some(Answer::Written),
        );
        let two = operation(
            0,
            5,
            Request::CompareAndSwap(None, 2),
            Some(Answer::Written),
        );
        let lost = operation(
            0,
            5,
            Request::CompareAndSwap(None, 2),
            Some(Answer::Held(ONE)),
        );
        assert!(!linearizable(&[one, two]));
        assert!(linearizable(&[one, lost]));
    }

    #[test]
    fn a_report_ends_with_the_answer_that_nothing_explains() {
        let write = operation(0, 1, Request::Put(1), Some(Answer::Written));
        let stale = operation(2, 3, Request::Get, Some(Answer::Held(None)));
        let fresh = operation(4, 5, Request::Get, Some(Answer::Held(ONE)));
        assert_eq!(
            unexplained(&[write, stale, fresh]),
            Some(vec![write, stale])
        );
        assert_eq!(unexplained(&[write, fresh]), None);
    }

    #[test]
    fn a_delete_tells_what_it_deleted() {
        let write = operation(0, 1, Request::Put(1), Some(Answer::Written));
        let delete = operation(2, 3, Request::Delete, Some(Answer::Deleted(ONE)));
        let again = operation(4, 5, Request::Delete, Some(Answer::Deleted(ONE)));
        assert!(linearizable(&[write, delete]));
        assert!(!linearizable(&[write, delete, again]));
    }

    prop_compose! {
        /// Values are unique to their writer, who may write them again, as in a real history, and seen by anybody.
        fn operations()(parts in prop::collection::vec((0u8..4, 0u64..6, 0u64..6, 0u64..12, 0u64..8, 0u8..5, 1u64..4), 0..7))
            -> Vec<Operation>
        {
            let value = |number: u64| (number > 0).then_some(number);
            parts.into_iter().enumerate().map(|(place, (kind, expected, seen, asked, length, answer, writes))| {
                let new = place as u64 / writes + 1;
                let request = match kind {
                    0 => Request::Get,
                    1 => Request::Put(new),
                    2 => Request::Delete,
                    _ => Request::CompareAndSwap(value(expected), new),
                };
                let answer = match (answer, request) {
                    (0, _) => None,
                    (_, Request::Get) => Some(Answer::Held(value(seen))),
                    (_, Request::Put(_)) => Some(Answer::Written),
                    (_, Request::Delete) => Some(Answer::Deleted(value(seen))),
                    (1, Request::CompareAndSwap(..)) => Some(Answer::Held(value(seen))),
                    (_, Request::CompareAndSwap(..)) => Some(Answer::Written),
                };
                operation(asked, asked + length, request, answer)
            }).collect()
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..Default::default() })]
        #[test]
        fn the_verdict_is_that_of_brute_force(operations in operations()) {
            prop_assert_eq!(linearizable(&operations), linearizable_by_force(&operations));
        }
    }
}
