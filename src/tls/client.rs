//! The end that asks: whom it believes, and what it shows.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use tower_service::Service;

use crate::{TlsError, files, protocols, provider};

const AUTHORITY: &str = "the authority of the machines' certificates";
const CERTIFICATE: &str = "the certificate to show";
const KEY: &str = "the private key of the certificate to show";

/// Whom a client believes, and what it shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientFiles {
    /// The authority that signed the machines' certificates; none for those that the host trusts.
    pub authority: Option<PathBuf>,
    /// A certificate to show, with its private key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Believe whoever answers.
    pub believe_anybody: bool,
}

/// Dials machines by TLS. Cheap to clone.
#[derive(Clone)]
pub struct Dialler(Arc<ClientConfig>);

impl std::fmt::Debug for Dialler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Dialler").finish()
    }
}

impl Dialler {
    /// Reads the files.
    ///
    /// # Errors
    /// One of them is of no use, or they do not fit together; or there is no authority to believe.
    pub fn new(files: &ClientFiles) -> Result<Dialler, TlsError> {
        let provider = provider();
        let verifier: Arc<dyn ServerCertVerifier> = if files.believe_anybody {
            Arc::new(Anybody(provider.clone()))
        } else {
            let (what, roots) = match &files.authority {
                Some(path) => (path.clone(), files::authorities(AUTHORITY, path)?),
                None => (PathBuf::from("of this host"), trusted_by_the_host()?),
            };
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .build()
                .map_err(|error| TlsError::authority(AUTHORITY, &what, error))?
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider knows the versions of its own default")
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &files.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => builder
                .with_client_auth_cert(
                    files::certificates(CERTIFICATE, certificate)?,
                    files::key(KEY, key)?,
                )
                .map_err(|error| TlsError::unfit(certificate, error))?,
        };
        config.alpn_protocols = protocols();
        Ok(Dialler(Arc::new(config)))
    }

    /// Dials a port.
    ///
    /// # Errors
    /// Nobody is there, or it does not prove that it is `host`.
    pub async fn dial(&self, host: &str, port: u16) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let stream = TcpStream::connect((host, port)).await?;
        // Else a request may wait for the acknowledgement of the one before.
        stream.set_nodelay(true)?;
        TlsConnector::from(self.0.clone())
            .connect(name, stream)
            .await
    }

    /// Connects a channel of gRPC whose address begins with `https`.
    ///
    /// # Errors
    /// As [`Dialler::dial`].
    pub async fn connect(&self, endpoint: &Endpoint) -> Result<Channel, tonic::transport::Error> {
        endpoint.connect_with_connector(Dials(self.clone())).await
    }

    /// As [`Dialler::connect`], when it is first used.
    pub fn connect_lazily(&self, endpoint: &Endpoint) -> Channel {
        endpoint.connect_with_connector_lazy(Dials(self.clone()))
    }
}

/// A dialler as tonic asks for it.
struct Dials(Dialler);

impl Service<Uri> for Dials {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let dialler = self.0.clone();
        Box::pin(async move {
            let host = uri.host().unwrap_or_default();
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let port = uri.port_u16().unwrap_or(443);
            Ok(TokioIo::new(dialler.dial(host, port).await?))
        })
    }
}

fn trusted_by_the_host() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let reasons: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        return Err(TlsError::NoAuthorities(reasons.join("; ")));
    }
    Ok(roots)
}

/// Believes any certificate, but holds its owner to the key in it.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
