//! In what the target differs from the source, key by key in their order.

use std::cmp::Ordering;

use bytes::Bytes;
use futures::future::try_join;

use crate::migrate::error::Result;
use crate::migrate::pages::Pages;
use crate::migrate::scope::Scope;
use crate::migrate::side::Side;
use crate::output::Shown;
use crate::proto::KeyValue;

/// A difference. Keys have the names that they have at the target.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Difference {
    /// The target has not this pair.
    Missing(KeyValue),
    /// It has the key with another value, or on another lease.
    Changed {
        /// As it is to be.
        pair: KeyValue,
        /// The key's mod revision at the target.
        held: i64,
    },
    /// It has a key that the source has not.
    Extra {
        /// The key.
        key: Bytes,
        /// Its mod revision at the target.
        held: i64,
    },
}

impl Difference {
    /// The key, and its mod revision at the target; zero where it is not there.
    pub(crate) fn held(&self) -> (&Bytes, i64) {
        match self {
            Difference::Missing(pair) => (&pair.key, 0),
            Difference::Changed { pair, held } => (&pair.key, *held),
            Difference::Extra { key, held } => (key, *held),
        }
    }

    /// A line about it.
    pub(crate) fn line(&self) -> String {
        let what = match self {
            Difference::Missing(_) => "is missing",
            Difference::Changed { .. } => "has another value, or another lease",
            Difference::Extra { .. } => "is not in the source",
        };
        let (key, _) = self.held();
        let key = Shown {
            bytes: key,
            hex: false,
        };
        format!("  {} {what}", key.cell())
    }
}

/// What was compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Compared {
    /// How many keys of the source.
    pub(crate) keys: u64,
    /// Of these and their values.
    pub(crate) bytes: u64,
}

/// Goes through both, page by page.
pub(crate) struct Comparison<'a> {
    scope: &'a Scope,
    source: Pages<'a>,
    target: Pages<'a>,
    /// What was compared so far.
    pub(crate) compared: Compared,
}

impl<'a> Comparison<'a> {
    /// The source as of a revision, with the target as it is when each page is read: what is written meanwhile are keys that were
    /// passed.
    pub(crate) fn new(
        scope: &'a Scope,
        source: &'a Side,
        target: &'a Side,
        revision: i64,
    ) -> Comparison<'a> {
        Comparison {
            scope,
            source: Pages::new(source, scope.source(), revision),
            target: Pages::new(target, scope.target(), 0),
            compared: Compared::default(),
        }
    }

    /// The next difference; none behind the last.
    ///
    /// # Errors
    /// As [`Pages::peek`].
    pub(crate) async fn next(&mut self) -> Result<Option<Difference>> {
        loop {
            let (source, target) = try_join(self.source.peek(), self.target.peek()).await?;
            let name = source.map(|pair| self.scope.renamed(&pair.key));
            let order = match (&name, target) {
                (None, None) => return Ok(None),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(name), Some(target)) => name.cmp(&target.key),
            };
            let target = match order {
                Ordering::Less => None,
                Ordering::Equal | Ordering::Greater => self.target.take(),
            };
            if order == Ordering::Greater {
                return Ok(target.map(|pair| Difference::Extra {
                    key: pair.key,
                    held: pair.mod_revision,
                }));
            }
            let Some((mut pair, name)) = self.source.take().zip(name) else {
                continue;
            };
            pair.key = name;
            self.compared.keys += 1;
            self.compared.bytes += (pair.key.len() + pair.value.len()) as u64;
            match target {
                None => return Ok(Some(Difference::Missing(pair))),
                Some(held) if held.value != pair.value || held.lease != pair.lease => {
                    let held = held.mod_revision;
                    return Ok(Some(Difference::Changed { pair, held }));
                }
                Some(_) => {}
            }
        }
    }
}
