//! What the Applier has its key space do, counted and timed for whoever monitors the machine.

use std::sync::Arc;
use std::time::Instant;

use rm_kv::{
    Keyspace, Kind, KvError, Outcome, Query, Reading, ReplyBody, ReplyMemory, RequestError, Slice,
    Tally, Work,
};
use rm_raft::{Entry, Index};

use crate::entry::apply_entry;
use crate::machine::Shared;
use crate::message::Read;
use crate::meters::KeyspaceMeters;

/// What was done by one life of the Applier.
pub(crate) struct WorkDone {
    shared: Arc<Shared>,
    /// What was applied and is not posted yet.
    applied: Tally,
    /// When the compaction was met of which the scrub goes on.
    compacts_since: Option<Instant>,
}

impl WorkDone {
    pub(crate) fn new(shared: &Arc<Shared>) -> WorkDone {
        WorkDone {
            shared: shared.clone(),
            applied: Tally::default(),
            compacts_since: None,
        }
    }

    pub(crate) fn meters(&self) -> &KeyspaceMeters {
        &self.shared.board.meters.keyspace
    }

    /// Applies an entry. What an earlier life has posted, up to `posted`, counts no second time.
    pub(crate) fn apply(
        &mut self,
        keyspace: &mut Keyspace,
        entry: &Entry,
        answer: Option<&dyn ReplyMemory>,
        posted: Index,
    ) -> Result<Outcome, KvError> {
        let began = Instant::now();
        let outcome = apply_entry(keyspace, entry, answer)?;
        let took = began.elapsed();
        let done = keyspace.take_tally();
        if entry.id.index <= posted {
            return Ok(outcome);
        }
        self.applied += done;
        if let (Some(kind), Some(reply)) = (keyspace.last_kind(), &outcome) {
            self.meters().applied(kind, reply.is_ok(), took);
            if kind == Kind::Compaction && reply.is_ok() {
                self.compacts_since.get_or_insert(began);
            }
            if let Ok(reply) = reply
                && let ReplyBody::GrantLease(lease) = &reply.body
            {
                self.meters().granted(lease.ttl);
            }
        }
        Ok(outcome)
    }

    /// Begins to answer a query, with so much work at most.
    pub(crate) fn begin(
        &self,
        keyspace: &Keyspace,
        (query, read): (&Query, &Read),
        began: Instant,
        budget: Work,
    ) -> Result<Result<Slice, RequestError>, KvError> {
        let outcome = keyspace.begin(query, &read.making, budget);
        self.note(keyspace, read, began, &outcome);
        outcome
    }

    /// Goes on with a read that was begun at `began`.
    pub(crate) fn go_on(
        &self,
        keyspace: &Keyspace,
        reading: Reading,
        read: &Read,
        began: Instant,
        budget: Work,
    ) -> Result<Result<Slice, RequestError>, KvError> {
        self.meters().read_slices.add(1);
        let outcome = keyspace.go_on(reading, &read.making, budget).map(Ok);
        self.note(keyspace, read, began, &outcome);
        outcome
    }

    fn note(
        &self,
        keyspace: &Keyspace,
        read: &Read,
        began: Instant,
        outcome: &Result<Result<Slice, RequestError>, KvError>,
    ) {
        let succeeded = match outcome {
            Ok(Ok(Slice::Unfinished(_))) => return,
            Ok(Ok(Slice::Overtaken(_))) => return self.meters().reads_overtaken.add(1),
            Ok(Ok(Slice::Answered(_) | Slice::Unsorted(_))) => true,
            Ok(Ok(Slice::Refused(..)) | Err(_)) | Err(_) => false,
        };
        let took = began.elapsed();
        let is_range = read.query.as_ref().is_some_and(Query::is_range);
        self.meters().read(is_range, succeeded, took);
        self.meters().count(&keyspace.take_tally());
    }

    /// Posts what was applied: before anyone learns of the entries, so that a later life counts what this one has not posted.
    pub(crate) fn post(&mut self, keyspace: Option<&Keyspace>) {
        let applied = std::mem::take(&mut self.applied);
        self.meters().count(&applied);
        let is_complete = keyspace.map(|keyspace| keyspace.compaction().is_complete());
        match (is_complete, self.compacts_since) {
            // An earlier life met it, or an earlier process.
            (Some(false), None) => self.compacts_since = Some(Instant::now()),
            (Some(true), Some(since)) => {
                self.compacts_since = None;
                self.meters().compacted(since.elapsed());
            }
            _ => {}
        }
    }
}
