//! All pairs of a range in their order, read page by page, so that memory has a bound however large keys and values are.

use std::vec;

use bytes::Bytes;
use tonic::{Code, Status};

use crate::client::Link;
use crate::migrate::error::{MigrateError, Result};
use crate::migrate::side::Side;
use crate::output::Shown;
use crate::proto::{KeyValue, RangeRequest, RangeResponse};
use crate::range::KeyRange;

/// How many bytes of keys and values a page is to have.
const PAGE_BYTES: usize = 2 << 20;
/// The most bytes of a page that is taken at all: twice the largest request that any machine takes.
const PAGE_BYTES_MAX: usize = 16 << 20;
/// How many keys the first page has at most.
const FIRST_KEYS: i64 = 128;
/// The most keys of a page: a source has it whole in its memory, and knows of no bound in bytes, however large the next values are.
const KEYS_MAX: i64 = 512;

/// Reads the pairs of a range.
pub(crate) struct Pages<'a> {
    side: &'a Side,
    range: KeyRange,
    /// As of which revision; zero for the newest, page by page.
    revision: i64,
    /// The last key that was read.
    last: Option<Bytes>,
    /// Whether there are pages left.
    more: bool,
    limit: i64,
    page: vec::IntoIter<KeyValue>,
}

impl<'a> Pages<'a> {
    /// Nothing is read yet.
    pub(crate) fn new(side: &'a Side, range: KeyRange, revision: i64) -> Pages<'a> {
        Pages {
            side,
            range,
            revision,
            last: None,
            more: true,
            limit: FIRST_KEYS,
            page: Vec::new().into_iter(),
        }
    }

    /// The next pair, left in its place; none behind the last.
    ///
    /// # Errors
    /// [`MigrateError::Compacted`], a refusal, or a pair that is too large.
    pub(crate) async fn peek(&mut self) -> Result<Option<&KeyValue>> {
        while self.page.as_slice().is_empty() && self.more {
            self.read().await?;
        }
        Ok(self.page.as_slice().first())
    }

    /// Takes the pair that was looked at.
    pub(crate) fn take(&mut self) -> Option<KeyValue> {
        self.page.next()
    }

    async fn read(&mut self) -> Result<()> {
        let page = loop {
            match self.ask().await {
                Ok(page) => break page,
                Err(error) => match error.status() {
                    Some(status) if is_compacted(status) => {
                        return Err(MigrateError::Compacted(self.revision));
                    }
                    // It may have been too large to be made in time.
                    Some(status)
                        if self.limit > 1
                            && (is_too_large(status)
                                || status.code() == Code::DeadlineExceeded) =>
                    {
                        self.limit /= 2;
                    }
                    Some(status) if is_too_large(status) => return Err(self.oversized()),
                    _ => return Err(error),
                },
            }
        };
        self.limit = next_limit(self.limit, &page.kvs);
        // A page without a pair would be asked for again without end.
        self.more = page.more && !page.kvs.is_empty();
        if let Some(last) = page.kvs.last() {
            self.last = Some(last.key.clone());
        }
        self.page = page.kvs.into_iter();
        Ok(())
    }

    async fn ask(&self) -> Result<RangeResponse> {
        let key = match &self.last {
            None => self.range.key.clone(),
            Some(last) => [last, &b"\0"[..]].concat(),
        };
        let request = RangeRequest {
            key: key.into(),
            range_end: self.range.range_end.clone().into(),
            revision: self.revision,
            limit: self.limit,
            ..RangeRequest::default()
        };
        let read = async |link: Link| {
            let mut kv = link.kv().max_decoding_message_size(PAGE_BYTES_MAX);
            kv.range(request.clone()).await
        };
        Ok(self.side.ask("reading keys", read).await?.into_inner())
    }

    fn oversized(&self) -> MigrateError {
        let bytes = self.last.as_deref().unwrap_or(&self.range.key);
        MigrateError::Oversized {
            after: Shown { bytes, hex: false }.cell(),
            bytes_max: PAGE_BYTES_MAX,
        }
    }
}

/// How many keys make a page of about the right size, if they are like the last ones. A page has at most twice as many as the one before.
fn next_limit(limit: i64, page: &[KeyValue]) -> i64 {
    let bytes: usize = page
        .iter()
        .map(|pair| pair.key.len() + pair.value.len())
        .sum();
    let each = bytes.div_ceil(page.len().max(1)).max(1);
    let fitting = i64::try_from(PAGE_BYTES / each).unwrap_or(KEYS_MAX);
    fitting.clamp(1, KEYS_MAX).min(2 * limit)
}

fn is_compacted(status: &Status) -> bool {
    status.code() == Code::OutOfRange && status.message().contains("has been compacted")
}

/// Whether a page is larger than we take, than a machine makes it, or than etcd's gRPC sends.
fn is_too_large(status: &Status) -> bool {
    let text = status.message();
    text.contains("message length too large")
        || text.contains("the reply is too large")
        || text.contains("larger than max")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(count: usize, bytes: usize) -> Vec<KeyValue> {
        let pair = KeyValue {
            value: vec![0; bytes].into(),
            ..KeyValue::default()
        };
        vec![pair; count]
    }

    #[test]
    fn pages_of_small_pairs_grow_and_those_of_large_ones_shrink() {
        assert_eq!(next_limit(128, &page(128, 10)), 256);
        assert_eq!(next_limit(KEYS_MAX, &page(100, 10)), KEYS_MAX);
        assert_eq!(next_limit(128, &page(128, 1 << 20)), 2);
        assert_eq!(next_limit(2, &page(2, PAGE_BYTES * 2)), 1);
        assert_eq!(next_limit(1, &[]), 2);
    }
}
