//! Transactions, judged as etcd judges them: first all comparisons, nested ones included, against the key space as it was;
//! then all checks of what is to be done; and only then the operations, each of which sees those before it.

use std::ops::ControlFlow;

use crate::change::{Change, check_put};
use crate::command::{
    Compare, CompareResult, CompareTarget, DeleteRange, Operation, Put, Range, RangeReply, Reply,
    ReplyBody, Txn, TxnReply,
};
use crate::error::{Failure, KvError};
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
                Step::Put(put) => check_put(view, put)?,
                Step::DeleteRange(_) => {}
                Step::Txn(plan) => plan.check(view)?,
            }
        }
        Ok(())
    }

    /// Does the steps.
    pub(crate) fn execute(&self, change: &mut Change) -> Result<TxnReply, KvError> {
        self.reply(|step| {
            Ok(match step {
                Step::Range(range) => match change.answer(|view| read(view, range))? {
                    Some(reply) => {
                        change.tally.ranges += 1;
                        reply
                    }
                    None => Reply {
                        revision: change.revision(),
                        body: ReplyBody::Range(RangeReply::default()),
                    },
                },
                Step::Put(put) => change.put(put)?,
                Step::DeleteRange(delete) => change.delete_range(delete)?,
                Step::Txn(plan) => nested(plan.execute(change)?),
            })
        })
    }

    /// Does the steps of a transaction that only reads.
    ///
    /// # Panics
    /// If it writes: [`crate::Query::check`] refuses that.
    pub(crate) fn execute_reads(&self, view: &View) -> Result<TxnReply, Failure> {
        self.reply(|step| match step {
            Step::Range(range) => read(view, range),
            Step::Txn(plan) => Ok(nested(plan.execute_reads(view)?)),
            Step::Put(_) | Step::DeleteRange(_) => {
                unreachable!("a query that writes was refused by its check")
            }
        })
    }

    /// How many ranges are to be read.
    pub(crate) fn ranges(&self) -> u64 {
        let of = |step: &Step| match step {
            Step::Range(_) => 1,
            Step::Txn(plan) => plan.ranges(),
            Step::Put(_) | Step::DeleteRange(_) => 0,
        };
        self.steps.iter().map(of).sum()
    }

    fn reply<E>(&self, each: impl FnMut(&Step<'t>) -> Result<Reply, E>) -> Result<TxnReply, E> {
        let replies = self.steps.iter().map(each).collect::<Result<_, _>>()?;
        Ok(TxnReply {
            succeeded: self.succeeded,
            replies,
        })
    }
}

fn read(view: &View, range: &Range) -> Result<Reply, Failure> {
    Ok(Reply {
        revision: view.revision,
        body: ReplyBody::Range(view.range_unchecked(range)?),
    })
}

/// The reply of a nested transaction: etcd leaves the revision of its header zero.
fn nested(reply: TxnReply) -> Reply {
    Reply {
        revision: 0,
        body: ReplyBody::Txn(reply),
    }
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
