//! Writes changes at the target, in parts that it takes, and nothing over what somebody else has written.

use std::cell::Cell;
use std::future::pending;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::watch;
use tonic::{Code, Status};

use crate::client::Link;
use crate::migrate::batch::{Write, parts};
use crate::migrate::error::{MigrateError, Result};
use crate::migrate::guarded::{Guarded, has_changed, moving};
use crate::migrate::leases::Leases;
use crate::migrate::ours::{Anchor, Ours};
use crate::migrate::side::Side;
use crate::output::Shown;
use crate::proto::{KeyValue, PutRequest, TxnRequest, TxnResponse};

/// How often the leases of a part are granted anew, since they have ended before it was written.
const GRANTS_MAX: u32 = 5;
/// How often a part is sent whose keys were not as they were known to be.
const ROUNDS_MAX: u32 = 64;
/// How many keys are looked at at a time.
const QUESTIONS_MAX: usize = 16;
/// What is asked, where an error names it.
const WRITING: &str = "writing keys";

/// Writes at the target.
pub(crate) struct Writer<'a> {
    pub(crate) target: &'a Side,
    pub(crate) leases: &'a Leases<'a>,
    pub(crate) ours: &'a Ours,
    /// The most operations of a transaction.
    pub(crate) operations_max: usize,
    pending: Pending,
}

/// How a part is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// Guarded, by an anchor too where it needs one.
    Whole,
    /// Guarded, without an anchor: the target takes no more.
    Bare,
    /// Looked at, and guarded by nothing but a short anchor: a key that is too long cannot be named twice in a request.
    Anchored,
    /// Looked at, and then put or deleted: what just fits into a request leaves no room for a guard.
    Plain,
}

impl Form {
    /// What takes less of a request, and of a transaction.
    fn smaller(self, status: &Status) -> Option<Form> {
        match self {
            Form::Whole => Some(Form::Bare),
            Form::Bare if is_too_large(status) => Some(Form::Anchored),
            Form::Anchored if is_too_large(status) => Some(Form::Plain),
            Form::Bare | Form::Anchored | Form::Plain => None,
        }
    }

    fn compares_keys(self) -> bool {
        matches!(self, Form::Whole | Form::Bare)
    }
}

