//! Who calls.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::certificate::CertificateId;
use crate::malformed::{Malformed, MalformedReason};
use crate::name::has_control;

/// Where a principal's name comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PrincipalKind {
    /// A SPIFFE id in a URI subject alternative name.
    Spiffe,
    /// A DNS subject alternative name.
    Dns,
    /// The subject's common name: only where the operator configured it.
    CommonName,
    /// A local user, by numeric id: offline commands.
    Local,
}

impl PrincipalKind {
    /// The prefix, without its colon.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Spiffe => "spiffe",
            Self::Dns => "dns",
            Self::CommonName => "cn",
            Self::Local => "local",
        }
    }
}

/// A caller, typed by where its name comes from: `spiffe://domain/path`, `dns:app.internal`,
/// `cn:app`, `local:1000`. At most 512 bytes. Over the network it also says which certificate it showed:
/// for the record only. Two are equal if their names are, whatever their certificates.
#[derive(Debug, Clone)]
pub struct Principal {
    text: Arc<str>,
    certificate: Option<CertificateId>,
}

impl Principal {
    /// Makes a principal from the bare name found in a certificate or the operating system.
    ///
    /// # Errors
    /// `PRINCIPAL_INVALID` if the name is not legal for its kind.
    pub fn new(kind: PrincipalKind, name: &str) -> Result<Self, Malformed> {
        let legal = match kind {
            PrincipalKind::Spiffe => is_spiffe_id(name),
            PrincipalKind::Dns => is_dns_name(name),
            PrincipalKind::CommonName => !name.is_empty() && name.len() <= 256,
            PrincipalKind::Local => !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit()),
        };
        if !legal || name.len() > 500 || has_control(name) {
            return Err(Malformed::new(
                MalformedReason::PrincipalInvalid,
                format!("not a legal name for a principal of kind {}", kind.prefix()),
            ));
        }
        let text = match kind {
            PrincipalKind::Spiffe => name.to_owned(),
            _ => format!("{}:{name}", kind.prefix()),
        };
        Ok(Self { text: Arc::from(text), certificate: None })
    }

    /// Parses the typed form, as it stands in policies and in the log.
    ///
    /// # Errors
    /// `PRINCIPAL_INVALID` for an unknown prefix or an illegal name.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let made = match text.split_once(':') {
            Some(("spiffe", _)) => Self::new(PrincipalKind::Spiffe, text),
            Some(("dns", name)) => Self::new(PrincipalKind::Dns, name),
            Some(("cn", name)) => Self::new(PrincipalKind::CommonName, name),
            Some(("local", name)) => Self::new(PrincipalKind::Local, name),
            _ => Err(Malformed::new(MalformedReason::PrincipalInvalid, "")),
        };
        made.map_err(|_| {
            Malformed::new(
                MalformedReason::PrincipalInvalid,
                "a principal is written spiffe://domain/path, dns:name, cn:name or local:uid",
            )
        })
    }

    /// The typed form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The same caller, who showed this certificate.
    #[must_use]
    pub fn with_certificate(self, certificate: CertificateId) -> Self {
        Self { certificate: Some(certificate), ..self }
    }

    /// The certificate that it showed; `None` for local users, and where a name alone is known.
    #[must_use]
    pub const fn certificate(&self) -> Option<&CertificateId> {
        self.certificate.as_ref()
    }
}

// INVARIANT: whoever counts, caches or compares callers goes by name. A second certificate of the same
// name is the same caller.
impl PartialEq for Principal {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Principal {}

impl Hash for Principal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl PartialOrd for Principal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Principal {
    fn cmp(&self, other: &Self) -> Ordering {
        self.text.cmp(&other.text)
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// SPIFFE-ID, section 2: a trust domain of `[a-z0-9.-_]`, a path of `[a-zA-Z0-9.-_]` segments that
/// are not empty, `.` or `..`.
fn is_spiffe_id(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("spiffe://") else { return false };
    let (domain, path) = rest.split_once('/').unwrap_or((rest, "-"));
    let domain_ok = !domain.is_empty()
        && domain.len() <= 255
        && domain.bytes().all(|b| {
            b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_')
        });
    let segment_ok = |s: &str| {
        !s.is_empty()
            && s != "."
            && s != ".."
            && s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
    };
    domain_ok && path.split('/').all(segment_ok)
}

/// RFC 1123 host name in lower case: no wildcard, no trailing dot.
fn is_dns_name(text: &str) -> bool {
    let label_ok = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    text.len() <= 253 && text.split('.').all(label_ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_certificate_of_the_same_name_is_the_same_caller() {
        let hash = |principal: &Principal| {
            use std::hash::BuildHasher as _;
            std::hash::BuildHasherDefault::<std::hash::DefaultHasher>::default().hash_one(principal)
        };
        let plain = Principal::parse("dns:a").unwrap();
        let [one, other] =
            [1, 2].map(|n| plain.clone().with_certificate(CertificateId::of(&[n; 32])));
        assert_eq!((&one, &plain), (&other, &one));
        assert_eq!((hash(&one), one.cmp(&other)), (hash(&plain), Ordering::Equal));
        assert_ne!(one.certificate(), other.certificate());
        assert_eq!((plain.certificate(), one.to_string()), (None, "dns:a".to_owned()));
    }

    #[test]
    fn principals_keep_their_type() {
        for good in [
            "spiffe://example.org",
            "spiffe://example.org/ns/app",
            "dns:app.internal",
            "cn:Some App",
            "local:1000",
        ] {
            let parsed = Principal::parse(good).map(|p| p.as_str().to_owned());
            assert_eq!(parsed.as_deref().ok(), Some(good));
        }
        for bad in [
            "",
            "app",
            "dns:",
            "dns:*.internal",
            "dns:App",
            "dns:app.",
            "spiffe://",
            "spiffe://Ex/a",
            "spiffe://ex/a//b",
            "spiffe://ex/../b",
            "spiffe://ex/",
            "local:root",
            "user:x",
        ] {
            assert!(Principal::parse(bad).is_err(), "{bad}");
        }
    }
}
