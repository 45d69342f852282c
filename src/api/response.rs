//! The key space's answers as etcd's responses. Keys and values are handed on, not copied.

use rm_actors::port::{DeleteReply, KeyValue, RangeReply, Reply, ReplyBody, TxnReply};
use rm_proto::{etcdserverpb as pb, mvccpb};

use crate::reply::Message;

/// The numbers of the fields that hold other messages (`kv.proto`).
mod field {
    pub(super) const RANGE_KVS: u32 = 2;
    pub(super) const DELETE_RANGE_PREV_KVS: u32 = 3;
    pub(super) const TXN_RESPONSES: u32 = 3;
    pub(super) const OPERATION_RANGE: u32 = 1;
    pub(super) const OPERATION_PUT: u32 = 2;
    pub(super) const OPERATION_DELETE_RANGE: u32 = 3;
    pub(super) const OPERATION_TXN: u32 = 4;
}

/// The answer to a range.
pub(crate) fn range(header: pb::ResponseHeader, reply: RangeReply) -> Message {
    let begin = pb::RangeResponse {
        header: Some(header),
        ..Default::default()
    };
    let end = pb::RangeResponse {
        more: reply.more,
        count: reply.count,
        ..Default::default()
    };
    Message::of(&begin)
        .and(key_values(field::RANGE_KVS, reply.kvs))
        .and(Message::of(&end))
}

/// The answer to a put.
pub(crate) fn put(header: pb::ResponseHeader, previous: Option<KeyValue>) -> Message {
    Message::of(&pb::PutResponse {
        header: Some(header),
        prev_kv: previous.map(key_value),
    })
}

/// The answer to a delete.
pub(crate) fn delete_range(header: pb::ResponseHeader, reply: DeleteReply) -> Message {
    let begin = pb::DeleteRangeResponse {
        header: Some(header),
        deleted: reply.deleted,
        ..Default::default()
    };
    Message::of(&begin).and(key_values(field::DELETE_RANGE_PREV_KVS, reply.prev_kvs))
}

/// The answer to a transaction.
pub(crate) fn txn(header: pb::ResponseHeader, reply: TxnReply) -> Message {
    let begin = pb::TxnResponse {
        header: Some(header),
        succeeded: reply.succeeded,
        ..Default::default()
    };
    let operations = reply.replies.into_iter().map(operation);
    operations.fold(Message::of(&begin), |txn, operation| {
        txn.and(operation.within(field::TXN_RESPONSES))
    })
}

/// The answer to one operation of a transaction: as in etcd, its header tells the revision and nothing else.
fn operation(reply: Reply) -> Message {
    let header = pb::ResponseHeader {
        revision: reply.revision,
        ..Default::default()
    };
    match reply.body {
        ReplyBody::Range(reply) => range(header, reply).within(field::OPERATION_RANGE),
        ReplyBody::Put(previous) => put(header, previous).within(field::OPERATION_PUT),
        ReplyBody::DeleteRange(reply) => {
            delete_range(header, reply).within(field::OPERATION_DELETE_RANGE)
        }
        ReplyBody::Txn(reply) => txn(header, reply).within(field::OPERATION_TXN),
        // No transaction holds such an operation.
        ReplyBody::Compact
        | ReplyBody::Scrub
        | ReplyBody::GrantLease(_)
        | ReplyBody::RevokeLease
        | ReplyBody::CountLeases(_)
        | ReplyBody::LeasesCounted(_)
        | ReplyBody::Alarms(_)
        | ReplyBody::Lease(_)
        | ReplyBody::Leases(_)
        | ReplyBody::Auth(_) => Message::of(&pb::ResponseOp::default()),
    }
}

fn key_values(field: u32, kvs: Vec<KeyValue>) -> Message {
    Message::key_values(field, kvs.into_iter().map(key_value).collect())
}

pub(crate) fn key_value(kv: KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: kv.key,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        value: kv.value,
        lease: kv.lease,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn stored() -> KeyValue {
        KeyValue {
            key: Bytes::from_static(b"k"),
            create_revision: 1,
            mod_revision: 2,
            version: 3,
            value: Bytes::from_static(b"v"),
            lease: 4,
        }
    }

    fn on_the_wire() -> mvccpb::KeyValue {
        mvccpb::KeyValue {
            key: Bytes::from_static(b"k"),
            create_revision: 1,
            mod_revision: 2,
            version: 3,
            value: Bytes::from_static(b"v"),
            lease: 4,
        }
    }

    /// Byte for byte.
    fn assert_is(message: Message, expected: &(impl prost::Message + std::fmt::Debug)) {
        assert_eq!(
            message.into_bytes(),
            expected.encode_to_vec(),
            "{expected:?}"
        );
    }

    fn header() -> pb::ResponseHeader {
        pb::ResponseHeader {
            cluster_id: 1,
            member_id: 2,
            revision: 3,
            raft_term: 4,
        }
    }

    #[test]
    fn a_range_reply_keeps_every_field() {
        let reply = RangeReply {
            kvs: vec![stored()],
            more: true,
            count: 9,
        };
        let expected = pb::RangeResponse {
            header: Some(header()),
            kvs: vec![on_the_wire()],
            more: true,
            count: 9,
        };
        assert_is(range(header(), reply), &expected);
    }

    #[test]
    fn a_put_tells_what_was_there_before() {
        for (previous, expected) in [(Some(stored()), Some(on_the_wire())), (None, None)] {
            let expected = pb::PutResponse {
                header: Some(header()),
                prev_kv: expected,
            };
            assert_is(put(header(), previous), &expected);
        }
    }

    #[test]
    fn each_operation_of_a_transaction_is_answered_with_its_own_revision() {
        let inner = Reply {
            revision: 6,
            body: ReplyBody::DeleteRange(DeleteReply {
                deleted: 1,
                prev_kvs: vec![stored()],
            }),
        };
        let reply = TxnReply {
            succeeded: true,
            replies: vec![Reply {
                revision: 5,
                body: ReplyBody::Txn(TxnReply {
                    succeeded: false,
                    replies: vec![inner],
                }),
            }],
        };
        let revision = |revision| {
            Some(pb::ResponseHeader {
                revision,
                ..Default::default()
            })
        };
        let delete = pb::DeleteRangeResponse {
            header: revision(6),
            deleted: 1,
            prev_kvs: vec![on_the_wire()],
        };
        let nested = pb::TxnResponse {
            header: revision(5),
            succeeded: false,
            responses: vec![pb::ResponseOp {
                response: Some(pb::response_op::Response::ResponseDeleteRange(delete)),
            }],
        };
        let expected = pb::TxnResponse {
            header: Some(header()),
            succeeded: true,
            responses: vec![pb::ResponseOp {
                response: Some(pb::response_op::Response::ResponseTxn(nested)),
            }],
        };
        assert_is(txn(header(), reply), &expected);
    }
}
