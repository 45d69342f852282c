//! The line before a lock or an election, as etcd's clients keep it among themselves (client/v3/concurrency): the keys under
//! `NAME/`, one for each lease, in the order of the revisions that created them. Whoever has the first one holds the lock, or leads.

use bytes::Bytes;
use rm_actors::port::{
    Compare, CompareResult, CompareTarget, Interest, KeyValue, Put, Range, Reply, ReplyBody,
    SortOrder, SortTarget,
};

/// What stands between the name and the lease, and what follows on it in the order of bytes.
const SEPARATOR: u8 = b'/';
const AFTER_SEPARATOR: u8 = SEPARATOR + 1;

/// A line, by its name.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    prefix: Bytes,
    end: Bytes,
}

impl Line {
    pub(crate) fn new(name: &[u8]) -> Line {
        let with = |byte| Bytes::from([name, &[byte]].concat());
        Line {
            prefix: with(SEPARATOR),
            end: with(AFTER_SEPARATOR),
        }
    }

    /// The key of whoever stands in it with a lease: its number to the base 16, with a minus if it is negative, as Go writes it.
    pub(crate) fn key(&self, lease: i64) -> Bytes {
        let sign = if lease < 0 { "-" } else { "" };
        let lease = format!("{sign}{:x}", lease.unsigned_abs());
        [&self.prefix[..], lease.as_bytes()].concat().into()
    }

    /// Whoever is first.
    pub(crate) fn first(&self) -> Range {
        self.one(SortOrder::Ascend)
    }

    /// Whoever is next before the one that came with a revision.
    pub(crate) fn before(&self, created: i64) -> Range {
        Range {
            max_create_revision: created - 1,
            keys_only: true,
            ..self.one(SortOrder::Descend)
        }
    }

    fn one(&self, sort_order: SortOrder) -> Range {
        Range {
            key: self.prefix.clone(),
            range_end: self.end.clone(),
            limit: 1,
            sort_order,
            sort_target: SortTarget::Create,
            ..Range::default()
        }
    }

    /// All that come and go.
    pub(crate) fn everybody(&self) -> Interest {
        Interest {
            key: self.prefix.clone(),
            range_end: self.end.clone(),
            ..Interest::default()
        }
    }
}

/// One key.
pub(crate) fn own(key: &Bytes) -> Range {
    Range {
        key: key.clone(),
        ..Range::default()
    }
}

/// Whether a key is still the one that a revision created; zero for none.
pub(crate) fn created(key: &Bytes, revision: i64) -> Compare {
    is(key, CompareTarget::Create(revision))
}

/// Whether a revision was the last to write a key.
pub(crate) fn written(key: &Bytes, revision: i64) -> Compare {
    is(key, CompareTarget::Mod(revision))
}

fn is(key: &Bytes, target: CompareTarget) -> Compare {
    Compare {
        key: key.clone(),
        range_end: Bytes::new(),
        result: CompareResult::Equal,
        target,
    }
}

/// A write that changes nothing but the revision that was the last to write the key.
pub(crate) fn touch(key: &Bytes) -> Put {
    Put {
        key: key.clone(),
        ignore_value: true,
        ignore_lease: true,
        ..Put::default()
    }
}

/// The key that a range of one found.
pub(crate) fn found(reply: Reply) -> Option<KeyValue> {
    match reply.body {
        ReplyBody::Range(mut range) => range.kvs.pop(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_etcds_clients() {
        for (name, lease, key) in [
            ("name", 0x694d_7e2d_65b0_e80c, "name/694d7e2d65b0e80c"),
            ("", 1, "/1"),
            ("a/b", i64::MAX, "a/b/7fffffffffffffff"),
            ("n", -5, "n/-5"),
            ("n", i64::MIN, "n/-8000000000000000"),
        ] {
            assert_eq!(Line::new(name.as_bytes()).key(lease), key);
        }
    }

    #[test]
    fn a_line_is_all_that_begins_with_its_name_and_a_slash() {
        let first = Line::new(b"n\xff").first();
        assert_eq!(
            (&first.key[..], &first.range_end[..]),
            (&b"n\xff/"[..], &b"n\xff0"[..])
        );
    }
}
