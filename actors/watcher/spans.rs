//! Ranges of keys, found by a key that lies in them.

use bytes::Bytes;

/// Ranges in the order of their starts, each with a number; over them lies, without pointers, a balanced tree that knows the
/// latest end of each of its parts (an interval tree: Cormen and others, "Introduction to Algorithms", 14.3).
#[derive(Debug, Default)]
pub(super) struct Spans {
    spans: Vec<Span>,
    /// For the middle of each part of `spans`, the latest end in that part; empty when it is to be made anew.
    latest: Vec<End>,
}

/// The end of a range: where it is not included, or none. None is the latest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    At(Bytes),
    Never,
}

impl End {
    fn new(end: Option<Bytes>) -> End {
        end.map_or(End::Never, End::At)
    }

    fn is_after(&self, key: &[u8]) -> bool {
        match self {
            End::At(end) => &end[..] > key,
            End::Never => true,
        }
    }
}

#[derive(Clone, Debug)]
struct Span {
    start: Bytes,
    end: End,
    number: usize,
}

impl Spans {
    pub(super) fn insert(&mut self, start: Bytes, end: Option<Bytes>, number: usize) {
        let place = self.spans.partition_point(|span| span.start <= start);
        let end = End::new(end);
        self.spans.insert(place, Span { start, end, number });
        self.latest.clear();
    }

    pub(super) fn remove(&mut self, start: &Bytes, number: usize) {
        let first = self.spans.partition_point(|span| span.start < *start);
        let place = self.spans[first..]
            .iter()
            .position(|span| span.number == number);
        if let Some(place) = place {
            self.spans.remove(first + place);
            self.latest.clear();
        }
    }

    /// Calls `each` with the number of every range in which the key lies.
    pub(super) fn find(&mut self, key: &[u8], each: &mut impl FnMut(usize)) {
        if self.latest.is_empty() && !self.spans.is_empty() {
            self.latest = vec![End::Never; self.spans.len()];
            self.measure(0, self.spans.len());
        }
        self.find_in(0, self.spans.len(), key, each);
    }

    /// Notes the latest end in a part, and returns it.
    fn measure(&mut self, from: usize, to: usize) -> Option<End> {
        if from == to {
            return None;
        }
        let middle = from.midpoint(to);
        let before = self.measure(from, middle);
        let after = self.measure(middle + 1, to);
        let own = Some(self.spans[middle].end.clone());
        let latest = own.max(before).max(after)?;
        self.latest[middle] = latest.clone();
        Some(latest)
    }

    fn find_in(&self, from: usize, to: usize, key: &[u8], each: &mut impl FnMut(usize)) {
        if from == to {
            return;
        }
        let middle = from.midpoint(to);
        if !self.latest[middle].is_after(key) {
            return;
        }
        self.find_in(from, middle, key, each);
        let span = &self.spans[middle];
        if &span.start[..] > key {
            return;
        }
        if span.end.is_after(key) {
            each(span.number);
        }
        self.find_in(middle + 1, to, key, each);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(number: u8) -> Bytes {
        Bytes::copy_from_slice(&[number])
    }

    #[test]
    fn what_is_found_is_what_a_look_at_every_range_finds() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..200 {
            let mut spans = Spans::default();
            let mut all: Vec<(u8, Option<u8>, usize)> = Vec::new();
            for number in 0..random.usize(0..30) {
                let start = random.u8(0..20);
                let end = random.bool().then(|| random.u8(0..25));
                spans.insert(bytes(start), end.map(bytes), number);
                all.push((start, end, number));
                if random.u8(0..4) == 0 {
                    let (start, _, number) = all.swap_remove(random.usize(0..all.len()));
                    spans.remove(&bytes(start), number);
                }
                let key = random.u8(0..25);
                let mut found = Vec::new();
                spans.find(&[key], &mut |number| found.push(number));
                found.sort_unstable();
                let lies_in = |&&(start, end, _): &&(u8, Option<u8>, usize)| {
                    start <= key && end.is_none_or(|end| key < end)
                };
                let mut expected: Vec<usize> = all.iter().filter(lies_in).map(|it| it.2).collect();
                expected.sort_unstable();
                assert_eq!(found, expected);
            }
        }
    }
}
