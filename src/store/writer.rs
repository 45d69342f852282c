//! A write transaction that keeps its environment open, so that whoever writes owns all that it needs.

use heed::RwTxn;
use self_cell::self_cell;

use crate::Environment;

/// What a writer has open: nothing after a commit or a failure.
type Transaction<'a> = Option<RwTxn<'a>>;

self_cell! {
    struct Held {
        owner: Environment,
        #[covariant]
        dependent: Transaction,
    }
}

/// An environment with its write transaction. The environment closes with the last of its users, of which this is one.
pub struct Writer(Held);

impl Writer {
    /// Begins a transaction; waits while another is open.
    ///
    /// # Errors
    /// LMDB's own.
    pub fn begin(environment: Environment) -> heed::Result<Writer> {
        Held::try_new(environment, |environment| {
            environment.env().write_txn().map(Some)
        })
        .map(Writer)
    }

    /// The environment.
    pub fn environment(&self) -> &Environment {
        self.0.borrow_owner()
    }

    /// The transaction, if one is open.
    pub fn txn(&self) -> Option<&RwTxn<'_>> {
        self.0.borrow_dependent().as_ref()
    }

    /// Has something done with the transaction, if one is open.
    pub fn with_txn<R>(&mut self, f: impl FnOnce(Option<&mut RwTxn<'_>>) -> R) -> R {
        self.0.with_dependent_mut(|_, txn| f(txn.as_mut()))
    }

    /// Drops the transaction, with all that was written in it.
    pub fn abandon(&mut self) {
        self.0.with_dependent_mut(|_, txn| *txn = None);
    }

    /// Stamps and commits the transaction, if one is open; none is open afterwards, whether it succeeds or not.
    ///
    /// # Errors
    /// LMDB's own.
    pub fn commit(&mut self) -> heed::Result<()> {
        self.0
            .with_dependent_mut(|environment, txn| match txn.take() {
                Some(txn) => environment.commit(txn),
                None => Ok(()),
            })
    }

    /// Begins the next transaction, if none is open.
    ///
    /// # Errors
    /// LMDB's own.
    pub fn renew(&mut self) -> heed::Result<()> {
        self.0.with_dependent_mut(|environment, txn| {
            if txn.is_none() {
                *txn = Some(environment.env().write_txn()?);
            }
            Ok(())
        })
    }
}
