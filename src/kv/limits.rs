//! What a request must be before it is proposed or judged: keys given, operations bounded, no key changed twice.

use std::collections::BTreeSet;

use crate::codec::MAX_TXN_DEPTH;
use crate::command::{Command, DeleteRange, Operation, Put, Query, Range, Txn};
use crate::error::RequestError;
use crate::lease::{LEASE_SECONDS_MAX, LEASES_MAX};
use crate::span::Span;

impl Command {
    /// Checks all that can be told without the key space. `max_operations` bounds a transaction, as
    /// [`Txn::check`] counts.
    ///
    /// # Errors
    /// The first fault, in etcd's order.
    pub fn check(&self, max_operations: usize) -> Result<(), RequestError> {
        match self {
            Command::Put(put) => put.check(),
            Command::DeleteRange(delete) => delete.check(),
            Command::Txn(txn) => txn.check(max_operations),
            // What a compaction may name only the key space knows.
            Command::Compact { .. } | Command::Scrub { .. } => Ok(()),
            Command::GrantLease { id, ttl } => check_grant(*id, *ttl),
            Command::RevokeLease { .. }
            | Command::Auth(_)
            | Command::CountLeases
            | Command::Alarm(_) => Ok(()),
            Command::ExpireLeases { grants, .. } => check_count(grants.len()),
            Command::NoteLeases { times, .. } => check_count(times.len()),
        }
    }
}

impl Command {
    /// Whether its reply may tell of keys and their values, so that how large it becomes is the key space's to know.
    pub fn tells_keys(&self) -> bool {
        match self {
            Command::Put(put) => put.prev_kv,
            Command::DeleteRange(delete) => delete.prev_kv,
            Command::Txn(txn) => txn.tells_keys(),
            _ => false,
        }
    }
}

impl Query {
    /// Checks all that can be told without the key space; see [`Command::check`].
    ///
    /// # Errors
    /// The first fault, in etcd's order; [`RequestError::NotReadOnly`] for a transaction that may write.
    pub fn check(&self, max_operations: usize) -> Result<(), RequestError> {
        match self {
            Query::Range(range) => range.check(),
            Query::Txn(txn) if !txn.is_read_only() => Err(RequestError::NotReadOnly),
            Query::Txn(txn) => txn.check(max_operations),
            Query::Lease { .. }
            | Query::Leases { .. }
            | Query::ListLeases { .. }
            | Query::Auth(_) => Ok(()),
            Query::Signed { query, .. } => match &**query {
                Query::Signed { .. } => Err(RequestError::SignedTwice),
                query => query.check(max_operations),
            },
            Query::KnownLeases(ids) => check_count(ids.len()),
        }
    }
}

impl Range {
    /// Checks that there is a key.
    ///
    /// # Errors
    /// [`RequestError::EmptyKey`].
    pub fn check(&self) -> Result<(), RequestError> {
        check_key(&self.key)
    }
}

impl Put {
    /// Checks that there is a key, and nothing that is also to be kept.
    ///
    /// # Errors
    /// [`RequestError::EmptyKey`], [`RequestError::ValueProvided`] or [`RequestError::LeaseProvided`].
    pub fn check(&self) -> Result<(), RequestError> {
        check_key(&self.key)?;
        if self.ignore_value && !self.value.is_empty() {
            return Err(RequestError::ValueProvided);
        }
        if self.ignore_lease && self.lease != 0 {
            return Err(RequestError::LeaseProvided);
        }
        Ok(())
    }
}

impl DeleteRange {
    /// Checks that there is a key.
    ///
    /// # Errors
    /// [`RequestError::EmptyKey`].
    pub fn check(&self) -> Result<(), RequestError> {
        check_key(&self.key)
    }
}

impl Txn {
    /// Checks the transaction and those within it.
    ///
    /// The cost of a transaction is the greatest of its comparisons, its `success` and its `failure`, and must not exceed
    /// `max_operations`. The cost of a list of operations is its length, and for each transaction in it all its comparisons
    /// and the dearer of its lists. A transaction without nested ones is so judged as etcd judges it; nested ones are
    /// counted in full (etcd #22139), since each of their comparisons may read as many keys as an operation.
    ///
    /// # Errors
    /// The first fault, in etcd's order: the number of operations, then each operation, then keys changed twice. Also
    /// refused, which etcd lets pass, is a put of a key that an open-ended delete (`range_end` of `[0]`) covers.
    pub fn check(&self, max_operations: usize) -> Result<(), RequestError> {
        if self.cost(MAX_TXN_DEPTH)? > max_operations {
            return Err(RequestError::TooManyOperations);
        }
        self.check_operations()?;
        changes(&self.success)?;
        changes(&self.failure)?;
        Ok(())
    }

