//! Messages and their JSON (the JSON format of proto3), as etcd's gateway has it: names as in the `.proto` files, bytes as base64,
//! integers of 64 bits as strings, and what is zero left out. What a request says beyond that is passed over.

use bytes::Bytes;
use prost::Message;
use prost_reflect::{DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::{Deserializer, Serializer};
use tonic::Status;

use crate::arrival::Kept;

/// What is larger is turned on a thread that may block: the service's thread has other clients.
const AT_ONCE_BYTES_MAX: usize = 64 << 10;

/// The bytes of the message that a document stands for; of an empty one, where there is no document. The document counts until it is
/// turned, though whoever asked for that may be gone.
///
/// # Errors
/// What is wrong with the document, and where.
pub(crate) async fn to_wire(
    of: MessageDescriptor,
    text: Bytes,
    kept: Kept,
) -> Result<Vec<u8>, Status> {
    let bytes = text.len();
    let turn = move || {
        let message = read(of, &text);
        drop((text, kept));
        message
    };
    apart(bytes, turn).await
}

/// The document for a message, with something before it and behind it.
///
/// # Errors
/// The bytes are no such message: a fault of ours.
pub(crate) async fn to_json(
    of: MessageDescriptor,
    message: Bytes,
    before: &'static [u8],
    behind: &'static [u8],
) -> Result<Vec<u8>, Status> {
    apart(message.len(), move || {
        let mut document = before.to_vec();
        write(of, message, &mut document)?;
        document.extend_from_slice(behind);
        Ok(document)
    })
    .await
}

/// Does work on so many bytes where it holds up nobody.
async fn apart<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> Result<T, Status> + Send + 'static,
) -> Result<T, Status> {
    if bytes <= AT_ONCE_BYTES_MAX {
        return work();
    }
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| {
        Err(Status::internal(format!(
            "raftmachine: the JSON cannot be turned: {error}; please report this"
        )))
    })
}

fn read(of: MessageDescriptor, text: &[u8]) -> Result<Vec<u8>, Status> {
    if text.iter().all(u8::is_ascii_whitespace) {
        return Ok(Vec::new());
    }
    let mut document = Deserializer::from_slice(text);
    // As etcd 3.6, for a client of a later version: unknown fields are passed over, and unknown names of an enumeration's values.
    let options = DeserializeOptions::new().deny_unknown_fields(false);
    let name = of.name().to_owned();
    let message = DynamicMessage::deserialize_with_options(of, &mut document, &options);
    let message = message.and_then(|message| document.end().map(|()| message));
    let message = message.map_err(|error| {
        Status::invalid_argument(format!("raftmachine: this is no {name} in JSON: {error}"))
    })?;
    Ok(message.encode_to_vec())
}

fn write(of: MessageDescriptor, message: Bytes, document: &mut Vec<u8>) -> Result<(), Status> {
    let ours = |error: &dyn std::fmt::Display| {
        Status::internal(format!(
            "raftmachine: an answer has no JSON: {error}; please report this"
        ))
    };
    let message = DynamicMessage::decode(of, message).map_err(|error| ours(&error))?;
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .stringify_64_bit_integers(true)
        .skip_default_fields(true);
    let written = message.serialize_with_options(&mut Serializer::new(document), &options);
    written.map_err(|error| ours(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::descriptors::POOL;
    use rm_proto::etcdserverpb as pb;
    use tonic::Code;

    fn of(name: &str) -> MessageDescriptor {
        let name = format!("etcdserverpb.{name}");
        POOL.get_message_by_name(&name).expect("it is described")
    }

    fn range(text: &str) -> Result<pb::RangeRequest, Status> {
        let bytes = read(of("RangeRequest"), text.as_bytes())?;
        Ok(pb::RangeRequest::decode(&bytes[..]).expect("it is one"))
    }

    #[test]
    fn a_request_may_be_said_in_every_way_that_proto3_has() {
        let expected = pb::RangeRequest {
            key: Bytes::from_static(&[0xfb, 0xff]),
            limit: 7,
            sort_order: pb::range_request::SortOrder::Descend.into(),
            keys_only: true,
            ..pb::RangeRequest::default()
        };
        for text in [
            r#"{"key":"+/8=","limit":"7","sort_order":"DESCEND","keys_only":true}"#,
            r#"{"key":"-_8=","limit":7,"sortOrder":2,"keysOnly":true}"#,
            r#" {"key":"+/8","limit":7,"sort_order":2,"keys_only":true,"range_end":null} "#,
            r#"{"key":"+/8=","limit":"7","sort_order":"DESCEND","keys_only":true,"later":[{"a":1}]}"#,
        ] {
            assert_eq!(range(text).expect(text), expected, "{text}");
        }
        let later = r#"{"sort_order":"SIDEWAYS"}"#;
        assert_eq!(range(later).expect(later), pb::RangeRequest::default());
        assert_eq!(range("").expect("nothing"), pb::RangeRequest::default());
        assert_eq!(range("{}").expect("nothing"), pb::RangeRequest::default());
    }

    #[test]
    fn what_is_no_such_message_is_refused_with_the_place() {
        for text in [
            "7",
            "[]",
            "{",
            r#"{"key":7}"#,
            r#"{"key":"%%"}"#,
            r#"{"limit":"x"}"#,
            r#"{"limit":9223372036854775808}"#,
            r#"{"keys_only":"true"}"#,
            r#"{"limit":1}{"limit":2}"#,
        ] {
            let refusal = range(text).expect_err(text);
            assert_eq!(refusal.code(), Code::InvalidArgument, "{text}");
            let told = refusal.message();
            assert!(
                told.contains("RangeRequest") && told.contains("line 1"),
                "{told}"
            );
        }
    }

    #[test]
    fn a_document_without_end_of_depth_is_refused() {
        let mut text = String::new();
        for _ in 0..100_000 {
            text += r#"{"success":[{"request_txn":"#;
        }
        let refusal = read(of("TxnRequest"), text.as_bytes()).expect_err("it is too deep");
        assert!(refusal.message().contains("recursion limit"), "{refusal}");
    }

    #[test]
    fn an_answer_has_etcds_names_and_leaves_out_what_is_zero() {
        let compare = pb::Compare {
            key: Bytes::from_static(b"k"),
            target_union: Some(pb::compare::TargetUnion::Version(0)),
            ..pb::Compare::default()
        };
        let answer = pb::RangeResponse {
            header: Some(pb::ResponseHeader {
                cluster_id: u64::MAX,
                revision: 5,
                ..pb::ResponseHeader::default()
            }),
            kvs: vec![rm_proto::mvccpb::KeyValue {
                key: Bytes::from_static(b"k"),
                create_revision: 2,
                ..rm_proto::mvccpb::KeyValue::default()
            }],
            more: true,
            count: 0,
        };
        let told = |name: &str, bytes: Vec<u8>| {
            let mut text = Vec::new();
            write(of(name), bytes.into(), &mut text).expect("it has JSON");
            String::from_utf8(text).expect("JSON is text")
        };
        assert_eq!(
            told("RangeResponse", answer.encode_to_vec()),
            r#"{"header":{"cluster_id":"18446744073709551615","revision":"5"},"kvs":[{"key":"aw==","create_revision":"2"}],"more":true}"#
        );
        assert_eq!(
            told("Compare", compare.encode_to_vec()),
            r#"{"key":"aw==","version":"0"}"#,
            "which of several was said is told though it is zero"
        );
    }
}
