//! Who a client is, and what it needs to be for the services that are not judged by keys.

use std::sync::Arc;

use http::{HeaderMap, Request};
use rm_actors::port::{Deed, Port, Refusal, Signature};
use tonic::Extensions;

use crate::connection::Client;

/// The headers in which a client sends its token: etcd's over gRPC, and its gateway's.
const HEADERS: [&str; 2] = ["token", "authorization"];

/// On whose behalf a request comes, as it travels with it to the services.
#[derive(Clone)]
struct By {
    signature: Signature,
    proof: Proof,
}

/// By what a user is recognised.
#[derive(Clone)]
pub(crate) enum Proof {
    /// A token that was given out for a password.
    Token(Arc<str>),
    /// The certificate of its connection, whose common name is the user's (etcd: --client-cert-auth).
    Certificate(Arc<str>),
}

impl Proof {
    /// What a request brings. A token comes first. Over the gateway no certificate counts, as in etcd, where it would be the gateway's.
    fn of<B>(request: &Request<B>) -> Option<Proof> {
        if let Some(token) = token(request.headers()) {
            return Some(Proof::Token(token.into()));
        }
        let client = request.extensions().get::<Client>()?;
        client.common_name.clone().map(Proof::Certificate)
    }

    /// The signature of the user for which it stands now.
    ///
    /// # Errors
    /// It stands for nobody.
    pub(crate) async fn recognise(&self, port: &Port) -> Result<Signature, Refusal> {
        match self {
            Proof::Token(token) => port.recognise(token).await,
            Proof::Certificate(name) => Ok(port.certified(name)),
        }
    }
}

/// Recognises who sends a request, where permissions are asked for, and sees that it may use the method at all. What it may do there
/// with which keys is judged where it is done.
///
/// # Errors
/// The token stands for nobody, or the user may not use the method.
pub(crate) async fn recognise<B>(port: &Port, request: &mut Request<B>) -> Result<(), Refusal> {
    // Whoever comes to prove itself, or only to look whether anybody is there, may bring a token that has ended.
    let proof = Proof::of(request).filter(|_| !is_for_anybody(request.uri().path()));
    let by = match proof {
        Some(proof) => Some(By {
            signature: proof.recognise(port).await?,
            proof,
        }),
        None => None,
    };
    if let Some(deed) = deed(request.uri().path()) {
        let signature = by.as_ref().map(|by| by.signature.clone());
        port.signed(signature).may(deed).await?;
    }
    if let Some(by) = by {
        request.extensions_mut().insert(by);
    }
    Ok(())
}

/// The port on behalf of whoever sent a request.
pub(crate) fn signed(port: &Port, extensions: &Extensions) -> Port {
    port.signed(extensions.get::<By>().map(|by| by.signature.clone()))
}

/// By what whoever sent a request was recognised.
pub(crate) fn proof_of(extensions: &Extensions) -> Option<Proof> {
    extensions.get::<By>().map(|by| by.proof.clone())
}

fn token(headers: &HeaderMap) -> Option<&str> {
    let values = HEADERS.iter().filter_map(|name| headers.get(*name));
    let token = values.filter_map(|value| value.to_str().ok()).next()?;
    Some(token.strip_prefix("Bearer ").unwrap_or(token))
}

/// Whether it does not matter who uses a method.
fn is_for_anybody(path: &str) -> bool {
    let path = path.trim_start_matches('/');
    path == "etcdserverpb.Auth/Authenticate" || path.starts_with("grpc.")
}

/// What a method needs whatever it is asked for, as in etcd; none if what is asked is judged, or everybody may. Of our own methods
/// everybody may use those that only show.
fn deed(path: &str) -> Option<Deed> {
    let (service, method) = path.trim_start_matches('/').split_once('/')?;
    match (service, method) {
        ("etcdserverpb.Maintenance", "Status" | "Alarm") => Some(Deed::Be),
        ("etcdserverpb.Maintenance", _) => Some(Deed::Administer),
        ("etcdserverpb.Cluster", "MemberList") => None,
        ("etcdserverpb.Cluster", _) => Some(Deed::Administer),
        ("raftmachine.v1.Admin", "Info" | "Actors" | "LogLevels" | "Members") => None,
        ("raftmachine.v1.Admin", _) => Some(Deed::Administer),
        _ => None,
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
        for (path, expected) in [
            ("/etcdserverpb.Maintenance/Status", Some(Deed::Be)),
            ("/etcdserverpb.Maintenance/Snapshot", Some(Deed::Administer)),
            ("/etcdserverpb.Maintenance/Later", Some(Deed::Administer)),
            ("/etcdserverpb.Cluster/MemberAdd", Some(Deed::Administer)),
            ("/etcdserverpb.Cluster/MemberList", None),
            ("/raftmachine.v1.Admin/KillActor", Some(Deed::Administer)),
            ("/raftmachine.v1.Admin/Info", None),
            ("/etcdserverpb.KV/Put", None),
            ("/etcdserverpb.Auth/Authenticate", None),
            ("/", None),
        ] {
            assert_eq!(deed(path), expected, "{path}");
        }
    }
}
