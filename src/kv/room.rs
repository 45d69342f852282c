//! How large a reply may become, and the memory that it asks for while it is made.

use std::cell::Cell;

use crate::command::KeyValue;
use crate::error::RequestError;

/// The most bytes of one reply, over all ranges of a transaction. gRPC's clients read no more than 2 GiB.
pub const MAX_REPLY_BYTES: usize = 512 << 20;

/// What a key takes in a reply beside its bytes and those of its value: its place in the list, and about as much around the three pieces of
/// memory.
const KEY_VALUE_BYTES: usize = 2 * size_of::<KeyValue>();

/// How many bytes a key with its value takes in a reply, in memory; on the wire it is less.
pub(crate) fn key_value_bytes(key: &[u8], value: &[u8]) -> usize {
    KEY_VALUE_BYTES + key.len() + value.len()
}

/// The memory that the replies of a machine share. A reply asks for its part bit by bit while it is made: how large it becomes
/// is known only then.
pub trait ReplyMemory {
    /// Sets so many more bytes aside for the reply; false if there are not so many.
    fn take(&self, bytes: usize) -> bool;

    /// So many of them are not needed after all.
    fn give_back(&self, bytes: usize);
}

/// Memory without a bound: of whoever asks for one reply at a time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unbounded;

impl ReplyMemory for Unbounded {
    fn take(&self, _: usize) -> bool {
        true
    }

    fn give_back(&self, _: usize) {}
}

/// How many bytes a reply may still take, and from where.
pub(crate) struct ReplyRoom<'r> {
    left: Cell<usize>,
    memory: &'r dyn ReplyMemory,
}

impl<'r> ReplyRoom<'r> {
    pub(crate) fn new(bytes: usize, memory: &'r dyn ReplyMemory) -> ReplyRoom<'r> {
        ReplyRoom {
            left: Cell::new(bytes),
            memory,
        }
    }

    /// Takes some bytes, or refuses the reply.
    pub(crate) fn take(&self, bytes: usize) -> Result<(), RequestError> {
        let left = self.left.get().checked_sub(bytes);
        let left = left.ok_or(RequestError::ReplyTooLarge)?;
        if !self.memory.take(bytes) {
            return Err(RequestError::NoRoomForReply);
        }
        self.left.set(left);
        Ok(())
    }

    /// How many bytes the reply may still take, whether there is memory for them or not.
    pub(crate) fn left(&self) -> usize {
        self.left.get()
    }

    pub(crate) fn give_back(&self, bytes: usize) {
        self.left.set(self.left.get() + bytes);
        self.memory.give_back(bytes);
    }
}
