//! etcd's requests as the key space takes them. Keys and values are handed on, not copied.
//!
//! What is refused here is what the key space's types cannot express: numbers that stand for nothing, and empty
//! operations. The rest is checked by the values themselves.

use rm_actors::port::{
    Compare, CompareResult, CompareTarget, DeleteRange, Operation, Put, Range, RequestError,
    SortOrder, SortTarget, Txn,
};
use rm_proto::etcdserverpb as pb;
use tonic::Status;

use crate::error::{invalid, unknown_value};

/// A range. Whether it is serializable is not the key space's concern.
pub(crate) fn range(request: pb::RangeRequest) -> Result<Range, Status> {
    Ok(Range {
        sort_order: sort_order(request.sort_order)?,
        sort_target: sort_target(request.sort_target)?,
        key: request.key,
        range_end: request.range_end,
        limit: request.limit,
        revision: request.revision,
        keys_only: request.keys_only,
        count_only: request.count_only,
        min_mod_revision: request.min_mod_revision,
        max_mod_revision: request.max_mod_revision,
        min_create_revision: request.min_create_revision,
        max_create_revision: request.max_create_revision,
    })
}

/// A put.
pub(crate) fn put(request: pb::PutRequest) -> Put {
    Put {
        key: request.key,
        value: request.value,
        lease: request.lease,
        prev_kv: request.prev_kv,
        ignore_value: request.ignore_value,
        ignore_lease: request.ignore_lease,
    }
}

/// A delete.
pub(crate) fn delete_range(request: pb::DeleteRangeRequest) -> DeleteRange {
    DeleteRange {
        key: request.key,
        range_end: request.range_end,
        prev_kv: request.prev_kv,
    }
}

/// A transaction. It nests no deeper than prost decodes (100 messages), so the recursion is bounded.
pub(crate) fn txn(request: pb::TxnRequest) -> Result<Txn, Status> {
    Ok(Txn {
        compare: request
            .compare
            .into_iter()
            .map(compare)
            .collect::<Result<_, _>>()?,
        success: operations(request.success)?,
        failure: operations(request.failure)?,
    })
}

/// Whether a transaction may be answered from this machine alone: it only reads, and each of its reads says so.
///
/// etcd takes a transaction without any operation for serializable too, and so judges its comparisons by stale data;
/// here that is a linearizable read.
pub(crate) fn is_serializable(txn: &pb::TxnRequest) -> bool {
    let mut operations = txn.success.iter().chain(&txn.failure).peekable();
    operations.peek().is_some()
        && operations.all(|operation| match &operation.request {
            Some(pb::request_op::Request::RequestRange(range)) => range.serializable,
            Some(pb::request_op::Request::RequestTxn(txn)) => is_serializable(txn),
            _ => false,
        })
}

fn operations(requests: Vec<pb::RequestOp>) -> Result<Vec<Operation>, Status> {
    requests.into_iter().map(operation).collect()
}

fn operation(request: pb::RequestOp) -> Result<Operation, Status> {
    use pb::request_op::Request;
    Ok(match request.request {
        Some(Request::RequestRange(request)) => Operation::Range(range(request)?),
        Some(Request::RequestPut(request)) => Operation::Put(put(request)),
        Some(Request::RequestDeleteRange(request)) => Operation::DeleteRange(delete_range(request)),
        Some(Request::RequestTxn(request)) => Operation::Txn(txn(request)?),
        // etcd's answer to an operation that is none.
        None => return Err(invalid(RequestError::KeyNotFound)),
    })
}

fn compare(request: pb::Compare) -> Result<Compare, Status> {
    Ok(Compare {
        result: compare_result(request.result)?,
        target: compare_target(request.target, request.target_union)?,
        key: request.key,
        range_end: request.range_end,
    })
}

fn compare_result(value: i32) -> Result<CompareResult, Status> {
    use pb::compare::CompareResult as Wire;
    match Wire::try_from(value) {
        Ok(Wire::Equal) => Ok(CompareResult::Equal),
        Ok(Wire::Greater) => Ok(CompareResult::Greater),
        Ok(Wire::Less) => Ok(CompareResult::Less),
        Ok(Wire::NotEqual) => Ok(CompareResult::NotEqual),
        Err(_) => Err(unknown_value("result of a comparison", value)),
    }
}

