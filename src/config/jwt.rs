//! The part of the config that is about tokens which a key signs (JSON web tokens, RFC 7519).

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Config;
use crate::error::Problem;

/// The keys that sign tokens and by which they are recognised; the files are read when the machine starts, and not again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jwt {
    /// How tokens are signed; the same on all machines (etcd: sign-method).
    pub sign_method: SignMethod,
    /// The private key, in PEM, or the secret of an HS method, as it is in the file (etcd: priv-key). Without it the machine gives out
    /// no tokens, and only recognises those of others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_key: Option<PathBuf>,
    /// The public key, in PEM; needed where there is no private one (etcd: pub-key).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<PathBuf>,
    /// For how long a token stands for its user, in seconds, at least 1, whether it is used or not (etcd: ttl).
    #[serde(default = "default_ttl_seconds")]
    pub ttl_seconds: u64,
}

fn default_ttl_seconds() -> u64 {
    300
}

impl Jwt {
    /// Each file, with its key in the config.
    pub(crate) fn files(&mut self) -> impl Iterator<Item = (&'static str, &mut PathBuf)> {
        let perhaps = [
            ("private_key", &mut self.private_key),
            ("public_key", &mut self.public_key),
        ];
        let perhaps = perhaps.into_iter();
        perhaps.filter_map(|(key, path)| Some((key, path.as_mut()?)))
    }
}

/// How tokens are signed (RFC 7518, section 3.1, and RFC 8037).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SignMethod {
    /// RSA in the format of PKCS #1, with SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
    /// The same with SHA-384.
    #[serde(rename = "RS384")]
    Rs384,
    /// The same with SHA-512.
    #[serde(rename = "RS512")]
    Rs512,
    /// RSA in the format PSS, with SHA-256.
    #[serde(rename = "PS256")]
    Ps256,
    /// The same with SHA-384.
    #[serde(rename = "PS384")]
    Ps384,
    /// The same with SHA-512.
    #[serde(rename = "PS512")]
    Ps512,
    /// ECDSA on the curve P-256, with SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// ECDSA on the curve P-384, with SHA-384.
    #[serde(rename = "ES384")]
    Es384,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// A secret that all machines share, with SHA-256.
    #[serde(rename = "HS256")]
    Hs256,
    /// The same with SHA-384.
    #[serde(rename = "HS384")]
    Hs384,
    /// The same with SHA-512.
    #[serde(rename = "HS512")]
    Hs512,
}

impl SignMethod {
    /// Its name in a token's header.
    pub fn name(self) -> &'static str {
        match self {
            SignMethod::Rs256 => "RS256",
            SignMethod::Rs384 => "RS384",
            SignMethod::Rs512 => "RS512",
            SignMethod::Ps256 => "PS256",
            SignMethod::Ps384 => "PS384",
            SignMethod::Ps512 => "PS512",
            SignMethod::Es256 => "ES256",
            SignMethod::Es384 => "ES384",
            SignMethod::EdDsa => "EdDSA",
            SignMethod::Hs256 => "HS256",
            SignMethod::Hs384 => "HS384",
            SignMethod::Hs512 => "HS512",
        }
    }

    /// Whether one secret signs and recognises tokens.
    fn has_one_secret(self) -> bool {
        matches!(
            self,
            SignMethod::Hs256 | SignMethod::Hs384 | SignMethod::Hs512
        )
    }
}

impl fmt::Display for SignMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which keys there must be. What is in their files is seen when the machine starts.
pub(crate) fn check(config: &Config) -> Option<Problem> {
    let jwt = config.auth.jwt.as_ref()?;
    let method = jwt.sign_method;
    let (key, text) = match (method.has_one_secret(), &jwt.private_key, &jwt.public_key) {
        (true, None, _) => (
            "private_key",
            format!(
                "is missing: {method} signs and recognises tokens by one secret; name its file"
            ),
        ),
        (true, Some(_), Some(_)) => (
            "public_key",
            format!("is of no use to {method}, which has one secret: take it out"),
        ),
        (false, None, None) => (
            "private_key",
            "is missing, and public_key too: name the file of the private key, or only that of the public one where the machine is to \
             recognise tokens and give out none"
                .to_owned(),
        ),
        _ => return None,
    };
    Some(Problem::new(format!("auth.jwt.{key}"), text))
}
