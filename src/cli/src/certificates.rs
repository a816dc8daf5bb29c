//! Development certificates: an authority, and what it issues. ECDSA P-256 (FIPS 186-5), because every
//! gRPC library loads it.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use fieldseal_crypto::sha256;
use fieldseal_model::Principal;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use zeroize::Zeroizing;

/// Issues certificates for as long as it lives. Its key is written nowhere.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    certificate_pem: String,
}

/// A certificate and its key.
pub(crate) struct Issued {
    /// In PEM form.
    pub certificate_pem: String,
    /// PKCS #8 in PEM form.
    pub private_key_pem: Zeroizing<String>,
}

impl Authority {
    /// A new authority. Its name ends with digits of its key: verifiers look an issuer up by its
    /// name, and would take one authority's certificate for another's.
    ///
    /// # Errors
    /// If the operating system gives no randomness.
    pub(crate) fn new(name: &str) -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let [a, b, c, d, ..] = sha256(&[key.public_key_raw()]);
        let digits = u32::from_be_bytes([a, b, c, d]);
        let mut params = named(&format!("{name} {digits:08x}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, key)?;
        let certificate_pem = issuer.pem();
        Ok(Self { issuer, certificate_pem })
    }

    /// The authority's own certificate in PEM form.
    #[must_use]
    pub(crate) fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// A certificate for a server of these DNS names and IP addresses.
    ///
    /// # Errors
    /// If one of them is not legal.
    pub(crate) fn server(&self, names: &[&str]) -> Result<Issued, rcgen::Error> {
        let mut params = named("fieldseal");
        let names = names.iter().map(|name| match name.parse() {
            Ok(address) => Ok(SanType::IpAddress(address)),
            Err(_) => Ok(SanType::DnsName((*name).try_into()?)),
        });
        params.subject_alt_names = names.collect::<Result<_, rcgen::Error>>()?;
        self.issue(params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A certificate for a caller. It names the caller once: in a URI or DNS name, or, for `cn:`, in
    /// the common name.
    ///
    /// # Errors
    /// If the name is not legal in a certificate.
    pub(crate) fn client(&self, principal: &Principal) -> Result<Issued, rcgen::Error> {
        let text = principal.as_str();
        let (params, name) = match text.split_once(':') {
            Some(("dns", name)) => (named("client"), Some(SanType::DnsName(name.try_into()?))),
            Some(("cn", name)) => (named(name), None),
            _ => (named("client"), Some(SanType::URI(text.try_into()?))),
        };
        let mut params = params;
        params.subject_alt_names.extend(name);
        self.issue(params, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(
        &self,
        mut params: CertificateParams,
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<Issued, rcgen::Error> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Issued {
            certificate_pem: certificate.pem(),
            private_key_pem: Zeroizing::new(key.serialize_pem()),
        })
    }
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// Writes a private key into a new file for its owner alone.
///
/// # Errors
/// If there is a file already, or it cannot be written.
pub(crate) fn write_private(path: &Path, pem: &str) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(pem.as_bytes())?;
    file.sync_all()
}
