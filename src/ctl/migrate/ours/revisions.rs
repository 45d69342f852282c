//! A set of revisions, as stretches: who writes alone makes one.

use std::collections::BTreeMap;

/// The most stretches. What is forgotten counts as somebody else's, and is refused rather than written over.
const STRETCHES_MAX: usize = 1 << 20;

/// Revisions. Stretches neither overlap nor touch.
#[derive(Debug, Default)]
pub(super) struct Revisions(
    /// The first of each stretch, and its last.
    BTreeMap<i64, i64>,
);

impl Revisions {
    /// These, the first and the last included, are in it too.
    pub(super) fn add(&mut self, first: i64, last: i64) {
        let (mut first, mut last) = (first, last.max(first));
        if let Some((&earlier, &end)) = self.0.range(..=first).next_back()
            && end >= first - 1
        {
            (first, last) = (earlier, last.max(end));
        }
        while let Some((&later, &end)) = self.0.range(first..=last.saturating_add(1)).next() {
            self.0.remove(&later);
            last = last.max(end);
        }
        self.0.insert(first, last);
        while self.0.len() > STRETCHES_MAX {
            self.0.pop_first();
        }
    }

    /// Whether it is one of them.
    pub(super) fn holds(&self, revision: i64) -> bool {
        let before = self.0.range(..=revision).next_back();
        before.is_some_and(|(_, last)| revision <= *last)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn it_holds_what_was_added_and_nothing_else_in_whatever_order() {
        let added = [(5, 7), (1, 2), (9, 9), (3, 3), (8, 8), (12, 15), (11, 20)];
        for turn in 0..added.len() {
            let (mut revisions, mut naive) = (Revisions::default(), BTreeSet::new());
            for place in 0..added.len() {
                let (first, last) = added[(place * 3 + turn) % added.len()];
                revisions.add(first, last);
                naive.extend(first..=last);
                for revision in 0..25 {
                    let holds = revisions.holds(revision);
                    assert_eq!(
                        holds,
                        naive.contains(&revision),
                        "{revision}: {revisions:?}"
                    );
                }
            }
            assert_eq!(revisions.0.len(), 3, "stretches that touch are one");
        }
    }

    #[test]
    fn the_oldest_are_forgotten_where_there_are_too_many() {
        let mut revisions = Revisions::default();
        let count = STRETCHES_MAX as i64 + 1;
        (1..=count).for_each(|number| revisions.add(2 * number, 2 * number));
        assert_eq!(revisions.0.len(), STRETCHES_MAX);
        assert!(!revisions.holds(2));
        assert!(revisions.holds(4) && revisions.holds(2 * count));
    }
}
