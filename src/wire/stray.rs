//! Tells datagrams of this protocol from whatever else comes to the peer port, so that it can be counted.
//!
//! QUIC drops in silence what is not its own. The connection ids that this endpoint gives bear a mark, by which a packet of
//! a connection is known without a table of connections; the mark keeps nothing secret and nothing is decided by it but
//! what is counted.

use std::sync::atomic::{AtomicU64, Ordering};

/// The length of the connection ids, in bytes: random ones, then the mark.
pub(crate) const CONNECTION_ID_BYTES: usize = 8;
const MARK_BYTES: usize = 4;
/// The one version of QUIC that is spoken (RFC 9000).
const QUIC_VERSION: [u8; 4] = 1u32.to_be_bytes();
/// The bit that tells a long header (RFC 9000, 17.2).
const LONG_HEADER: u8 = 0x80;
/// The length of a probe by which another machine asks whether anybody listens.
const PROBE_BYTES: usize = 1;

/// The mark of a connection id with these random bytes.
pub(crate) fn mark(random: [u8; MARK_BYTES], key: u64) -> [u8; MARK_BYTES] {
    let mixed = (u64::from(u32::from_be_bytes(random)) ^ key).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed >> 32) as u32).to_be_bytes()
}

/// Counts the datagrams that are none of this protocol.
#[derive(Debug)]
pub(crate) struct Strays {
    key: u64,
    count: AtomicU64,
}

impl Strays {
    pub(crate) fn new(key: u64) -> Strays {
        Strays {
            key,
            count: AtomicU64::new(0),
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Looks at a datagram and counts it if it is a stray.
    pub(crate) fn look_at(&self, datagram: &[u8]) {
        if !self.is_ours(datagram) {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn is_ours(&self, datagram: &[u8]) -> bool {
        match datagram {
            [first, rest @ ..] if first & LONG_HEADER != 0 => rest.starts_with(&QUIC_VERSION),
            [_, random @ ..] if random.len() >= CONNECTION_ID_BYTES => {
                let (random, rest) = random.split_at(MARK_BYTES);
                random
                    .try_into()
                    .is_ok_and(|random| rest.starts_with(&mark(random, self.key)))
            }
            _ => datagram.len() == PROBE_BYTES,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_of_our_connections_and_handshakes_are_no_strays_and_noise_is() {
        let strays = Strays::new(0x5eed);
        let random = [1, 2, 3, 4];
        let mut ours = vec![0x40];
        ours.extend(random);
        ours.extend(mark(random, 0x5eed));
        ours.extend([0; 30]);
        strays.look_at(&ours);
        strays.look_at(&[0xc0, 0, 0, 0, 1, 8, 0]);
        strays.look_at(&[0]);
        assert_eq!(strays.count(), 0);
        let mut other = ours.clone();
        other[6] ^= 1;
        for noise in [
            &other[..],
            &ours[..8],
            &[0xc0, 0, 0, 0, 2, 8, 0],
            &[0x40, 1],
            &[],
        ] {
            strays.look_at(noise);
        }
        assert_eq!(strays.count(), 5);
    }
}
