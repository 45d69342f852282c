//! gRPC's health service: whether the machine can serve clients.

use std::time::Duration;

use futures::stream;
use rm_actors::port::Port;
use tokio::sync::watch;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::dispatch::SERVED;

/// How soon a watcher learns of a change.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// A machine is healthy while it knows of a leader and is not about to stop.
#[derive(Clone)]
pub(crate) struct HealthService {
    port: Port,
    /// True once the server stops; its sender lives as long as the server.
    draining: watch::Receiver<bool>,
}

impl HealthService {
    pub(crate) fn new(port: Port, draining: watch::Receiver<bool>) -> HealthService {
        HealthService { port, draining }
    }

    fn status(&self, service: Option<&str>) -> ServingStatus {
        status(
            service,
            self.port.report().leader.is_some(),
            *self.draining.borrow(),
        )
    }

    /// The next status that is not `told`; none once the server stops and that has been told.
    async fn changed(
        &mut self,
        service: Option<&str>,
        told: Option<ServingStatus>,
    ) -> Option<ServingStatus> {
        loop {
            let status = self.status(service);
            if told != Some(status) {
                return Some(status);
            }
            if *self.draining.borrow() {
                return None;
            }
            tokio::select! {
                stopping = self.draining.wait_for(|draining| *draining) => {
                    // Without a sender the server is gone, and so is the watcher.
                    stopping.ok()?;
                }
                () = tokio::time::sleep(WATCH_INTERVAL) => {}
            }
        }
    }
}

#[tonic::async_trait]
impl Health for HealthService {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        match self.status(known(&service)) {
            ServingStatus::ServiceUnknown => Err(Status::not_found(format!(
                "raftmachine: there is no service {service:?}"
            ))),
            status => Ok(Response::new(response(status))),
        }
    }

    type WatchStream = BoxStream<HealthCheckResponse>;

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let service = known(&request.into_inner().service);
        let statuses = stream::unfold((self.clone(), None), move |(mut health, told)| async move {
            let status = health.changed(service, told).await?;
            Some((Ok(response(status)), (health, Some(status))))
        });
        Ok(Response::new(Box::pin(statuses)))
    }
}

/// The service of that name, if there is one; the empty name stands for all. Whoever watches holds nothing of what it sent.
fn known(name: &str) -> Option<&'static str> {
    let mut names = SERVED.iter().copied().chain([""]);
    names.find(|served| *served == name)
}

/// The status of a service, or of all, as gRPC's health protocol has it.
fn status(service: Option<&str>, has_leader: bool, draining: bool) -> ServingStatus {
    if service.is_none() {
        ServingStatus::ServiceUnknown
    } else if has_leader && !draining {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_serves_while_it_knows_a_leader_and_does_not_stop() {
        for service in ["", "etcdserverpb.KV", "etcdserverpb.Maintenance"] {
            assert_eq!(status(known(service), true, false), ServingStatus::Serving);
            assert_eq!(
                status(known(service), false, false),
                ServingStatus::NotServing
            );
            assert_eq!(
                status(known(service), true, true),
                ServingStatus::NotServing
            );
        }
    }

    #[test]
    fn a_service_that_is_not_there_is_unknown() {
        let unknown = status(known("etcdserverpb.Nothing"), true, false);
        assert_eq!(unknown, ServingStatus::ServiceUnknown);
    }
}
