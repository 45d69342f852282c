//! What can be wrong with keys and with tokens.

use std::path::{Path, PathBuf};

/// Why a key is of no use.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file cannot be read, or does not hold what it should.
    #[error("auth.jwt.{which}: {path:?} {reason}")]
    File {
        /// Which of the config's keys names it.
        which: &'static str,
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// No file is named.
    #[error("auth.jwt names no key: give private_key, or public_key")]
    Missing,
}

impl KeyError {
    pub(crate) fn file(which: &'static str, path: &Path, reason: impl Into<String>) -> KeyError {
        KeyError::File {
            which,
            path: path.to_owned(),
            reason: reason.into(),
        }
    }
}

/// Why a token stands for nobody, or is not made. For the log: a client is not told why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is longer than [`crate::TOKEN_BYTES_MAX`].
    #[error("it is too long")]
    TooLong,
    /// It is not of three parts in base64, of which the first two are JSON.
    #[error("it has not the form of a JSON web token")]
    Malformed,
    /// Its header names another method than the key's, or something that whoever reads it must understand, and does not.
    #[error("it is signed by another method")]
    Method,
    /// The key has not signed it.
    #[error("its signature is not the key's")]
    Signature,
    /// It is signed, and does not say for whom it stands, as of which revision, and until when.
    #[error("it does not say for whom it stands, as of which revision, and until when")]
    Claims,
    /// It has ended, or has not begun.
    #[error("it has ended, or has not begun")]
    OutOfTime,
    /// There is only the public key.
    #[error(
        "this machine has only the public key, which recognises tokens: ask one that has the private key"
    )]
    NoPrivateKey,
    /// The key failed, or there are no random numbers.
    #[error("the token cannot be signed")]
    NotSigned,
}