impl<'a> Writer<'a> {
    /// Nothing is under way.
    pub(crate) fn new(
        target: &'a Side,
        leases: &'a Leases<'a>,
        ours: &'a Ours,
        operations_max: usize,
    ) -> Writer<'a> {
        Writer {
            target,
            leases,
            ours,
            operations_max,
            pending: Pending::new(),
        }
    }

    /// Writes all of these, in their order, as few transactions as the target takes, and counts them. Who reads there sees each part as a
    /// whole.
    ///
    /// # Errors
    /// A refusal; [`MigrateError::Theirs`]; [`MigrateError::TooLarge`] for a pair that does not fit.
    pub(crate) async fn write(&self, writes: Vec<Write>, count: &Cell<u64>) -> Result<()> {
        let parts = parts(writes, self.operations_max).into_iter().rev();
        let mut waiting: Vec<_> = parts.map(|part| (part, Form::Whole)).collect();
        let mut grants = 0;
        while let Some((mut part, form)) = waiting.pop() {
            self.leases.ensure(part.iter().map(Write::lease)).await?;
            let Err(error) = self.deliver(&part, form).await else {
                count.set(count.get() + part.len() as u64);
                continue;
            };
            match error.status() {
                // Its limits are smaller than we thought.
                Some(status) if is_too_much(status) && part.len() > 1 => {
                    let rest = part.split_off(part.len() / 2);
                    waiting.extend([(rest, form), (part, form)]);
                }
                Some(status)
                    if is_too_much(status)
                        && let Some(smaller) = form.smaller(status) =>
                {
                    waiting.push((part, smaller));
                }
                Some(status) if is_too_large(status) => return Err(too_large(&part, error)),
                Some(status) if is_without_lease(status) && grants < GRANTS_MAX => {
                    grants += 1;
                    let leases = part.iter().map(Write::lease);
                    self.leases.look_again(leases).await?;
                    waiting.push((part, form));
                }
                _ => return Err(error),
            }
        }
        Ok(())
    }

    /// How many operations are sent together: there is room for an anchor beside them.
    pub(crate) fn operations_at_ease(&self) -> usize {
        (self.operations_max - 1).max(1)
    }

    /// Nothing more is begun, and what is under way is waited for.
    pub(crate) async fn close(&self) {
        self.pending.close().await;
    }

    /// How many writes nobody has answered.
    pub(crate) fn unanswered(&self) -> usize {
        self.pending.unanswered()
    }

    /// Has one part be there, whatever of it somebody else changes meanwhile that may be changed.
    async fn deliver(&self, part: &[Write], form: Form) -> Result<()> {
        for _ in 0..ROUNDS_MAX {
            let Some(guarded) = self.guarded(part, form).await? else {
                return Ok(());
            };
            let is_there = match (form, &guarded.writes[..]) {
                (Form::Plain, [(Write::Put(put), _)]) => self.put(put, &guarded).await?,
                _ => self.send(&guarded).await?,
            };
            if is_there {
                return Ok(());
            }
        }
        let key = part
            .first()
            .map_or_else(String::new, |write| shown(write.key()));
        Err(MigrateError::Contended { key })
    }

    /// A part with what its keys are known to be at; none where nothing of it is left to do.
    async fn guarded(&self, part: &[Write], form: Form) -> Result<Option<Guarded>> {
        let held = part.iter().map(|write| match form.compares_keys() {
            true => self.ours.held(write.key()),
            // What is about to be written without that guard is looked at whatever is known of it.
            false => None,
        });
        let mut held: Vec<Option<i64>> = held.collect();
        let unknown = part.iter().zip(&held).filter(|(_, held)| held.is_none());
        let mut found = self
            .look(unknown.map(|(write, _)| write.key()))
            .await?
            .into_iter();
        for (write, held) in part
            .iter()
            .zip(&mut held)
            .filter(|(_, held)| held.is_none())
        {
            let pair = found.next().flatten();
            let revision = pair.map_or(0, |pair| pair.mod_revision);
            self.ours.saw(write.key(), revision)?;
            *held = Some(revision);
        }
        let writes = part
            .iter()
            .cloned()
            .zip(held.into_iter().map(Option::unwrap_or_default));
        // What is gone already need not be deleted.
        let writes: Vec<_> = writes
            .filter(|(write, held)| write.is_put() || *held != 0)
            .collect();
        let Some((first, _)) = writes.first() else {
            return Ok(None);
        };
        let has_room = writes.len() < self.operations_max;
        let anchor = match form {
            Form::Whole if has_room && Guarded::only_makes_keys(&writes) => {
                self.anchor(self.ours.anchor(), first.key()).await?
            }
            Form::Anchored => {
                let known = self.ours.short_anchor(first.key());
                self.anchor(known, first.key()).await?
            }
            Form::Whole | Form::Bare | Form::Plain => None,
        };
        Ok(Some(Guarded {
            writes,
            anchor,
            compares_keys: form.compares_keys(),
        }))
    }

    /// A key of ours that is there beside this one, if any is. Where none is known yet, an earlier run may have left one.
    async fn anchor(&self, known: Option<Anchor>, beside: &Bytes) -> Result<Option<Anchor>> {
        if known.is_some() {
            return Ok(known);
        }
        let found = self.target.any_key().await?;
        Ok(found.and_then(|pair| self.ours.anchor_at(&pair, beside)))
    }

    /// Sends a part: whether it is there by now. If not, its keys are known as they are.
    async fn send(&self, guarded: &Guarded) -> Result<bool> {
        let (answer, in_doubt) = self.ask(guarded.request()).await;
        if let Ok(answer) = &answer
            && answer.succeeded
            && has_changed(&answer.responses)
        {
            let revision = answer.header.as_ref().map_or(0, |header| header.revision);
            self.ours.wrote(guarded, revision);
        }
        // An earlier sending may be under way still. Where nobody answers, nothing else is written any more.
        let is_answered = answer
            .as_ref()
            .err()
            .is_none_or(|error| !error.is_absence());
        if in_doubt
            && is_answered
            && let Some(anchor) = &guarded.anchor
        {
            self.void_late_sendings(anchor).await?;
        }
        let answer = answer?;
        match answer.succeeded {
            true if guarded.compares_keys || !in_doubt => Ok(true),
            // Not compared, it may have been carried out once more before the anchor was moved.
            _ => self.reconsider(guarded, in_doubt).await,
        }
    }

    /// Looks why a part was not carried out, or what an earlier sending has made of it: whether it is there.
    async fn reconsider(&self, guarded: &Guarded, in_doubt: bool) -> Result<bool> {
        let keys = guarded.writes.iter().map(|(write, _)| write.key());
        let found = self.look(keys).await?;
        if in_doubt && let Some(landed) = guarded.landed(&found) {
            self.ours.wrote(guarded, landed.revision);
            if landed.is_whole {
                return Ok(true);
            }
        }
        for ((write, _), pair) in guarded.writes.iter().zip(&found) {
            let revision = pair.as_ref().map_or(0, |pair| pair.mod_revision);
            self.ours.saw(write.key(), revision)?;
        }
        if let Some(anchor) = &guarded.anchor {
            let pair = self.target.pair(&anchor.key).await?;
            let revision = pair.map_or(0, |pair| pair.mod_revision);
            self.ours.found(&anchor.key, revision);
        }
        Ok(false)
    }

    /// Moves an anchor, so that whatever was to find it in its place comes too late from now on.
    async fn void_late_sendings(&self, anchor: &Anchor) -> Result<()> {
        let Some(before) = self.target.pair(&anchor.key).await? else {
            return Ok(());
        };
        if before.mod_revision != anchor.revision {
            return Ok(());
        }
        let (answer, in_doubt) = self.ask(moving(anchor)).await;
        let answer = answer?;
        let revision = match answer.succeeded {
            true => answer.header.map(|header| header.revision),
            // An earlier sending may have moved it.
            false if in_doubt => {
                let now = self.target.pair(&anchor.key).await?;
                now.filter(|now| is_moved(&before, now))
                    .map(|now| now.mod_revision)
            }
            false => None,
        };
        if let Some(revision) = revision {
            self.ours.moved(&anchor.key, revision);
        }
        Ok(())
    }

    /// Puts a pair that was looked at.
    async fn put(&self, put: &PutRequest, guarded: &Guarded) -> Result<bool> {
        let under_way = self.pending.begin().await;
        let send = async |link: Link| link.kv().put(put.clone()).await;
        let answer = self.target.ask(WRITING, send).await;
        under_way.answered();
        let answer = answer?.into_inner();
        let revision = answer.header.unwrap_or_default().revision;
        self.ours.wrote(guarded, revision);
        Ok(true)
    }

    /// Asks for a transaction: the answer, and whether it was sent before without one, so that it may have been carried out already, or
    /// may be later.
    async fn ask(&self, request: TxnRequest) -> (Result<TxnResponse>, bool) {
        let under_way = self.pending.begin().await;
        let sendings = Cell::new(0_u32);
        let send = async |link: Link| {
            sendings.set(sendings.get() + 1);
            link.kv().txn(request.clone()).await
        };
        let answer = self.target.ask(WRITING, send).await;
        under_way.answered();
        (answer.map(tonic::Response::into_inner), sendings.get() > 1)
    }

    /// Keys as they are at the target, in their order.
    async fn look(&self, keys: impl Iterator<Item = &Bytes>) -> Result<Vec<Option<KeyValue>>> {
        let keys: Vec<Bytes> = keys.cloned().collect();
        stream::iter(keys)
            .map(async |key| self.target.pair(&key).await)
            .buffered(QUESTIONS_MAX)
            .try_collect()
            .await
    }
}

