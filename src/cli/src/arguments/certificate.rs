//! `--certificate`: the certificate that callers showed, by its fingerprint or its file.

use std::path::Path;

use clap::Args;
use fieldseal_crypto::sha256;
use fieldseal_model::{CertificateId, hex};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

/// The largest file that is taken for one certificate.
const MAX_BYTES: u64 = 1024 * 1024;

/// Which certificate a caller showed.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct CertificateArguments {
    /// Only calls with this certificate: its SHA-256, as `openssl x509 -fingerprint -sha256` prints it
    #[arg(long, value_name = "HEX", value_parser = fingerprint)]
    pub certificate: Option<String>,
    /// Only calls with the certificate in this file, in PEM form
    #[arg(long, value_name = "PATH", value_parser = of_file, conflicts_with = "certificate")]
    pub certificate_file: Option<String>,
}

impl CertificateArguments {
    /// Its fingerprint, for a query; empty for any certificate.
    pub(crate) fn wire(&self) -> String {
        self.certificate.as_ref().or(self.certificate_file.as_ref()).cloned().unwrap_or_default()
    }
}

/// A fingerprint, or the whole line that says it.
fn fingerprint(text: &str) -> Result<String, String> {
    let digits = text.rsplit('=').next().unwrap_or(text).trim();
    CertificateId::parse(digits).map(|id| id.to_string()).map_err(str::to_owned)
}

/// The fingerprint of the one certificate in a file.
fn of_file(path: &str) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("cannot be read: {error}");
    if std::fs::metadata(Path::new(path)).map_err(failed)?.len() > MAX_BYTES {
        return Err("it is longer than a certificate".to_owned());
    }
    let pem = std::fs::read(path).map_err(failed)?;
    Ok(hex::encode(&sha256(&[&only(&pem)?])))
}

/// The DER form of the one certificate in this text.
fn only(pem: &[u8]) -> Result<CertificateDer<'static>, &'static str> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let mut found = found.map_err(|_| "it is no text in PEM form")?.into_iter();
    let one = found.next().ok_or("no certificate in PEM form is in it")?;
    if found.next().is_some() {
        return Err("more than one certificate is in it; leave only the caller's own");
    }
    match x509_parser::parse_x509_certificate(&one) {
        Ok(([], _)) => Ok(one),
        _ => Err("what is in it is no certificate"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificates::Authority;

    #[test]
    fn a_fingerprint_may_stand_in_its_line() {
        let whole = "AB:".repeat(31) + "AB";
        for good in [whole.clone(), format!("sha256 Fingerprint={whole}"), "ab".repeat(16)] {
            assert_eq!(fingerprint(&good), Ok("ab".repeat(16)), "{good}");
        }
        for bad in ["", "sha256 Fingerprint=", "ab", &"ab".repeat(31), "customer-4711"] {
            assert!(fingerprint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn one_certificate_is_in_a_file_or_it_is_refused() {
        let (authority, other) = (Authority::new("a").unwrap(), Authority::new("b").unwrap());
        let (one, two) = (authority.certificate_pem(), other.certificate_pem());
        let der = only(one.as_bytes()).unwrap();
        assert_eq!(der, only(format!("before\n{one}\nbehind\n").as_bytes()).unwrap());
        let both = format!("{one}{two}");
        let cut = one.replace("-----END CERTIFICATE-----", "");
        let no_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (bad, why) in [
            (both.as_str(), "more than one"),
            ("", "no certificate"),
            ("AB:CD", "no certificate"),
            (cut.as_str(), "no text in PEM"),
            (no_certificate, "is no certificate"),
        ] {
            let said = only(bad.as_bytes()).unwrap_err();
            assert!(said.contains(why), "{bad}: {said}");
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("one.pem");
        std::fs::write(&path, one).unwrap();
        let found = of_file(path.to_str().unwrap());
        assert_eq!(found, Ok(hex::encode(&sha256(&[&der]))));
        assert!(of_file("/nowhere/at/all.pem").unwrap_err().contains("cannot be read"));
        assert!(
            of_file(directory.path().to_str().unwrap()).unwrap_err().contains("cannot be read")
        );
    }
}
