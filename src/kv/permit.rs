//! Who may what: each request is judged where it is applied or answered, by the users, roles and permissions of that moment, so that
//! every machine judges alike (etcd #14571).

use crate::auth::Auth;
use crate::auth_command::{AuthCommand, AuthError, AuthQuery, Deed, Signature};
use crate::command::{Command, Operation, Put, Query, Range, Txn};
use crate::error::Failure;
use crate::span::Span;
use crate::vetted::Vetted;
use crate::view::View;

/// Whoever asks, and what is known of the key space and its users.
pub(crate) struct Judge<'j> {
    pub(crate) auth: &'j Auth,
    pub(crate) view: &'j View<'j>,
    pub(crate) vetted: &'j Vetted,
    /// None for a client that has not said who it is.
    pub(crate) by: Option<&'j Signature>,
}

impl Judge<'_> {
    /// Whether a command may be carried out. What the machine proposes by itself anybody may. So it is with compactions and alarms, which
    /// machines and administrators ask for alike: that a client is one of these is seen to before it is proposed (`src/api/recognition.rs`).
    pub(crate) fn command(&self, command: &Command) -> Result<(), Failure> {
        if !self.auth.enabled() {
            return Ok(());
        }
        match command {
            Command::Put(put) => self.put(put),
            Command::DeleteRange(delete) => {
                let span = Span::new(&delete.key, &delete.range_end);
                self.write(span)?;
                self.read_if(delete.prev_kv, span)
            }
            Command::Txn(txn) => self.txn(txn),
            Command::GrantLease { .. } => Ok(self.somebody().map(drop)?),
            Command::RevokeLease { id } => {
                self.somebody()?;
                self.lease(*id, true)
            }
            Command::Auth(AuthCommand::Admit { .. }) => Ok(()),
            Command::Auth(_) => Ok(self.administer()?),
            Command::Alarm(_)
            | Command::Compact { .. }
            | Command::Scrub { .. }
            | Command::ExpireLeases { .. }
            | Command::NoteLeases { .. }
            | Command::CountLeases => Ok(()),
        }
    }

    /// Whether a query may be answered.
    pub(crate) fn query(&self, query: &Query) -> Result<(), Failure> {
        if !self.auth.enabled() {
            return Ok(());
        }
        match query {
            Query::Range(range) => self.range(range),
            Query::Txn(txn) => self.txn(txn),
            Query::Lease { id, .. } => {
                self.somebody()?;
                self.lease(*id, false)
            }
            // What the machine itself asks.
            Query::KnownLeases(_) | Query::Leases { .. } => Ok(()),
            Query::ListLeases { after, limit } => self.leases(*after, *limit),
            Query::Signed { query, .. } => self.query(query),
            Query::Auth(query) => self.auth_query(query),
        }
    }

    fn auth_query(&self, query: &AuthQuery) -> Result<(), Failure> {
        let is = |name: &str| self.by.is_some_and(|by| by.user == name);
        let has = |role: &str| self.by.is_some_and(|by| self.auth.has_role(&by.user, role));
        match query {
            AuthQuery::Password(_) => Ok(()),
            AuthQuery::User(name) if is(name) => Ok(()),
            AuthQuery::Role(role) if has(role) => Ok(()),
            AuthQuery::Status
            | AuthQuery::User(_)
            | AuthQuery::Role(_)
            | AuthQuery::Users
            | AuthQuery::Roles => Ok(self.administer()?),
            AuthQuery::May(deed) => match deed {
                Deed::Administer => Ok(self.administer()?),
                Deed::Watch { key, range_end } => self.read(Span::new(key, range_end)),
                Deed::Renew(id) => {
                    self.somebody()?;
                    self.lease(*id, true)
                }
                Deed::Be => Ok(self.somebody().map(drop)?),
            },
        }
    }

    /// The user, if it was recognised under the present users, roles and permissions.
    fn somebody(&self) -> Result<&str, AuthError> {
        let by = self.by.filter(|by| !by.user.is_empty());
        let by = by.ok_or(AuthError::UserEmpty)?;
        if by.revision < self.auth.revision() {
            return Err(AuthError::OldRevision);
        }
        Ok(&by.user)
    }

    fn administer(&self) -> Result<(), AuthError> {
        let user = self.somebody()?;
        match self.auth.is_root(user)? {
            true => Ok(()),
            false => Err(AuthError::PermissionDenied),
        }
    }

    fn read(&self, span: Span) -> Result<(), Failure> {
        self.may(span, false)
    }

    fn write(&self, span: Span) -> Result<(), Failure> {
        self.may(span, true)
    }

    fn read_if(&self, is_read: bool, span: Span) -> Result<(), Failure> {
        match is_read {
            true => self.read(span),
            false => Ok(()),
        }
    }

    fn may(&self, span: Span, write: bool) -> Result<(), Failure> {
        let user = self.somebody()?;
        match self.auth.permits(user, span, write) {
            true => Ok(()),
            false => Err(AuthError::PermissionDenied.into()),
        }
    }

    fn range(&self, range: &Range) -> Result<(), Failure> {
        self.read(Span::new(&range.key, &range.range_end))
    }

    /// Whoever has a key hang on a lease must be able to end it, and so to write all that hangs on it.
    fn put(&self, put: &Put) -> Result<(), Failure> {
        let span = Span::One(&put.key);
        self.write(span)?;
        if put.lease != 0 {
            self.lease(put.lease, true)?;
            let may = |user: &str, write| self.auth.permits(user, span, write);
            self.vetted.hung_on(put.lease, may);
        }
        self.read_if(put.prev_kv, span)
    }

    /// Both branches are judged, as in etcd: whether a comparison holds must not be learnt from a refusal.
    fn txn(&self, txn: &Txn) -> Result<(), Failure> {
        for compare in &txn.compare {
            self.read(Span::new(&compare.key, &compare.range_end))?;
        }
        for operation in txn.success.iter().chain(&txn.failure) {
            match operation {
                Operation::Range(range) => self.range(range)?,
                Operation::Put(put) => self.put(put)?,
                Operation::DeleteRange(delete) => {
                    let span = Span::new(&delete.key, &delete.range_end);
                    self.read_if(delete.prev_kv, span)?;
                    self.write(span)?;
                }
                Operation::Txn(txn) => self.txn(txn)?,
            }
        }
        Ok(())
    }

    /// Whether all that hangs on each of these leases may be read.
    fn leases(&self, after: Option<i64>, limit: usize) -> Result<(), Failure> {
        self.somebody()?;
        if self.administer().is_ok() {
            return Ok(());
        }
        for lease in self.view.leases_after(after, limit)? {
            self.lease(lease.grant.id, false)?;
            self.view.progress.step(0);
        }
        Ok(())
    }

    /// Whether all keys that hang on a lease may be read, or written. There may be no such lease.
    fn lease(&self, id: i64, write: bool) -> Result<(), Failure> {
        if self.administer().is_ok() {
            return Ok(());
        }
        let user = self.somebody()?;
        let revision = self.auth.revision();
        self.vetted.judge(revision, id, (user, write), || {
            for key in self.view.attached_keys(id)? {
                self.may(Span::One(&key), write)?;
            }
            Ok(())
        })
    }
}
