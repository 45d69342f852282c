//! Clients that read, write, swap and delete the same few keys through random machines, and note what they saw.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rm_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use rm_proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest, TxnResponse, request_op,
    response_op,
};
use rm_proto::mvccpb::KeyValue;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tonic::Status;

use crate::checker::assert_linearizable;
use crate::client::{Client, operation};
use crate::history::{Answer, History, Request, Value};
use crate::wait::until;

/// How many clients.
const CLIENTS: u64 = 6;

/// How often each client asks at most.
const PACE: Duration = Duration::from_millis(8);

/// The most operations of all clients together.
const OPERATIONS_MAX: u64 = 2_000_000;

/// How many keys are in use at a time.
const KEYS: u64 = 4;

/// After how many operations the next keys are used, so that the history of one key stays small enough to check.
const OPERATIONS_PER_KEYS: u64 = 600;

/// Clients at work.
#[derive(Debug)]
pub struct Workload {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    history: History,
    stop: AtomicBool,
    /// Numbers the operations; it is also the value that an operation writes, so that every value is written once.
    number: AtomicU64,
}

impl Workload {
    /// Starts the clients.
    pub fn start(client: &Client) -> Self {
        let shared = Arc::<Shared>::default();
        let tasks = (0..CLIENTS)
            .map(|seed| tokio::spawn(work(client.clone(), seed, Arc::clone(&shared))))
            .collect();
        Workload { shared, tasks }
    }

    /// Waits until this many more operations are answered.
    ///
    /// # Panics
    ///
    /// When they are not in time.
    pub async fn progress(&self, more: usize) {
        let goal = self.shared.history.answered() + more;
        until("operations are answered", async || {
            match self.shared.history.answered() {
                count if count >= goal => Ok(()),
                count => Err(format!("{count} of {goal}")),
            }
        })
        .await;
    }

    /// Lets the clients end, proves that what they saw is linearizable, and gives back how many operations were answered.
    ///
    /// # Panics
    ///
    /// When it is not.
    pub async fn finish(self) -> usize {
        self.shared.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("a client does not panic");
        }
        let shared = Arc::into_inner(self.shared).expect("all clients have ended");
        assert_linearizable(shared.history)
    }
}

async fn work(client: Client, seed: u64, shared: Arc<Shared>) {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last_seen: HashMap<String, Value> = HashMap::new();
    let mut random = seed;
    while !shared.stop.load(Ordering::Relaxed) {
        pace.tick().await;
        let number = shared.number.fetch_add(1, Ordering::Relaxed) + 1;
        if number > OPERATIONS_MAX {
            return;
        }
        let mut draw = |below: u64| {
            random = next_random(random);
            (random >> 33) % below
        };
        let key = format!("shared/{}/{}", number / OPERATIONS_PER_KEYS, draw(KEYS));
        let request = match draw(20) {
            0..8 => Request::Get,
            8..14 => Request::Put(number),
            14..18 => Request::CompareAndSwap(last_seen.get(&key).copied().flatten(), number),
            _ => Request::Delete,
        };
        let machine = usize::try_from(draw(client.machines() as u64)).expect("it is small");
        let asked = shared.history.now();
        let answer = ask(&client, machine, &key, request).await.ok();
        shared.history.note(&key, request, asked, answer);
        match (answer, request) {
            (Some(Answer::Held(value)), _) => last_seen.insert(key, value),
            (Some(Answer::Written), _) => last_seen.insert(key, Some(number)),
            (Some(Answer::Deleted(_)), _) => last_seen.insert(key, None),
            (None, _) => None,
        };
    }
}

/// Knuth's linear congruence: a run is repeatable as far as the machines are.
fn next_random(random: u64) -> u64 {
    random
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407)
}

async fn ask(
    client: &Client,
    machine: usize,
    key: &str,
    request: Request,
) -> Result<Answer, Status> {
    let mut kv = client.kv(machine);
    let key = Bytes::copy_from_slice(key.as_bytes());
    Ok(match request {
        Request::Get => Answer::Held(value(client.get_on(machine, key, false).await?)),
        Request::Put(new) => {
            client.put_on(machine, key, new.to_string()).await?;
            Answer::Written
        }
        Request::Delete => {
            let request = DeleteRangeRequest {
                key,
                prev_kv: true,
                ..Default::default()
            };
            let answer = kv.delete_range(request).await?.into_inner();
            Answer::Deleted(value(answer.prev_kvs.into_iter().next()))
        }
        Request::CompareAndSwap(expected, new) => {
            let answer = kv.txn(compare_and_swap(key, expected, new)).await?;
            swapped(answer.into_inner())
        }
    })
}

/// Writes the new value if the expected one, or nothing, is there; otherwise reads.
fn compare_and_swap(key: Bytes, expected: Value, new: u64) -> TxnRequest {
    let (target, union) = match expected {
        Some(value) => (
            CompareTarget::Value,
            TargetUnion::Value(value.to_string().into()),
        ),
        None => (CompareTarget::Create, TargetUnion::CreateRevision(0)),
    };
    let compare = Compare {
        result: CompareResult::Equal.into(),
        target: target.into(),
        key: key.clone(),
        target_union: Some(union),
        ..Default::default()
    };
    let put = request_op::Request::RequestPut(PutRequest {
        key: key.clone(),
        value: new.to_string().into(),
        ..Default::default()
    });
    let range = request_op::Request::RequestRange(RangeRequest {
        key,
        ..Default::default()
    });
    TxnRequest {
        compare: vec![compare],
        success: vec![operation(put)],
        failure: vec![operation(range)],
    }
}

fn swapped(answer: TxnResponse) -> Answer {
    let response = answer
        .responses
        .into_iter()
        .next()
        .and_then(|op| op.response);
    match response {
        Some(response_op::Response::ResponsePut(_)) if answer.succeeded => Answer::Written,
        Some(response_op::Response::ResponseRange(range)) if !answer.succeeded => {
            Answer::Held(value(range.kvs.into_iter().next()))
        }
        other => panic!(
            "succeeded: {}, but the response is {other:?}",
            answer.succeeded
        ),
    }
}

fn value(pair: Option<KeyValue>) -> Value {
    pair.map(|pair| {
        let text = std::str::from_utf8(&pair.value).expect("only numbers are written");
        text.parse().expect("only numbers are written")
    })
}
