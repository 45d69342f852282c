//! The way to the machines: endpoints, connections, and errors that name both.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rm_config::{Address, AddressError};
use tonic::Status;
use tonic::transport::Channel;

use crate::error::{Error, Result};
use crate::proto::{AdminClient, KvClient, MaintenanceClient};

/// While an answer is awaited, however long that takes, the machine is asked so often whether it is still there; etcd takes no offence at
/// a question every five seconds.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// How long it may take to say so.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a machine listens for clients.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Endpoint(Address);

impl Endpoint {
    /// The address without the scheme.
    pub(crate) fn address(&self) -> &Address {
        &self.0
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> std::result::Result<Self, EndpointError> {
        if text.starts_with("https://") {
            return Err(EndpointError::Tls(text.to_owned()));
        }
        let address = text.strip_prefix("http://").unwrap_or(text);
        Ok(Endpoint(address.trim_end_matches('/').parse()?))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A text that is no endpoint.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EndpointError {
    /// It is no address.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// It asks for TLS.
    #[error("{0:?} asks for TLS, which rmctl does not speak to clients' ports: write host:port")]
    Tls(String),
}

/// The machines that a command may turn to.
#[derive(Clone, Debug)]
pub(crate) struct Endpoints {
    /// At least one, in the order of the command line.
    pub(crate) list: Vec<Endpoint>,
    /// How long connecting may take, and each request.
    pub(crate) timeout: Duration,
}

impl Endpoints {
    /// Connects to one machine.
    pub(crate) async fn connect(&self, endpoint: &Endpoint) -> Result<Link> {
        let unreachable = |reason: String| Error::Unreachable {
            endpoint: endpoint.clone(),
            reason,
        };
        let channel = Channel::from_shared(format!("http://{endpoint}"))
            .map_err(|error| unreachable(error.to_string()))?
            .connect_timeout(self.timeout)
            .timeout(self.timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .connect()
            .await
            .map_err(|error| unreachable(innermost(&error)))?;
        Ok(Link {
            endpoint: endpoint.clone(),
            channel,
        })
    }

    /// Connects to the first machine that answers, in the order given.
    pub(crate) async fn any(&self) -> Result<Link> {
        let mut failures = Vec::new();
        for endpoint in &self.list {
            match self.connect(endpoint).await {
                Ok(link) => return Ok(link),
                Err(error) if self.list.len() == 1 => return Err(error),
                Err(Error::Unreachable { endpoint, reason }) => {
                    failures.push(format!("  {endpoint}: {reason}"));
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::NoneReachable(failures))
    }
}

/// A connection to one machine.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    /// The machine.
    pub(crate) endpoint: Endpoint,
    channel: Channel,
}

impl Link {
    /// Its key space. Answers may be of any size: what was asked for is to be shown.
    pub(crate) fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone()).max_decoding_message_size(usize::MAX)
    }

    /// What it tells of itself to any etcd client.
    pub(crate) fn maintenance(&self) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.channel.clone())
    }

    /// What it tells to operators.
    pub(crate) fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(self.channel.clone())
    }

    /// Names what failed, and where.
    pub(crate) fn failed(&self, what: &'static str) -> impl FnOnce(Status) -> Error {
        let endpoint = self.endpoint.clone();
        move |status| Error::Request {
            what,
            endpoint,
            status: Box::new(status),
        }
    }
}

/// The text of the error at the bottom: "connection refused" rather than "transport error".
pub(crate) fn innermost(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_may_carry_a_scheme() {
        let plain: Endpoint = "127.0.0.1:2379".parse().expect("an endpoint");
        let url: Endpoint = "http://127.0.0.1:2379/".parse().expect("an endpoint");
        assert_eq!(plain, url);
        assert_eq!(url.to_string(), "127.0.0.1:2379");
    }

    #[test]
    fn an_endpoint_with_tls_or_without_a_port_is_refused_with_the_remedy() {
        let tls = "https://a:1".parse::<Endpoint>().expect_err("TLS");
        assert!(tls.to_string().contains("write host:port"));
        let bare = "localhost".parse::<Endpoint>().expect_err("no port");
        assert!(bare.to_string().contains("write host:port"));
    }
}
