//! Finds the service that a request is for, or leaves it to what answers HTTP.

use std::convert::Infallible;
use std::future;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::{FutureExt, TryFutureExt};
use http::{Extensions, HeaderMap, Request, Response};
use http_body_util::BodyExt;
use rm_actors::port::Port;
use rm_proto::etcdserverpb::kv_server::{self, KvServer};
use rm_proto::etcdserverpb::{
    auth_server, cluster_server, lease_server, maintenance_server, watch_server,
};
use rm_proto::raftmachine::v1::admin_server;
use rm_proto::v3electionpb::election_server;
use rm_proto::v3lockpb::lock_server;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service};
use tonic::service::Routes;
use tonic_health::pb::health_server;

use crate::arrival::{Arrivals, Arriving, Kept, Shape};
use crate::calls::{Call, Calls};
use crate::connection::{Client, Cutoff};
use crate::deadline::Deadline;
use crate::error::{NO_LEADER, refused, unserved};
use crate::kv::KvService;
use crate::recognition::{Proof, is_judged_by_now, recognise};
use crate::reply::{self, Pace};
use crate::size::{in_etcds_words, message_bytes_max};
use crate::web::{Web, is_grpc};

/// The services that a client may ask, those for reflection apart.
pub(crate) const SERVED: [&str; 10] = [
    kv_server::SERVICE_NAME,
    auth_server::SERVICE_NAME,
    cluster_server::SERVICE_NAME,
    lease_server::SERVICE_NAME,
    maintenance_server::SERVICE_NAME,
    watch_server::SERVICE_NAME,
    lock_server::SERVICE_NAME,
    election_server::SERVICE_NAME,
    admin_server::SERVICE_NAME,
    health_server::SERVICE_NAME,
];

/// All services behind one door. The one that matters for speed is asked directly, the others through a router.
#[derive(Clone)]
pub(crate) struct Services {
    pub(crate) port: Port,
    pub(crate) calls: Arc<Calls>,
    pub(crate) arrivals: Arc<Arrivals>,
    pub(crate) kv: KvServer<KvService>,
    pub(crate) others: Routes,
    pub(crate) web: Web,
    pub(crate) pace: Arc<Pace>,
}

impl Service<Request<Body>> for Services {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if !is_grpc(request.version(), request.headers()) {
            return Box::pin(self.web.clone().answer(self.clone(), request).map(Ok));
        }
        let cut = cut_of(request.extensions());
        let pace = self.pace.clone();
        let answer = self.answer(request);
        Box::pin(answer.map_ok(move |response| reply::send(response, &pace, cut)))
    }
}

impl Services {
    /// What the service answers. A reply may be beside its response ([`reply::Outgoing`]).
    pub(crate) fn answer(
        &mut self,
        request: Request<Body>,
    ) -> BoxFuture<Response<Body>, Infallible> {
        let call = self.calls.begin(request.uri().path(), request.headers());
        let deadline = match Deadline::of(request.headers()) {
            Ok(deadline) => deadline,
            Err(refusal) => return ready(counted(call, refusal.into_http())),
        };
        if wants_leader(request.headers()) && self.port.report().leader.is_none() {
            let refusal = Status::unavailable(NO_LEADER).into_http();
            return ready(counted(call, refusal));
        }
        let shape = match call.as_ref().is_some_and(Call::asks_once) {
            true => Shape::One,
            false => Shape::Messages,
        };
        let received = call.as_ref().and_then(Call::received);
        let kept = (shape == Shape::One).then(|| self.arrivals.keep());
        let for_operators = is_of_operators(request.uri().path());
        let connection = cut_of(request.extensions());
        let count = |body| {
            let arriving = self.arrivals.count(body, shape).on(connection);
            let arriving = arriving.for_operators(for_operators);
            arriving.counted_by(received).kept_by(kept.clone())
        };
        let mut request = request.map(count);
        // Also where nobody needs permissions: a stream may live to see that they are asked for.
        if let Some(proof) = Proof::of(&request) {
            request.extensions_mut().insert(proof);
        }
        // For what goes on after its client is gone; keys and values of KV go nowhere else.
        if let Some(kept) = kept.clone().filter(|_| !is_of_kv(&request)) {
            request.extensions_mut().insert(kept);
        }
        let answer = match self.port.asks_for_permissions() {
            Some(false) if !is_judged_by_now(request.uri().path()) => self.ask(request),
            _ => self.recognise_and_ask(request),
        };
        // What operators are told rests on no request.
        let rests = kept.clone().filter(|_| !for_operators);
        Box::pin(in_time(deadline, answer, call, kept, rests))
    }

