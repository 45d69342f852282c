//! Who is to be told of which key.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use rm_kv::{Event, Span};

use super::spans::Spans;
use crate::watching::Interest;

/// Members, by what they want to be told of: those that want the same are a group, which is looked for once, however many they are.
#[derive(Debug)]
pub(super) struct Audience<M> {
    numbers: HashMap<Interest, usize>,
    groups: Vec<Group<M>>,
    /// Numbers that no group has any more.
    free: Vec<usize>,
    /// The groups that want one key.
    of_one: HashMap<Bytes, Vec<usize>>,
    of_many: Spans,
}

/// Members that want the same.
#[derive(Debug)]
pub(super) struct Group<M> {
    interest: Interest,
    pub(super) members: BTreeSet<M>,
}

impl<M> Default for Audience<M> {
    fn default() -> Self {
        Audience {
            numbers: HashMap::new(),
            groups: Vec::new(),
            free: Vec::new(),
            of_one: HashMap::new(),
            of_many: Spans::default(),
        }
    }
}

impl<M: Copy + Ord> Audience<M> {
    pub(super) fn join(&mut self, interest: &Interest, member: M) {
        let number = match self.numbers.get(interest) {
            Some(number) => *number,
            None => self.found(interest.clone()),
        };
        self.groups[number].members.insert(member);
    }

    pub(super) fn leave(&mut self, interest: &Interest, member: M) {
        let Some(&number) = self.numbers.get(interest) else {
            return;
        };
        let group = &mut self.groups[number];
        group.members.remove(&member);
        if group.members.is_empty() {
            self.dissolve(number);
        }
    }

    /// The numbers of the groups that want to be told of an event.
    pub(super) fn groups_of(&mut self, event: &Event) -> Vec<usize> {
        let key = &event.kv.key;
        let mut groups = self.of_one.get(key).cloned().unwrap_or_default();
        self.of_many.find(key, &mut |number| groups.push(number));
        groups.retain(|&number| self.groups[number].interest.wants(event));
        groups
    }

    pub(super) fn group(&self, number: usize) -> &Group<M> {
        &self.groups[number]
    }

    /// All members, who leave.
    pub(super) fn take_all(&mut self) -> BTreeSet<M> {
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
        let interest = std::mem::take(&mut self.groups[number].interest);
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
    use rm_kv::KeyValue;

    use super::*;

    fn interest(key: &'static str, range_end: &'static str) -> Interest {
        Interest {
            key: key.into(),
            range_end: range_end.into(),
            ..Interest::default()
        }
    }

    fn told(audience: &mut Audience<u64>, key: &'static str) -> Vec<u64> {
        let kv = KeyValue {
            key: key.into(),
            ..KeyValue::default()
        };
        let event = Event {
            is_delete: false,
            kv,
            prev_kv: None,
        };
        let groups = audience.groups_of(&event).into_iter();
        let members = groups.flat_map(|number| &audience.group(number).members);
        let mut members: Vec<u64> = members.copied().collect();
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
            audience.join(&wanted, number);
        }
        assert_eq!(told(&mut audience, "b"), [1, 2, 3, 4]);
        assert_eq!(told(&mut audience, "bb"), [2, 3, 4, 5]);
        assert_eq!(told(&mut audience, "c"), [4]);
        audience.leave(&interest("a", "c"), 2);
        assert_eq!(told(&mut audience, "b"), [1, 3, 4]);
        audience.leave(&interest("a", "c"), 3);
        audience.leave(&interest("b", ""), 1);
        audience.leave(&all, 4);
        assert!(told(&mut audience, "b").is_empty());
        audience.join(&interest("b", ""), 6);
        assert_eq!(told(&mut audience, "b"), [6]);
        let left: Vec<u64> = audience.take_all().into_iter().collect();
        assert_eq!(left, [5, 6]);
        assert!(told(&mut audience, "b").is_empty());
    }
}
