//! The end that serves: its certificate, and whom it lets in.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::CertificateRevocationListDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::files::{self, Stamps};
use crate::subject::common_name;
use crate::{TlsError, protocols, provider};

const CERTIFICATE: &str = "the certificate for clients";
const KEY: &str = "the private key of the certificate for clients";
const CLIENT_AUTHORITY: &str = "the authority of clients' certificates";
const REVOKED: &str = "the list of clients' revoked certificates";

static NEWEST: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13];

/// The oldest version of TLS that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// TLS 1.2 (RFC 5246).
    #[default]
    Tls12,
    /// TLS 1.3 (RFC 8446).
    Tls13,
}

impl Version {
    fn and_newer(self) -> &'static [&'static SupportedProtocolVersion] {
        match self {
            Version::Tls12 => rustls::ALL_VERSIONS,
            Version::Tls13 => NEWEST,
        }
    }
}

/// What a machine proves itself with to clients, and what clients have to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFiles {
    /// Its certificate, with those between it and the authority.
    pub certificate: PathBuf,
    /// The certificate's private key.
    pub key: PathBuf,
    /// The authority that signs clients' certificates. With it whoever shows none that it signed is not let in.
    pub client_authority: Option<PathBuf>,
    /// The lists of those among them that are revoked.
    pub revoked: Option<PathBuf>,
    /// The oldest version of TLS.
    pub version_min: Version,
}

impl ServerFiles {
    fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        let always = [&self.certificate, &self.key];
        let perhaps = [&self.client_authority, &self.revoked];
        always.into_iter().chain(perhaps.into_iter().flatten())
    }

    fn load(&self) -> Result<ServerConfig, TlsError> {
        let chain = files::certificates(CERTIFICATE, &self.certificate)?;
        let key = files::key(KEY, &self.key)?;
        let unfit = |error| TlsError::unfit(&self.certificate, error);
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(self.version_min.and_newer())
            .map_err(unfit)?;
        let builder = match &self.client_authority {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let roots = files::authorities(CLIENT_AUTHORITY, path)?;
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
                        .with_crls(self.revocations()?)
                        // As etcd has it: the lists name those that are out, and need not cover each authority.
                        .allow_unknown_revocation_status()
                        .build()
                        .map_err(|error| TlsError::authority(CLIENT_AUTHORITY, path, error))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(unfit)?;
        config.alpn_protocols = protocols();
        // Nobody comes back into a session whose certificate may be revoked by now. Connections of gRPC are few and long.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    fn revocations(&self) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
        match &self.revoked {
            None => Ok(Vec::new()),
            Some(path) => files::revocations(REVOKED, path),
        }
    }
}

/// Lets clients in by TLS. What is in force can be changed while it does. Cheap to clone.
#[derive(Clone)]
pub struct Acceptor(Arc<Inner>);

struct Inner {
    files: ServerFiles,
    in_force: ArcSwap<ServerConfig>,
    /// What the files were when they were looked at last.
    seen: Mutex<Stamps>,
}

impl Acceptor {
    /// Reads the files.
    ///
    /// # Errors
    /// One of them is of no use, or they do not fit together.
    pub fn new(files: ServerFiles) -> Result<Acceptor, TlsError> {
        // Before they are read: what changes meanwhile is read again.
        let seen = Stamps::of(files.paths());
        let config = files.load()?;
        Ok(Acceptor(Arc::new(Inner {
            in_force: ArcSwap::from_pointee(config),
            seen: Mutex::new(seen),
            files,
        })))
    }

    /// Reads the files again if they have changed since they were read last, and takes them into force for connections that
    /// come from then on. Tells whether it did. It reads from the disk: call it where that may take a while.
    ///
    /// # Errors
    /// What they hold now is of no use; what was in force stays. They are read again at the next call: what kept them from being read may
    /// pass without a change of theirs.
    pub fn refresh(&self) -> Result<bool, TlsError> {
        let files = &self.0.files;
        let now = Stamps::of(files.paths());
        let mut seen = self
            .0
            .seen
            .lock()
            .unwrap_or_else(|broken| broken.into_inner());
        if *seen == now {
            return Ok(false);
        }
        self.0.in_force.store(Arc::new(files.load()?));
        *seen = now;
        Ok(true)
    }

    /// Takes a connection.
    ///
    /// # Errors
    /// The other end does not speak TLS, not a version that is known, or shows no certificate that it must. What it is told of that is
    /// written into the connection, which comes back: who closes it at once may have it lost.
    pub async fn accept<S>(&self, stream: S) -> Result<Accepted<S>, (io::Error, S)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let acceptor = TlsAcceptor::from(self.0.in_force.load_full());
        let stream = acceptor.accept(stream).into_fallible().await?;
        let chain = stream.get_ref().1.peer_certificates();
        let common_name = chain.and_then(|chain| common_name(chain.first()?));
        Ok(Accepted {
            stream,
            common_name,
        })
    }
}

/// A connection that was taken.
#[derive(Debug)]
pub struct Accepted<S> {
    /// What is said on it, in plain.
    pub stream: TlsStream<S>,
    /// The common name of the certificate that the client showed, whose authority was checked. None where it was not asked for.
    pub common_name: Option<String>,
}