/// The writes that are under way, so that they can be counted and ended.
struct Pending {
    under_way: watch::Sender<usize>,
    /// Writes that were given up before they were answered.
    unanswered: Cell<usize>,
    is_closed: Cell<bool>,
}

/// A write under way. Whoever ends amid drops it: then nobody knows what becomes of it.
struct UnderWay<'a> {
    pending: &'a Pending,
    is_answered: bool,
}

impl Pending {
    fn new() -> Pending {
        Pending {
            under_way: watch::Sender::new(0),
            unanswered: Cell::new(0),
            is_closed: Cell::new(false),
        }
    }

    /// One more, unless it is closed: then it waits for its own end.
    async fn begin(&self) -> UnderWay<'_> {
        if self.is_closed.get() {
            pending::<()>().await;
        }
        self.under_way.send_modify(|count| *count += 1);
        UnderWay {
            pending: self,
            is_answered: false,
        }
    }

    async fn close(&self) {
        self.is_closed.set(true);
        let mut count = self.under_way.subscribe();
        // The sender lives as long as this borrow of it.
        let _ = count.wait_for(|count| *count == 0).await;
    }

    /// How many writes nobody has answered.
    fn unanswered(&self) -> usize {
        self.unanswered.get() + *self.under_way.borrow()
    }
}

impl UnderWay<'_> {
    fn answered(mut self) {
        self.is_answered = true;
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let given_up = usize::from(!self.is_answered);
        self.pending
            .unanswered
            .set(self.pending.unanswered.get() + given_up);
        self.pending.under_way.send_modify(|count| *count -= 1);
    }
}

/// Whether a pair has been written once since, and not been changed by that.
fn is_moved(before: &KeyValue, now: &KeyValue) -> bool {
    let as_moved = KeyValue {
        mod_revision: now.mod_revision,
        version: before.version + 1,
        ..before.clone()
    };
    *now == as_moved
}

fn shown(key: &Bytes) -> String {
    Shown {
        bytes: key,
        hex: false,
    }
    .cell()
}

fn too_large(part: &[Write], error: MigrateError) -> MigrateError {
    let Some(write) = part.first() else {
        return error;
    };
    MigrateError::TooLarge {
        key: shown(write.key()),
        bytes: write.bytes(),
    }
}

fn is_too_large(status: &Status) -> bool {
    let text = status.message();
    text.contains("request is too large") || text.contains("message larger than max")
}

/// Whether half of it may be taken.
fn is_too_much(status: &Status) -> bool {
    let text = status.message();
    is_too_large(status)
        || text.contains("too many operations in txn request")
        || text.contains("duplicate key given in txn request")
}

fn is_without_lease(status: &Status) -> bool {
    status.code() == Code::NotFound && status.message().contains("lease not found")
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_write_that_is_given_up_is_told_as_unanswered() {
        let pending = Pending::new();
        let begin = || pending.begin().now_or_never().expect("it is open");
        let (answered, given_up, under_way) = (begin(), begin(), begin());
        answered.answered();
        drop(given_up);
        assert_eq!(pending.unanswered(), 2);
        under_way.answered();
        assert_eq!(pending.unanswered(), 1);
        assert!(
            pending.close().now_or_never().is_some(),
            "none is under way"
        );
        assert!(pending.begin().now_or_never().is_none(), "it is closed");
    }
}