    /// Asks the service for whoever it is that asks.
    fn recognise_and_ask(
        &self,
        request: Request<Arriving>,
    ) -> BoxFuture<Response<Body>, Infallible> {
        let mut services = self.clone();
        Box::pin(async move {
            let (head, mut body) = request.into_parts();
            let mut head = Request::from_parts(head, ());
            let recognised = recognise(&services.port, &mut head);
            let limit = message_bytes_max(services.port.config());
            match body.while_waiting_for(limit, recognised).await {
                Ok(Ok(())) => services.ask(head.map(|()| body)).await,
                Ok(Err(refusal)) => Ok(refused(refusal).into_http()),
                Err(status) => Ok(status.into_http()),
            }
        })
    }

    fn ask(&mut self, request: Request<Arriving>) -> BoxFuture<Response<Body>, Infallible> {
        let service = service_name(request.uri().path());
        if is_of_kv(&request) {
            self.kv.call(request)
        } else if SERVED.contains(&service) || crate::reflection::NAMES.contains(&service) {
            Box::pin(self.others.call(request))
        } else {
            ready(unserved(service).into_http())
        }
    }
}

/// The answer, if it comes before the deadline. What it would have taken to give it is dropped then. The request is kept until it is
/// answered, and as long as an answer that goes on rests on it.
async fn in_time(
    deadline: Option<Deadline>,
    answer: BoxFuture<Response<Body>, Infallible>,
    call: Option<Call>,
    kept: Option<Kept>,
    rests: Option<Kept>,
) -> Result<Response<Body>, Infallible> {
    let response = match deadline {
        None => answer.await?,
        Some(mut deadline) => tokio::select! {
            biased;
            response = answer => match call.as_ref().is_some_and(Call::answers_once) {
                true => response?,
                false => deadline.end(response?),
            },
            passed = deadline.passed() => passed.into_http(),
        },
    };
    let response = match call.as_ref().is_some_and(Call::answers_once) {
        true => response,
        false => kept_to_the_end(response, rests),
    };
    drop(kept);
    Ok(counted(call, in_etcds_words(response)))
}

/// Whoever tells one thing after the other rests on the request for as long.
fn kept_to_the_end(response: Response<Body>, kept: Option<Kept>) -> Response<Body> {
    let Some(kept) = kept else {
        return response;
    };
    let body = |body: Body| {
        Body::new(body.map_frame(move |frame| {
            let _ = &kept;
            frame
        }))
    };
    response.map(body)
}

/// Notes how a call was answered.
fn counted(call: Option<Call>, response: Response<Body>) -> Response<Body> {
    match call {
        Some(call) => call.answered(response),
        None => response,
    }
}

fn ready(response: Response<Body>) -> BoxFuture<Response<Body>, Infallible> {
    Box::pin(future::ready(Ok(response)))
}

/// Whether it is for the service that matters for speed.
fn is_of_kv<B>(request: &Request<B>) -> bool {
    service_name(request.uri().path()) == kv_server::SERVICE_NAME
}

/// Whether it is asked by whoever looks after the machine, so that it is answered whatever clients do.
fn is_of_operators(path: &str) -> bool {
    let service = service_name(path);
    service == admin_server::SERVICE_NAME || service == health_server::SERVICE_NAME
}

/// The service in a path of the form `/service/method`.
fn service_name(path: &str) -> &str {
    path.split('/').nth(1).unwrap_or_default()
}

/// What closes the connection that a request came on.
pub(crate) fn cut_of(extensions: &Extensions) -> Option<Cutoff> {
    let client = extensions.get::<Client>()?;
    Some(client.cut.clone())
}

/// Whether the client would rather be refused than wait for a leader (etcd's `WithRequireLeader`).
pub(crate) fn wants_leader(headers: &HeaderMap) -> bool {
    headers
        .get("hasleader")
        .is_some_and(|value| value == "true")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_service_is_found_in_the_path() {
        assert_eq!(service_name("/etcdserverpb.KV/Put"), "etcdserverpb.KV");
        assert_eq!(service_name("/"), "");
        assert_eq!(service_name(""), "");
    }

    #[test]
    fn only_a_client_that_asks_for_a_leader_is_refused_without_one() {
        let mut headers = HeaderMap::new();
        assert!(!wants_leader(&headers));
        headers.insert("hasleader", HeaderValue::from_static("false"));
        assert!(!wants_leader(&headers));
        headers.insert("hasleader", HeaderValue::from_static("true"));
        assert!(wants_leader(&headers));
    }
}
