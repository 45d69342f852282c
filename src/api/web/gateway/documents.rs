//! Cuts a stream of bytes into the JSON documents that it carries, one after the other.
//!
//! It looks at each byte once, however the client cuts them, and holds no more than one document of a limited length and what came
//! with its last bytes.

use bytes::{Buf, Bytes, BytesMut};
use tonic::Status;

/// The documents of one stream.
#[derive(Debug)]
pub(crate) struct Documents {
    bytes_max: usize,
    buffer: BytesMut,
    /// How many bytes of it were looked at.
    seen: usize,
    /// How many braces and brackets are open.
    depth: usize,
    in_string: bool,
    /// Whether the byte before takes its meaning from the next.
    escapes: bool,
}

impl Documents {
    /// Of up to so many bytes each.
    pub(crate) fn new(bytes_max: usize) -> Documents {
        Documents {
            bytes_max,
            buffer: BytesMut::new(),
            seen: 0,
            depth: 0,
            in_string: false,
            escapes: false,
        }
    }

    /// Takes what has come.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next document that is whole, braces included. What is between the braces is not looked at closer.
    ///
    /// # Errors
    /// There is something else than an object, or the object is too long.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, Status> {
        if self.seen == 0 {
            self.skip_blanks()?;
        }
        while let Some(byte) = self.buffer.get(self.seen).copied() {
            self.seen += 1;
            if self.seen > self.bytes_max {
                return Err(too_large(self.bytes_max));
            }
            self.take(byte);
            if self.depth == 0 {
                let document = self.buffer.split_to(self.seen).freeze();
                self.seen = 0;
                return Ok(Some(document));
            }
        }
        Ok(None)
    }

    /// How many bytes have come of what is not taken.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// No more bytes come.
    ///
    /// # Errors
    /// The last document is not whole.
    pub(crate) fn end(&self) -> Result<(), Status> {
        match self.buffer.is_empty() {
            true => Ok(()),
            false => Err(Status::invalid_argument(
                "raftmachine: the body of the request ends in the middle of a JSON object",
            )),
        }
    }

    fn skip_blanks(&mut self) -> Result<(), Status> {
        let blanks = self.buffer.iter().take_while(|it| it.is_ascii_whitespace());
        self.buffer.advance(blanks.count());
        match self.buffer.first() {
            None | Some(b'{') => Ok(()),
            Some(byte) => Err(Status::invalid_argument(format!(
                "raftmachine: a JSON object was expected, and there is {:?}",
                char::from(*byte)
            ))),
        }
    }

    fn take(&mut self, byte: u8) {
        if self.in_string {
            match byte {
                _ if self.escapes => self.escapes = false,
                b'\\' => self.escapes = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            // The first byte is a brace, so that one is open.
            b'}' | b']' => self.depth -= 1,
            _ => {}
        }
    }
}

/// What a document beyond the limit is answered with: etcd's text for a message that is too large.
pub(crate) fn too_large(bytes_max: usize) -> Status {
    Status::resource_exhausted(format!(
        "grpc: received message larger than max (of {bytes_max} bytes of JSON)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    const TEXT: &str = " {\"a\":\"}\\\"{\"}\n{\"b\":[{},[\"]\"]]} {}";
    const CUT: [&str; 3] = ["{\"a\":\"}\\\"{\"}", "{\"b\":[{},[\"]\"]]}", "{}"];

    fn all(pieces: impl Iterator<Item = Vec<u8>>, bytes_max: usize) -> Result<Vec<Bytes>, Status> {
        let mut documents = Documents::new(bytes_max);
        let mut found = Vec::new();
        for piece in pieces {
            documents.push(&piece);
            while let Some(document) = documents.next()? {
                found.push(document);
            }
        }
        documents.end().map(|()| found)
    }

    #[test]
    fn documents_are_told_apart_however_their_bytes_come() {
        for length in 1..=TEXT.len() {
            let pieces = TEXT.as_bytes().chunks(length).map(<[u8]>::to_vec);
            assert_eq!(all(pieces, 100).expect("they are whole"), CUT, "{length}");
        }
    }

    #[test]
    fn what_is_no_object_or_not_whole_or_too_long_is_refused() {
        let of = |text: &str| all(std::iter::once(text.as_bytes().to_vec()), 10);
        for text in ["[]", "{}7", "null", "}", "{}}", "{\"a\":", "{\"a"] {
            let refusal = of(text).expect_err(text);
            assert_eq!(refusal.code(), Code::InvalidArgument, "{text}");
        }
        let longest = "{\"a\": 111}";
        assert_eq!(of(longest).expect("it is within the limit"), [longest]);
        let refusal = of("{\"a\": 1111}").expect_err("it is too long");
        assert_eq!(refusal.code(), Code::ResourceExhausted);
        let refusal = of("{\"a\": 11111").expect_err("it is too long already");
        assert_eq!(refusal.code(), Code::ResourceExhausted);
        assert_eq!(of(" \n").expect("there is nothing"), [""; 0]);
    }
}
