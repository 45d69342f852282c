//! What an operator says of TLS: whether the machines are asked by it, whom of them to believe, and what to show.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use rm_config::AddressError;
use rm_tls::{ClientFiles, Dialler};

use crate::client::Endpoint;
use crate::error::{Error, Result};

/// An endpoint as it is given on the command line, perhaps with a scheme.
#[derive(Clone, Debug)]
pub(crate) struct Url {
    pub(crate) endpoint: Endpoint,
    /// What the scheme says, if there is one.
    by_tls: Option<bool>,
}

impl FromStr for Url {
    type Err = AddressError;

    fn from_str(text: &str) -> std::result::Result<Self, AddressError> {
        let by_tls = match text.split_once("://") {
            Some(("https", _)) => Some(true),
            Some(("http", _)) => Some(false),
            _ => None,
        };
        let endpoint = text.parse()?;
        Ok(Url { endpoint, by_tls })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.endpoint.fmt(f)
    }
}

/// The flags about TLS, named as etcdctl's.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct TlsFlags {
    /// The authority that signed the machines' certificates (PEM), if not one that this host trusts
    #[arg(long, global = true, env = "RMCTL_CACERT", value_name = "FILE")]
    pub(crate) cacert: Option<PathBuf>,
    /// A certificate to show to the machines (PEM)
    #[arg(
        long,
        global = true,
        env = "RMCTL_CERT",
        value_name = "FILE",
        requires = "tls_key"
    )]
    pub(crate) cert: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(
        // Commands about keys have a KEY of their own.
        id = "tls_key",
        long = "key",
        global = true,
        env = "RMCTL_KEY",
        value_name = "FILE",
        requires = "cert"
    )]
    pub(crate) key: Option<PathBuf>,
    /// Believe whoever answers: for tests only, since anybody on the way can answer
    #[arg(long, global = true)]
    pub(crate) insecure_skip_tls_verify: bool,
}

impl TlsFlags {
    /// How to dial by TLS, if the machines are asked by it: when an endpoint or a flag says so.
    ///
    /// # Errors
    /// The endpoints and the flags contradict each other, or a file is of no use.
    pub(crate) fn dialler(&self, urls: &[Url]) -> Result<Option<Dialler>> {
        let asked_for = urls.iter().any(|url| url.by_tls == Some(true));
        if !asked_for && !self.any() {
            return Ok(None);
        }
        if let Some(plain) = urls.iter().find(|url| url.by_tls == Some(false)) {
            return Err(Error::Usage(format!(
                "http://{plain} is to be asked in plain, and another endpoint or a flag says TLS: write https:// for all, or take \
                 the flags out"
            )));
        }
        let files = ClientFiles {
            authority: self.cacert.clone(),
            identity: self.cert.clone().zip(self.key.clone()),
            believe_anybody: self.insecure_skip_tls_verify,
        };
        match Dialler::new(&files) {
            Ok(dialler) => Ok(Some(dialler)),
            Err(error) => Err(Error::Usage(error.to_string())),
        }
    }

    fn any(&self) -> bool {
        self.cacert.is_some() || self.cert.is_some() || self.insecure_skip_tls_verify
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(texts: &[&str]) -> Vec<Url> {
        let parsed = texts.iter().map(|text| text.parse().expect("an endpoint"));
        parsed.collect()
    }

    fn anybody() -> TlsFlags {
        TlsFlags {
            insecure_skip_tls_verify: true,
            ..TlsFlags::default()
        }
    }

    #[test]
    fn tls_is_spoken_when_an_endpoint_or_a_flag_says_so() -> Result<()> {
        let plain = TlsFlags::default();
        assert!(plain.dialler(&urls(&["a:1", "http://b:1"]))?.is_none());
        assert!(anybody().dialler(&urls(&["a:1"]))?.is_some());
        assert!(anybody().dialler(&urls(&["https://a:1", "b:1"]))?.is_some());
        Ok(())
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let refused = anybody().dialler(&urls(&["a:1", "http://b:1"]));
        let error = refused.expect_err("plain or not").to_string();
        assert!(error.contains("http://b:1"), "{error}");
    }

    #[test]
    fn a_file_of_no_use_is_named() {
        let flags = TlsFlags {
            cacert: Some("no/such/file".into()),
            ..TlsFlags::default()
        };
        let refused = flags.dialler(&urls(&["a:1"]));
        let error = refused.expect_err("no file").to_string();
        assert!(error.contains("no/such/file"), "{error}");
    }
}
