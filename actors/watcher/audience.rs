//! Who is to be told of which key.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use rm_kv::Span;

use super::WatcherId;
use super::spans::Spans;
use crate::watching::Interest;

/// The watchers that have been told of everything, by what they want to be told of.
///
/// Those that want the same are a group, which is looked for once, however many they are.
#[derive(Debug, Default)]
pub(super) struct Audience {
    numbers: HashMap<Interest, usize>,
    groups: Vec<Group>,
    /// Numbers that no group has any more.
    free: Vec<usize>,
    /// The groups that want one key.
    of_one: HashMap<Bytes, Vec<usize>>,
    of_many: Spans,
}

/// Watchers that want the same.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) interest: Interest,
    pub(super) members: BTreeSet<WatcherId>,
}

impl Audience {
    pub(super) fn join(&mut self, interest: &Interest, watcher: WatcherId) {
        let number = match self.numbers.get(interest) {
            Some(number) => *number,
            None => self.found(interest.clone()),
        };
        self.groups[number].members.insert(watcher);
    }

    pub(super) fn leave(&mut self, interest: &Interest, watcher: WatcherId) {
        let Some(&number) = self.numbers.get(interest) else {
            return;
        };
        let group = &mut self.groups[number];
        group.members.remove(&watcher);
        if group.members.is_empty() {
            self.dissolve(number);
        }
    }

    /// The numbers of the groups that are to be told of a key.
    pub(super) fn of(&mut self, key: &[u8], each: &mut impl FnMut(usize)) {
        for &number in self.of_one.get(key).into_iter().flatten() {
            each(number);
        }
        self.of_many.find(key, each);
    }

    pub(super) fn group(&self, number: usize) -> &Group {
        &self.groups[number]
    }

    /// All watchers, who leave.
    pub(super) fn take_all(&mut self) -> BTreeSet<WatcherId> {
        let groups = std::mem::take(self).groups;
        groups.into_iter().flat_map(|group| group.members).collect()
    }

    fn found(&mut self, interest: Interest) -> usize {
        let number = self.free.pop().unwrap_or(self.groups.len());
        match interest.span() {
            Span::One(_) => {
                let key = interest.key.clone();
                self.of_one.entry(key).or_default().push(number);
            }
            Span::From(_, end) => {
                let end = end.map(|_| interest.range_end.clone());
                self.of_many.insert(interest.key.clone(), end, number);
            }
        }
        self.numbers.insert(interest.clone(), number);
        let group = Group {
            interest,
            members: BTreeSet::new(),
        };
        match self.groups.get_mut(number) {
            Some(place) => *place = group,
            None => self.groups.push(group),
        }
        number
    }

    fn dissolve(&mut self, number: usize) {
        let interest = std::mem::take(&mut self.groups[number]).interest;
        self.numbers.remove(&interest);
        self.free.push(number);
        if let Span::From(..) = interest.span() {
            self.of_many.remove(&interest.key, number);
        } else if let Some(numbers) = self.of_one.get_mut(&interest.key) {
            numbers.retain(|&each| each != number);
            if numbers.is_empty() {
                self.of_one.remove(&interest.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interest(key: &'static str, range_end: &'static str) -> Interest {
        Interest {
            key: key.into(),
            range_end: range_end.into(),
            ..Interest::default()
        }
    }

    fn told(audience: &mut Audience, key: &str) -> Vec<u64> {
        let mut numbers = Vec::new();
        audience.of(key.as_bytes(), &mut |number| numbers.push(number));
        let members = numbers
            .into_iter()
            .flat_map(|number| audience.group(number).members.iter().map(|id| id.0));
        let mut members: Vec<u64> = members.collect();
        members.sort_unstable();
        members
    }

    #[test]
    fn those_who_want_a_key_are_found_by_it_until_they_leave() {
        let mut audience = Audience::default();
        let all = interest("\0", "\0");
        for (number, wanted) in [
            (1, interest("b", "")),
            (2, interest("a", "c")),
            (3, interest("a", "c")),
            (4, all.clone()),
            (5, interest("bb", "")),
        ] {
            audience.join(&wanted, WatcherId(number));
        }
        assert_eq!(told(&mut audience, "b"), [1, 2, 3, 4]);
        assert_eq!(told(&mut audience, "bb"), [2, 3, 4, 5]);
        assert_eq!(told(&mut audience, "c"), [4]);
        audience.leave(&interest("a", "c"), WatcherId(2));
        assert_eq!(told(&mut audience, "b"), [1, 3, 4]);
        audience.leave(&interest("a", "c"), WatcherId(3));
        audience.leave(&interest("b", ""), WatcherId(1));
        audience.leave(&all, WatcherId(4));
        assert!(told(&mut audience, "b").is_empty());
        audience.join(&interest("b", ""), WatcherId(6));
        assert_eq!(told(&mut audience, "b"), [6]);
        let left: Vec<u64> = audience.take_all().iter().map(|id| id.0).collect();
        assert_eq!(left, [5, 6]);
        assert!(told(&mut audience, "b").is_empty());
    }
}
