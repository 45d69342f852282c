//! The same random requests to the real etcd and to three machines: the same answers, the same refusals and the same events.
//!
//! `RM_SEED` repeats a run, `RM_STEPS` says how many requests it has. Ids of the cluster, of members and terms are left aside, and how much
//! is left of a lease.

use std::fmt::Debug;

use bytes::Bytes;
use fastrand::Rng;
use rm_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use rm_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use rm_proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, LeaseGrantRequest, LeaseLeasesRequest,
    LeaseRevokeRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest, RequestOp,
    ResponseHeader, TxnRequest, TxnResponse, request_op, response_op,
};
use rm_proto::mvccpb::Event;
use rm_tests::etcd::Etcd;
use rm_tests::leases::service;
use rm_tests::watching::{Watching, everything, from, revision};
use rm_tests::{Client, Cluster, Settings};
use tonic::Status;

/// How many requests a run has by default.
const STEPS: usize = 600;

/// How many seeds are tried by default.
const SEEDS: u64 = 2;

/// One request.
#[derive(Clone, Debug)]
enum Step {
    Put(PutRequest),
    Range(RangeRequest),
    Delete(DeleteRangeRequest),
    Txn(TxnRequest),
    Compact(CompactionRequest),
    Grant(LeaseGrantRequest),
    Revoke(LeaseRevokeRequest),
    Look(LeaseTimeToLiveRequest),
    Leases,
}

/// Makes up requests that meet often.
struct Maker {
    rng: Rng,
    /// About the newest revision.
    newest: i64,
}

impl Maker {
    fn one_in(&mut self, count: u32) -> bool {
        self.rng.u32(0..count) == 0
    }

    fn key(&mut self) -> Bytes {
        let keys = ["a", "aa", "b", "b\0", "c", "d", "zz", "\u{7f}"];
        self.rng.choice(keys).unwrap_or("a").into()
    }

    fn range_end(&mut self) -> Bytes {
        match self.rng.u32(0..6) {
            0 => "\0".into(),
            1 | 2 => self.key(),
            _ => Bytes::new(),
        }
    }

    fn near(&mut self) -> i64 {
        (self.newest + self.rng.i64(-12..3)).max(0)
    }

    fn lease(&mut self) -> i64 {
        self.rng.i64(1..5)
    }

