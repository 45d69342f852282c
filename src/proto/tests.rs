//! The bytes on the wire are etcd's: written out by hand from its field numbers.

use bytes::Bytes;
use prost::Message;

use crate::etcdserverpb as pb;
use crate::mvccpb::{self, KeyValue};

/// Encodes to exactly `bytes`, and decodes from them.
fn assert_wire<M: Message + Default + PartialEq + std::fmt::Debug>(message: M, bytes: &[u8]) {
    assert_eq!(message.encode_to_vec(), bytes);
    assert_eq!(M::decode(bytes).as_ref(), Ok(&message));
}

#[test]
fn a_put_is_etcds() {
    let put = pb::PutRequest {
        key: Bytes::from_static(b"k"),
        value: Bytes::from_static(b"v"),
        lease: 7,
        prev_kv: true,
        ignore_value: true,
        ignore_lease: true,
    };
    assert_wire(put, b"\x0a\x01k\x12\x01v\x18\x07\x20\x01\x28\x01\x30\x01");
}

#[test]
fn a_range_is_etcds() {
    let range = pb::RangeRequest {
        key: Bytes::from_static(b"a"),
        range_end: Bytes::from_static(b"b"),
        limit: 1,
        revision: 2,
        sort_order: pb::range_request::SortOrder::Descend.into(),
        sort_target: pb::range_request::SortTarget::Value.into(),
        serializable: true,
        keys_only: true,
        count_only: true,
        min_mod_revision: 3,
        max_mod_revision: 4,
        min_create_revision: 5,
        max_create_revision: 6,
    };
    assert_wire(
        range,
        b"\x0a\x01a\x12\x01b\x18\x01\x20\x02\x28\x02\x30\x04\x38\x01\x40\x01\x48\x01\x50\x03\x58\x04\x60\x05\x68\x06",
    );
}

#[test]
fn a_range_response_is_etcds() {
    let response = pb::RangeResponse {
        header: Some(pb::ResponseHeader {
            cluster_id: 1,
            member_id: 2,
            revision: 3,
            raft_term: 4,
        }),
        kvs: vec![KeyValue {
            key: Bytes::from_static(b"k"),
            create_revision: 5,
            mod_revision: 6,
            version: 7,
            value: Bytes::from_static(b"v"),
            lease: 8,
        }],
        more: true,
        count: 9,
    };
    assert_wire(
        response,
        b"\x0a\x08\x08\x01\x10\x02\x18\x03\x20\x04\x12\x0e\x0a\x01k\x10\x05\x18\x06\x20\x07\x2a\x01v\x30\x08\x18\x01\x20\x09",
    );
}

#[test]
fn a_comparison_with_its_far_off_range_end_is_etcds() {
    let compare = pb::Compare {
        result: pb::compare::CompareResult::NotEqual.into(),
        target: pb::compare::CompareTarget::Lease.into(),
        key: Bytes::from_static(b"k"),
        range_end: Bytes::from_static(b"z"),
        target_union: Some(pb::compare::TargetUnion::Lease(5)),
    };
    assert_wire(compare, b"\x08\x03\x10\x04\x1a\x01k\x40\x05\x82\x04\x01z");
}

#[test]
fn a_transaction_within_a_transaction_is_etcds() {
    let inner = pb::TxnRequest {
        failure: vec![pb::RequestOp {
            request: Some(pb::request_op::Request::RequestDeleteRange(
                pb::DeleteRangeRequest {
                    key: Bytes::from_static(b"k"),
                    range_end: Bytes::new(),
                    prev_kv: true,
                },
            )),
        }],
        ..Default::default()
    };
    let outer = pb::TxnRequest {
        success: vec![pb::RequestOp {
            request: Some(pb::request_op::Request::RequestTxn(inner)),
        }],
        ..Default::default()
    };
    assert_wire(outer, b"\x12\x0b\x22\x09\x1a\x07\x1a\x05\x0a\x01k\x18\x01");
}

#[test]
fn a_watch_response_with_its_far_off_events_is_etcds() {
    let response = pb::WatchResponse {
        watch_id: 1,
        cancel_reason: "x".to_owned(),
        events: vec![mvccpb::Event {
            r#type: mvccpb::event::EventType::Delete.into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    assert_wire(response, b"\x10\x01\x32\x01x\x5a\x02\x08\x01");
}

#[test]
fn a_status_is_etcds() {
    let status = pb::StatusResponse {
        version: "3".to_owned(),
        db_size: 1,
        leader: 2,
        raft_index: 3,
        raft_term: 4,
        raft_applied_index: 5,
        errors: vec!["e".to_owned()],
        db_size_in_use: 6,
        is_learner: true,
        storage_version: "4".to_owned(),
        db_size_quota: 7,
        ..Default::default()
    };
    assert_wire(
        status,
        b"\x12\x013\x18\x01\x20\x02\x28\x03\x30\x04\x38\x05\x42\x01e\x48\x06\x50\x01\x5a\x014\x60\x07",
    );
}

#[test]
fn locks_and_elections_are_etcds() {
    use crate::v3electionpb::{CampaignRequest, LeaderKey, LeaderResponse, ProclaimRequest};
    use crate::v3lockpb::{LockRequest, LockResponse};
    let text = |text: &'static str| Bytes::from_static(text.as_bytes());
    let lock = LockRequest {
        name: text("n"),
        lease: 7,
    };
    assert_wire(lock, b"\x0a\x01n\x10\x07");
    let locked = LockResponse {
        header: Some(pb::ResponseHeader::default()),
        key: text("k"),
    };
    assert_wire(locked, b"\x0a\x00\x12\x01k");
    let campaign = CampaignRequest {
        name: text("n"),
        lease: 7,
        value: text("v"),
    };
    assert_wire(campaign, b"\x0a\x01n\x10\x07\x1a\x01v");
    let leader = LeaderKey {
        name: text("n"),
        key: text("k"),
        rev: 5,
        lease: 7,
    };
    let proclaim = ProclaimRequest {
        leader: Some(leader),
        value: text("v"),
    };
    assert_wire(
        proclaim,
        b"\x0a\x0a\x0a\x01n\x12\x01k\x18\x05\x20\x07\x12\x01v",
    );
    let told = LeaderResponse {
        header: None,
        kv: Some(KeyValue::default()),
    };
    assert_wire(told, b"\x12\x00");
}

#[test]
fn what_is_told_with_encoded_events_is_what_is_told_with_events() {
    let event = |revision| mvccpb::Event {
        r#type: mvccpb::event::EventType::Delete.into(),
        kv: Some(KeyValue {
            key: Bytes::from_static(b"k"),
            mod_revision: revision,
            ..KeyValue::default()
        }),
        prev_kv: Some(KeyValue {
            value: Bytes::from_static(b"v"),
            ..KeyValue::default()
        }),
    };
    let header = pb::ResponseHeader {
        cluster_id: 1,
        member_id: 2,
        revision: 300,
        raft_term: 4,
    };
    let whole = pb::WatchResponse {
        header: Some(header),
        watch_id: 5,
        created: true,
        canceled: true,
        compact_revision: 6,
        cancel_reason: "why".to_owned(),
        fragment: true,
        events: vec![event(299), event(300), mvccpb::Event::default()],
    };
    let told = crate::told::WatchResponse {
        header: Some(header),
        watch_id: 5,
        created: true,
        canceled: true,
        compact_revision: 6,
        cancel_reason: "why".to_owned(),
        fragment: true,
        events: whole
            .events
            .iter()
            .map(|event| event.encode_to_vec().into())
            .collect(),
    };
    assert_wire(told, &whole.encode_to_vec());
}
