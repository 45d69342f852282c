//! Which keys move, and what they are called at the target.

use bytes::Bytes;

use crate::migrate::flags::MigrateFlags;
use crate::range::KeyRange;

/// Which keys move: those with a prefix, in whose place another may stand at the target. Their order stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    prefix: Vec<u8>,
    destination: Vec<u8>,
}

impl Scope {
    /// What the flags say, as those of `etcdctl make-mirror` do.
    pub(crate) fn new(flags: &MigrateFlags) -> Scope {
        let destination = match &flags.dest_prefix {
            _ if flags.no_dest_prefix => "",
            Some(destination) => destination,
            None => &flags.prefix,
        };
        Scope {
            prefix: flags.prefix.as_bytes().to_vec(),
            destination: destination.as_bytes().to_vec(),
        }
    }

    /// Whether all keys move.
    pub(crate) fn is_everything(&self) -> bool {
        self.prefix.is_empty()
    }

    /// The key that would have no name at the target, if there can be one.
    pub(crate) fn nameless(&self) -> Option<&[u8]> {
        let is_one = self.destination.is_empty() && !self.prefix.is_empty();
        is_one.then_some(&self.prefix)
    }

    /// The keys at the source.
    pub(crate) fn source(&self) -> KeyRange {
        KeyRange::with_prefix(self.prefix.clone())
    }

    /// The keys at the target.
    pub(crate) fn target(&self) -> KeyRange {
        KeyRange::with_prefix(self.destination.clone())
    }

    /// What a key of the source is called at the target.
    pub(crate) fn renamed(&self, key: &Bytes) -> Bytes {
        if self.prefix == self.destination {
            return key.clone();
        }
        let rest = key.strip_prefix(&self.prefix[..]).unwrap_or(key);
        [&self.destination, rest].concat().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(prefix: &str, destination: &str) -> Scope {
        Scope {
            prefix: prefix.into(),
            destination: destination.into(),
        }
    }

    #[test]
    fn another_prefix_takes_the_place_of_the_first_alone() {
        let key = Bytes::from_static(b"a/a/b");
        assert_eq!(scope("a/", "z/").renamed(&key), "z/a/b");
        assert_eq!(scope("a/", "").renamed(&key), "a/b");
        assert_eq!(scope("", "z/").renamed(&key), "z/a/a/b");
        assert_eq!(scope("a/", "a/").renamed(&key), key);
    }

    #[test]
    fn a_key_that_is_the_prefix_has_no_name_where_that_is_left_away() {
        assert_eq!(scope("a", "").nameless(), Some(&b"a"[..]));
        assert_eq!(scope("a", "b").nameless(), None);
        assert_eq!(scope("", "").nameless(), None);
    }
}
