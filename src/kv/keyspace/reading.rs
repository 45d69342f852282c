//! What queries are answered.

use super::{Keyspace, MAX_TXN_OPERATIONS};
use crate::auth_command::{AuthQuery, AuthReply};
use crate::command::{Query, Reply, ReplyBody};
use crate::error::{Failure, KvError, RequestError};
use crate::permit::Judge;
use crate::room::{ReplyMemory, ReplyRoom};
use crate::tally::Tally;
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
        match self.read(query, memory) {
            Ok(reply) => Ok(Ok(reply)),
            Err(Failure::Request(error)) => Ok(Err(error)),
            Err(Failure::Store(error)) => Err(error),
        }
    }

    fn read(&self, query: &Query, memory: &dyn ReplyMemory) -> Result<Reply, Failure> {
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
                let reply = view.range(range)?;
                self.count(Tally {
                    ranges: 1,
                    ..Tally::default()
                });
                ReplyBody::Range(reply)
            }
            Query::Txn(txn) => {
                let plan = Plan::new(&view, txn)?;
                let reply = plan.execute_reads(&view)?;
                self.count(Tally {
                    ranges: plan.ranges(),
                    txns: 1,
                    ..Tally::default()
                });
                ReplyBody::Txn(reply)
            }
            Query::Lease { id, keys } => ReplyBody::Lease(view.lease(*id, *keys)?),
            Query::KnownLeases(ids) => ReplyBody::Leases(view.known_leases(ids)?),
            Query::Leases { after, limit } | Query::ListLeases { after, limit } => {
                ReplyBody::Leases(view.leases_after(*after, *limit)?)
            }
            Query::Auth(query) => ReplyBody::Auth(self.answer_auth(query)?),
            Query::Signed { .. } => return Err(RequestError::SignedTwice.into()),
        };
        Ok(Reply {
            revision: view.revision,
            body,
        })
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
