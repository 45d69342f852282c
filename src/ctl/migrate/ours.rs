//! What stands at the target by our hand, so that nothing else is written over.
//!
//! Each write is guarded by the mod revisions that its keys are known to have. Where they are not known, or have changed, they are read,
//! and a revision that is none of ours is somebody else's write.

mod recent;
mod revisions;

use std::cell::RefCell;

use bytes::Bytes;

use crate::migrate::error::{MigrateError, Result};
use crate::migrate::guarded::Guarded;
use crate::output::Shown;
use crate::proto::KeyValue;
use recent::Recent;
use revisions::Revisions;

/// What is known of the target's keys.
pub(crate) struct Ours {
    /// Whether what others have written may go.
    all_may_go: bool,
    /// The target's revisions that are ours.
    revisions: RefCell<Revisions>,
    recent: RefCell<Recent>,
    anchor: RefCell<Option<Anchor>>,
}

/// A key of ours, as it is at the target. A write that is to find it so can be kept from landing late: the anchor is moved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Anchor {
    /// The key.
    pub(crate) key: Bytes,
    /// Its mod revision.
    pub(crate) revision: i64,
}

impl Ours {
    /// Nothing is known yet.
    pub(crate) fn new(all_may_go: bool) -> Ours {
        Ours {
            all_may_go,
            revisions: RefCell::default(),
            recent: RefCell::default(),
            anchor: RefCell::default(),
        }
    }

    /// Whether what others have written may go.
    pub(crate) fn all_may_go(&self) -> bool {
        self.all_may_go
    }

    /// All that stands in the range since this revision or one before it is as at the source.
    pub(crate) fn adopt(&self, revision: i64) {
        self.revisions.borrow_mut().add(1, revision);
    }

    /// Whether a key that has this mod revision may be changed; zero is none that is there.
    pub(crate) fn may_change(&self, revision: i64) -> bool {
        self.all_may_go || revision == 0 || self.revisions.borrow().holds(revision)
    }

    /// A key that is to be changed was seen at this mod revision, or was not there: zero.
    ///
    /// # Errors
    /// [`MigrateError::Theirs`] where it is somebody else's.
    pub(crate) fn saw(&self, key: &Bytes, revision: i64) -> Result<()> {
        if !self.may_change(revision) {
            let shown = Shown {
                bytes: key,
                hex: false,
            };
            return Err(MigrateError::Theirs {
                key: shown.cell(),
                revision,
            });
        }
        self.recent.borrow_mut().note(key, revision);
        Ok(())
    }

    /// The mod revision that a key is known to have; zero if it is not there.
    pub(crate) fn held(&self, key: &[u8]) -> Option<i64> {
        self.recent.borrow().of(key)
    }

    /// We have written these, which made this revision.
    pub(crate) fn wrote(&self, guarded: &Guarded, revision: i64) {
        self.revisions.borrow_mut().add(revision, revision);
        let mut recent = self.recent.borrow_mut();
        let mut anchor = self.anchor.borrow_mut();
        for (write, _) in &guarded.writes {
            let is_there = write.is_put();
            recent.note(write.key(), if is_there { revision } else { 0 });
            match (&*anchor, is_there) {
                (_, true) => *anchor = Some(Anchor::at(write.key(), revision)),
                (Some(at), false) if at.key == *write.key() => *anchor = None,
                (_, false) => {}
            }
        }
    }

    /// The anchor has this place by now, moved by us; another one may be in use since.
    pub(crate) fn moved(&self, key: &Bytes, revision: i64) {
        self.revisions.borrow_mut().add(revision, revision);
        self.recent.borrow_mut().note(key, revision);
        let mut anchor = self.anchor.borrow_mut();
        if anchor.as_ref().is_some_and(|at| at.key == *key) {
            *anchor = Some(Anchor::at(key, revision));
        }
    }

    /// This anchor is not where it was thought to be, but here; zero if it is gone. One that is somebody else's holds nothing.
    pub(crate) fn found(&self, key: &Bytes, revision: i64) {
        let is_ours = revision != 0 && self.may_change(revision);
        let mut recent = self.recent.borrow_mut();
        match is_ours || revision == 0 {
            true => recent.note(key, revision),
            false => recent.forget(key),
        }
        let mut anchor = self.anchor.borrow_mut();
        if anchor.as_ref().is_some_and(|at| at.key == *key) {
            *anchor = is_ours.then(|| Anchor::at(key, revision));
        }
    }

    /// A key of ours that is thought to be there.
    pub(crate) fn anchor(&self) -> Option<Anchor> {
        let anchor = self.anchor.borrow().clone();
        anchor.or_else(|| {
            let recent = self.recent.borrow();
            let (key, revision) = recent.those_that_are_there().next()?;
            Some(Anchor::at(key, revision))
        })
    }

