//! The bytes of a command, as the log carries them: one byte for the version of the encoding, then postcard.

use std::cell::Cell;

use bytes::Bytes;
use serde::{Deserialize, Deserializer};

use crate::auth_command::{AuthCommand, Signature};
use crate::command::{Command, Txn};

/// The newest encoding that this program reads. Each command is written in the oldest that has it, so that machines of an older
/// program go on while nothing is asked of them that they do not know.
const VERSION: u8 = 6;

/// The oldest encoding that has users, and nothing else.
const AUTH: u8 = 4;

/// The encoding of a signed command: the signature, then the command in an encoding of its own.
const SIGNED: u8 = 5;

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
    /// No program ever wrote this version.
    #[error("the command is encoded in version 0, which there never was")]
    NoVersion,
    /// A signature within a signature.
    #[error("the command is signed more than once")]
    Signed,
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
        postcard::to_extend(self, vec![self.version()])
            .expect("a command holds only types that postcard encodes, and a vector grows")
            .into()
    }

    /// The oldest encoding that has the command.
    fn version(&self) -> u8 {
        match self {
            Command::Put(_) | Command::DeleteRange(_) | Command::Txn(_) => 1,
            Command::Compact { .. } | Command::Scrub { .. } => 2,
            Command::GrantLease { .. }
            | Command::RevokeLease { .. }
            | Command::ExpireLeases { .. }
            | Command::NoteLeases { .. }
            | Command::CountLeases => 3,
            Command::Auth(_) => AUTH,
            // Five is what is signed.
            Command::Alarm(_) => 6,
        }
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
        match version {
            0 => return Err(DecodeError::NoVersion),
            SIGNED => return Err(DecodeError::Signed),
            1..=VERSION => {}
            newer => return Err(DecodeError::Version(newer)),
        }
        let (command, rest) = postcard::take_from_bytes(body).map_err(DecodeError::Malformed)?;
        match rest.len() {
            0 => Ok(command),
            left => Err(DecodeError::Trailing(left)),
        }
    }
}

/// A command as the log carries it: with the signature of whoever asks for it, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// Who asks; none for a client that has not said who it is, and for the machine itself.
    pub by: Option<Signature>,
    /// For what.
    pub command: Command,
}

impl Signed {
    /// The command as the log carries it. Without a signature it is what [`Command::encode`] makes.
    pub fn encode(&self) -> Bytes {
        let command = self.command.encode();
        let Some(by) = &self.by else {
            return command;
        };
        let signed = postcard::to_extend(by, vec![SIGNED]);
        let mut signed = signed.expect("a signature holds a text and a number, and a vector grows");
        signed.extend_from_slice(&command);
        signed.into()
    }

    /// Reads what [`Signed::encode`] wrote.
    ///
    /// # Errors
    /// As [`Command::decode`].
    pub fn decode(bytes: &[u8]) -> Result<Signed, DecodeError> {
        let Some((&SIGNED, body)) = bytes.split_first() else {
            let command = Command::decode(bytes)?;
            return Ok(Signed { by: None, command });
        };
        if bytes.len() > MAX_COMMAND_BYTES {
            return Err(DecodeError::TooLong(bytes.len()));
        }
        let (by, rest) = postcard::take_from_bytes(body).map_err(DecodeError::Malformed)?;
        let command = Command::decode(rest)?;
        let by = Some(by);
        Ok(Signed { by, command })
    }

