//! Who may what, in the plainest way, for the twin of the key space.

use bytes::Bytes;
use rm_kv::{
    AuthCommand, AuthError, AuthQuery, Command, Deed, DeleteRange, Operation, Put, Query, Range,
    Signature, Txn,
};

use crate::twin_users::Users;

pub(crate) struct TwinJudge<'t> {
    pub(crate) users: &'t Users,
    pub(crate) by: Option<&'t Signature>,
    /// Which keys hang on a lease.
    pub(crate) keys_of: &'t dyn Fn(i64) -> Vec<Bytes>,
    /// Which leases a query lists.
    pub(crate) leases_after: &'t dyn Fn(Option<i64>, usize) -> Vec<i64>,
}

impl TwinJudge<'_> {
    pub(crate) fn command(&self, command: &Command) -> Result<(), AuthError> {
        if !self.users.enabled {
            return Ok(());
        }
        match command {
            Command::Put(put) => self.put(put),
            Command::DeleteRange(delete) => self.delete(delete),
            Command::Txn(txn) => self.txn(txn),
            Command::GrantLease { .. } => self.users.somebody(self.by).map(drop),
            Command::RevokeLease { id } => self.lease(*id, true),
            Command::Auth(AuthCommand::Admit { .. }) => Ok(()),
            Command::Auth(_) => self.users.administer(self.by),
            _ => Ok(()),
        }
    }

    pub(crate) fn query(&self, query: &Query) -> Result<(), AuthError> {
        let users = self.users;
        if !users.enabled {
            return Ok(());
        }
        match query {
            Query::Range(range) => self.range(range),
            Query::Txn(txn) => self.txn(txn),
            Query::Lease { id, .. } => self.lease(*id, false),
            Query::ListLeases { after, limit } => {
                users.somebody(self.by)?;
                let mut ids = (self.leases_after)(*after, *limit).into_iter();
                ids.try_for_each(|id| self.lease(id, false))
            }
            Query::Auth(AuthQuery::User(name)) if self.by.is_some_and(|by| by.user == *name) => {
                Ok(())
            }
            Query::Auth(AuthQuery::Role(role)) if users.has(self.by, role) => Ok(()),
            Query::Auth(AuthQuery::Password(_)) => Ok(()),
            Query::Auth(AuthQuery::May(Deed::Watch { key, range_end })) => {
                users.may(self.by, key, range_end, false)
            }
            Query::Auth(AuthQuery::May(Deed::Renew(id))) => self.lease(*id, true),
            Query::Auth(AuthQuery::May(Deed::Be)) => users.somebody(self.by).map(drop),
            Query::Auth(_) => users.administer(self.by),
            _ => Ok(()),
        }
    }

    fn may(&self, key: &Bytes, range_end: &Bytes, write: bool) -> Result<(), AuthError> {
        self.users.may(self.by, key, range_end, write)
    }

    fn range(&self, range: &Range) -> Result<(), AuthError> {
        self.may(&range.key, &range.range_end, false)
    }

    fn put(&self, put: &Put) -> Result<(), AuthError> {
        self.may(&put.key, &Bytes::new(), true)?;
        if put.lease != 0 {
            self.lease(put.lease, true)?;
        }
        match put.prev_kv {
            true => self.may(&put.key, &Bytes::new(), false),
            false => Ok(()),
        }
    }

    fn delete(&self, delete: &DeleteRange) -> Result<(), AuthError> {
        self.may(&delete.key, &delete.range_end, true)?;
        match delete.prev_kv {
            true => self.may(&delete.key, &delete.range_end, false),
            false => Ok(()),
        }
    }

    fn txn(&self, txn: &Txn) -> Result<(), AuthError> {
        for compare in &txn.compare {
            self.may(&compare.key, &compare.range_end, false)?;
        }
        for operation in txn.success.iter().chain(&txn.failure) {
            match operation {
                Operation::Range(range) => self.range(range)?,
                Operation::Put(put) => self.put(put)?,
                Operation::DeleteRange(delete) => self.delete(delete)?,
                Operation::Txn(txn) => self.txn(txn)?,
            }
        }
        Ok(())
    }

    /// All that hangs on a lease, one key after the other.
    fn lease(&self, id: i64, write: bool) -> Result<(), AuthError> {
        self.users.somebody(self.by)?;
        for key in (self.keys_of)(id) {
            self.may(&key, &Bytes::new(), write)?;
        }
        Ok(())
    }
}
