//! HTTP beside gRPC on the client port, at etcd's paths: for probes, monitors, and clients that speak no gRPC.

mod answer;
mod exposition;
mod gateway;
mod metrics;
mod probes;
mod version;

use std::sync::Arc;

use http::{HeaderMap, Method, Request, Response, Uri, Version};
use rm_actors::port::Port;
use tonic::body::Body;

use answer::{not_allowed, not_found, without_body};
use gateway::Gateway;
pub(crate) use gateway::document_bytes_max;
use metrics::Metrics;
use probes::{Asked, Tally};

use crate::arrival::Arrivals;
use crate::calls::Calls;
use crate::connection::Traffic;
use crate::deadline::Deadline;
use crate::dispatch::Services;

/// Answers what is no gRPC.
#[derive(Clone)]
pub(crate) struct Web {
    port: Port,
    tally: Arc<Tally>,
    metrics: Metrics,
    gateway: Gateway,
}

impl Web {
    /// For messages of up to so many bytes.
    pub(crate) fn new(
        port: Port,
        calls: Arc<Calls>,
        traffic: Arc<Traffic>,
        arrivals: Arc<Arrivals>,
        message_bytes_max: usize,
    ) -> Web {
        let tally = Arc::<Tally>::default();
        let metrics = Metrics::new(port.clone(), calls, traffic, arrivals, tally.clone());
        Web {
            port,
            tally,
            metrics,
            gateway: Gateway::new(message_bytes_max),
        }
    }

    /// The answer to one request. It never fails: what is wrong with a request is an answer, too.
    ///
    /// The time that a client gives runs from this call, not from the first poll: tonic, which wants to end the request in gRPC's way,
    /// begins to count after it, and looks for an answer before it does so.
    pub(crate) fn answer(
        self,
        services: Services,
        request: Request<Body>,
    ) -> impl Future<Output = Response<Body>> + Send {
        let deadline = Deadline::of(request.headers());
        async move {
            let passed = async {
                match deadline {
                    Ok(Some(mut deadline)) => deadline.passed().await,
                    Ok(None) => std::future::pending().await,
                    Err(status) => status,
                }
            };
            tokio::select! {
                biased;
                status = passed => gateway::refusal(&status),
                answer = self.answer_in_time(services, request) => answer,
            }
        }
    }

    /// The answer on the port for monitors.
    pub(crate) async fn monitored(&self, method: &Method, uri: &Uri) -> Response<Body> {
        let answer = match Page::at(uri.path()) {
            // It tells nothing of how the machine is. etcd has it at the port for clients only, too.
            Some(Page::Version) | None => not_found(),
            Some(_) => self.look(method, uri).await,
        };
        to_method(method, answer)
    }

    async fn answer_in_time(&self, services: Services, request: Request<Body>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let method = head.method.clone();
        let answer = match gateway::is_at(head.uri.path()) {
            true => self.gateway.answer(services, head, body).await,
            false => self.look(&head.method, &head.uri).await,
        };
        to_method(&method, answer)
    }

    /// What there is to look at, which a request does not change.
    async fn look(&self, method: &Method, uri: &Uri) -> Response<Body> {
        let Some(page) = Page::at(uri.path()) else {
            return not_found();
        };
        if ![Method::GET, Method::HEAD].contains(method) {
            return not_allowed("GET, HEAD");
        }
        let query = uri.query().unwrap_or_default();
        match page {
            Page::Health => probes::health(&self.port, query, &self.tally).await,
            Page::Checks(asked) => probes::run(&self.port, asked, query, &self.tally).await,
            Page::Metrics => self.metrics.clone().page().await,
            Page::Version => version::page(),
        }
    }
}

fn to_method(method: &Method, answer: Response<Body>) -> Response<Body> {
    match *method {
        Method::HEAD => without_body(answer),
        _ => answer,
    }
}

/// What a path names.
enum Page {
    Health,
    Checks(Asked),
    Metrics,
    Version,
}

impl Page {
    fn at(path: &str) -> Option<Page> {
        match path {
            "/health" => Some(Page::Health),
            "/version" => Some(Page::Version),
            "/metrics" => Some(Page::Metrics),
            _ => Asked::at(path).map(Page::Checks),
        }
    }
}

/// Whether a request is gRPC, which needs HTTP/2 and says so in its type (gRPC over HTTP/2, "Requests").
pub(crate) fn is_grpc(version: Version, headers: &HeaderMap) -> bool {
    let kind = headers.get(http::header::CONTENT_TYPE);
    version == Version::HTTP_2
        && kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn grpc_is_known_by_its_type_and_needs_http_2() {
        let of = |kind: &'static str| {
            HeaderMap::from_iter([(http::header::CONTENT_TYPE, HeaderValue::from_static(kind))])
        };
        assert!(is_grpc(Version::HTTP_2, &of("application/grpc")));
        assert!(is_grpc(Version::HTTP_2, &of("application/grpc+proto")));
        assert!(!is_grpc(Version::HTTP_11, &of("application/grpc")));
        assert!(!is_grpc(Version::HTTP_2, &of("application/json")));
        assert!(!is_grpc(Version::HTTP_2, &HeaderMap::new()));
    }
}
