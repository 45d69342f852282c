//! Random requests about keys and leases that meet often.

use bytes::Bytes;
use fastrand::Rng;
use rm_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use rm_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use rm_proto::etcdserverpb::request_op::Request;
use rm_proto::etcdserverpb::{
    Compare, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use rm_tests::client::operation;

/// The keys that are written.
const KEYS: [&str; 8] = ["a", "aa", "b", "b\0", "c", "d", "zz", "\u{7f}"];

/// How long a large value is: three of them make one request, and twice as much, as of two revisions or with what was before, is told
/// in fragments.
const LARGE: usize = 250 * 1024;

/// How long a lease lives, in seconds: longer than any run.
const TTL: i64 = 10_000;

/// Makes up requests.
pub(crate) struct Maker {
    pub(crate) rng: Rng,
    /// The newest revision.
    pub(crate) newest: i64,
    /// The revision that was compacted last; -1 before the first.
    pub(crate) compacted: i64,
}

impl Maker {
    pub(crate) fn new(seed: u64) -> Maker {
        Maker {
            rng: Rng::with_seed(seed),
            newest: 1,
            compacted: -1,
        }
    }

    pub(crate) fn one_in(&mut self, count: u32) -> bool {
        self.rng.u32(0..count) == 0
    }

    pub(crate) fn key(&mut self) -> Bytes {
        self.rng.choice(KEYS).unwrap_or("a").into()
    }

    /// A key, or none, which is refused.
    fn key_or_none(&mut self) -> Bytes {
        if self.one_in(50) {
            return Bytes::new();
        }
        self.key()
    }

    pub(crate) fn range_end(&mut self) -> Bytes {
        match self.rng.u32(0..6) {
            0 => "\0".into(),
            1 | 2 => self.key(),
            _ => Bytes::new(),
        }
    }

    /// A revision that was not long ago, or will be soon.
    pub(crate) fn near(&mut self) -> i64 {
        (self.newest + self.rng.i64(-12..3)).max(0)
    }

    pub(crate) fn lease(&mut self) -> i64 {
        self.rng.i64(1..5)
    }

    pub(crate) fn put(&mut self) -> PutRequest {
        let ignore_value = self.one_in(8);
        let ignore_lease = self.one_in(8);
        // Now and then what is refused.
        let contradicts = self.one_in(6);
        let lease = if self.one_in(3) { self.lease() } else { 0 };
        let value = self.rng.u32(0..4).to_string();
        PutRequest {
            key: self.key_or_none(),
            value: if ignore_value && !contradicts {
                Bytes::new()
            } else {
                value.into()
            },
            lease: if ignore_lease && !contradicts {
                0
            } else {
                lease
            },
            prev_kv: self.one_in(3),
            ignore_value,
            ignore_lease,
        }
    }

    /// One that asks for no lease where it keeps the value: of two faults in a transaction etcd 3.4 tells another first than 3.6.
    fn put_with_one_fault(&mut self) -> PutRequest {
        let mut put = self.put();
        if put.ignore_value {
            put.lease = 0;
        }
        put.key = self.key();
        put
    }

    /// One that reads from what the asked member has applied, now and then.
    pub(crate) fn range(&mut self) -> RangeRequest {
        let bound = |maker: &mut Maker| if maker.one_in(8) { maker.near() } else { 0 };
        let orders = [SortOrder::None, SortOrder::Ascend, SortOrder::Descend];
        let order = self.rng.choice(orders).unwrap_or_default();
        let targets = [
            SortTarget::Key,
            SortTarget::Version,
            SortTarget::Create,
            SortTarget::Mod,
            SortTarget::Value,
        ];
        let target = self.rng.choice(targets).unwrap_or_default();
        // Without an order etcd cuts a sorted range to its limit before it sorts it, which is a difference of ours.
        let is_cut_first = order == SortOrder::None && target != SortTarget::Key;
        let limit = match self.rng.u32(0..12) {
            _ if is_cut_first => 0,
            0..4 => self.rng.i64(1..4),
            4 => -1,
            _ => 0,
        };
        RangeRequest {
            key: self.key_or_none(),
            range_end: self.range_end(),
            limit,
            revision: if self.one_in(3) { self.near() } else { 0 },
            sort_order: order.into(),
            sort_target: target.into(),
            serializable: self.one_in(5),
            keys_only: self.one_in(6),
            count_only: self.one_in(8),
            min_mod_revision: bound(self),
            max_mod_revision: bound(self),
            min_create_revision: bound(self),
            max_create_revision: bound(self),
        }
    }

    /// One whose revision is there: etcd 3.4 makes a revision of a transaction that it refuses for a range.
    fn settled_range(&mut self) -> RangeRequest {
        let range = self.range();
        RangeRequest {
            key: self.key(),
            revision: range.revision.signum() * self.newest,
            ..range
        }
    }

    pub(crate) fn delete(&mut self) -> DeleteRangeRequest {
        DeleteRangeRequest {
            key: self.key_or_none(),
            range_end: self.range_end(),
            prev_kv: self.one_in(2),
        }
    }

    /// One that etcd compares with the puts beside it: those without an end it does not, which is a difference of ours.
    fn bounded_delete(&mut self) -> DeleteRangeRequest {
        let delete = self.delete();
        match &delete.range_end[..] {
            [0] => self.bounded_delete(),
            _ => DeleteRangeRequest {
                key: self.key(),
                ..delete
            },
        }
    }

    fn compare(&mut self) -> Compare {
        let results = [
            CompareResult::Equal,
            CompareResult::Greater,
            CompareResult::Less,
            CompareResult::NotEqual,
        ];
        let (target, union) = match self.rng.u32(0..5) {
            0 => (
                CompareTarget::Version,
                TargetUnion::Version(self.rng.i64(0..4)),
            ),
            1 => (
                CompareTarget::Create,
                TargetUnion::CreateRevision(self.near()),
            ),
            2 => (CompareTarget::Mod, TargetUnion::ModRevision(self.near())),
            3 => (CompareTarget::Lease, TargetUnion::Lease(self.rng.i64(0..3))),
            _ => (
                CompareTarget::Value,
                TargetUnion::Value(self.rng.u32(0..4).to_string().into()),
            ),
        };
        Compare {
            result: self.rng.choice(results).unwrap_or_default().into(),
            target: target.into(),
            key: self.key(),
            range_end: self.range_end(),
            target_union: Some(union),
        }
    }

    pub(crate) fn txn(&mut self, depth: u32) -> TxnRequest {
        let operations = |maker: &mut Maker| {
            let count = maker.rng.usize(0..4);
            (0..count).map(|_| maker.operation(depth)).collect()
        };
        let compares = self.rng.usize(0..3);
        TxnRequest {
            compare: (0..compares).map(|_| self.compare()).collect(),
            success: operations(self),
            failure: operations(self),
        }
    }

    fn operation(&mut self, depth: u32) -> RequestOp {
        operation(match self.rng.u32(0..10) {
            0..4 => Request::RequestPut(self.put_with_one_fault()),
            4..7 => Request::RequestRange(self.settled_range()),
            7..9 => Request::RequestDeleteRange(self.bounded_delete()),
            _ if depth == 0 => Request::RequestRange(self.settled_range()),
            _ => Request::RequestTxn(self.txn(depth - 1)),
        })
    }

    /// One that puts three large values.
    pub(crate) fn large_txn(&mut self) -> TxnRequest {
        let letter = self.rng.lowercase() as u8;
        let put = |key: &'static str| {
            operation(Request::RequestPut(PutRequest {
                key: key.into(),
                value: vec![letter; LARGE].into(),
                ..PutRequest::default()
            }))
        };
        TxnRequest {
            success: KEYS[..3].iter().map(|key| put(key)).collect(),
            ..TxnRequest::default()
        }
    }

    /// One that ends in no run, or whose time is too long.
    pub(crate) fn grant(&mut self) -> LeaseGrantRequest {
        LeaseGrantRequest {
            ttl: if self.one_in(20) { i64::MAX } else { TTL },
            id: self.lease(),
        }
    }
}
