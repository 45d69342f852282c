//! The key space's answers as etcd's responses. Keys and values are handed on, not copied.

use rm_actors::port::{DeleteReply, KeyValue, RangeReply, Reply, ReplyBody, TxnReply};
use rm_proto::{etcdserverpb as pb, mvccpb};

/// The answer to a range.
pub(crate) fn range(header: pb::ResponseHeader, reply: RangeReply) -> pb::RangeResponse {
    pb::RangeResponse {
        header: Some(header),
        kvs: key_values(reply.kvs),
        more: reply.more,
        count: reply.count,
    }
}

/// The answer to a put.
pub(crate) fn put(header: pb::ResponseHeader, previous: Option<KeyValue>) -> pb::PutResponse {
    pb::PutResponse {
        header: Some(header),
        prev_kv: previous.map(key_value),
    }
}

/// The answer to a delete.
pub(crate) fn delete_range(
    header: pb::ResponseHeader,
    reply: DeleteReply,
) -> pb::DeleteRangeResponse {
    pb::DeleteRangeResponse {
        header: Some(header),
        deleted: reply.deleted,
        prev_kvs: key_values(reply.prev_kvs),
    }
}

/// The answer to a transaction.
pub(crate) fn txn(header: pb::ResponseHeader, reply: TxnReply) -> pb::TxnResponse {
    pb::TxnResponse {
        header: Some(header),
        succeeded: reply.succeeded,
        responses: reply.replies.into_iter().map(operation).collect(),
    }
}

/// The answer to one operation of a transaction: as in etcd, its header tells the revision and nothing else.
fn operation(reply: Reply) -> pb::ResponseOp {
    use pb::response_op::Response;
    let header = pb::ResponseHeader {
        revision: reply.revision,
        ..Default::default()
    };
    let response = match reply.body {
        ReplyBody::Range(reply) => Some(Response::ResponseRange(range(header, reply))),
        ReplyBody::Put(previous) => Some(Response::ResponsePut(put(header, previous))),
        ReplyBody::DeleteRange(reply) => {
            Some(Response::ResponseDeleteRange(delete_range(header, reply)))
        }
        ReplyBody::Txn(reply) => Some(Response::ResponseTxn(txn(header, reply))),
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
        | ReplyBody::Auth(_) => None,
    };
    pb::ResponseOp { response }
}

fn key_values(kvs: Vec<KeyValue>) -> Vec<mvccpb::KeyValue> {
    kvs.into_iter().map(key_value).collect()
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
        assert_eq!(range(header(), reply), expected);
    }

    #[test]
    fn a_put_tells_what_was_there_before() {
        assert_eq!(put(header(), Some(stored())).prev_kv, Some(on_the_wire()));
        assert_eq!(put(header(), None).prev_kv, None);
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
        assert_eq!(txn(header(), reply), expected);
    }
}