    /// The shortest of those beside this key.
    pub(crate) fn short_anchor(&self, beside: &Bytes) -> Option<Anchor> {
        let recent = self.recent.borrow();
        let others = recent.those_that_are_there().filter(|it| it.0 != beside);
        let (key, revision) = others.min_by_key(|(key, _)| key.len())?;
        Some(Anchor::at(key, revision))
    }

    /// A pair that was found there, if it is ours and of another key than this one, which may be too long to be named twice.
    pub(crate) fn anchor_at(&self, found: &KeyValue, beside: &Bytes) -> Option<Anchor> {
        let holds = self.may_change(found.mod_revision) && found.key != beside;
        holds.then(|| Anchor::at(&found.key, found.mod_revision))
    }
}

impl Anchor {
    fn at(key: &Bytes, revision: i64) -> Anchor {
        Anchor {
            // A key that is decoded holds the whole message in memory.
            key: Bytes::copy_from_slice(key),
            revision,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrate::batch::Write;

    fn put(key: &'static str) -> Write {
        Write::put(KeyValue {
            key: key.into(),
            ..KeyValue::default()
        })
    }

    fn guarded(writes: Vec<Write>) -> Guarded {
        Guarded {
            writes: writes.into_iter().map(|write| (write, 0)).collect(),
            anchor: None,
            compares_keys: true,
        }
    }

    #[test]
    fn what_somebody_else_has_written_is_refused_by_the_name_of_its_key() {
        let ours = Ours::new(false);
        ours.adopt(10);
        ours.wrote(&guarded(vec![put("a")]), 12);
        let key = Bytes::from_static(b"b");
        for revision in [0, 1, 10, 12] {
            assert!(ours.saw(&key, revision).is_ok(), "{revision}");
        }
        for revision in [11, 13] {
            let refused = ours.saw(&key, revision).expect_err("it is not ours");
            assert!(refused.to_string().contains("written b at"), "{refused}");
        }
        assert!(Ours::new(true).saw(&key, 13).is_ok(), "--force");
    }

    #[test]
    fn a_key_has_the_revision_of_the_last_write_of_it() {
        let ours = Ours::new(false);
        assert_eq!(ours.held(b"a"), None);
        ours.wrote(&guarded(vec![put("a"), put("b")]), 5);
        assert_eq!(ours.held(b"a"), Some(5));
        ours.wrote(&guarded(vec![Write::Delete("a".into())]), 6);
        assert_eq!(ours.held(b"a"), Some(0));
        assert_eq!(ours.held(b"b"), Some(5));
    }

    #[test]
    fn the_anchor_is_a_key_that_is_there() {
        let ours = Ours::new(false);
        assert_eq!(ours.anchor(), None);
        ours.wrote(&guarded(vec![put("a"), put("b")]), 5);
        let b = Bytes::from_static(b"b");
        assert_eq!(ours.anchor(), Some(Anchor::at(&b, 5)));
        ours.moved(&b, 6);
        assert_eq!(ours.anchor(), Some(Anchor::at(&b, 6)));
        ours.wrote(&guarded(vec![Write::Delete(b.clone())]), 7);
        let a = Bytes::from_static(b"a");
        assert_eq!(ours.anchor(), Some(Anchor::at(&a, 5)), "what else is there");
        // Somebody else has changed it.
        ours.found(&a, 8);
        assert_eq!(ours.anchor(), None);
    }

    #[test]
    fn the_shortest_anchor_is_one_beside_the_key() {
        let ours = Ours::new(false);
        ours.wrote(&guarded(vec![put("long"), put("a"), put("ab")]), 5);
        let at_5 = |key: &'static str| Some(Anchor::at(&key.into(), 5));
        assert_eq!(ours.short_anchor(&"long".into()), at_5("a"));
        assert_eq!(ours.short_anchor(&"a".into()), at_5("ab"));
    }

    #[test]
    fn a_pair_that_is_found_is_an_anchor_where_it_is_ours_and_beside_the_key() {
        let ours = Ours::new(false);
        ours.adopt(5);
        let found = |key: &'static str, mod_revision| KeyValue {
            key: key.into(),
            mod_revision,
            ..KeyValue::default()
        };
        let beside = |pair: KeyValue| ours.anchor_at(&pair, &"long".into());
        assert_eq!(beside(found("a", 5)), Some(Anchor::at(&"a".into(), 5)));
        assert_eq!(beside(found("a", 6)), None, "it is somebody else's");
        assert_eq!(beside(found("long", 5)), None, "it would stand twice");
    }
}
