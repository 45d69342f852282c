//! What a migration that does not come to its end has done.

use std::fmt;

/// What was written, and how far the target is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Done {
    /// Changes by copies.
    pub(crate) written: u64,
    /// Changes that followed.
    pub(crate) followed: u64,
    /// Transactions that nobody has answered.
    pub(crate) unanswered: usize,
    /// Once the source is followed: as of which of its revisions the target is.
    pub(crate) position: Option<i64>,
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.written, self.followed) {
            (0, 0) => f.write_str("nothing was written at the target")?,
            (written, followed) => write!(
                f,
                "{written} changes by copies were written at the target, and {followed} that followed"
            )?,
        }
        if self.unanswered > 0 {
            let count = self.unanswered;
            write!(
                f,
                "; whether {count} more transactions were, nobody has said"
            )?;
        }
        match self.position {
            Some(revision) => write!(f, "; it holds all up to revision {revision} of the source"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_is_told_with_what_is_not_known() {
        assert_eq!(
            Done::default().to_string(),
            "nothing was written at the target"
        );
        let done = Done {
            written: 3,
            unanswered: 1,
            ..Done::default()
        };
        assert_eq!(
            done.to_string(),
            "3 changes by copies were written at the target, and 0 that followed; whether 1 more transactions were, nobody has said"
        );
        let done = Done {
            followed: 2,
            position: Some(9),
            ..Done::default()
        };
        let told = done.to_string();
        assert!(
            told.ends_with("2 that followed; it holds all up to revision 9 of the source"),
            "{told}"
        );
    }
}
