//! Keys from files: PEM, and what is in it.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use ring::rand::SystemRandom;
use ring::signature::{EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, RsaEncoding};
use ring::{error::KeyRejected, rsa};
use x509_parser::certificate::X509Certificate;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::{PublicKey, RSAPublicKey};
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::method::{Curve, Signer};

/// The largest file that is read as a key.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// The key of ECDSA among the kinds of keys (RFC 5480, section 2.1.1), and that of Ed25519 (RFC 8410).
const EC_ID: &str = "1.2.840.10045.2.1";
const ED25519_ID: &str = "1.3.101.112";

/// The first as DER, its tag and length before it.
const EC_DER: &[u8] = &[6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];

/// The sizes of the keys of RSA that ring verifies by, in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// All of a file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let cannot = |error: io::Error| {
        format!("cannot be read ({error}): put a key there that this user may read")
    };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(cannot)?;
    let read = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
    read.map_err(cannot)?;
    match bytes.len() as u64 > FILE_BYTES_MAX {
        true => Err(format!(
            "is larger than {FILE_BYTES_MAX} bytes, and so is no key: correct the path"
        )),
        false => Ok(bytes),
    }
}

/// The first thing in a PEM file that may be a key of the kind that is looked for.
struct Section {
    label: String,
    der: Vec<u8>,
}

fn section(pem: &[u8], labels: &[&str]) -> Result<Section, String> {
    let mut others = Vec::new();
    for found in Pem::iter_from_buffer(pem) {
        let Pem { label, contents } = found.map_err(|error| format!("is no PEM file ({error})"))?;
        match labels.contains(&label.as_str()) {
            true => {
                return Ok(Section {
                    label,
                    der: contents,
                });
            }
            false => others.push(label),
        }
    }
    Err(match others.as_slice() {
        [] => "is no PEM file".to_owned(),
        others if others.iter().any(|label| label.contains("ENCRYPTED")) => {
            "is locked by a password, which nobody could type: write the key without one".to_owned()
        }
        others => format!(
            "holds {} and none of {}",
            others.join(", "),
            labels.join(", ")
        ),
    })
}

/// A private key of RSA.
pub(crate) fn rsa(pem: &[u8], encoding: &'static dyn RsaEncoding) -> Result<Signer, String> {
    let Section { label, der } = section(pem, &["PRIVATE KEY", "RSA PRIVATE KEY"])?;
    let key = match label.as_str() {
        "PRIVATE KEY" => rsa::KeyPair::from_pkcs8(&der),
        _ => rsa::KeyPair::from_der(&der),
    };
    Ok(Signer::Rsa(key.map_err(unfit)?, encoding))
}

/// A private key of ECDSA.
pub(crate) fn ecdsa(
    pem: &[u8],
    algorithm: &'static EcdsaSigningAlgorithm,
    curve: &Curve,
) -> Result<Signer, String> {
    let Section { label, der } = section(pem, &["PRIVATE KEY", "EC PRIVATE KEY"])?;
    let der = match label.as_str() {
        "PRIVATE KEY" => der,
        _ => in_pkcs8(&der, curve),
    };
    let key = EcdsaKeyPair::from_pkcs8(algorithm, &der, &SystemRandom::new());
    Ok(Signer::Ecdsa(key.map_err(unfit)?))
}

/// A private key of Ed25519.
pub(crate) fn ed25519(pem: &[u8]) -> Result<Signer, String> {
    let Section { der, .. } = section(pem, &["PRIVATE KEY"])?;
    let key = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der);
    Ok(Signer::Ed25519(key.map_err(unfit)?))
}

fn unfit(reason: KeyRejected) -> String {
    format!("is of another kind or size ({reason})")
}

/// A private key of ECDSA as RFC 5915 writes it, in the frame of RFC 5208, the only one that ring reads. If it names another curve, ring
/// refuses it.
fn in_pkcs8(key: &[u8], curve: &Curve) -> Vec<u8> {
    const SEQUENCE: u8 = 0x30;
    const OCTETS: u8 = 4;
    const VERSION: &[u8] = &[2, 1, 0];
    let kind = der(SEQUENCE, &[EC_DER, curve.der].concat());
    der(SEQUENCE, &[VERSION, &kind, &der(OCTETS, key)].concat())
}

/// A value in DER, with a length of two bytes where one is not enough: the file was not larger.
fn der(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = (value.len() as u16).to_be_bytes();
    let length = match value.len() {
        0..=127 => &length[1..],
        128..=255 => &[0x81, length[1]],
        _ => &[0x82, length[0], length[1]],
    };
    [&[tag], length, value].concat()
}

/// What a public key must be.
pub(crate) enum Kind<'k> {
    Rsa,
    Ecdsa(&'k Curve),
    Ed25519,
}

/// A public key, also that of a certificate, as ring wants it: the point of a curve, or RSA's two numbers in DER.
pub(crate) fn public(pem: &[u8], kind: &Kind) -> Result<Vec<u8>, String> {
    let labels = ["PUBLIC KEY", "CERTIFICATE", "RSA PUBLIC KEY"];
    let Section { label, der } = section(pem, &labels)?;
    let broken = |error| format!("is broken ({error})");
    match label.as_str() {
        "PUBLIC KEY" => {
            let (_, info) = SubjectPublicKeyInfo::from_der(&der).map_err(broken)?;
            of_kind(&info, kind)
        }
        "CERTIFICATE" => {
            let (_, certificate) = X509Certificate::from_der(&der).map_err(broken)?;
            of_kind(certificate.public_key(), kind)
        }
        // What the other two have inside.
        _ => match kind {
            Kind::Rsa => {
                let (rest, key) = RSAPublicKey::from_der(&der).map_err(broken)?;
                match rest.is_empty() && RSA_BITS.contains(&key.key_size()) {
                    true => Ok(der),
                    false => Err(unlike()),
                }
            }
            Kind::Ecdsa(_) | Kind::Ed25519 => Err("is a key of RSA".to_owned()),
        },
    }
}

fn of_kind(info: &SubjectPublicKeyInfo, kind: &Kind) -> Result<Vec<u8>, String> {
    let id = info.algorithm.algorithm.to_id_string();
    let parameters = info.algorithm.parameters.as_ref();
    let bytes = &info.subject_public_key.data;
    let is_fit = match kind {
        Kind::Rsa => match info.parsed() {
            Ok(PublicKey::RSA(key)) => RSA_BITS.contains(&key.key_size()),
            _ => false,
        },
        Kind::Ecdsa(curve) => {
            let named = parameters.and_then(|parameters| parameters.as_oid().ok());
            id == EC_ID
                && named.is_some_and(|named| named.to_id_string() == curve.id)
                && bytes.len() == curve.point_bytes
        }
        Kind::Ed25519 => id == ED25519_ID,
    };
    match is_fit {
        true => Ok(bytes.to_vec()),
        false => Err(unlike()),
    }
}

fn unlike() -> String {
    "is of another kind or size".to_owned()
}