/// The property and what it is compared with. As in etcd, what the request does not give, or gives for another
/// property, counts as zero or empty.
fn compare_target(
    target: i32,
    given: Option<pb::compare::TargetUnion>,
) -> Result<CompareTarget, Status> {
    use pb::compare::{CompareTarget as Wire, TargetUnion as Given};
    let target =
        Wire::try_from(target).map_err(|_| unknown_value("target of a comparison", target))?;
    Ok(match (target, given) {
        (Wire::Version, Some(Given::Version(version))) => CompareTarget::Version(version),
        (Wire::Version, _) => CompareTarget::Version(0),
        (Wire::Create, Some(Given::CreateRevision(revision))) => CompareTarget::Create(revision),
        (Wire::Create, _) => CompareTarget::Create(0),
        (Wire::Mod, Some(Given::ModRevision(revision))) => CompareTarget::Mod(revision),
        (Wire::Mod, _) => CompareTarget::Mod(0),
        (Wire::Value, Some(Given::Value(value))) => CompareTarget::Value(value),
        (Wire::Value, _) => CompareTarget::Value(Default::default()),
        (Wire::Lease, Some(Given::Lease(lease))) => CompareTarget::Lease(lease),
        (Wire::Lease, _) => CompareTarget::Lease(0),
    })
}

fn sort_order(value: i32) -> Result<SortOrder, Status> {
    use pb::range_request::SortOrder as Wire;
    match Wire::try_from(value) {
        Ok(Wire::None) => Ok(SortOrder::None),
        Ok(Wire::Ascend) => Ok(SortOrder::Ascend),
        Ok(Wire::Descend) => Ok(SortOrder::Descend),
        Err(_) => Err(invalid_sort()),
    }
}

fn sort_target(value: i32) -> Result<SortTarget, Status> {
    use pb::range_request::SortTarget as Wire;
    match Wire::try_from(value) {
        Ok(Wire::Key) => Ok(SortTarget::Key),
        Ok(Wire::Version) => Ok(SortTarget::Version),
        Ok(Wire::Create) => Ok(SortTarget::Create),
        Ok(Wire::Mod) => Ok(SortTarget::Mod),
        Ok(Wire::Value) => Ok(SortTarget::Value),
        Err(_) => Err(invalid_sort()),
    }
}