    fn put(&mut self) -> PutRequest {
        let ignore_value = self.one_in(8);
        let ignore_lease = self.one_in(8);
        // Now and then what is refused.
        let contradicts = self.one_in(6);
        let lease = if self.one_in(3) { self.lease() } else { 0 };
        let value = self.rng.u32(0..4).to_string();
        PutRequest {
            key: self.key(),
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
        put
    }

    fn range(&mut self) -> RangeRequest {
        let bound = |maker: &mut Maker| if maker.one_in(8) { maker.near() } else { 0 };
        let orders = [SortOrder::None, SortOrder::Ascend, SortOrder::Descend];
        let order = self.rng.choice(orders).unwrap_or_default();
        let targets = [
            SortTarget::Key,
            SortTarget::Version,
            SortTarget::Create,
            SortTarget::Mod,
        ];
        // Without an order etcd cuts a sorted range to its limit before it sorts it, which is a difference of ours.
        let target = match order {
            SortOrder::None => SortTarget::Key,
            _ => self.rng.choice(targets).unwrap_or_default(),
        };
        RangeRequest {
            key: self.key(),
            range_end: self.range_end(),
            limit: if self.one_in(4) {
                self.rng.i64(1..4)
            } else {
                0
            },
            revision: if self.one_in(3) { self.near() } else { 0 },
            sort_order: order.into(),
            sort_target: target.into(),
            serializable: false,
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
            revision: range.revision.signum() * self.newest,
            ..range
        }
    }

    fn delete(&mut self) -> DeleteRangeRequest {
        DeleteRangeRequest {
            key: self.key(),
            range_end: self.range_end(),
            prev_kv: self.one_in(2),
        }
    }

    /// One that etcd compares with the puts beside it: those without an end it does not, which is a difference of ours.
    fn bounded_delete(&mut self) -> DeleteRangeRequest {
        let delete = self.delete();
        match &delete.range_end[..] {
            [0] => self.bounded_delete(),
            _ => delete,
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

    fn txn(&mut self, depth: u32) -> TxnRequest {
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
        let request = match self.rng.u32(0..10) {
            0..4 => request_op::Request::RequestPut(self.put_with_one_fault()),
            4..7 => request_op::Request::RequestRange(self.settled_range()),
            7..9 => request_op::Request::RequestDeleteRange(self.bounded_delete()),
            _ if depth == 0 => request_op::Request::RequestRange(self.settled_range()),
            _ => request_op::Request::RequestTxn(self.txn(depth - 1)),
        };
        RequestOp {
            request: Some(request),
        }
    }

    fn step(&mut self) -> Step {
        match self.rng.u32(0..100) {
            0..30 => Step::Put(self.put()),
            30..55 => Step::Range(self.range()),
            55..63 => Step::Delete(self.delete()),
            63..83 => Step::Txn(self.txn(2)),
            83..86 => Step::Compact(CompactionRequest {
                revision: self.near(),
                physical: false,
            }),
            86..91 => Step::Grant(LeaseGrantRequest {
                ttl: 1_000,
                id: self.lease(),
            }),
            91..94 => Step::Revoke(LeaseRevokeRequest { id: self.lease() }),
            94..97 => Step::Look(LeaseTimeToLiveRequest {
                id: self.lease(),
                keys: true,
            }),
            _ => Step::Leases,
        }
    }
}

/// What is left of a header to be compared.
fn plain(header: &mut Option<ResponseHeader>) {
    if let Some(header) = header {
        *header = ResponseHeader {
            revision: header.revision,
            ..ResponseHeader::default()
        };
    }
}

fn plain_txn(response: &mut TxnResponse) {
    plain(&mut response.header);
    for response in &mut response.responses {
        match &mut response.response {
            Some(response_op::Response::ResponseRange(range)) => plain(&mut range.header),
            Some(response_op::Response::ResponsePut(put)) => plain(&mut put.header),
            Some(response_op::Response::ResponseDeleteRange(delete)) => plain(&mut delete.header),
            Some(response_op::Response::ResponseTxn(txn)) => plain_txn(txn),
            None => {}
        }
    }
}

/// What came of a request, as a text to be compared.
fn told<T: Debug>(
    outcome: Result<tonic::Response<T>, Status>,
    plain: impl FnOnce(&mut T),
) -> String {
    match outcome {
        Ok(response) => {
            let mut response = response.into_inner();
            plain(&mut response);
            format!("{response:?}")
        }
        Err(status) => format!("{:?}: {}", status.code(), status.message()),
    }
}

/// Carries out a step through one member.
async fn outcome(client: &Client, member: usize, step: Step) -> String {
    let mut kv = client.kv(member);
    let mut leases = service(client, member);
    match step {
        Step::Put(request) => told(kv.put(request).await, |it| plain(&mut it.header)),
        Step::Range(request) => told(kv.range(request).await, |it| plain(&mut it.header)),
        Step::Delete(request) => told(kv.delete_range(request).await, |it| plain(&mut it.header)),
        Step::Txn(request) => told(kv.txn(request).await, plain_txn),
        Step::Compact(request) => told(kv.compact(request).await, |it| plain(&mut it.header)),
        Step::Grant(request) => told(leases.lease_grant(request).await, |it| {
            plain(&mut it.header)
        }),
        Step::Revoke(request) => told(leases.lease_revoke(request).await, |it| {
            plain(&mut it.header)
        }),
        Step::Look(request) => told(leases.lease_time_to_live(request).await, |it| {
            // etcd 3.4 tells a revision here that it has not made yet.
            it.header = None;
            it.ttl = it.ttl.min(1);
            // etcd tells them in no order.
            it.keys.sort();
        }),
        Step::Leases => told(leases.lease_leases(LeaseLeasesRequest {}).await, |it| {
            it.header = None;
            it.leases.sort_by_key(|lease| lease.id);
        }),
    }
}

/// All events up to a revision, as a watcher is told that began before the first.
async fn events(watching: &mut Watching, last: i64) -> Vec<Event> {
    let mut events: Vec<Event> = Vec::new();
    while events.last().map_or(1, revision) < last {
        events.extend(watching.told().await.events);
    }
    events
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|error| panic!("{name}={text:?} is no number: {error}")))
}

async fn compare(seed: u64, steps: usize) {
    let cluster = Cluster::start(Settings::trio()).await;
    let etcd = Etcd::start().await;
    let ours = cluster.client();
    let theirs = Client::new(
        etcd.endpoints
            .iter()
            .map(|it| it.parse().expect("an address")),
    );
    let mut watchers = Vec::new();
    for client in [&ours, &theirs] {
        let all = from(1, everything());
        let watching = Watching::open_for(client, 1, all).await;
        let mut watching = watching.expect("it runs");
        assert!(watching.told().await.created);
        watchers.push(watching);
    }
    let mut maker = Maker {
        rng: Rng::with_seed(seed),
        newest: 1,
    };
    let mut refused = 0;
    for number in 0..steps {
        let step = maker.step();
        let member = maker.rng.usize(0..3);
        let our = outcome(&ours, member, step.clone()).await;
        let their = outcome(&theirs, member, step.clone()).await;
        assert_eq!(
            our, their,
            "left is ours: step {number} of RM_SEED={seed}, through member {member}: {step:#?}"
        );
        refused += usize::from(our.contains("etcdserver: "));
        let read = RangeRequest {
            key: "a".into(),
            count_only: true,
            ..RangeRequest::default()
        };
        let answer = theirs.range_on(0, read).await;
        let header = answer.expect("etcd runs").header;
        maker.newest = header.expect("each answer has one").revision;
    }
    assert!(
        refused > steps / 50 && refused < steps / 2,
        "{refused} of {steps} were refused"
    );
    let [ours, theirs] = &mut watchers[..] else {
        unreachable!("there are two");
    };
    let (ours, theirs) = (
        events(ours, maker.newest).await,
        events(theirs, maker.newest).await,
    );
    for (our, their) in ours.iter().zip(&theirs) {
        assert_eq!(our, their, "left is ours: an event of RM_SEED={seed}");
    }
    assert_eq!(ours.len(), theirs.len(), "events of RM_SEED={seed}");
    cluster.same_everywhere().await;
    cluster.assert_nobody_panicked();
    println!(
        "RM_SEED={seed}: {steps} requests, {refused} refused, {} events, all the same",
        ours.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_requests_have_the_same_answers_refusals_and_events_as_etcds() {
    let steps = number("RM_STEPS").map_or(STEPS, |steps| steps as usize);
    match number("RM_SEED") {
        Some(seed) => compare(seed, steps).await,
        None => {
            for seed in 1..=SEEDS {
                compare(seed, steps).await;
            }
        }
    }
}
