//! An authority that signs certificates for tests, and takes them back.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};

/// An authority, in a folder with the certificates that it has signed.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate, with its private key.
#[derive(Clone, Debug)]
pub struct Signed {
    /// The file of the certificate.
    pub certificate: PathBuf,
    /// The file of the key.
    pub key: PathBuf,
    serial: u64,
}

impl Authority {
    /// A new one, in a folder of this name.
    ///
    /// # Panics
    ///
    /// When the folder cannot be written.
    pub fn new(folder: &Path, name: &str) -> Authority {
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder).expect("the folder can be made");
        let key = KeyPair::generate().expect("a key can be made");
        let mut parameters = CertificateParams::new(vec![]).expect("it names nobody");
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = parameters.self_signed(&key).expect("a CA signs itself");
        let authority = Authority {
            folder,
            issuer: Issuer::new(parameters, key),
        };
        authority.write("ca.pem", &certificate.pem());
        authority
    }

    /// The file of its own certificate.
    pub fn ca(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// Signs a certificate for this common name, which serves at these hosts. The same name again takes the place of the files.
    ///
    /// # Panics
    ///
    /// When a host is no name, or the folder cannot be written.
    pub fn sign(&self, name: &str, hosts: &[&str]) -> Signed {
        let key = KeyPair::generate().expect("a key can be made");
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut parameters = CertificateParams::new(hosts).expect("a host is a name");
        parameters.distinguished_name.push(DnType::CommonName, name);
        let serial = key.public_key_raw().iter().fold(1, |serial: u64, byte| {
            serial.wrapping_mul(31).wrapping_add((*byte).into())
        });
        parameters.serial_number = Some(SerialNumber::from(serial));
        let certificate = parameters.signed_by(&key, &self.issuer);
        let certificate = certificate.expect("a CA signs").pem();
        Signed {
            certificate: self.write(&format!("{name}.pem"), &certificate),
            key: self.write(&format!("{name}.key"), &key.serialize_pem()),
            serial,
        }
    }

    /// Writes the list of those that it takes back: the file.
    ///
    /// # Panics
    ///
    /// When the folder cannot be written.
    pub fn revoke(&self, revoked: &[&Signed]) -> PathBuf {
        let revoked = revoked.iter().map(|signed| RevokedCertParams {
            serial_number: SerialNumber::from(signed.serial),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2100, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).expect("a CA signs");
        self.write("revoked.pem", &list.pem().expect("it has a text"))
    }

    /// Puts a file in its place whole, as an operator should.
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.join(name);
        let beside = self.folder.join(format!("{name}.new"));
        std::fs::write(&beside, text).expect("the folder can be written");
        std::fs::rename(&beside, &path).expect("a file can be put in place");
        path
    }
}
