//! PEM files: what they hold, and whether they have changed since.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls_pki_types::pem::{Error as PemError, PemObject};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use crate::TlsError;

/// The largest file that is read, in bytes: the authorities of a whole host have a quarter of a MiB.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// The certificates of a file, at least one.
pub(crate) fn certificates(
    what: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    all(what, path, "holds no certificate")
}

/// The lists of revoked certificates of a file, at least one.
pub(crate) fn revocations(
    what: &'static str,
    path: &Path,
) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    all(what, path, "holds no list of revoked certificates")
}

/// The private key of a file.
pub(crate) fn key(what: &'static str, path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = read(what, path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
        PemError::NoItemsFound => TlsError::file(what, path, "holds no private key"),
        error => no_pem(what, path, &error),
    })
}

/// The authorities of a file.
pub(crate) fn authorities(what: &'static str, path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for root in certificates(what, path)? {
        roots
            .add(root)
            .map_err(|error| TlsError::authority(what, path, error))?;
    }
    Ok(roots)
}

fn all<T: PemObject>(
    what: &'static str,
    path: &Path,
    nothing: &'static str,
) -> Result<Vec<T>, TlsError> {
    let text = read(what, path)?;
    let items: Result<Vec<T>, PemError> = T::pem_slice_iter(&text).collect();
    match items {
        Ok(items) if items.is_empty() => Err(TlsError::file(what, path, nothing)),
        Ok(items) => Ok(items),
        Err(error) => Err(no_pem(what, path, &error)),
    }
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let unreadable =
        |error: std::io::Error| TlsError::file(what, path, format!("cannot be read ({error})"));
    if fs::metadata(path).map_err(unreadable)?.len() > FILE_BYTES_MAX {
        let reason = format!("has more than {FILE_BYTES_MAX} bytes");
        return Err(TlsError::file(what, path, reason));
    }
    fs::read(path).map_err(unreadable)
}

fn no_pem(what: &'static str, path: &Path, error: &PemError) -> TlsError {
    TlsError::file(what, path, format!("is no PEM file ({error})"))
}

/// By what a change of files is noticed: the size of each, and when it was written or put in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stamps(Vec<Option<(SystemTime, SystemTime, u64)>>);

impl Stamps {
    pub(crate) fn of<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Stamps {
        let stamp = |path: &PathBuf| {
            let file = fs::metadata(path).ok()?;
            let never = SystemTime::UNIX_EPOCH;
            // A file that another was renamed over may be as old as it likes.
            let changed = file.created().unwrap_or(never);
            Some((file.modified().unwrap_or(never), changed, file.len()))
        };
        Stamps(paths.into_iter().map(stamp).collect())
    }
}
