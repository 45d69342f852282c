//! Random requests and accidents for a key space.

use bytes::Bytes;
use proptest::prelude::*;
use rm_kv::{
    Command, Compare, CompareResult, CompareTarget, DeleteRange, Grant, LeaseTime, Operation, Put,
    Query, Range, SortOrder, SortTarget, Txn,
};

use crate::user_steps::{Asker, asker, auth_command, auth_query, some_users};

/// What happens to the machine.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// On whose behalf, and what.
    Apply(Asker, Command),
    Query(Asker, Query),
    Checkpoint,
    /// The process dies and starts again: what was not in a checkpoint is applied again from the log.
    Crash,
}

/// Few keys, so that requests meet; among them keys around the lengths at which the index divides them.
pub(crate) fn keys() -> Vec<Bytes> {
    let long = |count: usize, tail: &'static [u8]| {
        let mut key = vec![b'k'; count];
        key.extend_from_slice(tail);
        Bytes::from(key)
    };
    [&b"a"[..], b"b", b"bb", b"c", b"k", b"l", b"\0", b"\xff\xff"]
        .map(Bytes::from_static)
        .into_iter()
        .chain([
            long(499, b""),
            long(500, b""),
            long(500, b"\0"),
            long(500, b"a"),
            long(501, b""),
            long(499, b"z"),
            long(1_000, b""),
            long(1_000, b"\0"),
            long(1_001, b"x"),
            long(600, b"\xff"),
        ])
        .collect()
}

pub(crate) fn key() -> impl Strategy<Value = Bytes> {
    prop::sample::select(keys())
}

pub(crate) fn range_end() -> impl Strategy<Value = Bytes> {
    prop_oneof![
        2 => Just(Bytes::new()),
        1 => Just(Bytes::from_static(&[0])),
        2 => key(),
    ]
}

fn small() -> impl Strategy<Value = i64> {
    prop_oneof![3 => Just(0), 2 => 0..30i64]
}

prop_compose! {
    fn range()(
        key in key(),
        range_end in range_end(),
        limit in small(),
        revision in prop_oneof![4 => Just(0), 5 => 1..30i64, 1 => Just(-1), 1 => Just(1_000)],
        sort_order in prop::sample::select(vec![SortOrder::None, SortOrder::Ascend, SortOrder::Descend]),
        sort_target in prop::sample::select(vec![
            SortTarget::Key, SortTarget::Key, SortTarget::Version, SortTarget::Create, SortTarget::Mod, SortTarget::Value,
        ]),
        (keys_only, count_only) in prop::sample::select(vec![(false, false), (false, false), (true, false), (false, true)]),
        (min_mod_revision, max_mod_revision) in (small(), small()),
        (min_create_revision, max_create_revision) in (small(), small()),
    ) -> Range {
        Range {
            key, range_end, limit, revision, sort_order, sort_target, keys_only, count_only,
            min_mod_revision, max_mod_revision, min_create_revision, max_create_revision,
        }
    }
}

prop_compose! {
    fn put()(
        key in key(),
        value in prop::sample::select(vec!["", "v", "w", "x"]),
        lease in prop::sample::select(vec![0, 0, 0, 0, 1, 2, -3, 7]),
        prev_kv in any::<bool>(),
        (ignore_value, ignore_lease) in prop::sample::select(vec![
            (false, false), (false, false), (false, false), (false, false), (true, false), (false, true), (true, true),
        ]),
    ) -> Put {
        Put {
            key,
            value: if ignore_value { Bytes::new() } else { Bytes::from_static(value.as_bytes()) },
            lease: if ignore_lease { 0 } else { lease },
            prev_kv, ignore_value, ignore_lease,
        }
    }
}

prop_compose! {
    fn delete()(key in key(), range_end in range_end(), prev_kv in any::<bool>()) -> DeleteRange {
        DeleteRange { key, range_end, prev_kv }
    }
}

prop_compose! {
    fn compare()(
        key in key(),
        range_end in range_end(),
        result in prop::sample::select(vec![
            CompareResult::Equal, CompareResult::Greater, CompareResult::Less, CompareResult::NotEqual,
        ]),
        target in prop_oneof![
            (0..4i64).prop_map(CompareTarget::Version),
            small().prop_map(CompareTarget::Create),
            small().prop_map(CompareTarget::Mod),
            (-3..3i64).prop_map(CompareTarget::Lease),
            Just(CompareTarget::Value(Bytes::from_static(b"v"))),
        ],
    ) -> Compare {
        Compare { key, range_end, result, target }
    }
}

fn txn() -> impl Strategy<Value = Txn> {
    let of = |operation: BoxedStrategy<Operation>| {
        let branch = prop::collection::vec(operation, 0..4);
        (
            prop::collection::vec(compare(), 0..2),
            branch.clone(),
            branch,
        )
            .prop_map(|(compare, success, failure)| Txn {
                compare,
                success,
                failure,
            })
    };
    let flat = prop_oneof![
        range().prop_map(Operation::Range),
        put().prop_map(Operation::Put),
        delete().prop_map(Operation::DeleteRange),
    ]
    .boxed();
    let nested = prop_oneof![3 => flat.clone(), 1 => of(flat).prop_map(Operation::Txn)].boxed();
    of(nested)
}

