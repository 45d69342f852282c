//! A stretch of keys, as etcd's requests name it: a key and the end of a range.

/// One key, or all keys from one up to an end that is not included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span<'k> {
    /// One key.
    One(&'k [u8]),
    /// From the first key on, up to the end; without an end, to the last key there is.
    From(&'k [u8], Option<&'k [u8]>),
}

impl<'k> Span<'k> {
    /// Reads etcd's pair: no end is one key, the end `[0]` is none at all.
    pub fn new(key: &'k [u8], range_end: &'k [u8]) -> Span<'k> {
        match range_end {
            [] => Span::One(key),
            [0] => Span::From(key, None),
            end => Span::From(key, Some(end)),
        }
    }

    /// Whether the key lies in the span.
    pub fn contains(&self, key: &[u8]) -> bool {
        match *self {
            Span::One(one) => key == one,
            Span::From(start, end) => start <= key && end.is_none_or(|end| key < end),
        }
    }
}
