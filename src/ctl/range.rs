//! Which keys a command means: one, those with a prefix, those from a key on, or those up to another.

use clap::Args;

use crate::error::{Error, Result};

/// The flags that widen one key to a range.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct RangeFlags {
    /// All keys that begin with KEY
    #[arg(long, conflicts_with_all = ["from_key", "range_end"])]
    pub(crate) prefix: bool,
    /// KEY and all keys after it
    #[arg(long, conflicts_with = "range_end")]
    pub(crate) from_key: bool,
    /// All keys from KEY up to this one, itself excluded
    #[arg(long, value_name = "KEY")]
    pub(crate) range_end: Option<String>,
}

/// A key and a range end as etcd's requests carry them.
///
/// An empty end means the key alone, an end of one zero byte all keys from the key on (`rpc.proto` of etcd, RangeRequest).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyRange {
    pub(crate) key: Vec<u8>,
    pub(crate) range_end: Vec<u8>,
}

impl KeyRange {
    /// This key alone.
    pub(crate) fn of(key: &[u8]) -> KeyRange {
        KeyRange {
            key: key.to_vec(),
            range_end: Vec::new(),
        }
    }

    /// All keys that begin so.
    pub(crate) fn with_prefix(prefix: Vec<u8>) -> KeyRange {
        if prefix.is_empty() {
            // The smallest key is one zero byte: an empty key is none.
            return KeyRange {
                key: vec![0],
                range_end: vec![0],
            };
        }
        KeyRange {
            range_end: prefix_end(&prefix),
            key: prefix,
        }
    }

    /// Whether a key lies in it.
    pub(crate) fn holds(&self, key: &[u8]) -> bool {
        match &self.range_end[..] {
            [] => key == self.key,
            [0] => key >= &self.key[..],
            end => (&self.key[..]..end).contains(&key),
        }
    }
}

impl RangeFlags {
    /// The range that the flags make of a key.
    ///
    /// # Errors
    /// An empty key that is not a prefix or a start, or an end that is not after the key.
    pub(crate) fn range(&self, key: &str) -> Result<KeyRange> {
        let key = key.as_bytes().to_vec();
        if key.is_empty() && (self.prefix || self.from_key) {
            return Ok(KeyRange::with_prefix(key));
        }
        if key.is_empty() {
            return Err(Error::Usage(
                "the key is empty: name one, or ask for all with --prefix".to_owned(),
            ));
        }
        let range_end = if self.prefix {
            prefix_end(&key)
        } else if self.from_key {
            vec![0]
        } else {
            self.range_end.clone().unwrap_or_default().into_bytes()
        };
        if self.range_end.is_some() && range_end <= key {
            return Err(Error::Usage(
                "the range is empty: --range-end must come after the key".to_owned(),
            ));
        }
        Ok(KeyRange { key, range_end })
    }
}

/// The first key after all that begin with a prefix; one zero byte, which means no end, when every byte is 0xff.
fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let Some(last) = prefix.iter().rposition(|&byte| byte < 0xff) else {
        return vec![0];
    };
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(prefix: bool, from_key: bool, range_end: Option<&str>) -> RangeFlags {
        RangeFlags {
            prefix,
            from_key,
            range_end: range_end.map(str::to_owned),
        }
    }

    #[test]
    fn a_range_holds_what_a_machine_takes_it_for() {
        let holds =
            |range: &KeyRange| [&b"a"[..], b"b", b"b\xff", b"c"].map(|key| range.holds(key));
        assert_eq!(holds(&KeyRange::of(b"b")), [false, true, false, false]);
        let prefix = |prefix: &[u8]| KeyRange::with_prefix(prefix.to_vec());
        assert_eq!(holds(&prefix(b"b")), [false, true, true, false]);
        assert_eq!(holds(&prefix(b"")), [true; 4]);
        assert!(prefix(b"\xff").holds(b"\xff\xff"));
    }

    #[test]
    fn a_prefix_ends_where_its_last_byte_that_can_grow_has_grown() {
        assert_eq!(prefix_end(b"abc"), b"abd");
        assert_eq!(prefix_end(b"a\xff\xff"), b"b");
        assert_eq!(prefix_end(b"\xff\xff"), b"\0");
    }

    #[test]
    fn a_key_alone_has_no_end_and_from_key_has_none_that_ends() {
        let one = flags(false, false, None).range("a").expect("a range");
        assert_eq!(one.range_end, b"");
        let from = flags(false, true, None).range("a").expect("a range");
        assert_eq!(from.range_end, b"\0");
    }

    #[test]
    fn an_empty_prefix_means_every_key() {
        let all = flags(true, false, None).range("").expect("a range");
        assert_eq!((all.key, all.range_end), (vec![0], vec![0]));
    }

    #[test]
    fn an_empty_key_and_an_empty_range_are_wrong_use() {
        for (flags, key) in [
            (flags(false, false, None), ""),
            (flags(false, false, Some("a")), "b"),
            (flags(false, false, Some("a")), "a"),
        ] {
            let error = flags.range(key).expect_err("no range");
            assert_eq!(error.exit_code(), 2);
        }
    }
}
