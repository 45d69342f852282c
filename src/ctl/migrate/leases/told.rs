//! What one of the two clusters tells of a lease, by its leader, whichever machine is asked.

use bytes::Bytes;
use tonic::{Code, Status};

use crate::client::Link;
use crate::migrate::error::Result;
use crate::migrate::side::Side;
use crate::proto::{LeaseTimeToLiveRequest, LeaseTimeToLiveResponse};

/// What a lease was granted, in seconds; none if it has ended.
pub(super) async fn seconds(side: &Side, id: i64) -> Result<Option<i64>> {
    let told = look(side, LeaseTimeToLiveRequest { id, keys: false }).await?;
    let told = told.filter(|told| told.ttl >= 0 && told.granted_ttl > 0);
    Ok(told.map(|told| told.granted_ttl))
}

/// What hangs on a lease.
pub(super) async fn keys(side: &Side, id: i64) -> Result<Vec<Bytes>> {
    let told = look(side, LeaseTimeToLiveRequest { id, keys: true }).await?;
    Ok(told.map(|told| told.keys).unwrap_or_default())
}

async fn look(
    side: &Side,
    request: LeaseTimeToLiveRequest,
) -> Result<Option<LeaseTimeToLiveResponse>> {
    let look = async |link: Link| link.lease().lease_time_to_live(request).await;
    match side.ask("looking at a lease", look).await {
        Ok(told) => Ok(Some(told.into_inner())),
        Err(error) if error.status().is_some_and(is_gone) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a lease is not granted since its number is taken.
pub(super) fn is_there(status: &Status) -> bool {
    status.message().contains("lease already exists")
}

/// Whether there is no such lease.
pub(super) fn is_gone(status: &Status) -> bool {
    status.code() == Code::NotFound
}
