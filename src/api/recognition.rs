//! Who a client is, and what it needs to be for the services that are not judged by keys.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, Request};
use rm_actors::port::{Deed, Port, Refusal, Signature};
use tonic::Extensions;

use crate::connection::Client;
use crate::reply::ReplyWeight;

/// The headers in which a client sends its token: etcd's over gRPC, and its gateway's.
const HEADERS: [&str; 2] = ["token", "authorization"];

/// By what a user is recognised. It travels with a request to the services.
#[derive(Clone)]
pub(crate) enum Proof {
    /// A token that was given out for a password.
    Token(Arc<str>),
    /// The certificate of its connection, whose common name is the user's (etcd: --client-cert-auth).
    Certificate(Arc<str>),
}

impl Proof {
    /// What a request brings. A token comes first. Over the gateway no certificate counts, as in etcd, where it would be the gateway's.
    pub(crate) fn of<B>(request: &Request<B>) -> Option<Proof> {
        if let Some(token) = token(request.headers()) {
            return Some(Proof::Token(token.into()));
        }
        let client = request.extensions().get::<Client>()?;
        client.common_name.clone().map(Proof::Certificate)
    }
}

/// Whoever sent a request that may go on for long. Users, roles and permissions may change meanwhile, so that it is recognised anew for
/// each thing that it asks.
#[derive(Clone)]
pub(crate) struct Caller {
    port: Port,
    proof: Option<Proof>,
}

impl Caller {
    pub(crate) fn new(port: &Port, extensions: &Extensions) -> Caller {
        Caller {
            port: port.clone(),
            proof: extensions.get::<Proof>().cloned(),
        }
    }

    /// Whose certificate it has shown, where that is its proof.
    pub(crate) fn certified(&self) -> Option<Signature> {
        match &self.proof {
            Some(Proof::Certificate(name)) => Some(self.port.known(name)),
            _ => None,
        }
    }

    /// The port on its behalf, as of now. Where nobody needs permissions it does not matter who it is.
    ///
    /// # Errors
    /// Its token stands for nobody.
    pub(crate) async fn signed(&self) -> Result<Port, Refusal> {
        let port = &self.port;
        let signature = match &self.proof {
            Some(_) if port.asks_for_permissions() == Some(false) => None,
            // It was looked at where it came in, and needs no leader that tells more of it: what its user may is judged where it is done.
            Some(Proof::Certificate(_)) => self.certified(),
            Some(Proof::Token(token)) if port.learn_whether_permissions_are_asked_for().await? => {
                Some(port.recognise(token).await?)
            }
            _ => None,
        };
        Ok(port.signed(signature))
    }

    /// Sees that it may do something by all that was committed when this was asked, which this machine may have yet to apply.
    ///
    /// # Errors
    /// It may not; as [`Port::barrier`].
    pub(crate) async fn may_by_now(&self, deed: &Deed) -> Result<(), Refusal> {
        self.port.barrier().await?;
        self.may(deed).await
    }

    /// Sees that it may do something, as far as this machine knows.
    ///
    /// # Errors
    /// It may not; as [`Port::may`].
    pub(crate) async fn may(&self, deed: &Deed) -> Result<(), Refusal> {
        self.act(async |port| port.may(deed.clone()).await).await
    }

    /// Does something on its behalf, and again where users, roles or permissions have changed between its recognition and that, as long as
    /// any request may take.
    ///
    /// # Errors
    /// As what is done; that its token stands for nobody.
    pub(crate) async fn act<T, Acting>(&self, act: impl Fn(Port) -> Acting) -> Result<T, Refusal>
    where
        Acting: Future<Output = Result<T, Refusal>>,
    {
        let patience_ms = self.port.config().timings.request_timeout_ms;
        let deadline = Instant::now() + Duration::from_millis(patience_ms);
        loop {
            let outcome = act(self.signed().await?).await;
            match outcome {
                // Of all who change something at the same moment one is the first, and the others come here again.
                Err(refusal) if refusal.is_outdated() && Instant::now() < deadline => {}
                outcome => return outcome,
            }
        }
    }
}

/// Recognises who sends a request, where permissions are asked for or may be, and sees that it may use the method at all. What it may do
/// there with which keys is judged where it is done.
///
/// # Errors
/// The token stands for nobody, or the user may not use the method.
pub(crate) async fn recognise<B>(port: &Port, request: &mut Request<B>) -> Result<(), Refusal> {
    // Whoever comes to prove itself, or only to look whether anybody is there, may bring a token that has ended.
    let caller = Caller {
        port: port.clone(),
        proof: request.extensions().get::<Proof>().cloned(),
    };
    match need(request.uri().path()) {
        Need::Nothing => return Ok(()),
        Need::OfEachWish => {}
        Need::OfKeys => {
            port.learn_whether_permissions_are_asked_for().await?;
        }
        Need::Of(deed) => caller.may(&deed).await?,
        Need::ByNow(deed) => caller.may_by_now(&deed).await?,
    }
    if let Some(by) = caller.signed().await?.signature() {
        request.extensions_mut().insert(by);
    }
    Ok(())
}

