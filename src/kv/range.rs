//! What etcd's Range makes of the key space.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use bytes::Bytes;

use crate::command::{KeyValue, Range, RangeReply, SortOrder, SortTarget};
use crate::error::Failure;
use crate::revision::{Meta, Revision};
use crate::room::key_value_bytes;
use crate::span::Span;
use crate::view::View;

/// How many keys a sorted range holds beyond its limit, at least, before it forgets those that are too many.
const SURPLUS: usize = 1_024;

impl View<'_> {
    /// Answers a range that stands alone.
    pub(crate) fn range(&self, range: &Range) -> Result<RangeReply, Failure> {
        self.revision_to_read(range.revision)?;
        self.range_unchecked(range)
    }

    /// Answers a range whose revision is known to be there.
    pub(crate) fn range_unchecked(&self, range: &Range) -> Result<RangeReply, Failure> {
        let at = if range.revision <= 0 {
            self.revision
        } else {
            range.revision
        };
        let mut gathered = Gathered::new(self, range);
        let mut count = 0;
        self.walk(
            Span::new(&range.key, &range.range_end),
            at,
            |key, revision, meta| {
                count += 1;
                if !range.count_only && passes(range, revision, &meta) {
                    gathered.add(key, revision, &meta)?;
                }
                Ok::<_, Failure>(ControlFlow::Continue(()))
            },
        )?;
        gathered.finish(count)
    }
}

/// A key that exists at the revision that is read; without its value unless it is sorted by that.
struct Found {
    revision: Revision,
    kv: KeyValue,
}

/// The keys of a reply, while the range is walked.
struct Gathered<'g> {
    view: &'g View<'g>,
    range: &'g Range,
    limit: usize,
    sorted: bool,
    by_value: bool,
    found: Vec<Found>,
    more: bool,
}

impl<'g> Gathered<'g> {
    fn new(view: &'g View<'g>, range: &'g Range) -> Gathered<'g> {
        let sorted = !is_key_order(range);
        Gathered {
            view,
            range,
            limit: usize::try_from(range.limit)
                .ok()
                .filter(|&limit| limit > 0)
                .unwrap_or(usize::MAX),
            sorted,
            by_value: sorted && range.sort_target == SortTarget::Value,
            found: Vec::new(),
            more: false,
        }
    }

    fn add(&mut self, key: &[u8], revision: Revision, meta: &Meta) -> Result<(), Failure> {
        if !self.sorted && self.found.len() == self.limit {
            self.more = true;
            return Ok(());
        }
        self.view.room.take(key_value_bytes(key, &[]))?;
        // The one key of a point read is shared with the request.
        let key = if self.range.range_end.is_empty() {
            self.range.key.clone()
        } else {
            Bytes::copy_from_slice(key)
        };
        let mut found = Found {
            revision,
            kv: meta.key_value(key, revision, Bytes::new()),
        };
        if self.by_value {
            self.fill(&mut found)?;
        }
        self.found.push(found);
        if self.sorted && self.found.len() / 2 >= self.limit.max(SURPLUS) {
            self.sort();
        }
        Ok(())
    }

    fn finish(mut self, count: i64) -> Result<RangeReply, Failure> {
        if self.sorted {
            self.sort();
        }
        let mut found = std::mem::take(&mut self.found);
        match (self.range.keys_only, self.by_value) {
            (false, false) => {
                for found in &mut found {
                    self.fill(found)?;
                }
            }
            (true, true) => {
                for found in &mut found {
                    let value = std::mem::take(&mut found.kv.value);
                    self.view.room.give_back(value.len());
                }
            }
            (true, false) | (false, true) => {}
        }
        let mut kvs: Vec<KeyValue> = found.into_iter().map(|found| found.kv).collect();
        kvs.shrink_to_fit();
        Ok(RangeReply {
            kvs,
            more: self.more,
            count,
        })
    }

    fn fill(&self, found: &mut Found) -> Result<(), Failure> {
        let value = self.view.value(found.revision, &found.kv.key)?;
        self.view.room.take(value.len())?;
        found.kv.value = Bytes::copy_from_slice(value);
        Ok(())
    }

    /// Sorts as asked and forgets what is beyond the limit. What compares equal stays in the order of the keys, which
    /// etcd leaves open. A target other than the key without an order means ascending, as in etcd.
    fn sort(&mut self) {
        let compare: fn(&KeyValue, &KeyValue) -> Ordering = match self.range.sort_target {
            SortTarget::Key => |a, b| a.key.cmp(&b.key),
            SortTarget::Version => |a, b| a.version.cmp(&b.version),
            SortTarget::Create => |a, b| a.create_revision.cmp(&b.create_revision),
            SortTarget::Mod => |a, b| a.mod_revision.cmp(&b.mod_revision),
            SortTarget::Value => |a, b| a.value.cmp(&b.value),
        };
        let progress = self.view.progress;
        let descending = self.range.sort_order == SortOrder::Descend;
        self.found.sort_by(|a, b| {
            progress.step(0);
            if descending {
                compare(&b.kv, &a.kv)
            } else {
                compare(&a.kv, &b.kv)
            }
        });
        if self.found.len() > self.limit {
            self.more = true;
            for forgotten in self.found.drain(self.limit..) {
                let kv = forgotten.kv;
                self.view
                    .room
                    .give_back(key_value_bytes(&kv.key, &kv.value));
            }
        }
    }
}

fn passes(range: &Range, revision: Revision, meta: &Meta) -> bool {
    let within = |value, min, max| (min == 0 || value >= min) && (max == 0 || value <= max);
    within(
        revision.main,
        range.min_mod_revision,
        range.max_mod_revision,
    ) && within(
        meta.create_revision,
        range.min_create_revision,
        range.max_create_revision,
    )
}

/// Whether the order that is asked for is the one in which keys are read.
fn is_key_order(range: &Range) -> bool {
    range.sort_target == SortTarget::Key && range.sort_order != SortOrder::Descend
}
