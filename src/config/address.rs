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

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_good_address_is_written_as_it_was_read() {
        for text in [
            "127.0.0.1:7600",
            "[::1]:1",
            "db-1.csy.com:65535",
            "node_3:80",
        ] {
            assert_eq!(address(text).to_string(), text);
        }
        assert_eq!(address("[fd00::1]:7600").host, "fd00::1");
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_way_to_write_one() {
        for text in [
            "",
            ":",
            "7600",
            "host",
            "host:",
            ":7600",
            "host:0",
            "host:65536",
            "host:+80",
            "host:-1",
            "host: 80",
            "ho st:80",
            "http://host:80",
            "host/:80",
            "::1:80",
            "[::1:80",
            "::1]:80",
            "[host]:80",
            "[]:80",
            "10.0.0.300:80",
            "10.0.0:80",
            "1:2:80",
            ".:80",
            "-a:80",
        ] {
            let error = text.parse::<Address>().expect_err(text).to_string();
            assert_eq!(
                error,
                format!(
                    "{text:?} is no address: write host:port, with a port from 1 to 65535 and an IPv6 host in brackets"
                )
            );
        }
    }

    #[test]
    fn spellings_of_one_address_are_the_same() {
        let pairs = [
            ("[::1]:1", "[0:0:0:0:0:0:0:1]:1"),
            ("Host.csy.com:1", "host.csy.com.:1"),
            ("[::ffff:10.0.0.1]:1", "10.0.0.1:1"),
        ];
        for (left, right) in pairs {
            assert_eq!(address(left).canonical(), address(right).canonical());
        }
        assert_ne!(address("host:1").canonical(), address("host:2").canonical());
    }

    #[test]
    fn loopback_is_told_from_the_text() {
        for text in [
            "127.0.0.1:1",
            "127.9.9.9:1",
            "[::1]:1",
            "localhost:1",
            "Localhost.:1",
            "a.localhost:1",
        ] {
            assert!(address(text).is_loopback(), "{text}");
        }
        for text in [
            "10.0.0.1:1",
            "[fd00::1]:1",
            "host:1",
            "notlocalhost:1",
            "0.0.0.0:1",
        ] {
            assert!(!address(text).is_loopback(), "{text}");
        }
    }

    #[test]
    fn a_number_resolves_to_itself() {
        let resolved = address("[::1]:7600").resolve().expect("needs no resolver");
        assert_eq!(
            resolved,
            ["[::1]:7600".parse::<SocketAddr>().expect("an address")]
        );
    }
}
