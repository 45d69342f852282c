//! The steps of a run: which requests follow each other, and through which member.

use rm_proto::etcdserverpb::request_op::Request;
use rm_proto::etcdserverpb::watch_create_request::FilterType;
use rm_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest,
    LeaseTimeToLiveRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, WatchCreateRequest,
};

use crate::requests::Maker;

/// A request with one answer.
#[derive(Clone, Debug)]
pub(crate) enum Question {
    Put(PutRequest),
    Range(RangeRequest),
    Delete(DeleteRangeRequest),
    Txn(TxnRequest),
    Compact(CompactionRequest),
    Grant(LeaseGrantRequest),
    Revoke(LeaseRevokeRequest),
    Look(LeaseTimeToLiveRequest),
    Leases,
    /// Renewals of these leases, one after the other.
    Renew(Vec<i64>),
}

impl Question {
    /// Whether a member of etcd may answer it by what it has applied itself.
    pub(crate) fn is_answered_locally(&self) -> bool {
        let is_local = |operation: &RequestOp| matches!(&operation.request, Some(Request::RequestRange(range)) if range.serializable);
        match self {
            Question::Range(range) => range.serializable,
            Question::Txn(txn) => txn.success.iter().chain(&txn.failure).any(is_local),
            Question::Look(_) | Question::Leases | Question::Renew(_) => true,
            _ => false,
        }
    }
}

/// What is done next. A member has one stream of watchers.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Ask(Question),
    AskTwice(Question),
    /// Asks for a watcher in the member's stream.
    Watch(WatchCreateRequest),
    /// Ends the watcher of this number in the member's stream, if there is one.
    Cancel(i64),
    /// Asks for a notice of progress in the member's stream.
    Progress,
    /// Closes the member's stream and opens another.
    Reopen,
}

impl Maker {
    /// The next step, through a member whose stream has watchers of these numbers.
    pub(crate) fn step(&mut self, watchers: &[i64]) -> Step {
        match self.rng.u32(0..1_000) {
            0..270 => Step::Ask(Question::Put(self.put())),
            270..500 => Step::Ask(Question::Range(self.range())),
            500..575 => Step::Ask(Question::Delete(self.delete())),
            575..745 => Step::Ask(Question::Txn(self.txn(2))),
            745..753 => Step::AskTwice(Question::Txn(self.large_txn())),
            753..778 => Step::Ask(Question::Compact(CompactionRequest {
                revision: self.near(),
                physical: self.one_in(4),
            })),
            778..818 => Step::Ask(Question::Grant(self.grant())),
            818..843 => Step::Ask(Question::Revoke(LeaseRevokeRequest { id: self.lease() })),
            843..863 => Step::Ask(Question::Look(LeaseTimeToLiveRequest {
                id: self.lease(),
                keys: self.one_in(2),
            })),
            863..878 => Step::Ask(Question::Leases),
            878..900 => {
                let count = self.rng.usize(1..4);
                Step::Ask(Question::Renew((0..count).map(|_| self.lease()).collect()))
            }
            900..960 => Step::Watch(self.watcher()),
            960..985 => Step::Cancel(self.watcher_to_end(watchers)),
            985..995 => Step::Progress,
            _ => Step::Reopen,
        }
    }

    fn watcher(&mut self) -> WatchCreateRequest {
        let start_revision = match self.rng.u32(0..10) {
            0..3 => 0,
            // Most of these are compacted.
            3 => self.rng.i64(1..=self.newest),
            4 => self.newest + self.rng.i64(1..7),
            _ => self.near(),
        };
        let filters = match self.rng.u32(0..8) {
            0 | 1 => vec![FilterType::Noput],
            2 | 3 => vec![FilterType::Nodelete],
            4 => vec![FilterType::Nodelete, FilterType::Noput],
            _ => Vec::new(),
        };
        let watch_id = match self.rng.u32(0..10) {
            0..3 => self.rng.i64(1..8),
            3 => -7,
            _ => 0,
        };
        WatchCreateRequest {
            // Without a key from the first one on.
            key: if self.one_in(12) {
                "".into()
            } else {
                self.key()
            },
            range_end: if self.one_in(4) {
                "\0".into()
            } else {
                self.range_end()
            },
            start_revision,
            progress_notify: self.one_in(3),
            filters: filters.into_iter().map(i32::from).collect(),
            prev_kv: self.one_in(2),
            watch_id,
            fragment: self.one_in(2),
        }
    }

    /// One of these, or now and then one that may not be there.
    fn watcher_to_end(&mut self, watchers: &[i64]) -> i64 {
        match self.rng.choice(watchers) {
            Some(id) if !self.one_in(6) => *id,
            _ => self.rng.i64(1..20),
        }
    }
}
