//! The numbers that Raft counts in, each a type of its own so that none is taken for another.

use std::fmt;

use smallvec::SmallVec;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// Names one machine of the domain for ever; never zero.
    MachineId
}
number! {
    /// A term (§5.1): a stretch of time with at most one leader. Zero is before the first election.
    Term
}
number! {
    /// The place of an entry in the log, from one. Zero is the place before the first entry.
    Index
}

/// A few machines: up to as many as a domain of five has others take no memory of their own. An alias, since whoever drives the core
/// only goes through it, as through any slice.
pub type Machines = SmallVec<[MachineId; 4]>;

impl Term {
    /// No domain comes near this term. A message that claims it is nonsense, and following it would leave no term to
    /// campaign in.
    pub(crate) const LIMIT: Term = Term(1 << 62);

    /// The term after this one.
    pub fn next(self) -> Term {
        Term(self.0.saturating_add(1))
    }
}

impl Index {
    /// No log comes near this index.
    pub(crate) const LIMIT: Index = Index(1 << 62);

    /// The index after this one.
    pub fn next(self) -> Index {
        Index(self.0.saturating_add(1))
    }

    /// The index before this one; zero stays zero.
    pub fn previous(self) -> Index {
        Index(self.0.saturating_sub(1))
    }
}

/// Names one entry across all logs: no two entries share both numbers (§5.3, log matching).
///
/// Ordered by term, then index: the order in which a vote compares logs (§5.4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// The term of the leader that made the entry.
    pub term: Term,
    /// Its place in the log.
    pub index: Index,
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index, self.term)
    }
}

/// A moment on the caller's monotonic clock, in microseconds since an origin of its choice.
///
/// The algorithm reads no clock: each input brings the moment at which it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    /// Microseconds since the origin.
    pub micros: u64,
}

impl Time {
    /// The moment `span` later.
    pub fn after(self, span: std::time::Duration) -> Time {
        Time {
            micros: self.micros.saturating_add(span.as_micros() as u64),
        }
    }

    /// The time from `earlier` to this moment; zero if `earlier` is later.
    pub fn since(self, earlier: Time) -> std::time::Duration {
        std::time::Duration::from_micros(self.micros.saturating_sub(earlier.micros))
    }
}
