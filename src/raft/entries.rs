//! Entries that many hold and nobody changes: what goes to the disk, to every follower and to the state machine is one piece of
//! memory.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::{Deref, Range};
use std::sync::Arc;

use crate::Entry;

/// Entries that stand side by side in a log. A clone, or a part, counts one reference and copies nothing.
///
/// As long as any of them is held, the memory of all that were made together is.
#[derive(Clone, Default)]
pub struct Entries {
    /// All that were made together; none where there were none.
    shared: Option<Arc<[Entry]>>,
    /// Where in them these begin.
    start: usize,
    /// Where they end, which is at most the number of those made together.
    end: usize,
}

impl Entries {
    /// A part of these, by their place in this list.
    ///
    /// # Panics
    /// If the part reaches beyond the list.
    #[must_use]
    pub fn part(&self, range: Range<usize>) -> Entries {
        assert!(
            range.start <= range.end && range.end <= self.len(),
            "a part is no more than the whole"
        );
        if range.is_empty() {
            return Entries::default();
        }
        Entries {
            shared: self.shared.clone(),
            start: self.start + range.start,
            end: self.start + range.end,
        }
    }

    /// Lets go of the first `count`.
    pub(crate) fn drop_front(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }

    /// Lets go of all but the first `count`.
    pub(crate) fn truncate(&mut self, count: usize) {
        self.end = self.end.min(self.start + count);
    }
}

impl Deref for Entries {
    type Target = [Entry];

    fn deref(&self) -> &[Entry] {
        match &self.shared {
            Some(shared) => &shared[self.start..self.end],
            None => &[],
        }
    }
}

impl From<Arc<[Entry]>> for Entries {
    fn from(shared: Arc<[Entry]>) -> Entries {
        let end = shared.len();
        Entries {
            shared: (end > 0).then_some(shared),
            start: 0,
            end,
        }
    }
}

impl From<Vec<Entry>> for Entries {
    fn from(entries: Vec<Entry>) -> Entries {
        Entries::from(Arc::<[Entry]>::from(entries))
    }
}

impl FromIterator<Entry> for Entries {
    fn from_iter<Iter: IntoIterator<Item = Entry>>(entries: Iter) -> Entries {
        Entries::from(Arc::<[Entry]>::from_iter(entries))
    }
}

impl<'a> IntoIterator for &'a Entries {
    type Item = &'a Entry;
    type IntoIter = std::slice::Iter<'a, Entry>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Debug for Entries {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.deref().fmt(formatter)
    }
}

impl PartialEq for Entries {
    fn eq(&self, other: &Entries) -> bool {
        self.deref() == other.deref()
    }
}

impl Eq for Entries {}

impl Hash for Entries {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.deref().hash(hasher);
    }
}
