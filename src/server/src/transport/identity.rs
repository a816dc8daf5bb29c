//! From a client certificate to a [`Principal`].

use std::sync::Arc;

use fieldseal_model::{Principal, PrincipalKind};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme,
};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Why a certificate, although its chain is good, names no caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// The certificate cannot be parsed.
    #[error("the client certificate cannot be parsed")]
    Unreadable,
    /// It has not exactly one name of the configured kind.
    #[error(
        "the client certificate has {found} names of kind {kind}, exactly one is expected \
         (setting tls.principal)"
    )]
    Count {
        /// How many it has.
        found: usize,
        /// The configured kind.
        kind: &'static str,
    },
    /// The one name is not legal.
    #[error("the client certificate's name is not a legal {kind} name")]
    Illegal {
        /// The configured kind.
        kind: &'static str,
    },
    /// Callers over the network are never of this kind.
    #[error("principals of kind {kind} do not come from certificates")]
    Kind {
        /// The configured kind.
        kind: &'static str,
    },
}

/// Reads the caller from the certificate: the single subject alternative name (or common name) of
/// the configured kind. Names of other kinds do not matter.
///
/// # Errors
/// [`IdentityError`] if there is none, more than one, or an illegal one.
pub fn principal(certificate: &[u8], kind: PrincipalKind) -> Result<Principal, IdentityError> {
    let (_, parsed) =
        X509Certificate::from_der(certificate).map_err(|_| IdentityError::Unreadable)?;
    let names = match kind {
        PrincipalKind::Spiffe | PrincipalKind::Dns => alternative_names(&parsed, kind)?,
        PrincipalKind::CommonName => parsed
            .subject()
            .iter_common_name()
            .map(|name| name.as_str().map_err(|_| IdentityError::Illegal { kind: kind.prefix() }))
            .collect::<Result<_, _>>()?,
        PrincipalKind::Local => return Err(IdentityError::Kind { kind: kind.prefix() }),
    };
    match names.as_slice() {
        [name] => {
            Principal::new(kind, name).map_err(|_| IdentityError::Illegal { kind: kind.prefix() })
        }
        _ => Err(IdentityError::Count { found: names.len(), kind: kind.prefix() }),
    }
}

fn alternative_names<'a>(
    certificate: &'a X509Certificate<'_>,
    kind: PrincipalKind,
) -> Result<Vec<&'a str>, IdentityError> {
    let extension =
        certificate.subject_alternative_name().map_err(|_| IdentityError::Unreadable)?;
    let Some(extension) = extension else { return Ok(Vec::new()) };
    Ok(extension
        .value
        .general_names
        .iter()
        .filter_map(|name| match (kind, name) {
            (PrincipalKind::Spiffe, GeneralName::URI(uri)) => Some(*uri),
            (PrincipalKind::Dns, GeneralName::DNSName(name)) => Some(*name),
            _ => None,
        })
        .collect())
}

/// The chain is verified by rustls' verifier, then the certificate must name exactly one caller:
/// otherwise the handshake fails.
#[derive(Debug)]
pub(super) struct NamedClientVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    kind: PrincipalKind,
}

impl NamedClientVerifier {
    pub(super) fn new(chain: Arc<dyn ClientCertVerifier>, kind: PrincipalKind) -> Self {
        Self { chain, kind }
    }
}

impl ClientCertVerifier for NamedClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        true
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        principal(end_entity, self.kind)
            .map_err(|e| CertificateError::Other(OtherError(Arc::new(e))))?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
