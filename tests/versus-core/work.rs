//! The work that each core does: the same commands, applied by the same state machine.

use bytes::Bytes;

/// The machines of a cluster.
pub(crate) const MACHINES: u64 = 3;

/// The bytes of a command.
const COMMAND_BYTES: usize = 256;

/// Three machines in this process.
pub(crate) trait Cluster {
    /// What the table calls it.
    const NAME: &'static str;

    /// Three machines, one of which leads.
    fn start() -> Self;

    /// Proposes `batch` commands together, `batches` times one after the other; each time until all machines have applied
    /// them.
    fn run(&mut self, batch: usize, batches: usize);

    /// What each machine has applied.
    fn applied(&self) -> Vec<Applied>;
}

/// A state machine that counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    /// Commands.
    pub(crate) commands: u64,
    /// Their numbers, added up.
    pub(crate) sum: u64,
}

impl Applied {
    /// Applies a command.
    pub(crate) fn apply(&mut self, command: &[u8]) {
        assert_eq!(command.len(), COMMAND_BYTES, "a command arrives whole");
        let number = command
            .first_chunk()
            .map(|bytes| u64::from_le_bytes(*bytes));
        self.commands += 1;
        self.sum += number.expect("a command begins with its number");
    }
}

/// Makes commands, each with the next number.
#[derive(Debug, Default)]
pub(crate) struct Commands {
    made: u64,
}

impl Commands {
    /// The next command, in memory of its own, as if a client had just sent it.
    pub(crate) fn next(&mut self) -> Vec<u8> {
        self.made += 1;
        let mut command = vec![0; COMMAND_BYTES];
        command[..8].copy_from_slice(&self.made.to_le_bytes());
        command
    }

    /// The next command, for who shares memory by counting.
    pub(crate) fn next_shared(&mut self) -> Bytes {
        self.next().into()
    }

    /// What a machine has applied that has applied all of them.
    pub(crate) fn all_applied(&self) -> Applied {
        Applied {
            commands: self.made,
            sum: self.made * (self.made + 1) / 2,
        }
    }
}
