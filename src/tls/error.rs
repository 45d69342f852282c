//! What can be wrong with files of certificates.

use std::path::{Path, PathBuf};

/// Why certificates are of no use.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or does not hold what it should.
    #[error("{what}: {path:?} {reason}: put the PEM file there, or correct the path")]
    File {
        /// What the file is for.
        what: &'static str,
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Each can be read, and they do not fit together.
    #[error(
        "the certificate {certificate:?} cannot be used: {reason}. Is the key that of the certificate, and is either of a kind that is known \
         (ECDSA, Ed25519, RSA)?"
    )]
    Unfit {
        /// The certificate.
        certificate: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// What the certificates of the other end are checked against is of no use.
    #[error("{what}: {path:?} cannot be used: {reason}")]
    Authority {
        /// What the file is for.
        what: &'static str,
        /// Where it is.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The host trusts nobody.
    #[error(
        "this host has no list of authorities that it trusts ({0}): name the authority that signed the machines' certificates"
    )]
    NoAuthorities(String),
}

impl TlsError {
    pub(crate) fn file(what: &'static str, path: &Path, reason: impl Into<String>) -> TlsError {
        TlsError::File {
            what,
            path: path.to_owned(),
            reason: reason.into(),
        }
    }

    pub(crate) fn authority(
        what: &'static str,
        path: &Path,
        reason: impl std::fmt::Display,
    ) -> TlsError {
        TlsError::Authority {
            what,
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }

    pub(crate) fn unfit(certificate: &Path, reason: impl std::fmt::Display) -> TlsError {
        TlsError::Unfit {
            certificate: certificate.to_owned(),
            reason: reason.to_string(),
        }
    }
}
