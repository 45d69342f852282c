//! etcd's Lease service.

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt, stream};
use rm_actors::port::{Port, Refusal};
use rm_proto::etcdserverpb as pb;
use rm_proto::etcdserverpb::lease_server::Lease;
use tokio::sync::watch;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use crate::calls::{Broken, Calls};
use crate::error::refused;
use crate::header::{header, header_now};
use crate::lookout::{Leaderless, Lookout};
use crate::recognition::{Caller, signed};
use crate::reply::{Message, Outgoing};
use crate::size::unread;

/// How many renewals of one stream are under way at a time. They are answered in their order.
const RENEWALS_MAX: usize = 256;

/// What is told in place of a time where there is no such lease (etcd).
const NO_TTL: i64 = -1;

/// Grants, renews and ends leases.
pub(crate) struct LeaseService {
    port: Port,
    calls: Arc<Calls>,
    /// True once the server stops; its sender lives as long as the server.
    draining: watch::Receiver<bool>,
    leaderless: Leaderless,
}

impl LeaseService {
    pub(crate) fn new(
        port: Port,
        calls: Arc<Calls>,
        draining: watch::Receiver<bool>,
        leaderless: Leaderless,
    ) -> LeaseService {
        LeaseService {
            port,
            calls,
            draining,
            leaderless,
        }
    }
}

#[tonic::async_trait]
impl Lease for LeaseService {
    type LeaseKeepAliveStream = BoxStream<pb::LeaseKeepAliveResponse>;

    async fn lease_grant(
        &self,
        request: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        let port = signed(&self.port, request.extensions());
        let pb::LeaseGrantRequest { ttl, id } = request.into_inner();
        let granted = port.grant_lease(id, ttl).await;
        let (reply, lease) = granted.map_err(refused)?;
        Ok(Response::new(pb::LeaseGrantResponse {
            header: Some(header(&self.port, reply.revision)),
            id: lease.grant.id,
            ttl: lease.ttl,
            error: String::new(),
        }))
    }

    async fn lease_revoke(
        &self,
        request: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        let port = signed(&self.port, request.extensions());
        let id = request.into_inner().id;
        let reply = port.revoke_lease(id).await.map_err(refused)?;
        Ok(Response::new(pb::LeaseRevokeResponse {
            header: Some(header(&self.port, reply.revision)),
        }))
    }

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let lookout = Lookout::new(&self.leaderless, request.metadata());
        let (port, caller) = (
            self.port.clone(),
            Caller::new(&self.port, request.extensions()),
        );
        let calls = self.calls.clone();
        let renewals = request.into_inner().map(move |request| {
            let (port, caller) = (port.clone(), caller.clone());
            if let Err(error) = &request {
                calls.broke(Broken::LeaseKeepAlive, error);
            }
            async move { renew(&port, &caller, request.map_err(unread)?.id).await }
        });
        let keeping = Keeping {
            renewals: Box::pin(renewals.buffered(RENEWALS_MAX)),
            lookout,
            draining: self.draining.clone(),
        };
        Ok(Response::new(Box::pin(keeping.responses())))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        let port = signed(&self.port, request.extensions());
        let pb::LeaseTimeToLiveRequest { id, keys } = request.into_inner();
        let report = port.lease(id, keys).await.map_err(refused)?;
        let mut response = pb::LeaseTimeToLiveResponse {
            header: Some(header_now(&self.port)),
            id,
            ttl: NO_TTL,
            ..pb::LeaseTimeToLiveResponse::default()
        };
        let Some(report) = report else {
            return Ok(Response::new(response));
        };
        response.ttl = i64::try_from(report.left.left.as_secs()).unwrap_or(i64::MAX);
        response.granted_ttl = report.left.ttl;
        response.keys = report.keys;
        Ok(Outgoing::response(Message::of(&response), report.room))
    }

    async fn lease_leases(
        &self,
        request: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        let port = signed(&self.port, request.extensions());
        let (ids, room) = port.leases().await.map_err(refused)?;
        let leases = ids.into_iter().map(|id| pb::LeaseStatus { id });
        let response = pb::LeaseLeasesResponse {
            header: Some(header_now(&self.port)),
            leases: leases.collect(),
        };
        Ok(Outgoing::response(Message::of(&response), room))
    }
}

/// Renews a lease. Of one that is not there nothing is left.
async fn renew(
    port: &Port,
    caller: &Caller,
    id: i64,
) -> Result<pb::LeaseKeepAliveResponse, Status> {
    // Before it is renewed, as in etcd: a lease that ends with the next revision must not seem to have been renewed after that.
    let header = Some(header_now(port));
    let renew = |port: Port| async move { port.renew_lease(id).await };
    let renewed = caller.act(renew).await;
    let left = renewed.map_err(refused)?;
    Ok(pb::LeaseKeepAliveResponse {
        header,
        id,
        ttl: left.map_or(0, |left| left.ttl),
    })
}

/// One client's stream of renewals.
struct Keeping {
    renewals: Pin<Box<dyn Stream<Item = Result<pb::LeaseKeepAliveResponse, Status>> + Send>>,
    lookout: Lookout,
    draining: watch::Receiver<bool>,
}

impl Keeping {
    /// All that the client is told, up to the error that ends it.
    fn responses(self) -> impl Stream<Item = Result<pb::LeaseKeepAliveResponse, Status>> {
        stream::unfold(Some(self), |keeping| async move {
            let mut keeping = keeping?;
            let response = keeping.response().await?;
            let rest = response.is_ok().then_some(keeping);
            Some((response, rest))
        })
    }

    async fn response(&mut self) -> Option<Result<pb::LeaseKeepAliveResponse, Status>> {
        tokio::select! {
            renewed = self.renewals.next() => renewed,
            status = self.lookout.lost() => Some(Err(status)),
            _ = self.draining.wait_for(|draining| *draining) => Some(Err(refused(Refusal::Stopped))),
        }
    }
}
