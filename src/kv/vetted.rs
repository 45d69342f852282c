//! Who was found to be permitted all keys of a lease, so that a lease with many keys is not judged key by key for each request.

use std::cell::RefCell;
use std::collections::HashMap;

use crate::error::Failure;

/// The most leases of which anything is kept; one more, and all are judged anew.
const LEASES_MAX: usize = 10_000;

/// The most users of one lease that are kept, those who may read it and those who may write it.
const USERS_MAX: usize = 16;

/// What was found out, in memory only: it changes no answer, but what an answer costs.
///
/// Invariant: under the users, roles and permissions of its revision each of them may read, or write, every key that hangs on the
/// lease. A key that is taken off keeps that true; one that is hung on is looked at for each of them (see [`Vetted::hung_on`]).
#[derive(Default)]
pub(crate) struct Vetted(RefCell<Known>);

#[derive(Default)]
struct Known {
    revision: u64,
    leases: HashMap<i64, Vec<Claim>>,
}

/// A user, and whether it may write.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Claim {
    user: String,
    write: bool,
}

impl Vetted {
    /// Whether a user may read, or write, all that hangs on a lease: by what is known, else by `look`, and that is kept.
    ///
    /// # Errors
    /// What `look` finds.
    pub(crate) fn judge(
        &self,
        revision: u64,
        lease: i64,
        (user, write): (&str, bool),
        look: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut known = self.0.borrow_mut();
        if known.revision != revision {
            known.revision = revision;
            known.leases.clear();
        }
        let is_it = |claim: &Claim| claim.user == user && claim.write == write;
        let claims = known.leases.get(&lease);
        if claims.is_some_and(|claims| claims.iter().any(is_it)) {
            return Ok(());
        }
        look()?;
        if known.leases.len() >= LEASES_MAX {
            known.leases.clear();
        }
        let claims = known.leases.entry(lease).or_default();
        if claims.len() >= USERS_MAX {
            claims.remove(0);
        }
        let user = user.to_owned();
        claims.push(Claim { user, write });
        Ok(())
    }

    /// A key is about to be hung on a lease: whoever may not do with it what it may do with all others may not with all any more.
    pub(crate) fn hung_on(&self, lease: i64, may: impl Fn(&str, bool) -> bool) {
        if let Some(claims) = self.0.borrow_mut().leases.get_mut(&lease) {
            claims.retain(|claim| may(&claim.user, claim.write));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::auth_command::AuthError;

    /// How often the keys were looked at.
    #[derive(Default)]
    struct Looks(Cell<usize>);

    impl Looks {
        fn judge(&self, vetted: &Vetted, revision: u64, lease: i64, who: (&str, bool)) -> usize {
            let look = || {
                self.0.set(self.0.get() + 1);
                Ok(())
            };
            vetted.judge(revision, lease, who, look).expect("it may");
            self.0.get()
        }
    }

    #[test]
    fn all_keys_of_a_lease_are_looked_at_once_for_each_revision_of_users() {
        let (vetted, looks) = (Vetted::default(), Looks::default());
        for _ in 0..3 {
            assert_eq!(looks.judge(&vetted, 4, 7, ("alice", true)), 1);
        }
        assert_eq!(looks.judge(&vetted, 4, 7, ("alice", false)), 2);
        assert_eq!(looks.judge(&vetted, 4, 7, ("bob", true)), 3);
        assert_eq!(looks.judge(&vetted, 4, 8, ("alice", true)), 4);
        assert_eq!(looks.judge(&vetted, 4, 7, ("alice", true)), 4);
        assert_eq!(looks.judge(&vetted, 5, 7, ("alice", true)), 5);
    }

    #[test]
    fn who_may_not_write_a_new_key_is_judged_anew_and_nobody_else() {
        let (vetted, looks) = (Vetted::default(), Looks::default());
        for user in ["alice", "bob"] {
            looks.judge(&vetted, 4, 7, (user, true));
        }
        vetted.hung_on(7, |user, _| user == "alice");
        assert_eq!(looks.judge(&vetted, 4, 7, ("alice", true)), 2);
        assert_eq!(looks.judge(&vetted, 4, 7, ("bob", true)), 3);
    }

    #[test]
    fn a_refusal_is_not_kept() {
        let (vetted, looks) = (Vetted::default(), Looks::default());
        let denied = vetted.judge(4, 7, ("alice", true), || {
            Err(AuthError::PermissionDenied.into())
        });
        denied.expect_err("it is refused");
        assert_eq!(looks.judge(&vetted, 4, 7, ("alice", true)), 1);
    }

    #[test]
    fn what_is_kept_has_a_bound() {
        let (vetted, looks) = (Vetted::default(), Looks::default());
        for lease in 0..=LEASES_MAX as i64 {
            looks.judge(&vetted, 4, lease, ("alice", true));
        }
        for user in 0..=USERS_MAX {
            looks.judge(&vetted, 4, 7, (&user.to_string(), true));
        }
        let known = vetted.0.borrow();
        assert!(known.leases.len() <= LEASES_MAX);
        assert_eq!(known.leases[&7].len(), USERS_MAX);
    }
}
