//! The bytes of a command, as the log carries them: one byte for the version of the encoding, then postcard.

use std::cell::Cell;

use bytes::Bytes;
use serde::{Deserialize, Deserializer};

use crate::command::{Command, Txn};

/// The encoding that this program writes, and the newest that it reads.
const VERSION: u8 = 1;

/// The longest command that is decoded, in bytes; the limit on a client's request must stay below it.
pub const MAX_COMMAND_BYTES: usize = 16 * 1024 * 1024;

/// How deep transactions may lie within transactions. Decoding and judging recurse, so that the stack needs a bound.
pub const MAX_TXN_DEPTH: usize = 64;

/// Why bytes are no command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// There is nothing to decode.
    #[error("the command is empty; it must start with the version of its encoding")]
    Empty,
    /// Longer than [`MAX_COMMAND_BYTES`].
    #[error("the command has {0} bytes; at most {MAX_COMMAND_BYTES} are read")]
    TooLong(usize),
    /// Written by a newer program.
    #[error(
        "the command is encoded in version {0}, and this program reads up to {VERSION}; upgrade it"
    )]
    Version(u8),
    /// The body does not follow the encoding.
    #[error("the command is malformed: {0}")]
    Malformed(postcard::Error),
    /// Bytes are left over.
    #[error("the command is followed by {0} bytes that do not belong to it")]
    Trailing(usize),
}

impl Command {
    /// The command as the log carries it.
    pub fn encode(&self) -> Bytes {
        postcard::to_extend(self, vec![VERSION])
            .expect("a command holds only types that postcard encodes, and a vector grows")
            .into()
    }

    /// Reads what [`Command::encode`] wrote.
    ///
    /// # Errors
    /// [`DecodeError`] says what is wrong with the bytes; no bytes make it panic or take much more memory than they fill.
    pub fn decode(bytes: &[u8]) -> Result<Command, DecodeError> {
        if bytes.len() > MAX_COMMAND_BYTES {
            return Err(DecodeError::TooLong(bytes.len()));
        }
        let (&version, body) = bytes.split_first().ok_or(DecodeError::Empty)?;
        if version != VERSION {
            return Err(DecodeError::Version(version));
        }
        let (command, rest) = postcard::take_from_bytes(body).map_err(DecodeError::Malformed)?;
        match rest.len() {
            0 => Ok(command),
            left => Err(DecodeError::Trailing(left)),
        }
    }
}

thread_local! {
    /// How many transactions enclose the one that is being decoded on this thread.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// Leaves one level of nesting when the transaction is read, or when reading it failed.
struct Level;

impl Drop for Level {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

/// Decodes a transaction within a transaction, down to [`MAX_TXN_DEPTH`]: serde has no limit of its own, and a few
/// bytes a level would exhaust the stack.
pub(crate) fn nested<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Txn, D::Error> {
    DEPTH.set(DEPTH.get() + 1);
    let _level = Level;
    if DEPTH.get() > MAX_TXN_DEPTH {
        return Err(serde::de::Error::custom("transactions are nested too deep"));
    }
    Txn::deserialize(deserializer)
}
