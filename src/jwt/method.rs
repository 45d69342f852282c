//! What each method of signing is to the library that does it, and which keys fit it.

use ring::rand::SystemRandom;
use ring::signature::{self, KeyPair, RsaEncoding, VerificationAlgorithm};
use ring::{error, hmac, rsa};
use rm_config::SignMethod;

/// What a method needs of a key.
pub(crate) enum Family {
    /// A key of RSA.
    Rsa {
        signs: &'static dyn RsaEncoding,
        verifies: &'static dyn VerificationAlgorithm,
    },
    /// A key of ECDSA on one curve.
    Ecdsa {
        signs: &'static signature::EcdsaSigningAlgorithm,
        verifies: &'static dyn VerificationAlgorithm,
        curve: &'static Curve,
    },
    /// A key of Ed25519.
    Ed25519,
    /// A secret of at least as many bytes as the hash has (RFC 7518, section 3.2).
    Secret {
        algorithm: hmac::Algorithm,
        bytes_min: usize,
    },
}

/// A curve, as keys name it.
pub(crate) struct Curve {
    /// Its object identifier, as text.
    pub(crate) id: &'static str,
    /// The same as DER, its tag and length before it.
    pub(crate) der: &'static [u8],
    /// How long a point on it is, uncompressed (SEC 1, section 2.3.3).
    pub(crate) point_bytes: usize,
}

static P256: Curve = Curve {
    id: "1.2.840.10045.3.1.7",
    der: &[6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7],
    point_bytes: 65,
};
static P384: Curve = Curve {
    id: "1.3.132.0.34",
    der: &[6, 5, 0x2b, 0x81, 4, 0, 0x22],
    point_bytes: 97,
};

/// What a method needs.
pub(crate) fn family(method: SignMethod) -> Family {
    let rsa = |signs, verifies| Family::Rsa { signs, verifies };
    let secret = |algorithm, bytes_min| Family::Secret {
        algorithm,
        bytes_min,
    };
    match method {
        SignMethod::Rs256 => rsa(
            &signature::RSA_PKCS1_SHA256,
            &signature::RSA_PKCS1_2048_8192_SHA256,
        ),
        SignMethod::Rs384 => rsa(
            &signature::RSA_PKCS1_SHA384,
            &signature::RSA_PKCS1_2048_8192_SHA384,
        ),
        SignMethod::Rs512 => rsa(
            &signature::RSA_PKCS1_SHA512,
            &signature::RSA_PKCS1_2048_8192_SHA512,
        ),
        SignMethod::Ps256 => rsa(
            &signature::RSA_PSS_SHA256,
            &signature::RSA_PSS_2048_8192_SHA256,
        ),
        SignMethod::Ps384 => rsa(
            &signature::RSA_PSS_SHA384,
            &signature::RSA_PSS_2048_8192_SHA384,
        ),
        SignMethod::Ps512 => rsa(
            &signature::RSA_PSS_SHA512,
            &signature::RSA_PSS_2048_8192_SHA512,
        ),
        SignMethod::Es256 => Family::Ecdsa {
            signs: &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
            verifies: &signature::ECDSA_P256_SHA256_FIXED,
            curve: &P256,
        },
        SignMethod::Es384 => Family::Ecdsa {
            signs: &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
            verifies: &signature::ECDSA_P384_SHA384_FIXED,
            curve: &P384,
        },
        SignMethod::EdDsa => Family::Ed25519,
        SignMethod::Hs256 => secret(hmac::HMAC_SHA256, 32),
        SignMethod::Hs384 => secret(hmac::HMAC_SHA384, 48),
        SignMethod::Hs512 => secret(hmac::HMAC_SHA512, 64),
    }
}

/// Which key a method needs, and how one is made.
pub(crate) fn wanted(method: SignMethod) -> String {
    let (key, made) = match method {
        SignMethod::Rs256
        | SignMethod::Rs384
        | SignMethod::Rs512
        | SignMethod::Ps256
        | SignMethod::Ps384
        | SignMethod::Ps512 => (
            "an RSA key of 2048 to 4096 bits",
            "openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048",
        ),
        SignMethod::Es256 => (
            "an ECDSA key on the curve P-256",
            "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256",
        ),
        SignMethod::Es384 => (
            "an ECDSA key on the curve P-384",
            "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384",
        ),
        SignMethod::EdDsa => ("an Ed25519 key", "openssl genpkey -algorithm ED25519"),
        SignMethod::Hs256 => ("a secret of 32 bytes or more", "openssl rand 32"),
        SignMethod::Hs384 => ("a secret of 48 bytes or more", "openssl rand 48"),
        SignMethod::Hs512 => ("a secret of 64 bytes or more", "openssl rand 64"),
    };
    format!("{method} needs {key}, as `{made}` makes one")
}

/// What signs.
pub(crate) enum Signer {
    Rsa(rsa::KeyPair, &'static dyn RsaEncoding),
    Ecdsa(signature::EcdsaKeyPair),
    Ed25519(signature::Ed25519KeyPair),
    Secret(hmac::Key),
}

impl Signer {
    pub(crate) fn sign(&self, text: &[u8]) -> Result<Vec<u8>, error::Unspecified> {
        let random = SystemRandom::new();
        match self {
            Signer::Rsa(key, encoding) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(*encoding, &random, text, &mut signature)?;
                Ok(signature)
            }
            Signer::Ecdsa(key) => Ok(key.sign(&random, text)?.as_ref().to_vec()),
            Signer::Ed25519(key) => Ok(key.sign(text).as_ref().to_vec()),
            Signer::Secret(key) => Ok(hmac::sign(key, text).as_ref().to_vec()),
        }
    }

    /// What verifies what it has signed, as ring wants it; none where that is the same secret.
    pub(crate) fn public(&self) -> Option<&[u8]> {
        match self {
            Signer::Rsa(key, _) => Some(key.public_key().as_ref()),
            Signer::Ecdsa(key) => Some(key.public_key().as_ref()),
            Signer::Ed25519(key) => Some(key.public_key().as_ref()),
            Signer::Secret(_) => None,
        }
    }
}

/// What verifies.
pub(crate) enum Verifier {
    Public(signature::UnparsedPublicKey<Vec<u8>>),
    Secret(hmac::Key),
}

impl Verifier {
    pub(crate) fn verify(&self, text: &[u8], signature: &[u8]) -> Result<(), error::Unspecified> {
        match self {
            Verifier::Public(key) => key.verify(text, signature),
            Verifier::Secret(key) => hmac::verify(key, text, signature),
        }
    }
}
