//! Where a machine is reached: a host, by name or number, and a port.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A host and a port, written `host:port`, an IPv6 host in brackets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    /// A name or an IP address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Address {
    /// The socket addresses behind it; asks the resolver when the host is a name.
    pub fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        Ok((self.host.as_str(), self.port).to_socket_addrs()?.collect())
    }

    /// Whether only this host can reach it, as far as its text tells: a loopback number, or `localhost` (RFC 6761).
    pub fn is_loopback(&self) -> bool {
        let name = self.host.trim_end_matches('.').to_lowercase();
        match self.host.parse::<IpAddr>() {
            Ok(ip) => ip.to_canonical().is_loopback(),
            Err(_) => name == "localhost" || name.ends_with(".localhost"),
        }
    }

    /// The one spelling of all that mean this address, to compare by.
    pub(crate) fn canonical(&self) -> (String, u16) {
        let host = match self.host.parse::<IpAddr>() {
            Ok(ip) => ip.to_canonical().to_string(),
            Err(_) => self.host.trim_end_matches('.').to_lowercase(),
        };
        (host, self.port)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let in_brackets = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        let host_is_good = match in_brackets {
            Some(inside) => inside.parse::<Ipv6Addr>().is_ok(),
            None => is_name_or_ipv4(host),
        };
        // The parser of numbers would let a plus sign pass.
        let port_is_good = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().map_err(|_| wrong())?;
        if !host_is_good || !port_is_good || port == 0 {
            return Err(wrong());
        }
        let host = in_brackets.unwrap_or(host);
        Ok(Address {
            host: host.to_owned(),
            port,
        })
    }
}

/// What only looks like a number, such as 10.0.0.300, is neither.
fn is_name_or_ipv4(host: &str) -> bool {
    let is_name_character = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let last_label = host.trim_end_matches('.').rsplit('.').next();
    let is_numeric =
        last_label.is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
    if is_numeric {
        host.parse::<Ipv4Addr>().is_ok()
    } else {
        host.bytes().all(is_name_character) && !host.starts_with(['.', '-'])
    }
}

/// A text that is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no address: write host:port, with a port from 1 to 65535 and an IPv6 host in brackets"
)]
pub struct AddressError(String);

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> String {
        address.to_string()
    }
}