    /// Whether no branch of the transaction writes.
    pub fn is_read_only(&self) -> bool {
        self.success
            .iter()
            .chain(&self.failure)
            .all(|operation| match operation {
                Operation::Range(_) => true,
                Operation::Put(_) | Operation::DeleteRange(_) => false,
                Operation::Txn(txn) => txn.is_read_only(),
            })
    }

    fn tells_keys(&self) -> bool {
        self.success
            .iter()
            .chain(&self.failure)
            .any(|operation| match operation {
                Operation::Range(_) => true,
                Operation::Put(put) => put.prev_kv,
                Operation::DeleteRange(delete) => delete.prev_kv,
                Operation::Txn(txn) => txn.tells_keys(),
            })
    }

    fn cost(&self, depth_left: usize) -> Result<usize, RequestError> {
        Ok(self.compare.len().max(self.branch_cost(depth_left)?))
    }

    /// The cost of the dearer branch.
    fn branch_cost(&self, depth_left: usize) -> Result<usize, RequestError> {
        let list = |operations: &[Operation]| {
            let mut cost = operations.len();
            for operation in operations {
                if let Operation::Txn(txn) = operation {
                    let depth_left = depth_left
                        .checked_sub(1)
                        .ok_or(RequestError::TooManyOperations)?;
                    cost += txn.compare.len() + txn.branch_cost(depth_left)?;
                }
            }
            Ok::<_, RequestError>(cost)
        };
        Ok(list(&self.success)?.max(list(&self.failure)?))
    }

    fn check_operations(&self) -> Result<(), RequestError> {
        for compare in &self.compare {
            check_key(&compare.key)?;
        }
        for operation in self.success.iter().chain(&self.failure) {
            match operation {
                Operation::Range(range) => range.check()?,
                Operation::Put(put) => put.check()?,
                Operation::DeleteRange(delete) => delete.check()?,
                Operation::Txn(txn) => txn.check_operations()?,
            }
        }
        Ok(())
    }
}

/// In etcd's order. How short a lease may be is decided by whoever proposes it, since it rests on the config.
fn check_grant(id: i64, ttl: i64) -> Result<(), RequestError> {
    match (id, ttl) {
        (0, _) => Err(RequestError::LeaseNotFound),
        (_, ttl) if ttl > LEASE_SECONDS_MAX => Err(RequestError::LeaseTooLong),
        _ => Ok(()),
    }
}

fn check_count(leases: usize) -> Result<(), RequestError> {
    if leases > LEASES_MAX {
        return Err(RequestError::TooManyLeases);
    }
    Ok(())
}

fn check_key(key: &[u8]) -> Result<(), RequestError> {
    match key {
        [] => Err(RequestError::EmptyKey),
        _ => Ok(()),
    }
}

/// What a list of operations may change.
#[derive(Default)]
struct Changes<'t> {
    puts: BTreeSet<&'t [u8]>,
    deletes: Vec<Span<'t>>,
}

impl<'t> Changes<'t> {
    fn put(&mut self, key: &'t [u8]) -> Result<(), RequestError> {
        if self.deletes.iter().any(|span| span.contains(key)) || !self.puts.insert(key) {
            return Err(RequestError::DuplicateKey);
        }
        Ok(())
    }
}