    /// Whether what the log carries may change users, roles or permissions, or whether they are asked for. What cannot be read may.
    /// Commands of another kind are told by a byte, and not decoded.
    pub fn may_change_users(bytes: &[u8]) -> bool {
        let command = match bytes.split_first() {
            Some((&SIGNED, body)) => {
                postcard::take_from_bytes::<Signature>(body).map_or(body, |(_, command)| command)
            }
            _ => bytes,
        };
        match command.first() {
            Some(&AUTH) => !matches!(
                Command::decode(command),
                Ok(Command::Auth(AuthCommand::Admit { .. }))
            ),
            Some(&version) => !(1..=VERSION).contains(&version) || version == SIGNED,
            None => true,
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::command::{Grant, LeaseTime, Operation, Put};

    const GRANT: Grant = Grant {
        id: i64::MIN,
        entry: 9,
    };

    fn nest(levels: usize) -> Command {
        let inner = (0..levels).fold(Txn::default(), |inner, _| Txn {
            success: vec![Operation::Txn(inner)],
            ..Txn::default()
        });
        Command::Txn(inner)
    }

    #[test]
    fn what_was_encoded_is_decoded() {
        let put = Command::Put(Put {
            key: Bytes::from_static(b"key"),
            value: Bytes::from_static(b"value"),
            lease: -3,
            prev_kv: true,
            ..Put::default()
        });
        let compact = Command::Compact { revision: -7 };
        let scrub = Command::Scrub {
            changes: 1_000,
            bytes: u32::MAX,
        };
        let grant = Command::GrantLease { id: -1, ttl: 60 };
        let revoke = Command::RevokeLease { id: 7 };
        let expire = Command::ExpireLeases {
            reign: 3,
            grants: vec![GRANT, GRANT],
        };
        let note = Command::NoteLeases {
            reign: u64::MAX,
            times: vec![LeaseTime {
                grant: GRANT,
                remaining: Some(9),
            }],
        };
        for command in [
            put,
            nest(0),
            nest(MAX_TXN_DEPTH),
            compact,
            scrub,
            grant,
            revoke,
            expire,
            note,
            Command::CountLeases,
        ] {
            assert_eq!(Command::decode(&command.encode()), Ok(command));
        }
    }

    #[test]
    fn what_may_change_users_is_told_without_decoding_what_cannot() {
        let change = Command::Auth(AuthCommand::Enable);
        let admit = Command::Auth(AuthCommand::Admit {
            user: "alice".into(),
            token: "token".into(),
            revision: 3,
        });
        for (command, changes) in [(change, true), (admit, false), (nest(3), false)] {
            for by in [None, Some("alice".to_owned())] {
                let by = by.map(|user| Signature { user, revision: 3 });
                let command = command.clone();
                let signed = Signed { by, command };
                assert_eq!(Signed::may_change_users(&signed.encode()), changes);
            }
        }
        for unreadable in [&b""[..], &[0], &[SIGNED], &[AUTH, 0xff], &[VERSION + 1]] {
            assert!(Signed::may_change_users(unreadable), "{unreadable:?}");
        }
    }

    #[test]
    fn a_signature_goes_before_the_command_and_only_once() {
        let signed = Signed {
            by: Some(Signature {
                user: "alice".into(),
                revision: 300,
            }),
            command: nest(3),
        };
        let bytes = signed.encode();
        assert_eq!(bytes[0], SIGNED);
        assert_eq!(Signed::decode(&bytes), Ok(signed.clone()));
        assert_eq!(Command::decode(&bytes), Err(DecodeError::Signed));
        let inner = bytes.len() - nest(3).encode().len();
        let twice = [&bytes[..inner], &bytes[..]].concat();
        assert_eq!(Signed::decode(&twice), Err(DecodeError::Signed));
        let unsigned = Signed { by: None, ..signed };
        assert_eq!(unsigned.encode(), nest(3).encode());
        assert_eq!(Signed::decode(&unsigned.encode()), Ok(unsigned));
    }

    #[test]
    fn a_command_is_encoded_in_the_oldest_version_that_has_it() {
        let version = |command: Command| command.encode()[0];
        assert_eq!(version(Command::Put(Put::default())), 1);
        assert_eq!(version(nest(1)), 1);
        // To a program of version 1 these must be newer, not malformed.
        assert_eq!(version(Command::Compact { revision: 5 }), 2);
        let scrub = Command::Scrub {
            changes: 1,
            bytes: 1,
        };
        assert_eq!(version(scrub), 2);
        assert_eq!(version(Command::GrantLease { id: 1, ttl: 1 }), 3);
    }

    #[test]
    fn a_transaction_nested_too_deep_is_refused_each_time() {
        // Far deeper than the stack would bear: a transaction of one nested transaction takes three bytes.
        let mut bytes = vec![1, 2];
        for _ in 0..1_000_000 {
            bytes.extend_from_slice(&[0, 1, 3]);
        }
        for _ in 0..2 {
            assert!(matches!(
                Command::decode(&bytes),
                Err(DecodeError::Malformed(_))
            ));
        }
        let deep = nest(MAX_TXN_DEPTH + 1).encode();
        assert!(matches!(
            Command::decode(&deep),
            Err(DecodeError::Malformed(_))
        ));
        assert!(Command::decode(&nest(MAX_TXN_DEPTH).encode()).is_ok());
    }

    #[test]
    fn another_version_a_rest_and_nothing_at_all_are_refused() {
        let command = nest(0).encode();
        let newer = [&[VERSION + 1], &command[1..]].concat();
        assert_eq!(
            Command::decode(&newer),
            Err(DecodeError::Version(VERSION + 1))
        );
        let longer = [&command[..], b"xy"].concat();
        assert_eq!(Command::decode(&longer), Err(DecodeError::Trailing(2)));
        assert_eq!(Command::decode(&[]), Err(DecodeError::Empty));
        let none = [&[0], &command[1..]].concat();
        assert_eq!(Command::decode(&none), Err(DecodeError::NoVersion));
        let vast = vec![VERSION; MAX_COMMAND_BYTES + 1];
        let too_long = DecodeError::TooLong(vast.len());
        assert_eq!(Command::decode(&vast), Err(too_long.clone()));
        assert_eq!(Signed::decode(&vast), Err(too_long));
    }

    proptest! {
        #[test]
        fn garbage_is_refused_or_read_but_never_fatal(mut bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for version in 1..=VERSION {
                if let Some(first) = bytes.first_mut() {
                    *first = version;
                }
                if let Ok(signed) = Signed::decode(&bytes) {
                    prop_assert_eq!(Signed::decode(&signed.encode()), Ok(signed));
                }
            }
        }
    }
}
