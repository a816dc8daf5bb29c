//! The TLS settings: version 1.3 only (RFC 8446), client certificates required, no resumption.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use fieldseal_audit::StartedCertificate;
use fieldseal_crypto::sha256;
use fieldseal_model::{PrincipalKind, hex};
use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

use super::identity::NamedClientVerifier;

/// The one application protocol (RFC 7301): HTTP/2 over TLS.
pub(super) const ALPN_H2: &[u8] = b"h2";

/// Why the TLS material cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {} ({setting}): {source}", path.display())]
    Read {
        /// The setting that names the file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// Text in PEM form was expected.
    #[error("{setting} holds no usable {expected} in PEM form")]
    Pem {
        /// The setting.
        setting: &'static str,
        /// What should be in it.
        expected: &'static str,
    },
    /// rustls refuses the material, for example because key and certificate do not belong together.
    #[error("{setting} cannot be used: {reason}")]
    Unusable {
        /// The setting.
        setting: &'static str,
        /// The library's reason.
        reason: String,
    },
}

/// Certificate, key and client CA in PEM form, and what in a client certificate names the caller.
/// No `Debug`: it holds the server's private key.
pub struct TlsSettings {
    /// The server's certificate and its intermediates, its own first.
    pub certificate: Vec<u8>,
    /// Its private key (PKCS #8, SEC 1 or PKCS #1).
    pub private_key: Vec<u8>,
    /// The certificate authorities that issue client certificates.
    pub client_ca: Vec<u8>,
    /// Which name in a client certificate is the principal.
    pub principal: PrincipalKind,
}

impl TlsSettings {
    /// Reads the three files.
    ///
    /// # Errors
    /// [`TlsError::Read`] names the setting and the file.
    pub fn from_files(
        certificate: &Path,
        private_key: &Path,
        client_ca: &Path,
        principal: PrincipalKind,
    ) -> Result<Self, TlsError> {
        Ok(Self {
            certificate: read("tls.certificate", certificate)?,
            private_key: read("tls.private_key", private_key)?,
            client_ca: read("tls.client_ca", client_ca)?,
            principal,
        })
    }
}

fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read { setting, path: path.into(), source })
}

/// From when to when a certificate is valid, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CertificateTimes {
    /// `server` or `client_ca`.
    pub(crate) certificate: &'static str,
    /// The latest beginning, if there are several.
    pub(crate) not_before: i64,
    /// The earliest end.
    pub(crate) not_after: i64,
}

impl CertificateTimes {
    /// Why it is not valid at this time, in seconds since 1970.
    fn invalid_at(&self, now: i64) -> Option<&'static str> {
        match now {
            now if now < self.not_before => Some("not valid yet"),
            now if now > self.not_after => Some("expired"),
            _ => None,
        }
    }
}

/// The times of these certificates; `None` if one of them cannot be read.
fn times(certificate: &'static str, chain: &[CertificateDer<'static>]) -> Option<CertificateTimes> {
    let (mut not_before, mut not_after) = (i64::MIN, i64::MAX);
    for one in chain {
        let (_, read) = x509_parser::parse_x509_certificate(one).ok()?;
        not_before = not_before.max(read.validity().not_before.timestamp());
        not_after = not_after.min(read.validity().not_after.timestamp());
    }
    Some(CertificateTimes { certificate, not_before, not_after })
}

/// A certificate as the record of the start names it.
fn started(usage: &str, certificate: &CertificateDer<'static>) -> StartedCertificate {
    let read = x509_parser::parse_x509_certificate(certificate);
    let not_after = read.map_or(0, |(_, read)| read.validity().not_after.timestamp());
    let sha256 = sha256(&[certificate]).to_vec();
    StartedCertificate { usage: usage.to_owned(), sha256, not_after }
}

/// Checked TLS material, ready to serve. Cheap to clone.
#[derive(Clone)]
pub struct Tls {
    pub(super) config: Arc<ServerConfig>,
    pub(super) principal: PrincipalKind,
    times: Vec<CertificateTimes>,
    started: Vec<StartedCertificate>,
}

