//! Ports that no other test and no outgoing connection takes, also while the machine that owns them is down.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};

use rustix::fs::{FlockOperation, flock};

/// Below the range from which Linux takes the ports of outgoing connections (32768 by default): a client that dials a dead
/// machine again and again would otherwise take its port, or connect to itself.
const RANGE: std::ops::Range<u16> = 12_000..32_000;

/// A port of the loopback address that is ours, for TCP and UDP, as long as this value lives.
///
/// The claim is a lock on a file named after the port, so that it also holds while nobody listens.
#[derive(Debug)]
pub struct Port {
    /// The address.
    pub address: SocketAddr,
    _claim: File,
}

/// Claims free ports.
///
/// # Panics
///
/// When there are not enough, or the folder for the claims cannot be written.
pub fn claim(count: usize) -> Vec<Port> {
    let folder = std::env::temp_dir().join("raft-machine-test-ports");
    std::fs::create_dir_all(&folder)
        .unwrap_or_else(|error| panic!("{}: cannot be created: {error}", folder.display()));
    let span = RANGE.end - RANGE.start;
    let first = u16::try_from(std::process::id() * 97 % u32::from(span)).expect("below a u16");
    let ports: Vec<Port> = (0..span)
        .map(|step| RANGE.start + (first + step) % span)
        .filter_map(|port| {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            let claim = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(folder.join(port.to_string()))
                .ok()?;
            flock(&claim, FlockOperation::NonBlockingLockExclusive).ok()?;
            TcpListener::bind(address).ok()?;
            UdpSocket::bind(address).ok()?;
            Some(Port {
                address,
                _claim: claim,
            })
        })
        .take(count)
        .collect();
    assert_eq!(ports.len(), count, "no {count} free ports in {RANGE:?}");
    ports
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_claims_share_no_port() {
        let one = claim(4);
        let two = claim(4);
        for port in &one {
            assert!(two.iter().all(|other| other.address != port.address));
        }
    }
}
