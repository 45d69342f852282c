//! The page of versions, as etcd 3.6 has it.

use http::{Response, StatusCode};
use serde_json::json;
use tonic::body::Body;

use super::answer;
use crate::maintenance::{ETCD_VERSION, STORAGE_VERSION};

/// Which API is served, and how the data is laid out: the same that `Maintenance.Status` tells. Every machine of a domain serves
/// the API that its own program has, so that the cluster's version is the machine's.
pub(crate) fn page() -> Response<Body> {
    let versions = json!({
        "etcdserver": ETCD_VERSION,
        "etcdcluster": ETCD_VERSION,
        "storage": STORAGE_VERSION,
    });
    answer::json(StatusCode::OK, versions.to_string())
}