impl Tls {
    /// The server's own certificate and the authorities of its callers, for the record of the start.
    pub(crate) fn started(&self) -> Vec<StartedCertificate> {
        self.started.clone()
    }

    /// Says in log lines which certificates these are.
    pub(crate) fn say(&self) {
        for StartedCertificate { usage, sha256, not_after } in &self.started {
            let sha256 = hex::encode(sha256);
            tracing::info!(event = "certificate_loaded", certificate = usage, sha256, not_after);
        }
    }

    /// From when to when the server's chain and the client authorities are valid.
    pub(crate) fn times(&self) -> Vec<CertificateTimes> {
        self.times.clone()
    }

    /// Says in a log line that callers will refuse the server's certificate: it serves all the same,
    /// because the clock may be what is wrong.
    pub(crate) fn warn_if_not_valid(&self) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        for times in self.times.iter().filter(|times| times.certificate == "server") {
            let Some(why) = times.invalid_at(now) else { continue };
            tracing::warn!(
                event = "certificate_not_valid",
                why,
                not_before = times.not_before,
                not_after = times.not_after,
                "callers will refuse the server's certificate; replace tls.certificate, or set the \
                 clock right"
            );
        }
    }

    /// Checks the material and builds what the listener uses.
    ///
    /// # Errors
    /// [`TlsError::Pem`] and [`TlsError::Unusable`] name the setting at fault.
    pub fn new(settings: &TlsSettings) -> Result<Self, TlsError> {
        let mut provider = aws_lc_rs::default_provider();
        provider.kx_groups = vec![
            kx_group::X25519MLKEM768,
            kx_group::X25519,
            kx_group::SECP256R1,
            kx_group::SECP384R1,
        ];
        let provider = Arc::new(provider);

        let chain = certificates("tls.certificate", &settings.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&settings.private_key)
            .map_err(|_| TlsError::Pem { setting: "tls.private_key", expected: "private key" })?;
        let mut roots = RootCertStore::empty();
        let authorities = certificates("tls.client_ca", &settings.client_ca)?;
        let known = [times("server", &chain), times("client_ca", &authorities)];
        let times = known.into_iter().flatten().collect();
        let own = chain.first().map(|own| started("server", own));
        let started = own.into_iter();
        let started = started.chain(authorities.iter().map(|one| self::started("client_ca", one)));
        let started = started.collect();
        for authority in authorities {
            roots.add(authority).map_err(|e| unusable("tls.client_ca", &e))?;
        }
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build()
                .map_err(|e| unusable("tls.client_ca", &e))?;
        let verifier = Arc::new(NamedClientVerifier::new(verifier, settings.principal));

        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| unusable("tls", &e))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(|e| unusable("tls.certificate with tls.private_key", &e))?;
        config.alpn_protocols = vec![ALPN_H2.to_vec()];
        // INVARIANT: every connection asks the verifier. A resumed session would not, so there is
        // nothing to resume: no tickets, no stored sessions, no early data.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.max_early_data_size = 0;
        Ok(Self { config: Arc::new(config), principal: settings.principal, times, started })
    }
}

fn certificates(
    setting: &'static str,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let missing = || TlsError::Pem { setting, expected: "certificate" };
    let found: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| missing())?;
    if found.is_empty() { Err(missing()) } else { Ok(found) }
}

fn unusable(setting: &'static str, reason: &dyn std::error::Error) -> TlsError {
    TlsError::Unusable { setting, reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_valid_from_its_first_second_to_its_last() {
        let times = CertificateTimes { certificate: "server", not_before: 10, not_after: 20 };
        for (now, why) in
            [(9, Some("not valid yet")), (10, None), (20, None), (21, Some("expired"))]
        {
            assert_eq!(times.invalid_at(now), why, "{now}");
        }
    }
}
