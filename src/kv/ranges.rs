//! Sets of keys, made of ranges: what a user may read, or write.

use bytes::Bytes;

use crate::span::Span;

/// A set of keys: ranges that neither meet nor overlap, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges(Vec<Stretch>);

/// From a key up to another; to the end of all keys where there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stretch {
    start: Bytes,
    end: Option<Bytes>,
}

impl Stretch {
    /// None where no key can lie in it.
    fn new(span: Span) -> Option<Stretch> {
        let stretch = match span {
            Span::One(key) => Stretch {
                start: Bytes::copy_from_slice(key),
                end: Some([key, &[0]].concat().into()),
            },
            Span::From(start, end) => Stretch {
                start: Bytes::copy_from_slice(start),
                end: end.map(Bytes::copy_from_slice),
            },
        };
        let is_empty = stretch
            .end
            .as_ref()
            .is_some_and(|end| *end <= stretch.start);
        (!is_empty).then_some(stretch)
    }
}

impl Ranges {
    /// The keys of all these.
    pub(crate) fn of<'s>(spans: impl Iterator<Item = Span<'s>>) -> Ranges {
        let mut stretches: Vec<Stretch> = spans.filter_map(Stretch::new).collect();
        stretches.sort_by(|a, b| a.start.cmp(&b.start));
        let mut merged: Vec<Stretch> = Vec::new();
        for stretch in stretches {
            match merged.last_mut() {
                Some(last) if last.end.as_ref().is_none_or(|end| *end >= stretch.start) => {
                    let reaches_further = match (&last.end, &stretch.end) {
                        (None, _) => false,
                        (Some(_), None) => true,
                        (Some(last), Some(end)) => end > last,
                    };
                    if reaches_further {
                        last.end = stretch.end;
                    }
                }
                _ => merged.push(stretch),
            }
        }
        Ranges(merged)
    }

    /// How far the set reaches from a key on without a gap; nothing if the key is not in it, no end if to the end of all keys.
    fn reach(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        let after = self.0.partition_point(|stretch| stretch.start <= key);
        let stretch = &self.0[after.checked_sub(1)?];
        let end = stretch.end.as_deref();
        end.is_none_or(|end| key < end).then_some(end)
    }
}

/// Whether each key of the span is in one of the sets. Of a span in which no key can lie, its first key counts.
pub(crate) fn cover<'r>(sets: impl Iterator<Item = &'r Ranges> + Clone, span: Span) -> bool {
    let (mut key, end) = match span {
        Span::From(start, end) if end.is_none_or(|end| start < end) => (start, end),
        Span::One(key) | Span::From(key, _) => {
            return sets.clone().any(|set| set.reach(key).is_some());
        }
    };
    // Each turn goes on to where the last one ended, and so past the end of one stretch at least.
    loop {
        let mut furthest = None;
        for reached in sets.clone().filter_map(|set| set.reach(key)) {
            let Some(reached) = reached else {
                return true;
            };
            furthest = furthest.max(Some(reached));
        }
        match furthest {
            None => return false,
            Some(reached) if end.is_some_and(|end| end <= reached) => return true,
            Some(reached) => key = reached,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn key() -> impl Strategy<Value = Vec<u8>> {
        vec(0..3u8, 1..3)
    }

    fn end() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![Just(Vec::new()), Just(vec![0]), key()]
    }

    /// All keys of which the ends above are made, and some between them.
    fn keys() -> Vec<Vec<u8>> {
        let some = |length: u32| {
            (0..4_u32.pow(length)).map(move |number| {
                (0..length)
                    .map(|at| (number / 4_u32.pow(at) % 4) as u8)
                    .collect()
            })
        };
        (1..=3).flat_map(some).collect()
    }

    proptest! {
        #[test]
        fn a_span_is_covered_if_each_of_its_keys_is_in_some_range_of_some_set(
            roles in vec(vec((key(), end()), 0..5), 0..4),
            (start, end) in (key(), end()),
        ) {
            let spans = || roles.iter().flatten().map(|(start, end)| Span::new(start, end));
            let of = |role: &Vec<(Vec<u8>, Vec<u8>)>| {
                Ranges::of(role.iter().map(|(start, end)| Span::new(start, end)))
            };
            let sets: Vec<Ranges> = roles.iter().map(of).collect();
            let wanted = Span::new(&start, &end);
            let within = |key: &Vec<u8>| spans().any(|span| span.contains(key));
            let all = keys();
            let mut asked: Vec<_> = all.iter().filter(|key| wanted.contains(key)).collect();
            if asked.is_empty() {
                asked.push(&start);
            }
            // To the end of all keys there are more than these.
            let is_open = matches!(wanted, Span::From(_, None));
            let reaches_end = spans().any(|span| matches!(span, Span::From(_, None)));
            let expected = asked.into_iter().all(within) && (!is_open || reaches_end);
            prop_assert_eq!(cover(sets.iter(), wanted), expected);
        }
    }

    #[test]
    fn ranges_that_meet_cover_what_lies_across_them() {
        let set = Ranges::of(
            [
                Span::new(b"a", b"c"),
                Span::new(b"c", b"e"),
                Span::new(b"g", b""),
            ]
            .into_iter(),
        );
        assert_eq!(set.0.len(), 2);
        let covers = |start, end| cover([&set].into_iter(), Span::new(start, end));
        assert!(covers(b"a", b"e") && covers(b"b", b"d"));
        assert!(!covers(b"a", b"f") && !covers(b"a", b"\0"));
        assert!(covers(b"g", b"") && !covers(b"g", b"h"));
    }

    #[test]
    fn sets_that_meet_cover_together_what_lies_across_them() {
        let set = |start, end| Ranges::of([Span::new(start, end)].into_iter());
        let sets = [set(b"e", b"\0"), set(b"a", b"c"), set(b"b", b"e")];
        let covers = |start, end| cover(sets.iter(), Span::new(start, end));
        assert!(covers(b"a", b"e") && covers(b"a", b"f") && covers(b"a", b"\0"));
        let apart = [&sets[0], &sets[1]];
        let covers = |start, end| cover(apart.into_iter(), Span::new(start, end));
        assert!(!covers(b"a", b"f") && !covers(b"a", b"\0") && !covers(b"c", b""));
    }
}
