//! What a machine proves itself with: certificates from PEM files, or self-made ones on loopback.
//!
//! With files, TLS is mutual: each end presents its certificate, which must be signed by the domain's CA, serve as
//! server and as client, and name the machine's host ([`crate::Peer::host`]) as a subject alternative name. The host and not the machine's
//! name, because a name such as `RM.01` is no valid DNS name.
//!
//! Self-made certificates encrypt and prove nothing: each end takes any certificate, and what the first frame says is
//! believed. That is for loopback only, where whoever can send can as well read the config.

use std::{path::Path, sync::Arc};

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use ring::hmac;
use rustls::{
    DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    server::{ParsedCertificate, WebPkiClientVerifier},
};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime, pem::PemObject,
};

use crate::{Peer, RefusedBecause, WireError};

const ALPN: &[u8] = b"raft-machine/1";
/// What a dialler asks for where certificates are not looked at.
const ANY_HOST: &str = "raft-machine";

/// A machine's certificates, ready for both halves. Cheap to clone.
#[derive(Clone)]
pub struct Credentials {
    pub(crate) client: Arc<QuicClientConfig>,
    pub(crate) server: Arc<QuicServerConfig>,
    /// Signs stateless resets. The same after a restart of the process, so that peers learn at once that the
    /// process which they were connected to is no more.
    pub(crate) reset_key: Arc<hmac::Key>,
    verified: bool,
}

impl Credentials {
    /// Makes a key and a certificate of its own, in memory. For loopback only: see the module's documentation.
    ///
    /// `seed` is what the stateless resets are derived from; give each machine its own, the same after every restart
    /// (domain and name, say).
    ///
    /// # Errors
    /// [`WireError::Certificates`] if the system yields no randomness.
    pub fn self_made(seed: &str) -> Result<Credentials, WireError> {
        let made =
            rcgen::generate_simple_self_signed(vec![ANY_HOST.to_owned()]).map_err(unusable)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let chain = vec![made.cert.der().clone()];
        let provider = provider();
        let client = client_builder(&provider)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider.clone())))
            .with_no_client_auth();
        let server = server_builder(&provider)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(unusable)?;
        Credentials::assemble(client, server, seed.as_bytes(), false)
    }

    /// Loads the CA's certificates, this machine's certificate chain and its private key.
    ///
    /// # Errors
    /// [`WireError::Pem`] for a file that cannot be read, [`WireError::Certificates`] when they do not fit together.
    pub fn from_pem_files(
        ca: &Path,
        certificate: &Path,
        key: &Path,
    ) -> Result<Credentials, WireError> {
        let mut roots = RootCertStore::empty();
        for root in read_certificates("CA certificates", ca)? {
            roots.add(root).map_err(unusable)?;
        }
        let chain = read_certificates("this machine's certificate", certificate)?;
        let private = PrivateKeyDer::from_pem_file(key)
            .map_err(|error| pem_error("this machine's private key", key, error))?;

        let roots = Arc::new(roots);
        let provider = provider();
        let client_verifier =
            WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
                .build()
                .map_err(unusable)?;
        let client = client_builder(&provider)?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain.clone(), private.clone_key())
            .map_err(unusable)?;
        let seed = private.secret_der().to_vec();
        let server = server_builder(&provider)?
            .with_client_cert_verifier(client_verifier)
            .with_single_cert(chain, private)
            .map_err(unusable)?;
        Credentials::assemble(client, server, &seed, true)
    }

    fn assemble(
        mut client: rustls::ClientConfig,
        mut server: rustls::ServerConfig,
        seed: &[u8],
        verified: bool,
    ) -> Result<Credentials, WireError> {
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.resumption = rustls::client::Resumption::disabled();
        server.alpn_protocols = vec![ALPN.to_vec()];
        server.send_tls13_tickets = 0;
        let seed = hmac::Key::new(hmac::HMAC_SHA256, seed);
        let reset = hmac::sign(&seed, b"raft-machine stateless reset");
        Ok(Credentials {
            client: Arc::new(client.try_into().map_err(unusable)?),
            server: Arc::new(server.try_into().map_err(unusable)?),
            reset_key: Arc::new(hmac::Key::new(hmac::HMAC_SHA256, reset.as_ref())),
            verified,
        })
    }

    /// The host that the certificate of `peer` must name when this machine dials it.
    pub(crate) fn host_of<'a>(&self, peer: &'a Peer) -> &'a str {
        if self.verified { &peer.host } else { ANY_HOST }
    }

    /// That a certificate whose chain TLS has verified belongs to `peer`, which dialled this machine.
    pub(crate) fn check_dialler(
        &self,
        connection: &quinn::Connection,
        peer: &Peer,
    ) -> Result<(), RefusedBecause> {
        if !self.verified {
            return Ok(());
        }
        let refuse = |reason: String| RefusedBecause::Certificate {
            name: peer.name.clone(),
            host: peer.host.clone(),
            reason,
        };
        let chain = connection
            .peer_identity()
            .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok())
            .ok_or_else(|| refuse("it presented none".to_owned()))?;
        let certificate = chain
            .first()
            .ok_or_else(|| refuse("it presented none".to_owned()))?;
        let parsed = ParsedCertificate::try_from(certificate).map_err(|e| refuse(e.to_string()))?;
        let host = ServerName::try_from(peer.host.as_str()).map_err(|e| refuse(e.to_string()))?;
        rustls::client::verify_server_name(&parsed, &host).map_err(|e| refuse(e.to_string()))
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("verified", &self.verified)
            .finish_non_exhaustive()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn client_builder(
    provider: &Arc<CryptoProvider>,
) -> Result<rustls::ConfigBuilder<rustls::ClientConfig, rustls::WantsVerifier>, WireError> {
    rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)
}

fn server_builder(
    provider: &Arc<CryptoProvider>,
) -> Result<rustls::ConfigBuilder<rustls::ServerConfig, rustls::WantsVerifier>, WireError> {
    rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unusable)
}

fn read_certificates(
    what: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, WireError> {
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| pem_error(what, path, error))?;
    if certificates.is_empty() {
        return Err(WireError::Pem {
            what,
            path: path.to_owned(),
            reason: "it holds no certificate".to_owned(),
        });
    }
    Ok(certificates)
}

fn pem_error(what: &'static str, path: &Path, error: rustls_pki_types::pem::Error) -> WireError {
    WireError::Pem {
        what,
        path: path.to_owned(),
        reason: error.to_string(),
    }
}

fn unusable(error: impl std::fmt::Display) -> WireError {
    WireError::Certificates(error.to_string())
}

/// Takes any certificate, but holds its owner to the key in it.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
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
