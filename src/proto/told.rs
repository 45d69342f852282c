//! What a machine tells watchers, with events that are encoded already: many watchers are told the same events, and encoding them is most
//! of the work of telling.
//!
//! On the wire a message within a message is its length and its bytes, as a field of bytes is. So this is etcd's `WatchResponse`, byte for byte.

use bytes::Bytes;

use crate::etcdserverpb::ResponseHeader;

/// As [`crate::etcdserverpb::WatchResponse`].
#[derive(Clone, PartialEq, prost::Message)]
pub struct WatchResponse {
    /// As there.
    #[prost(message, optional, tag = "1")]
    pub header: Option<ResponseHeader>,
    /// As there.
    #[prost(int64, tag = "2")]
    pub watch_id: i64,
    /// As there.
    #[prost(bool, tag = "3")]
    pub created: bool,
    /// As there.
    #[prost(bool, tag = "4")]
    pub canceled: bool,
    /// As there.
    #[prost(int64, tag = "5")]
    pub compact_revision: i64,
    /// As there.
    #[prost(string, tag = "6")]
    pub cancel_reason: String,
    /// As there.
    #[prost(bool, tag = "7")]
    pub fragment: bool,
    /// Each the bytes of a [`crate::mvccpb::Event`].
    #[prost(bytes = "bytes", repeated, tag = "11")]
    pub events: Vec<Bytes>,
}

include!(concat!(env!("OUT_DIR"), "/etcdserverpb.Watch.rs"));
