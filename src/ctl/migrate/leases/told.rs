//! What one of the two clusters tells of a lease, by its leader, whichever machine is asked.

use bytes::Bytes;
use tonic::{Code, Status};

use crate::client::Link;
use crate::migrate::error::Result;
use crate::migrate::side::Side;
use crate::proto::{LeaseTimeToLiveRequest, LeaseTimeToLiveResponse};

/// A lease that lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Living {
    /// What it was granted, in seconds.
    pub(super) seconds: i64,
    /// How much of that is left, in seconds, unless it is renewed.
    pub(super) left: i64,
}

/// How it stands with a lease; none if it has ended.
pub(super) async fn living(side: &Side, id: i64) -> Result<Option<Living>> {
    let told = look(side, LeaseTimeToLiveRequest { id, keys: false }).await?;
    let told = told.filter(|told| told.ttl >= 0 && told.granted_ttl > 0);
    Ok(told.map(|told| Living {
        seconds: told.granted_ttl,
        left: told.ttl,
    }))
}

/// What a lease was granted, in seconds; none if it has ended.
pub(super) async fn seconds(side: &Side, id: i64) -> Result<Option<i64>> {
    Ok(living(side, id).await?.map(|living| living.seconds))
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
