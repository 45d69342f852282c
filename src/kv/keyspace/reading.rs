//! What queries are answered.

use super::{Keyspace, MAX_TXN_OPERATIONS};
use crate::auth_command::{AuthQuery, AuthReply};
use crate::command::{Query, Reply, ReplyBody};
use crate::error::{Failure, KvError, RequestError};
use crate::permit::Judge;
use crate::progress::{Turn, Work};
use crate::reading::{Reading, Slice};
use crate::room::{ReplyMemory, ReplyRoom};
use crate::txn::Plan;
use crate::view::View;

impl Keyspace {
    /// As [`query`](crate::StateMachine::query), with a reply that asks for the memory that it takes. Where there is none it is refused by
    /// [`RequestError::NoRoomForReply`].
    ///
    /// # Errors
    /// As there.
    pub fn query_within(
        &self,
        query: &Query,
        memory: &dyn ReplyMemory,
    ) -> Result<Result<Reply, RequestError>, KvError> {
        let mut slice = self.begin(query, memory, Work::UNBOUNDED)?;
        loop {
            slice = match slice {
                Err(error) => return Ok(Err(error)),
                Ok(Slice::Answered(reply)) => return Ok(Ok(reply)),
                Ok(Slice::Unsorted(unsorted)) => return Ok(Ok(unsorted.sort(memory))),
                Ok(Slice::Unfinished(reading)) => {
                    Ok(self.go_on(reading, memory, Work::UNBOUNDED)?)
                }
                Ok(Slice::Overtaken(_)) => return Ok(Err(RequestError::Compacted)),
                Ok(Slice::Refused(_, error)) => return Ok(Err(error)),
            }
        }
    }

    /// Begins to answer a query, with no more than so much work if it is one that can be answered in slices: a range, or a transaction.
    /// Permission is judged here and not again.
    ///
    /// # Errors
    /// As [`Keyspace::query_within`].
    pub fn begin(
        &self,
        query: &Query,
        memory: &dyn ReplyMemory,
        budget: Work,
    ) -> Result<Result<Slice, RequestError>, KvError> {
        match self.begin_slice(query, memory, budget) {
            Ok(slice) => Ok(Ok(slice)),
            Err(Failure::Request(error)) => Ok(Err(error)),
            Err(Failure::Store(error)) => Err(error),
        }
    }

    /// Goes on with one that was begun, on this key space or on one that had applied the same entries, and with the same memory.
    ///
    /// # Errors
    /// As [`Keyspace::query_within`], but for the client's, which are in the slice.
    pub fn go_on(
        &self,
        reading: Reading,
        memory: &dyn ReplyMemory,
        budget: Work,
    ) -> Result<Slice, KvError> {
        let turn = Turn::new(&self.progress, budget);
        self.read_slice(reading, memory, &turn)
    }

    /// How much was read and written since the key space was opened.
    pub fn work(&self) -> Work {
        self.progress.done()
    }

    fn begin_slice(
        &self,
        query: &Query,
        memory: &dyn ReplyMemory,
        budget: Work,
    ) -> Result<Slice, Failure> {
        let turn = Turn::new(&self.progress, budget);
        query.check(MAX_TXN_OPERATIONS)?;
        let room = ReplyRoom::new(self.reply_bytes_max, memory);
        let view = self.view(&room)?;
        let (by, query) = match query {
            Query::Signed { by, query } => (Some(by), &**query),
            query => (None, query),
        };
        let auth = &self.auth;
        let judge = Judge {
            auth,
            view: &view,
            vetted: &self.vetted,
            by,
        };
        judge.query(query)?;
        let body = match query {
            Query::Range(range) => {
                return Ok(self.read_slice(Reading::range(&view, range)?, memory, &turn)?);
            }
            Query::Txn(txn) => {
                let plan = Plan::new(&view, txn)?;
                return Ok(self.read_slice(Reading::txn(&view, &plan), memory, &turn)?);
            }
            Query::Lease { id, keys } => ReplyBody::Lease(view.lease(*id, *keys)?),
            Query::KnownLeases(ids) => ReplyBody::Leases(view.known_leases(ids)?),
            Query::Leases { after, limit } | Query::ListLeases { after, limit } => {
                ReplyBody::Leases(view.leases_after(*after, *limit)?)
            }
            Query::Auth(query) => ReplyBody::Auth(self.answer_auth(query)?),
            Query::Signed { .. } => return Err(RequestError::SignedTwice.into()),
        };
        Ok(Slice::Answered(Reply {
            revision: view.revision,
            body,
        }))
    }

    fn read_slice(
        &self,
        reading: Reading,
        memory: &dyn ReplyMemory,
        turn: &Turn,
    ) -> Result<Slice, KvError> {
        let room = ReplyRoom::new(reading.reply_bytes_left(), memory);
        let view = self.view(&room)?;
        let tally = reading.tally();
        let slice = reading.read(&view, turn, memory)?;
        if matches!(slice, Slice::Answered(_) | Slice::Unsorted(_)) {
            self.count(tally);
        }
        Ok(slice)
    }

    fn answer_auth(&self, query: &AuthQuery) -> Result<AuthReply, RequestError> {
        let auth = &self.auth;
        Ok(match query {
            AuthQuery::Status => auth.status(),
            AuthQuery::User(name) => auth.roles_of(name)?,
            AuthQuery::Users => auth.users(),
            AuthQuery::Role(name) => auth.permissions_of(name)?,
            AuthQuery::Roles => auth.roles(),
            AuthQuery::Password(name) => auth.password_of(name)?,
            AuthQuery::May(_) => AuthReply::Done,
        })
    }

    pub(super) fn view<'v>(&'v self, room: &'v ReplyRoom<'v>) -> Result<View<'v>, KvError> {
        Ok(View {
            tables: &self.tables,
            leases: &self.leases,
            txn: self.writer.txn().ok_or(KvError::GivenUp)?,
            revision: self.state.revision,
            compact_revision: self.state.compact_revision,
            progress: &self.progress,
            room,
        })
    }
}