/// Whether whoever uses a method is recognised though this machine knows that nobody needs permissions: by now they may be asked for.
pub(crate) fn is_judged_by_now(path: &str) -> bool {
    matches!(need(path), Need::ByNow(_))
}

/// The port on behalf of whoever sent a request, and for what is to become of the reply.
pub(crate) fn signed(port: &Port, extensions: &Extensions) -> Port {
    let port = port.signed(extensions.get::<Signature>().cloned());
    match extensions.get::<ReplyWeight>() {
        Some(ReplyWeight(weight)) => port.weighing_replies(*weight),
        None => port,
    }
}

fn token(headers: &HeaderMap) -> Option<&str> {
    let values = HEADERS.iter().filter_map(|name| headers.get(*name));
    let token = values.filter_map(|value| value.to_str().ok()).next()?;
    Some(token.strip_prefix("Bearer ").unwrap_or(token))
}

/// What whoever uses a method needs, whatever it asks for; as in etcd.
#[derive(Debug, PartialEq, Eq)]
enum Need {
    /// It does not matter who it is.
    Nothing,
    /// What its keys need, which is seen to where it is done: by what this machine has, so that it must not have too little.
    OfKeys,
    /// What is seen to for each thing that is asked on a stream.
    OfEachWish,
    /// To be permitted this, as far as this machine knows.
    Of(Deed),
    /// To be permitted this by all that was committed when the request came: what it has done is done to the domain, and is judged nowhere
    /// else. It cannot be done without a quorum, which is asked first.
    ByNow(Deed),
}

fn need(path: &str) -> Need {
    let Some((service, method)) = path.trim_start_matches('/').split_once('/') else {
        return Need::OfKeys;
    };
    match (service, method) {
        ("etcdserverpb.Auth", "Authenticate") => Need::Nothing,
        // It takes the past from everybody (etcd's GHSA-q8m4-xhhv-38mg).
        ("etcdserverpb.KV", "Compact") => Need::ByNow(Deed::Administer),
        ("etcdserverpb.Watch", "Watch") | ("etcdserverpb.Lease", "LeaseKeepAlive") => {
            Need::OfEachWish
        }
        ("etcdserverpb.Maintenance", "Status" | "Alarm") => Need::Of(Deed::Be),
        ("etcdserverpb.Maintenance", "MoveLeader") => Need::ByNow(Deed::Administer),
        ("etcdserverpb.Maintenance", _) => Need::Of(Deed::Administer),
        ("etcdserverpb.Cluster", "MemberList") => Need::Of(Deed::Be),
        ("etcdserverpb.Cluster", _) => Need::ByNow(Deed::Administer),
        ("raftmachine.v1.Admin", "Info" | "Actors" | "LogLevels") => Need::Of(Deed::Be),
        // A machine that is to join, or was removed, asks for them, and is nobody yet or any more.
        ("raftmachine.v1.Admin", "Members") => Need::Nothing,
        ("raftmachine.v1.Admin", "ChangeMembers" | "Transfer") => Need::ByNow(Deed::Administer),
        ("raftmachine.v1.Admin", _) => Need::Of(Deed::Administer),
        _ if service.starts_with("grpc.") => Need::Nothing,
        _ => Need::OfKeys,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_token_comes_in_etcds_header_or_as_a_bearers() {
        let mut headers = HeaderMap::new();
        assert_eq!(token(&headers), None);
        headers.insert("authorization", HeaderValue::from_static("Bearer abc.7"));
        assert_eq!(token(&headers), Some("abc.7"));
        headers.insert("token", HeaderValue::from_static("xyz.9"));
        assert_eq!(token(&headers), Some("xyz.9"));
    }

    #[test]
    fn methods_that_are_not_about_keys_need_somebody_or_an_administrator() {
        let (be, administer) = (|| Need::Of(Deed::Be), || Need::Of(Deed::Administer));
        let administer_by_now = || Need::ByNow(Deed::Administer);
        for (path, expected) in [
            ("/etcdserverpb.Maintenance/Status", be()),
            ("/etcdserverpb.Maintenance/Snapshot", administer()),
            ("/etcdserverpb.Maintenance/Later", administer()),
            ("/etcdserverpb.Maintenance/MoveLeader", administer_by_now()),
            ("/etcdserverpb.Cluster/MemberAdd", administer_by_now()),
            ("/etcdserverpb.Cluster/MemberList", be()),
            ("/raftmachine.v1.Admin/KillActor", administer()),
            ("/raftmachine.v1.Admin/ChangeMembers", administer_by_now()),
            ("/raftmachine.v1.Admin/Transfer", administer_by_now()),
            ("/raftmachine.v1.Admin/Info", be()),
            ("/raftmachine.v1.Admin/Members", Need::Nothing),
            ("/etcdserverpb.KV/Put", Need::OfKeys),
            ("/etcdserverpb.KV/Compact", administer_by_now()),
            ("/etcdserverpb.Watch/Watch", Need::OfEachWish),
            ("/etcdserverpb.Auth/UserAdd", Need::OfKeys),
            ("/etcdserverpb.Auth/Authenticate", Need::Nothing),
            ("/grpc.health.v1.Health/Check", Need::Nothing),
            ("/", Need::OfKeys),
        ] {
            assert_eq!(need(path), expected, "{path}");
        }
    }
}
