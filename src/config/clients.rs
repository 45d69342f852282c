//! The part of the config that is about the port for clients.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How machines and their clients prove to each other who they are, and how they find out that the other is gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Clients {
    /// Certificates for TLS; without them whatever clients say and are told can be read on the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ClientTls>,
    /// The shortest pause between two pings of a client that is told nothing meanwhile, in seconds. One that pings sooner three times is
    /// sent away. 0 for no such rule (etcd: --grpc-keepalive-min-time).
    pub keepalive_min_seconds: u64,
    /// A client that is silent for so long, in seconds, is asked whether it is still there; 0 for never (etcd: --grpc-keepalive-interval).
    pub keepalive_interval_seconds: u64,
    /// How long it has to answer, in seconds, at least 1 (etcd: --grpc-keepalive-timeout).
    pub keepalive_timeout_seconds: u64,
}

impl Default for Clients {
    fn default() -> Self {
        Clients {
            tls: None,
            keepalive_min_seconds: 5,
            keepalive_interval_seconds: 2 * 60 * 60,
            keepalive_timeout_seconds: 20,
        }
    }
}

/// Files of certificates, in PEM. They are read again when they change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientTls {
    /// This machine's certificate, for clients (etcd: --cert-file). It names the host of `machines[].client`. With `client_ca` it also
    /// serves as that of a client, since a machine that joins, or hears no leader, asks the others.
    pub certificate: PathBuf,
    /// Its private key (etcd: --key-file).
    pub key: PathBuf,
    /// The authority that signed the certificates of the other machines; if absent, one of those that the host trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// The authority that signs clients' certificates: with it whoever shows none that it signed is refused, and the common name
    /// stands for a user (etcd: --trusted-ca-file with --client-cert-auth).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
    /// The lists of clients' certificates that are revoked (etcd: --client-crl-file).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_revoked: Option<PathBuf>,
    /// The oldest version of TLS that is spoken (etcd: --tls-min-version).
    #[serde(default)]
    pub version_min: TlsVersion,
}

impl ClientTls {
    /// Each file, with its key in the config.
    pub(crate) fn files(&mut self) -> impl Iterator<Item = (&'static str, &mut PathBuf)> {
        let always = [
            ("certificate", &mut self.certificate),
            ("key", &mut self.key),
        ];
        let perhaps = [
            ("ca", &mut self.ca),
            ("client_ca", &mut self.client_ca),
            ("client_revoked", &mut self.client_revoked),
        ];
        let perhaps = perhaps.into_iter();
        let given = perhaps.filter_map(|(key, path)| Some((key, path.as_mut()?)));
        always.into_iter().chain(given)
    }
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TlsVersion {
    /// RFC 5246.
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    /// RFC 8446.
    #[serde(rename = "1.3")]
    Tls13,
}
