//! What a migration may be told.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::bench;
use crate::client::{Endpoints, User};
use crate::error::Result;
use crate::tls::{TlsFlags, Url};

/// What a migration may be told.
#[derive(Args, Clone, Debug)]
pub(crate) struct MigrateFlags {
    /// The client addresses of the etcd to move from, host:port with commas between them, or https://host:port. The domain to move into
    /// is that of --endpoints
    #[arg(
        long,
        env = "RMCTL_FROM",
        value_name = "ENDPOINTS",
        value_delimiter = ',',
        required = true
    )]
    from: Vec<Url>,
    /// On whose behalf to read from the source
    #[arg(
        long,
        env = "RMCTL_FROM_USER",
        hide_env_values = true,
        value_name = "NAME:PASSWORD"
    )]
    from_user: Option<User>,
    #[command(flatten)]
    tls: FromTls,
    /// Move only the keys that begin with this
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(super) prefix: String,
    /// What stands at the target in place of the prefix
    #[arg(long, value_name = "PREFIX", conflicts_with = "no_dest_prefix")]
    pub(super) dest_prefix: Option<String>,
    /// Leave the prefix away at the target
    #[arg(long)]
    pub(super) no_dest_prefix: bool,
    /// Have the target's range become as the source's, whatever it holds: other values are overwritten, keys that the source has not
    /// are deleted
    #[arg(long)]
    pub(super) force: bool,
    /// Go on with what the source changes, until Ctrl-C; then catch up with the source, compare, and end
    #[arg(long)]
    pub(super) follow: bool,
    /// End by itself once it has caught up
    #[arg(long, requires = "follow")]
    pub(super) until_caught_up: bool,
    /// The most operations of a transaction at the target
    #[arg(long, value_name = "COUNT", default_value_t = 128, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) max_txn_ops: u16,
    /// How many seconds a cluster that does not answer is waited for, once it has answered before
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = bench::seconds)]
    pub(super) patience: Duration,
}

/// TLS to the source, as the flags for every command have it for the target.
#[derive(Args, Clone, Debug)]
struct FromTls {
    /// The authority that signed the source's certificates (PEM), if not one that this host trusts
    #[arg(long, value_name = "FILE")]
    from_cacert: Option<PathBuf>,
    /// A certificate to show to the source (PEM)
    #[arg(long, value_name = "FILE", requires = "from_key")]
    from_cert: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(long, value_name = "FILE", requires = "from_cert")]
    from_key: Option<PathBuf>,
    /// Believe whoever answers as the source: for tests only
    #[arg(long)]
    from_insecure_skip_tls_verify: bool,
}

impl MigrateFlags {
    /// The way to the source.
    ///
    /// # Errors
    /// The endpoints and the flags contradict each other, or a file is of no use.
    pub(super) fn source(&self, timeout: Duration) -> Result<Endpoints> {
        let tls = TlsFlags {
            cacert: self.tls.from_cacert.clone(),
            cert: self.tls.from_cert.clone(),
            key: self.tls.from_key.clone(),
            insecure_skip_tls_verify: self.tls.from_insecure_skip_tls_verify,
        };
        Ok(Endpoints {
            dialler: tls.dialler(&self.from)?,
            list: self.from.iter().map(|url| url.endpoint.clone()).collect(),
            timeout,
            user: self.from_user.clone(),
        })
    }
}