fn compact() -> impl Strategy<Value = Command> {
    let revision = prop_oneof![15 => 1..25i64, 1 => Just(0), 1 => Just(-1), 1 => Just(1_000)];
    revision.prop_map(|revision| Command::Compact { revision })
}

fn scrub() -> impl Strategy<Value = Command> {
    let bytes = prop::sample::select(vec![0, 1, 600, u32::MAX, u32::MAX, u32::MAX]);
    (0..5u32, bytes).prop_map(|(changes, bytes)| Command::Scrub { changes, bytes })
}

/// Few leases, so that requests meet; one is never granted.
pub(crate) fn lease() -> impl Strategy<Value = i64> {
    prop::sample::select(vec![1, 2, -3, 7])
}

/// Grants are the likeliest, so that puts find their lease; the entries are early in the log, where some of those meant are.
fn lease_command() -> impl Strategy<Value = Command> {
    let granted = prop::sample::select(vec![1, 2, -3, 0]);
    let reign = 1..12u64;
    // Entries early in the log, where some of the grants are.
    let grant = || (lease(), 1..12u64).prop_map(|(id, entry)| Grant { id, entry });
    let time = (grant(), prop::option::of(-1..90i64))
        .prop_map(|(grant, remaining)| LeaseTime { grant, remaining });
    prop_oneof![
        6 => (granted, 1..90i64).prop_map(|(id, ttl)| Command::GrantLease { id, ttl }),
        2 => lease().prop_map(|id| Command::RevokeLease { id }),
        2 => (reign.clone(), prop::collection::vec(grant(), 0..12))
            .prop_map(|(reign, grants)| Command::ExpireLeases { reign, grants }),
        2 => (reign, prop::collection::vec(time, 0..12))
            .prop_map(|(reign, times)| Command::NoteLeases { reign, times }),
        1 => Just(Command::CountLeases),
    ]
}

fn lease_query() -> impl Strategy<Value = Query> {
    prop_oneof![
        (lease(), any::<bool>()).prop_map(|(id, keys)| Query::Lease { id, keys }),
        prop::collection::vec(lease(), 0..5).prop_map(Query::KnownLeases),
        (prop::option::of(lease()), 0..4usize)
            .prop_map(|(after, limit)| Query::Leases { after, limit }),
        (prop::option::of(lease()), 0..4usize)
            .prop_map(|(after, limit)| Query::ListLeases { after, limit }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let command = prop_oneof![
        6 => put().prop_map(Command::Put),
        2 => delete().prop_map(Command::DeleteRange),
        4 => txn().prop_map(Command::Txn),
        3 => compact(),
        3 => scrub(),
        4 => lease_command(),
        4 => auth_command(),
    ];
    let query = prop_oneof![
        2 => lease_query(),
        4 => range().prop_map(Query::Range),
        1 => txn().prop_map(Query::Txn),
        2 => auth_query(),
    ];
    prop_oneof![
        24 => (asker(), command).prop_map(|(asker, command)| Step::Apply(asker, command)),
        9 => (asker(), query).prop_map(|(asker, query)| Step::Query(asker, query)),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Crash),
    ]
}

/// What happens one after the other; half of the machines ask for permissions from the beginning.
pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let users = prop_oneof![Just(Vec::new()), some_users()];
    (users, prop::collection::vec(step(), 1..80)).prop_map(|(users, steps)| {
        let users = users.into_iter().map(|command| Step::Apply(None, command));
        users.chain(steps).collect()
    })
}

/// A range, or a transaction of ranges. Half of the ranges are of all keys, so that there is much to read.
pub(crate) fn read() -> impl Strategy<Value = Query> {
    let range = || {
        (range(), any::<bool>()).prop_map(|(range, of_all)| Range {
            key: if of_all {
                Bytes::from_static(&[0])
            } else {
                range.key
            },
            range_end: if of_all {
                Bytes::from_static(&[0])
            } else {
                range.range_end
            },
            ..range
        })
    };
    let txn = |operation: BoxedStrategy<Operation>| {
        let operations = || prop::collection::vec(operation.clone(), 0..4);
        let compares = prop::collection::vec(compare(), 0..2);
        (compares, operations(), operations()).prop_map(|(compare, success, failure)| Txn {
            compare,
            success,
            failure,
        })
    };
    let flat = range().prop_map(Operation::Range).boxed();
    let nested = txn(flat.clone()).prop_map(Operation::Txn);
    prop_oneof![
        2 => range().prop_map(Query::Range),
        1 => txn(prop_oneof![2 => flat, 1 => nested].boxed()).prop_map(Query::Txn),
    ]
}

/// What happens to keys one after the other, in a key space that asks for no permissions.
pub(crate) fn changes(most: usize) -> impl Strategy<Value = Vec<Step>> {
    let command = prop_oneof![
        8 => put().prop_map(Command::Put),
        2 => delete().prop_map(Command::DeleteRange),
        4 => txn().prop_map(Command::Txn),
        1 => compact(),
        3 => scrub(),
    ];
    let step = prop_oneof![
        20 => command.prop_map(|command| Step::Apply(None, command)),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Crash),
    ];
    prop::collection::vec(step, 0..most)
}
