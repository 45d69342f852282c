//! The key of a domain's tokens.

use std::path::Path;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::signature::{ED25519, UnparsedPublicKey, VerificationAlgorithm};
use rm_config::{Jwt, SignMethod};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::claims::Claims;
use crate::error::{KeyError, TokenError};
use crate::files::{self, Kind};
use crate::method::{Family, Signer, Verifier, family, wanted};

/// The longest token that is looked at, in bytes: room for the longest name of a user, in its longest spelling, and the largest signature.
pub const TOKEN_BYTES_MAX: usize = 4_096;

/// The config's names of the two files.
const PRIVATE: &str = "private_key";
const PUBLIC: &str = "public_key";

/// Makes tokens, if it is private, and recognises them.
pub struct Key {
    method: SignMethod,
    /// None if there is only a public key.
    signer: Option<Signer>,
    verifier: Verifier,
    /// For how long its tokens are good.
    ttl: Duration,
}

/// The head of a token. What else it may hold is passed over.
#[derive(Deserialize)]
struct Header {
    alg: String,
    /// What whoever reads the token must understand (RFC 7515, section 4.1.11). We understand none of it.
    crit: Option<serde_json::Value>,
}

/// The head of the tokens that are made here.
#[derive(Serialize)]
struct OwnHeader {
    alg: &'static str,
    typ: &'static str,
}

impl Key {
    /// Reads the files that the config names.
    ///
    /// # Errors
    /// One of them cannot be read, or holds no key that fits the method; or the two do not belong together.
    pub fn load(jwt: &Jwt) -> Result<Key, KeyError> {
        let method = jwt.sign_method;
        let (private, public) = (jwt.private_key.as_deref(), jwt.public_key.as_deref());
        let (signer, verifier) = match family(method) {
            Family::Rsa { signs, verifies } => pair(
                of(method, PRIVATE, private, |pem| files::rsa(pem, signs))?,
                of(method, PUBLIC, public, |pem| files::public(pem, &Kind::Rsa))?,
                public,
                verifies,
            )?,
            Family::Ecdsa {
                signs,
                verifies,
                curve,
            } => pair(
                of(method, PRIVATE, private, |pem| {
                    files::ecdsa(pem, signs, curve)
                })?,
                of(method, PUBLIC, public, |pem| {
                    files::public(pem, &Kind::Ecdsa(curve))
                })?,
                public,
                verifies,
            )?,
            Family::Ed25519 => pair(
                of(method, PRIVATE, private, files::ed25519)?,
                of(method, PUBLIC, public, |pem| {
                    files::public(pem, &Kind::Ed25519)
                })?,
                public,
                &ED25519,
            )?,
            Family::Secret {
                algorithm,
                bytes_min,
            } => {
                let secret = of(method, PRIVATE, private, |bytes| match bytes.len() {
                    few if few < bytes_min => Err(format!("holds only {few} bytes")),
                    _ => Ok(hmac::Key::new(algorithm, bytes)),
                })?;
                let secret = secret.ok_or(KeyError::Missing)?;
                let signer = Signer::Secret(secret.clone());
                (Some(signer), Verifier::Secret(secret))
            }
        };
        Ok(Key {
            method,
            signer,
            verifier,
            ttl: Duration::from_secs(jwt.ttl_seconds),
        })
    }

    /// Makes a token that stands for a user from now on, as of a revision of users, roles and permissions.
    ///
    /// # Errors
    /// [`TokenError::NoPrivateKey`] where this is only the public key; [`TokenError::NotSigned`].
    pub fn sign(&self, user: &str, revision: u64, now: SystemTime) -> Result<String, TokenError> {
        let claims = Claims::new(user, revision, now + self.ttl);
        let signer = self.signer.as_ref().ok_or(TokenError::NoPrivateKey)?;
        let header = OwnHeader {
            alg: self.method.name(),
            typ: "JWT",
        };
        let mut token = format!("{}.{}", encoded(&header)?, encoded(&claims)?);
        let signature = signer.sign(token.as_bytes());
        let signature = signature.map_err(|_| TokenError::NotSigned)?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }

    /// What a token says that this key has signed. Whether it is in time is left to [`Claims::are_in_time`].
    ///
    /// # Errors
    /// As [`TokenError`] says.
    pub fn recognise(&self, token: &str) -> Result<Claims, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed)?;
        let header: Header = decoded(header).ok_or(TokenError::Malformed)?;
        if header.alg != self.method.name() || header.crit.is_some() {
            return Err(TokenError::Method);
        }
        let signature = URL_SAFE_NO_PAD.decode(signature);
        let signature = signature.map_err(|_| TokenError::Malformed)?;
        let verified = self.verifier.verify(signed.as_bytes(), &signature);
        verified.map_err(|_| TokenError::Signature)?;
        decoded(claims).ok_or(TokenError::Claims)
    }
}

fn encoded(part: &impl Serialize) -> Result<String, TokenError> {
    let json = serde_json::to_vec(part).map_err(|_| TokenError::NotSigned)?;
    Ok(URL_SAFE_NO_PAD.encode(json))
}

fn decoded<T: DeserializeOwned>(part: &str) -> Option<T> {
    let json = URL_SAFE_NO_PAD.decode(part).ok()?;
    serde_json::from_slice(&json).ok()
}

/// What is in a file, if one is named.
fn of<T>(
    method: SignMethod,
    which: &'static str,
    path: Option<&Path>,
    parse: impl FnOnce(&[u8]) -> Result<T, String>,
) -> Result<Option<T>, KeyError> {
    let Some(path) = path else { return Ok(None) };
    let bytes = files::read(path).map_err(|reason| KeyError::file(which, path, reason))?;
    let unfit = |reason| KeyError::file(which, path, format!("{reason}: {}", wanted(method)));
    parse(&bytes).map(Some).map_err(unfit)
}

/// The two halves of a key, each as far as it is given.
fn pair(
    signer: Option<Signer>,
    public: Option<Vec<u8>>,
    public_path: Option<&Path>,
    verifies: &'static dyn VerificationAlgorithm,
) -> Result<(Option<Signer>, Verifier), KeyError> {
    let own = signer.as_ref().and_then(Signer::public).map(<[u8]>::to_vec);
    if let (Some(own), Some(public), Some(path)) = (&own, &public, public_path)
        && own != public
    {
        let reason = "is not that of auth.jwt.private_key: write it from that one with `openssl pkey -pubout`, or take it out";
        return Err(KeyError::file(PUBLIC, path, reason));
    }
    let public = own.or(public).ok_or(KeyError::Missing)?;
    let verifier = Verifier::Public(UnparsedPublicKey::new(verifies, public));
    Ok((signer, verifier))
}
