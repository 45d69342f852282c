//! What is written at the target together: as many operations and bytes as it takes in one request.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::migrate::difference::Difference;
use crate::proto::{DeleteRangeRequest, KeyValue, PutRequest, RequestOp, request_op};

/// The most bytes of keys and values in one transaction; far below what etcd and our machines take by default.
const BYTES_MAX: usize = 1 << 20;

/// One change of one key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Write {
    /// It has this value, and hangs on this lease or on none.
    Put(PutRequest),
    /// It is gone.
    Delete(Bytes),
}

impl Write {
    /// Has a key of the target be as this pair of the source.
    pub(crate) fn put(pair: KeyValue) -> Write {
        Write::Put(PutRequest {
            key: pair.key,
            value: pair.value,
            lease: pair.lease,
            ..PutRequest::default()
        })
    }

    /// Whether the key is there afterwards.
    pub(crate) fn is_put(&self) -> bool {
        matches!(self, Write::Put(_))
    }

    /// Which key.
    pub(crate) fn key(&self) -> &Bytes {
        match self {
            Write::Put(put) => &put.key,
            Write::Delete(key) => key,
        }
    }

    /// The lease that it needs; zero for none.
    pub(crate) fn lease(&self) -> i64 {
        match self {
            Write::Put(put) => put.lease,
            Write::Delete(_) => 0,
        }
    }

    /// Of the key and the value.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Write::Put(put) => put.key.len() + put.value.len(),
            Write::Delete(key) => key.len(),
        }
    }

    /// As an operation of a transaction.
    pub(crate) fn operation(&self) -> RequestOp {
        let request = match self {
            Write::Put(put) => request_op::Request::RequestPut(put.clone()),
            Write::Delete(key) => request_op::Request::RequestDeleteRange(DeleteRangeRequest {
                key: key.clone(),
                ..DeleteRangeRequest::default()
            }),
        };
        RequestOp {
            request: Some(request),
        }
    }
}

impl From<Difference> for Write {
    /// What takes the difference away.
    fn from(difference: Difference) -> Write {
        match difference {
            Difference::Missing(pair) | Difference::Changed { pair, .. } => Write::put(pair),
            Difference::Extra { key, .. } => Write::Delete(key),
        }
    }
}

/// Changes that are written together, of each key one.
#[derive(Debug)]
pub(crate) struct Batch {
    operations_max: usize,
    writes: Vec<Write>,
    keys: BTreeSet<Bytes>,
    bytes: usize,
}

impl Batch {
    /// Without any yet.
    pub(crate) fn new(operations_max: usize) -> Batch {
        Batch {
            operations_max,
            writes: Vec::new(),
            keys: BTreeSet::new(),
            bytes: 0,
        }
    }

    /// Whether it has none.
    pub(crate) fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// Whether all of these can be written with what is in it.
    pub(crate) fn has_room_for(&self, more: &[Write]) -> bool {
        let bytes: usize = more.iter().map(Write::bytes).sum();
        self.writes.len() + more.len() <= self.operations_max
            && self.bytes + bytes <= BYTES_MAX
            && !more.iter().any(|write| self.keys.contains(write.key()))
    }

    /// Puts one more in.
    pub(crate) fn push(&mut self, write: Write) {
        self.bytes += write.bytes();
        self.keys.insert(write.key().clone());
        self.writes.push(write);
    }

    /// What is in it, in the order in which it came.
    pub(crate) fn into_writes(self) -> Vec<Write> {
        self.writes
    }
}

/// Changes in parts of which each can be written in one request, in their order. A change that alone is too large is a part.
pub(crate) fn parts(writes: Vec<Write>, operations_max: usize) -> Vec<Vec<Write>> {
    let mut parts = Vec::new();
    let mut batch = Batch::new(operations_max);
    for write in writes {
        if !batch.is_empty() && !batch.has_room_for(std::slice::from_ref(&write)) {
            let full = std::mem::replace(&mut batch, Batch::new(operations_max));
            parts.push(full.into_writes());
        }
        batch.push(write);
    }
    if !batch.is_empty() {
        parts.push(batch.into_writes());
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &'static str, bytes: usize) -> Write {
        Write::put(KeyValue {
            key: Bytes::from_static(key.as_bytes()),
            value: vec![0; bytes].into(),
            ..KeyValue::default()
        })
    }

    fn lengths(writes: Vec<Write>, operations_max: usize) -> Vec<usize> {
        let parts = parts(writes, operations_max);
        parts.iter().map(Vec::len).collect()
    }

    #[test]
    fn a_part_ends_where_one_more_would_be_too_many_or_too_large() {
        let small = ["a", "b", "c", "d", "e"].map(|key| put(key, 1)).to_vec();
        assert_eq!(lengths(small, 2), [2, 2, 1]);
        let large = vec![put("a", BYTES_MAX - 2), put("b", 0), put("c", 0)];
        assert_eq!(lengths(large, 128), [2, 1]);
        let huge = vec![put("a", 2 * BYTES_MAX), put("b", 0)];
        assert_eq!(lengths(huge, 128), [1, 1]);
    }

    #[test]
    fn a_key_is_changed_once_in_a_part() {
        let twice = vec![put("a", 1), put("b", 1), put("a", 2)];
        assert_eq!(lengths(twice, 128), [2, 1]);
    }
}