/// Collects what a list may change, and refuses a key that it may change twice.
///
/// As etcd judges: deletes may overlap each other; the two branches of one nested transaction may change the same key,
/// because only one is done; a nested transaction's put counts against the deletes beside it, whatever their order.
fn changes(operations: &[Operation]) -> Result<Changes<'_>, RequestError> {
    let mut all = Changes::default();
    for operation in operations {
        if let Operation::DeleteRange(delete) = operation {
            all.deletes.push(Span::new(&delete.key, &delete.range_end));
        }
    }
    for operation in operations {
        if let Operation::Txn(txn) = operation {
            let success = changes(&txn.success)?;
            let failure = changes(&txn.failure)?;
            for key in success.puts.union(&failure.puts) {
                all.put(key)?;
            }
            all.deletes.extend(success.deletes);
            all.deletes.extend(failure.deletes);
        }
    }
    for operation in operations {
        if let Operation::Put(put) = operation {
            all.put(&put.key)?;
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::command::{Compare, CompareResult, CompareTarget};

    fn put(key: &'static str) -> Operation {
        Operation::Put(Put {
            key: Bytes::from_static(key.as_bytes()),
            ..Put::default()
        })
    }

    fn reads(count: usize) -> Vec<Operation> {
        let range = Range {
            key: Bytes::from_static(b"a"),
            ..Range::default()
        };
        vec![Operation::Range(range); count]
    }

    fn compare() -> Compare {
        Compare {
            key: Bytes::from_static(b"a"),
            range_end: Bytes::new(),
            result: CompareResult::Equal,
            target: CompareTarget::Version(0),
        }
    }

    fn txn(success: Vec<Operation>) -> Txn {
        Txn {
            success,
            ..Txn::default()
        }
    }

    #[test]
    fn a_flat_transaction_is_as_long_as_its_longest_list() {
        let txn = Txn {
            compare: vec![compare(); 3],
            success: reads(4),
            failure: reads(2),
        };
        assert_eq!(txn.check(4), Ok(()));
        assert_eq!(txn.check(3), Err(RequestError::TooManyOperations));
        let compares = Txn {
            success: Vec::new(),
            ..txn
        };
        assert_eq!(compares.check(3), Ok(()));
        assert_eq!(compares.check(2), Err(RequestError::TooManyOperations));
    }

    #[test]
    fn nested_comparisons_count_in_full() {
        let nested = || {
            Operation::Txn(Txn {
                compare: vec![compare(); 3],
                ..txn(reads(2))
            })
        };
        // Two operations, and of each three comparisons and two operations.
        let both = txn(vec![nested(), nested()]);
        assert_eq!(both.check(12), Ok(()));
        assert_eq!(both.check(11), Err(RequestError::TooManyOperations));
    }

    #[test]
    fn etcd_22139_nested_operations_count_in_full() {
        // Each of the two would be within the limit for itself.
        let nested = || Operation::Txn(txn(reads(4)));
        let both = txn(vec![nested(), nested()]);
        assert_eq!(both.check(10), Ok(()));
        assert_eq!(both.check(9), Err(RequestError::TooManyOperations));
    }

    #[test]
    fn transactions_nest_to_a_bound() {
        let nest =
            |levels| (0..levels).fold(txn(reads(1)), |inner, _| txn(vec![Operation::Txn(inner)]));
        assert_eq!(nest(MAX_TXN_DEPTH).check(1_000), Ok(()));
        assert_eq!(
            nest(MAX_TXN_DEPTH + 1).check(1_000),
            Err(RequestError::TooManyOperations)
        );
    }

    #[test]
    fn the_number_of_operations_is_judged_before_the_operations() {
        let txn = txn(vec![put(""), put("a"), put("a")]);
        assert_eq!(txn.check(2), Err(RequestError::TooManyOperations));
        assert_eq!(txn.check(3), Err(RequestError::EmptyKey));
    }

    #[test]
    fn a_transaction_reads_only_if_no_branch_of_it_writes() {
        assert!(txn(reads(2)).is_read_only());
        let writes = Txn {
            failure: vec![Operation::Txn(txn(vec![put("a")]))],
            ..txn(reads(2))
        };
        assert!(!writes.is_read_only());
    }

    #[test]
    fn a_command_tells_keys_if_any_branch_of_it_does() {
        let blind = txn(vec![put("a")]);
        assert!(!Command::Txn(blind.clone()).tells_keys());
        let told = Operation::Put(Put {
            prev_kv: true,
            ..Put::default()
        });
        for operation in [reads(1).remove(0), told.clone()] {
            let nested = Txn {
                failure: vec![Operation::Txn(txn(vec![operation]))],
                ..blind.clone()
            };
            assert!(Command::Txn(nested).tells_keys());
        }
        let Operation::Put(told) = told else {
            unreachable!("it is a put");
        };
        assert!(Command::Put(told).tells_keys());
        assert!(!Command::Put(Put::default()).tells_keys());
    }
}
