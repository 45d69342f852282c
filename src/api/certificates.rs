//! What a machine proves itself with on the port for clients: to those that come, and to the machines that it asks.

use std::time::Duration;

use rm_actors::port::{ClientTls, Config, TlsVersion};
use rm_tls::{Acceptor, ClientFiles, Dialler, ServerFiles, TlsError, Version};
use slog::{Logger, error, info};
use tonic::transport::{Channel, Endpoint};

/// How often it is looked whether the files have changed.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// The certificates of the config; none where clients are served in plain. Cheap to clone.
#[derive(Clone)]
pub struct Certificates(Option<Given>);

#[derive(Clone)]
struct Given {
    acceptor: Acceptor,
    /// What is shown to the other machines, and whom of them to believe. Seldom used, and read each time.
    asking: ClientFiles,
}

impl Certificates {
    /// Reads the files that the config names.
    ///
    /// # Errors
    /// One of them is of no use, or they do not fit together.
    pub fn of(config: &Config) -> Result<Certificates, TlsError> {
        let Some(tls) = &config.clients.tls else {
            return Ok(Certificates(None));
        };
        let asking = ClientFiles {
            authority: tls.ca.clone(),
            identity: Some((tls.certificate.clone(), tls.key.clone())),
            believe_anybody: false,
        };
        if tls.ca.is_some() {
            // To be told now what is wrong, and not when it is needed.
            Dialler::new(&asking)?;
        }
        let acceptor = Acceptor::new(server_files(tls))?;
        Ok(Certificates(Some(Given { acceptor, asking })))
    }

    /// By what clients come in, if not in plain.
    pub(crate) fn acceptor(&self) -> Option<Acceptor> {
        Some(self.0.as_ref()?.acceptor.clone())
    }

    /// Connects to another machine's port for clients, which is served as this machine's is.
    ///
    /// # Errors
    /// Why not.
    pub(crate) async fn connect(
        &self,
        address: &str,
        patience: Duration,
    ) -> Result<Channel, String> {
        let scheme = scheme(self.0.is_some());
        let endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))
            .map_err(|error| error.to_string())?
            .connect_timeout(patience)
            .timeout(patience);
        let connected = match &self.0 {
            None => endpoint.connect().await,
            Some(given) => {
                let dialler = Dialler::new(&given.asking).map_err(|error| error.to_string())?;
                dialler.connect(&endpoint).await
            }
        };
        connected.map_err(|error| innermost(&error))
    }

    /// Takes files that have changed into force, for as long as it is polled.
    pub(crate) async fn look_after(&self, log: &Logger) {
        let Some(given) = &self.0 else {
            return std::future::pending().await;
        };
        let mut told = None;
        loop {
            tokio::time::sleep(LOOK_PAUSE).await;
            let acceptor = given.acceptor.clone();
            let looked = tokio::task::spawn_blocking(move || acceptor.refresh()).await;
            let fault = match looked {
                Ok(Ok(false)) => None,
                Ok(Ok(true)) => {
                    info!(
                        log,
                        "the certificates for clients have changed and are in force"
                    );
                    None
                }
                Ok(Err(fault)) => Some(fault.to_string()),
                Err(fault) => Some(fault.to_string()),
            };
            // They are read again each time; what is wrong with them is told once.
            if let Some(fault) = fault.as_ref().filter(|_| fault != told) {
                error!(log, "the certificates for clients have changed and are of no use: those of before stay in force"; "error" => fault)
            }
            told = fault;
        }
    }
}

/// The scheme of the URLs at which clients are served.
pub(crate) fn scheme(by_tls: bool) -> &'static str {
    if by_tls { "https" } else { "http" }
}

fn server_files(tls: &ClientTls) -> ServerFiles {
    ServerFiles {
        certificate: tls.certificate.clone(),
        key: tls.key.clone(),
        client_authority: tls.client_ca.clone(),
        revoked: tls.client_revoked.clone(),
        version_min: match tls.version_min {
            TlsVersion::Tls12 => Version::Tls12,
            TlsVersion::Tls13 => Version::Tls13,
        },
    }
}

/// The error at the bottom: the text of tonic's own says only that there is one.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}
