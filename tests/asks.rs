//! The plainest requests about one key, for tests of what surrounds a request: its header, its limits, its deadline.

use rm_proto::etcdserverpb::watch_request::RequestUnion;
use rm_proto::etcdserverpb::{PutRequest, RangeRequest, WatchCreateRequest, WatchRequest};

const KEY: &str = "key";

/// Puts the key, with an empty value.
pub fn put() -> PutRequest {
    PutRequest {
        key: KEY.into(),
        ..Default::default()
    }
}

/// Reads the key.
pub fn range() -> RangeRequest {
    RangeRequest {
        key: KEY.into(),
        ..Default::default()
    }
}

/// Watches the key from now on.
pub fn watch() -> WatchRequest {
    let create = WatchCreateRequest {
        key: KEY.into(),
        ..Default::default()
    };
    WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(create)),
    }
}
