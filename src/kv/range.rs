//! What etcd's Range makes of the key space, bit by bit.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ops::ControlFlow;

use bytes::Bytes;

use crate::command::{KeyValue, Range, RangeReply, SortOrder, SortTarget};
use crate::error::{Failure, RequestError};
use crate::progress::Turn;
use crate::revision::{Meta, Revision};
use crate::room::key_value_bytes;
use crate::span::Span;
use crate::view::View;

/// A range that is being read. Its keys are those of one revision, fixed when it began: whatever is written while it is read, it comes
/// to what it would have come to at that moment, as long as the key space is not compacted beyond it.
#[derive(Debug)]
pub(crate) struct RangeReading {
    range: Range,
    /// The revision that is read.
    at: i64,
    /// By what the reply is sorted; none for the order in which keys are read.
    order: Option<Order>,
    limit: usize,
    /// The key to go on from; none once all were looked at.
    next: Option<Bytes>,
    count: i64,
    more: bool,
    /// The keys of the reply so far, not sorted.
    kvs: Vec<KeyValue>,
    /// Where there are both an order and a limit: those of all keys so far that come first.
    first: BinaryHeap<Ranked>,
    /// What became of them once all keys were looked at. Only now it is known whose values are wanted.
    chosen: Vec<Ranked>,
}

impl RangeReading {
    /// Begins a range that stands alone.
    pub(crate) fn begin(view: &View, range: &Range) -> Result<RangeReading, RequestError> {
        view.revision_to_read(range.revision)?;
        Ok(RangeReading::begin_checked(view, range))
    }

    /// Begins a range whose revision is known to be there.
    pub(crate) fn begin_checked(view: &View, range: &Range) -> RangeReading {
        RangeReading {
            range: range.clone(),
            at: if range.revision <= 0 {
                view.revision
            } else {
                range.revision
            },
            order: Order::of(range),
            limit: usize::try_from(range.limit)
                .ok()
                .filter(|&limit| limit > 0)
                .unwrap_or(usize::MAX),
            next: Some(range.key.clone()),
            count: 0,
            more: false,
            kvs: Vec::new(),
            first: BinaryHeap::new(),
            chosen: Vec::new(),
        }
    }

    /// Whether some of what is to be read may be gone.
    pub(crate) fn is_compacted(&self, compact_revision: i64) -> bool {
        self.at < compact_revision
    }

    /// Reads for as long as the turn lasts; true when all is read.
    pub(crate) fn read(&mut self, view: &View, turn: &Turn) -> Result<bool, Failure> {
        if let Some(from) = self.next.take() {
            let end = self.range.range_end.clone();
            let next = view.walk_for(
                turn,
                Span::new(&from, &end),
                self.at,
                |key, revision, meta| {
                    self.count += 1;
                    if !self.range.count_only && passes(&self.range, revision, &meta) {
                        self.add(view, key, revision, &meta)?;
                    }
                    Ok::<_, Failure>(ControlFlow::Continue(()))
                },
            )?;
            self.next = next.map(Bytes::from);
            if self.next.is_some() {
                return Ok(false);
            }
            self.chosen = std::mem::take(&mut self.first).into_vec();
        }
        while let Some(mut ranked) = self.chosen.pop() {
            view.progress.step(0);
            if !self.range.keys_only && !self.is_by_value() {
                let value = view.value(ranked.revision, &ranked.kv.key)?;
                view.room.take(value.len())?;
                ranked.kv.value = Bytes::copy_from_slice(value);
            }
            self.kvs.push(ranked.kv);
            if turn.is_over() && !self.chosen.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn add(
        &mut self,
        view: &View,
        key: &[u8],
        revision: Revision,
        meta: &Meta,
    ) -> Result<(), Failure> {
        let is_ranked = self.order.is_some() && self.limit < usize::MAX;
        if !is_ranked && self.kvs.len() == self.limit {
            self.more = true;
            return Ok(());
        }
        let value = match self.is_by_value() || !self.range.keys_only && !is_ranked {
            true => view.value(revision, key)?,
            false => &[],
        };
        view.room.take(key_value_bytes(key, value))?;
        // Copied where it is the one that was asked for, too: that holds all of the request in memory.
        let key = Bytes::copy_from_slice(key);
        let kv = meta.key_value(key, revision, Bytes::copy_from_slice(value));
        match self.order.filter(|_| is_ranked) {
            None => self.kvs.push(kv),
            Some(order) => {
                self.first.push(Ranked {
                    order,
                    revision,
                    kv,
                });
                if self.first.len() > self.limit
                    && let Some(Ranked { kv, .. }) = self.first.pop()
                {
                    self.more = true;
                    view.room.give_back(key_value_bytes(&kv.key, &kv.value));
                }
            }
        }
        Ok(())
    }

    fn is_by_value(&self) -> bool {
        self.order
            .is_some_and(|order| order.target == SortTarget::Value)
    }

    /// How many keys are yet to be sorted.
    pub(crate) fn unsorted(&self) -> usize {
        self.order.map_or(0, |_| self.kvs.len())
    }

    /// The reply, once all is read. Is told how many bytes it does not keep after all.
    pub(crate) fn finish(mut self, give_back: &dyn Fn(usize)) -> RangeReply {
        if let Some(order) = self.order {
            self.kvs.sort_unstable_by(|a, b| order.compare(a, b));
        }
        if self.is_by_value() && self.range.keys_only {
            for kv in &mut self.kvs {
                give_back(std::mem::take(&mut kv.value).len());
            }
        }
        self.kvs.shrink_to_fit();
        RangeReply {
            kvs: self.kvs,
            more: self.more,
            count: self.count,
        }
    }
}

/// An order other than the one in which keys are read.
#[derive(Clone, Copy, Debug)]
struct Order {
    target: SortTarget,
    descending: bool,
}

impl Order {
    /// A target other than the key without an order means ascending, as in etcd.
    fn of(range: &Range) -> Option<Order> {
        let order = Order {
            target: range.sort_target,
            descending: range.sort_order == SortOrder::Descend,
        };
        (order.target != SortTarget::Key || order.descending).then_some(order)
    }

    /// What compares equal stays in the order of the keys, which etcd leaves open.
    fn compare(self, a: &KeyValue, b: &KeyValue) -> Ordering {
        let ordering = match self.target {
            SortTarget::Key => a.key.cmp(&b.key),
            SortTarget::Version => a.version.cmp(&b.version),
            SortTarget::Create => a.create_revision.cmp(&b.create_revision),
            SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
            SortTarget::Value => a.value.cmp(&b.value),
        };
        match self.descending {
            true => ordering.reverse(),
            false => ordering,
        }
        .then_with(|| a.key.cmp(&b.key))
    }
}

/// A key by its place in the reply. Its value is only there where it decides that.
#[derive(Debug)]
struct Ranked {
    order: Order,
    revision: Revision,
    kv: KeyValue,
}

impl Ord for Ranked {
    fn cmp(&self, other: &Ranked) -> Ordering {
        self.order.compare(&self.kv, &other.kv)
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Ranked) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Ranked) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ranked {}

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