fn invalid_sort() -> Status {
    Status::invalid_argument("etcdserver: invalid sort option")
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use pb::request_op::Request;
    use tonic::Code;

    fn key(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    fn read(serializable: bool) -> pb::RequestOp {
        wrap(Request::RequestRange(pb::RangeRequest {
            key: key("k"),
            serializable,
            ..Default::default()
        }))
    }

    fn wrap(request: Request) -> pb::RequestOp {
        pb::RequestOp {
            request: Some(request),
        }
    }

    #[test]
    fn a_range_keeps_every_field() {
        let converted = range(pb::RangeRequest {
            key: key("a"),
            range_end: key("b"),
            limit: 1,
            revision: 2,
            sort_order: 2,
            sort_target: 3,
            serializable: true,
            keys_only: true,
            count_only: true,
            min_mod_revision: 3,
            max_mod_revision: 4,
            min_create_revision: 5,
            max_create_revision: 6,
        });
        let expected = Range {
            key: key("a"),
            range_end: key("b"),
            limit: 1,
            revision: 2,
            sort_order: SortOrder::Descend,
            sort_target: SortTarget::Mod,
            keys_only: true,
            count_only: true,
            min_mod_revision: 3,
            max_mod_revision: 4,
            min_create_revision: 5,
            max_create_revision: 6,
        };
        assert_eq!(converted.expect("all its numbers are known"), expected);
    }

    #[test]
    fn an_unknown_sort_is_refused_in_etcds_words() {
        for (sort_order, sort_target) in [(3, 0), (-1, 0), (0, 5)] {
            let refusal = range(pb::RangeRequest {
                sort_order,
                sort_target,
                ..Default::default()
            })
            .expect_err("there is no such sort");
            assert_eq!(refusal.code(), Code::InvalidArgument);
            assert_eq!(refusal.message(), "etcdserver: invalid sort option");
        }
    }

    #[test]
    fn a_comparison_takes_what_fits_its_target_and_zero_otherwise() {
        use pb::compare::TargetUnion as Given;
        let table = [
            (0, Some(Given::Version(7)), CompareTarget::Version(7)),
            (1, Some(Given::CreateRevision(7)), CompareTarget::Create(7)),
            (2, Some(Given::ModRevision(7)), CompareTarget::Mod(7)),
            (
                3,
                Some(Given::Value(key("v"))),
                CompareTarget::Value(key("v")),
            ),
            (4, Some(Given::Lease(7)), CompareTarget::Lease(7)),
            (0, None, CompareTarget::Version(0)),
            (2, Some(Given::Version(7)), CompareTarget::Mod(0)),
            (3, Some(Given::Lease(7)), CompareTarget::Value(Bytes::new())),
        ];
        for (target, given, expected) in table {
            let converted = compare_target(target, given).expect("the target is known");
            assert_eq!(converted, expected);
        }
    }

    #[test]
    fn an_unknown_comparison_is_refused() {
        for (result, target) in [(4, 0), (0, 5), (0, -1)] {
            let refusal = compare(pb::Compare {
                result,
                target,
                ..Default::default()
            })
            .expect_err("there is no such comparison");
            assert_eq!(refusal.code(), Code::InvalidArgument);
        }
    }

    #[test]
    fn an_empty_operation_is_refused_in_etcds_words() {
        let refusal = txn(pb::TxnRequest {
            failure: vec![pb::RequestOp { request: None }],
            ..Default::default()
        })
        .expect_err("the operation is none");
        assert_eq!(refusal.code(), Code::InvalidArgument);
        assert_eq!(refusal.message(), "etcdserver: key not found");
    }

    #[test]
    fn a_transaction_keeps_its_branches_and_what_is_nested_in_them() {
        let converted = txn(pb::TxnRequest {
            compare: vec![pb::Compare {
                result: 3,
                target: 4,
                key: key("c"),
                range_end: key("d"),
                target_union: Some(pb::compare::TargetUnion::Lease(1)),
            }],
            success: vec![wrap(Request::RequestPut(pb::PutRequest {
                key: key("p"),
                value: key("v"),
                lease: 2,
                prev_kv: true,
                ignore_value: true,
                ignore_lease: true,
            }))],
            failure: vec![wrap(Request::RequestTxn(pb::TxnRequest {
                success: vec![wrap(Request::RequestDeleteRange(pb::DeleteRangeRequest {
                    key: key("e"),
                    range_end: key("f"),
                    prev_kv: true,
                }))],
                ..Default::default()
            }))],
        });
        let expected = Txn {
            compare: vec![Compare {
                key: key("c"),
                range_end: key("d"),
                result: CompareResult::NotEqual,
                target: CompareTarget::Lease(1),
            }],
            success: vec![Operation::Put(Put {
                key: key("p"),
                value: key("v"),
                lease: 2,
                prev_kv: true,
                ignore_value: true,
                ignore_lease: true,
            })],
            failure: vec![Operation::Txn(Txn {
                success: vec![Operation::DeleteRange(DeleteRange {
                    key: key("e"),
                    range_end: key("f"),
                    prev_kv: true,
                })],
                ..Default::default()
            })],
        };
        assert_eq!(converted.expect("all its numbers are known"), expected);
    }

    #[test]
    fn a_transaction_is_serializable_only_if_all_it_does_is_read_so() {
        let of = |success: Vec<pb::RequestOp>, failure: Vec<pb::RequestOp>| {
            is_serializable(&pb::TxnRequest {
                success,
                failure,
                ..Default::default()
            })
        };
        assert!(of(vec![read(true)], vec![read(true)]));
        assert!(!of(vec![read(true)], vec![read(false)]));
        assert!(!of(
            vec![read(true), wrap(Request::RequestPut(Default::default()))],
            vec![]
        ));
        let nested = |serializable| {
            wrap(Request::RequestTxn(pb::TxnRequest {
                success: vec![read(serializable)],
                ..Default::default()
            }))
        };
        assert!(of(vec![nested(true)], vec![]));
        assert!(!of(vec![nested(false)], vec![]));
    }

    #[test]
    fn a_transaction_that_only_compares_is_not_serializable() {
        assert!(!is_serializable(&pb::TxnRequest::default()));
    }
}
