//! Transactions, judged as etcd judges them: first all comparisons, nested ones included, against the key space as it was;
//! then all checks of what is to be done; and only then the operations, each of which sees those before it.

use std::ops::ControlFlow;

use crate::change::{Change, check_put_within};
use crate::command::{
    Compare, CompareResult, CompareTarget, DeleteRange, Operation, Put, Range, RangeReply, Reply,
    ReplyBody, Txn, TxnReply,
};
use crate::error::{Failure, KvError};
use crate::progress::{Turn, Work};
use crate::range::RangeReading;
use crate::span::Span;
use crate::view::View;

/// What a transaction comes to after its comparisons.
pub(crate) struct Plan<'t> {
    succeeded: bool,
    steps: Vec<Step<'t>>,
}

/// One thing to do.
enum Step<'t> {
    Range(&'t Range),
    Put(&'t Put),
    DeleteRange(&'t DeleteRange),
    Txn(Plan<'t>),
}

impl<'t> Plan<'t> {
    /// Compares, here and in the transactions of the branch taken, and checks that all of it can be done.
    pub(crate) fn new(view: &View, txn: &'t Txn) -> Result<Plan<'t>, Failure> {
        let plan = Plan::compare(view, txn)?;
        plan.check(view)?;
        Ok(plan)
    }

    fn compare(view: &View, txn: &'t Txn) -> Result<Plan<'t>, KvError> {
        let mut succeeded = true;
        for compare in &txn.compare {
            if !holds(view, compare)? {
                succeeded = false;
                break;
            }
        }
        let branch = if succeeded {
            &txn.success
        } else {
            &txn.failure
        };
        let step = |operation: &'t Operation| {
            Ok(match operation {
                Operation::Range(range) => Step::Range(range),
                Operation::Put(put) => Step::Put(put),
                Operation::DeleteRange(delete) => Step::DeleteRange(delete),
                Operation::Txn(txn) => Step::Txn(Plan::compare(view, txn)?),
            })
        };
        let steps = branch.iter().map(step).collect::<Result<_, KvError>>()?;
        Ok(Plan { succeeded, steps })
    }

    fn check(&self, view: &View) -> Result<(), Failure> {
        for step in &self.steps {
            match step {
                Step::Range(range) => view.check_range(range)?,
                Step::Put(put) => check_put_within(view, put)?,
                Step::DeleteRange(_) => {}
                Step::Txn(plan) => plan.check(view)?,
            }
        }
        Ok(())
    }

    /// Does the steps.
    pub(crate) fn execute(&self, change: &mut Change) -> Result<TxnReply, KvError> {
        let reply = |step: &Step<'t>| -> Result<Reply, KvError> {
            let body = match step {
                Step::Range(range) => match change.answer(|view| read(view, range))? {
                    Some(reply) => {
                        change.tally.ranges += 1;
                        return Ok(reply);
                    }
                    None => ReplyBody::Range(RangeReply::default()),
                },
                Step::Put(put) => change.put(put)?,
                Step::DeleteRange(delete) => change.delete_range(delete)?,
                Step::Txn(plan) => return Ok(nested(ReplyBody::Txn(plan.execute(change)?))),
            };
            Ok(Reply {
                revision: change.revision(),
                body,
            })
        };
        Ok(TxnReply {
            succeeded: self.succeeded,
            replies: self.steps.iter().map(reply).collect::<Result<_, _>>()?,
        })
    }

    /// What there is to read, in order, in a transaction that only reads, and how it stands in the reply.
    ///
    /// # Panics
    /// If it writes: [`crate::Query::check`] refuses that.
    pub(crate) fn outline(&self, ranges: &mut Vec<&'t Range>) -> Outline {
        let outline = |step: &Step<'t>| match step {
            Step::Range(range) => {
                ranges.push(range);
                Outline::Range
            }
            Step::Txn(plan) => plan.outline(ranges),
            Step::Put(_) | Step::DeleteRange(_) => {
                unreachable!("a query that writes was refused by its check")
            }
        };
        Outline::Txn {
            succeeded: self.succeeded,
            steps: self.steps.iter().map(outline).collect(),
        }
    }
}

/// How the ranges of a reply stand in it.
#[derive(Debug)]
pub(crate) enum Outline {
    /// One.
    Range,
    /// Those of a transaction.
    Txn {
        /// Whether every comparison held.
        succeeded: bool,
        /// What was done.
        steps: Vec<Outline>,
    },
}

impl Outline {
    /// The reply with what the ranges came to, which are given in order.
    pub(crate) fn fill(
        &self,
        revision: i64,
        ranges: &mut impl Iterator<Item = RangeReply>,
    ) -> Reply {
        let body = match self {
            Outline::Range => ReplyBody::Range(ranges.next().unwrap_or_default()),
            Outline::Txn { succeeded, steps } => ReplyBody::Txn(TxnReply {
                succeeded: *succeeded,
                replies: steps
                    .iter()
                    .map(|step| match (step.fill(revision, ranges), step) {
                        (reply, Outline::Range) => reply,
                        (reply, Outline::Txn { .. }) => nested(reply.body),
                    })
                    .collect(),
            }),
        };
        Reply { revision, body }
    }
}

fn read(view: &View, range: &Range) -> Result<Reply, Failure> {
    let mut reading = RangeReading::begin_checked(view, range);
    let all = Turn::new(view.progress, Work::UNBOUNDED);
    while !reading.read(view, &all)? {}
    Ok(Reply {
        revision: view.revision,
        body: ReplyBody::Range(reading.finish(&|bytes| view.room.give_back(bytes))),
    })
}

/// The reply of a nested transaction: etcd leaves the revision of its header zero.
fn nested(body: ReplyBody) -> Reply {
    Reply { revision: 0, body }
}

/// Whether a comparison holds for every key that it names. When there is none, it is judged as if there were one with all
/// numbers zero; a comparison of values then fails.
fn holds(view: &View, compare: &Compare) -> Result<bool, KvError> {
    let mut holds_so_far = None;
    view.walk(
        Span::new(&compare.key, &compare.range_end),
        view.revision,
        |key, revision, meta| {
            let ordering = match &compare.target {
                CompareTarget::Version(version) => meta.version.cmp(version),
                CompareTarget::Create(revision) => meta.create_revision.cmp(revision),
                CompareTarget::Mod(given) => revision.main.cmp(given),
                CompareTarget::Lease(lease) => meta.lease.cmp(lease),
                CompareTarget::Value(value) => view.value(revision, key)?.cmp(value),
            };
            let holds = accepts(compare.result, ordering);
            holds_so_far = Some(holds);
            // One key for which it does not hold decides.
            Ok::<_, KvError>(if holds {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            })
        },
    )?;
    if let Some(holds) = holds_so_far {
        return Ok(holds);
    }
    Ok(match compare.target {
        CompareTarget::Value(_) => false,
        CompareTarget::Version(given)
        | CompareTarget::Create(given)
        | CompareTarget::Mod(given)
        | CompareTarget::Lease(given) => accepts(compare.result, 0.cmp(&given)),
    })
}

fn accepts(result: CompareResult, ordering: std::cmp::Ordering) -> bool {
    match result {
        CompareResult::Equal => ordering.is_eq(),
        CompareResult::Greater => ordering.is_gt(),
        CompareResult::Less => ordering.is_lt(),
        CompareResult::NotEqual => ordering.is_ne(),
    }
}
