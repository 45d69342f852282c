//! The mod revisions of the keys that were seen or written last, as many as fit.

use std::collections::HashMap;

use bytes::Bytes;

/// Of the two generations together, about.
const BYTES_MAX: usize = 64 << 20;
/// What a key takes beside its bytes.
const ENTRY_BYTES: usize = 96;

/// Mod revisions by key; zero for a key that is not there. What neither was noted nor asked for lately goes.
#[derive(Debug, Default)]
pub(super) struct Recent {
    young: HashMap<Bytes, i64>,
    old: HashMap<Bytes, i64>,
    /// Of the young ones.
    bytes: usize,
}

impl Recent {
    /// A key has this mod revision from now on.
    pub(super) fn note(&mut self, key: &[u8], revision: i64) {
        if let Some(known) = self.young.get_mut(key) {
            *known = revision;
            return;
        }
        self.bytes += key.len() + ENTRY_BYTES;
        // A key that is decoded holds the whole message in memory.
        self.young.insert(Bytes::copy_from_slice(key), revision);
        if self.bytes > BYTES_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
            self.bytes = 0;
        }
    }

    /// Nothing is known of a key any more.
    pub(super) fn forget(&mut self, key: &[u8]) {
        self.young.remove(key);
        self.old.remove(key);
    }

    /// What is known of a key.
    pub(super) fn of(&self, key: &[u8]) -> Option<i64> {
        let known = self.young.get(key).or_else(|| self.old.get(key));
        known.copied()
    }

    /// The keys that are there.
    pub(super) fn those_that_are_there(&self) -> impl Iterator<Item = (&Bytes, i64)> {
        let young = self.young.iter();
        let old = self.old.iter();
        let known = young.chain(old.filter(|(key, _)| !self.young.contains_key(*key)));
        let there = known.filter(|(_, revision)| **revision != 0);
        there.map(|(key, revision)| (key, *revision))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_noted_last_is_known_and_memory_has_a_bound() {
        const KEY_BYTES: usize = 1 << 16;
        let mut recent = Recent::default();
        let key = |number: usize| {
            let mut key = vec![0; KEY_BYTES];
            key[..8].copy_from_slice(&number.to_be_bytes());
            key
        };
        let count = 2 * BYTES_MAX / KEY_BYTES;
        (0..count).for_each(|number| recent.note(&key(number), 7));
        assert_eq!(recent.of(&key(0)), None);
        assert_eq!(recent.of(&key(count - 1)), Some(7));
        assert!((recent.young.len() + recent.old.len()) * KEY_BYTES <= BYTES_MAX);
        let old = recent.old.keys().next().cloned().expect("some are old");
        recent.note(&old, 8);
        assert_eq!(recent.of(&old), Some(8));
        recent.forget(&old);
        assert_eq!(recent.of(&old), None);
    }

    #[test]
    fn a_key_that_is_gone_is_none_that_is_there() {
        let mut recent = Recent::default();
        recent.note(b"a", 0);
        assert_eq!(recent.those_that_are_there().next(), None);
        recent.note(b"b", 3);
        let found: Vec<_> = recent.those_that_are_there().collect();
        assert_eq!(found, [(&Bytes::from_static(b"b"), 3)]);
    }
}
