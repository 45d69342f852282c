//! Where in a stream of gRPC one message ends and the next begins, without a look into any.

/// How many bytes stand before a message: whether it is compressed, and its length (gRPC over HTTP/2, "Length-Prefixed-Message").
const PREFIX_BYTES: usize = 5;

/// Where in a stream of gRPC's messages its last byte stands.
#[derive(Debug, Default)]
pub(crate) struct Cut {
    prefix: [u8; PREFIX_BYTES],
    prefix_bytes: usize,
    message_bytes: usize,
}

impl Cut {
    /// Goes on by some bytes. How many messages have ended, and how many bytes have come of the one that has not.
    pub(crate) fn take(&mut self, mut data: &[u8]) -> (u64, usize) {
        let mut ended = 0;
        while !data.is_empty() {
            let (own, rest) = data.split_at(data.len().min(PREFIX_BYTES - self.prefix_bytes));
            self.prefix[self.prefix_bytes..][..own.len()].copy_from_slice(own);
            self.prefix_bytes += own.len();
            data = rest;
            if self.prefix_bytes < PREFIX_BYTES {
                break;
            }
            let [_, length @ ..] = self.prefix;
            let missing = u32::from_be_bytes(length) as usize - self.message_bytes;
            let taken = data.len().min(missing);
            self.message_bytes += taken;
            data = &data[taken..];
            if taken == missing {
                *self = Cut::default();
                ended += 1;
            }
        }
        (ended, self.prefix_bytes + self.message_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_however_their_bytes_come() {
        let message = |bytes: u8| [&[0, 0, 0, 0, bytes][..], &vec![7; bytes.into()]].concat();
        let messages = [message(3), message(0), message(9)].concat();
        for length in 1..=messages.len() {
            let mut cut = Cut::default();
            for (place, piece) in messages.chunks(length).enumerate() {
                let come = place * length + piece.len();
                let ends = [8, 13, 27].into_iter().filter(|end| *end <= come);
                let begin = ends.clone().max().unwrap_or(0);
                let now = ends.filter(|end| *end > place * length).count();
                assert_eq!(
                    cut.take(piece),
                    (now as u64, come - begin),
                    "{length} {place}"
                );
            }
        }
    }
}
