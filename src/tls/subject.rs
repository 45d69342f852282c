//! Who a certificate says that its owner is.

use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

/// The common name of the subject. None where there is none, or no text; or several, which programs understand as one or another of them.
pub(crate) fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let mut names = parsed.subject().iter_common_name();
    let name = names.next()?.as_str().ok()?;
    if names.next().is_some() {
        return None;
    }
    (!name.is_empty()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    fn with(name: Option<&str>) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "no name of a user");
        if let Some(name) = name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        let key = KeyPair::generate().expect("there are random numbers");
        params.self_signed(&key).expect("it can").der().clone()
    }

    #[test]
    fn the_common_name_is_that_of_the_subject() {
        assert_eq!(common_name(&with(Some("alice"))).as_deref(), Some("alice"));
        assert_eq!(common_name(&with(Some("zoë"))).as_deref(), Some("zoë"));
    }

    #[test]
    fn who_has_no_common_name_is_nobody() {
        assert_eq!(common_name(&with(None)), None);
        assert_eq!(common_name(&with(Some(""))), None);
        assert_eq!(common_name(&CertificateDer::from(vec![0x30, 0])), None);
    }
}
