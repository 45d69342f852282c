//! Transactions that are carried out only where the target is as it is known to be.

use crate::migrate::batch::Write;
use crate::migrate::ours::Anchor;
use crate::proto::{
    Compare, CompareTarget, KeyValue, PutRequest, RequestOp, ResponseOp, TargetUnion, TxnRequest,
    request_op, response_op,
};

/// Changes, each with the mod revision that its key must have; zero where it must not be there.
///
/// A change that has been carried out cannot be again: its keys have other revisions then, and never those again. But keys that are made
/// may go, and could be made anew by a request that was sent twice and comes late. So where all of them are made, a key that is there
/// must be as it was, too: the anchor.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Guarded {
    /// At least one.
    pub(crate) writes: Vec<(Write, i64)>,
    /// What else must be as it was.
    pub(crate) anchor: Option<Anchor>,
    /// Whether its keys are compared: one that is too long cannot be named twice in a request.
    pub(crate) compares_keys: bool,
}

impl Guarded {
    /// What the changes are sent as.
    pub(crate) fn request(&self) -> TxnRequest {
        let own = self.writes.iter().filter(|_| self.compares_keys);
        let own = own.map(|(write, held)| is_at(write.key(), *held));
        let anchor = self.anchor.iter().map(|at| is_at(&at.key, at.revision));
        TxnRequest {
            compare: own.chain(anchor).collect(),
            success: self
                .writes
                .iter()
                .map(|(write, _)| write.operation())
                .collect(),
            ..TxnRequest::default()
        }
    }

    /// Whether nothing but an anchor keeps it from being carried out twice.
    pub(crate) fn only_makes_keys(writes: &[(Write, i64)]) -> bool {
        writes.iter().all(|(_, held)| *held == 0)
    }

    /// Whether it was carried out, as far as that is to be seen in its keys, which are given in their order.
    pub(crate) fn landed(&self, found: &[Option<KeyValue>]) -> Option<Landed> {
        let seen = || self.writes.iter().zip(found);
        let made = seen().filter(|((write, held), pair)| write.has_made(*held, pair.as_ref()));
        let mut revisions = made
            .filter_map(|(_, pair)| pair.as_ref())
            .map(|pair| pair.mod_revision);
        let revision = revisions.next()?;
        let is_one = revisions.all(|other| other == revision);
        // A transaction that has made it otherwise is another one.
        let is_ours = seen().all(|((write, held), pair)| match pair {
            Some(pair) if pair.mod_revision == revision => write.has_made(*held, Some(pair)),
            _ => true,
        });
        let is_whole = seen().all(|((write, held), pair)| write.has_made(*held, pair.as_ref()));
        (is_one && is_ours).then_some(Landed { revision, is_whole })
    }
}

/// That changes were carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Landed {
    /// In which revision.
    pub(crate) revision: i64,
    /// Whether nothing of them has been changed since.
    pub(crate) is_whole: bool,
}

impl Write {
    /// Whether a key that had another mod revision before is as this leaves it.
    fn has_made(&self, held: i64, pair: Option<&KeyValue>) -> bool {
        match (self, pair) {
            (Write::Delete(_), None) => true,
            (Write::Put(put), Some(pair)) => {
                put.value == pair.value && put.lease == pair.lease && pair.mod_revision != held
            }
            _ => false,
        }
    }
}

/// Moves an anchor, and changes nothing of it but its mod revision.
pub(crate) fn moving(anchor: &Anchor) -> TxnRequest {
    let put = PutRequest {
        key: anchor.key.clone(),
        ignore_value: true,
        ignore_lease: true,
        ..PutRequest::default()
    };
    TxnRequest {
        compare: vec![is_at(&anchor.key, anchor.revision)],
        success: vec![RequestOp {
            request: Some(request_op::Request::RequestPut(put)),
        }],
        ..TxnRequest::default()
    }
}

/// Whether a transaction that was carried out has changed anything: else the revision of its answer is somebody else's.
pub(crate) fn has_changed(responses: &[ResponseOp]) -> bool {
    responses.iter().any(|operation| match &operation.response {
        Some(response_op::Response::ResponsePut(_)) => true,
        Some(response_op::Response::ResponseDeleteRange(deleted)) => deleted.deleted > 0,
        _ => false,
    })
}

fn is_at(key: &bytes::Bytes, revision: i64) -> Compare {
    Compare {
        target: CompareTarget::Mod.into(),
        key: key.clone(),
        target_union: Some(TargetUnion::ModRevision(revision)),
        ..Compare::default()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use rm_proto::etcdserverpb::DeleteRangeResponse;

    use crate::proto::PutResponse;

    fn pair(key: &'static str, value: &'static str, mod_revision: i64) -> KeyValue {
        KeyValue {
            key: key.into(),
            value: value.into(),
            mod_revision,
            ..KeyValue::default()
        }
    }

    fn guarded() -> Guarded {
        Guarded {
            writes: vec![
                (Write::put(pair("a", "1", 0)), 0),
                (Write::put(pair("b", "2", 0)), 5),
                (Write::Delete("c".into()), 6),
            ],
            anchor: None,
            compares_keys: true,
        }
    }

    #[test]
    fn every_key_and_the_anchor_are_compared_with_their_revisions() {
        let mut guarded = guarded();
        guarded.anchor = Some(Anchor {
            key: "z".into(),
            revision: 9,
        });
        let compared = guarded.request().compare.into_iter().map(|compare| {
            assert_eq!(compare.target(), CompareTarget::Mod);
            (compare.key, compare.target_union)
        });
        let at = TargetUnion::ModRevision;
        assert_eq!(
            compared.collect::<Vec<_>>(),
            [("a", 0), ("b", 5), ("c", 6), ("z", 9)]
                .map(|(key, revision)| (Bytes::from(key), Some(at(revision))))
        );
        guarded.compares_keys = false;
        let compared = guarded.request().compare.into_iter();
        let keys: Vec<_> = compared.map(|compare| compare.key).collect();
        assert_eq!(keys, ["z"], "the anchor alone");
    }

    #[test]
    fn what_has_landed_is_seen_in_all_of_its_keys_at_one_revision() {
        let guarded = guarded();
        let revision = 8;
        let landed = |is_whole| Some(Landed { revision, is_whole });
        let a = Some(pair("a", "1", 8));
        assert_eq!(
            guarded.landed(&[a.clone(), Some(pair("b", "2", 8)), None]),
            landed(true)
        );
        for (others, seen) in [
            ([Some(pair("b", "2", 9)), None], None),
            ([Some(pair("b", "3", 8)), None], None),
            ([Some(pair("b", "3", 9)), None], landed(false)),
            ([None, None], landed(false)),
            (
                [Some(pair("b", "2", 8)), Some(pair("c", "", 9))],
                landed(false),
            ),
        ] {
            let found = [&[a.clone()][..], &others].concat();
            assert_eq!(guarded.landed(&found), seen, "{found:?}");
        }
        let as_before = [None, Some(pair("b", "2", 5)), None];
        assert_eq!(guarded.landed(&as_before), None);
    }

    #[test]
    fn what_deletes_nothing_makes_no_revision() {
        let put = response_op::Response::ResponsePut(PutResponse::default());
        let deleted = |deleted| {
            response_op::Response::ResponseDeleteRange(DeleteRangeResponse {
                deleted,
                ..DeleteRangeResponse::default()
            })
        };
        let has_changed = |response| {
            has_changed(&[ResponseOp {
                response: Some(response),
            }])
        };
        assert!(has_changed(put));
        assert!(has_changed(deleted(1)));
        assert!(!has_changed(deleted(0)));
    }
}
