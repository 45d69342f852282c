//! The way to the machines: endpoints, connections, and errors that name both.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rm_config::{Address, AddressError};
use rm_tls::Dialler;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::error::{Error, Result};
use crate::proto::{
    AdminClient, AuthClient, AuthenticateRequest, KvClient, LeaseClient, MaintenanceClient,
    WatchClient,
};

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
    type Err = AddressError;

    /// With a scheme or without.
    fn from_str(text: &str) -> std::result::Result<Self, AddressError> {
        let address = ["http://", "https://"]
            .iter()
            .find_map(|scheme| text.strip_prefix(scheme))
            .unwrap_or(text);
        Ok(Endpoint(address.trim_end_matches('/').parse()?))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The machines that a command may turn to.
#[derive(Clone, Debug)]
pub(crate) struct Endpoints {
    /// At least one, in the order of the command line.
    pub(crate) list: Vec<Endpoint>,
    /// How long connecting may take, and each request.
    pub(crate) timeout: Duration,
    /// On whose behalf to ask.
    pub(crate) user: Option<User>,
    /// How to dial them by TLS; none to ask in plain.
    pub(crate) dialler: Option<Dialler>,
}

/// A user of the domain, with its password.
#[derive(Clone)]
pub(crate) struct User {
    name: String,
    password: String,
}

impl FromStr for User {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        let (name, password) = text.split_once(':').ok_or("write NAME:PASSWORD")?;
        if name.is_empty() {
            return Err("the name is empty: write NAME:PASSWORD");
        }
        Ok(User {
            name: name.to_owned(),
            password: password.to_owned(),
        })
    }
}

/// Without the password: what is shown of it may be kept.
impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("name", &self.name).finish()
    }
}

impl Endpoints {
    /// Machines that are asked in plain, on nobody's behalf.
    pub(crate) fn plain(list: Vec<Endpoint>, timeout: Duration) -> Endpoints {
        Endpoints {
            list,
            timeout,
            user: None,
            dialler: None,
        }
    }

    /// Connects to one machine.
    pub(crate) async fn connect(&self, endpoint: &Endpoint) -> Result<Link> {
        self.connect_for(endpoint, Some(self.timeout)).await
    }

    /// Connects to one machine for what may take as long as it takes. One that is gone is noticed all the same.
    pub(crate) async fn connect_patiently(&self, endpoint: &Endpoint) -> Result<Link> {
        self.connect_for(endpoint, None).await
    }

    async fn connect_for(
        &self,
        endpoint: &Endpoint,
        request_timeout: Option<Duration>,
    ) -> Result<Link> {
        let unreachable = |reason: String| Error::Unreachable {
            endpoint: endpoint.clone(),
            reason,
        };
        let scheme = self.dialler.as_ref().map_or("http", |_| "https");
        let mut channel = Channel::from_shared(format!("{scheme}://{endpoint}"))
            .map_err(|error| unreachable(error.to_string()))?;
        if let Some(timeout) = request_timeout {
            channel = channel.timeout(timeout);
        }
        let channel = channel
            .connect_timeout(self.timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT);
        let channel = match &self.dialler {
            None => channel.connect().await,
            Some(dialler) => dialler.connect(&channel).await,
        };
        let channel = channel.map_err(|error| unreachable(innermost(&error)))?;
        let link = Link {
            endpoint: endpoint.clone(),
            channel,
            token: Token(None),
        };
        match &self.user {
            Some(user) => link.on_behalf_of(user).await,
            None => Ok(link),
        }
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
    token: Token,
}

/// How a machine is asked: with the token of a user, if there is one.
pub(crate) type Way = InterceptedService<Channel, Token>;

/// Puts a token into each request.
#[derive(Clone, Debug)]
pub(crate) struct Token(Option<MetadataValue<Ascii>>);

impl Interceptor for Token {
    fn call(&mut self, mut request: Request<()>) -> std::result::Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("token", token.clone());
        }
        Ok(request)
    }
}

impl Link {
    /// Has the user prove itself. Where nobody needs to, it is nobody's matter who asks.
    async fn on_behalf_of(self, user: &User) -> Result<Link> {
        let request = AuthenticateRequest {
            name: user.name.clone(),
            password: user.password.clone(),
        };
        let mut auth = AuthClient::new(self.channel.clone());
        let token = match auth.authenticate(request).await {
            Ok(answer) => answer.into_inner().token,
            Err(status) if status.message().ends_with("authentication is not enabled") => {
                return Ok(self);
            }
            Err(status) => return Err(self.failed("authentication")(status)),
        };
        let token = token.parse().map_err(|_| {
            let status = Status::internal("the token cannot be sent back");
            self.failed("authentication")(status)
        })?;
        Ok(Link {
            token: Token(Some(token)),
            ..self
        })
    }

    fn way(&self) -> Way {
        InterceptedService::new(self.channel.clone(), self.token.clone())
    }

    /// Its key space. Answers may be of any size: what was asked for is to be shown.
    pub(crate) fn kv(&self) -> KvClient<Way> {
        KvClient::new(self.way()).max_decoding_message_size(usize::MAX)
    }

    /// Its leases.
    pub(crate) fn lease(&self) -> LeaseClient<Way> {
        LeaseClient::new(self.way())
    }

    /// What happens to its keys.
    pub(crate) fn watch(&self) -> WatchClient<Way> {
        WatchClient::new(self.way())
    }

    /// Its users and roles.
    pub(crate) fn auth(&self) -> AuthClient<Way> {
        AuthClient::new(self.way())
    }

    /// What it tells of itself to any etcd client.
    pub(crate) fn maintenance(&self) -> MaintenanceClient<Way> {
        MaintenanceClient::new(self.way())
    }

    /// What it tells to operators.
    pub(crate) fn admin(&self) -> AdminClient<Way> {
        AdminClient::new(self.way())
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
        for url in ["http://127.0.0.1:2379/", "https://127.0.0.1:2379"] {
            let url: Endpoint = url.parse().expect("an endpoint");
            assert_eq!(plain, url);
            assert_eq!(url.to_string(), "127.0.0.1:2379");
        }
    }

    #[test]
    fn an_endpoint_without_a_port_is_refused_with_the_remedy() {
        let bare = "localhost".parse::<Endpoint>().expect_err("no port");
        assert!(bare.to_string().contains("write host:port"));
    }
}
