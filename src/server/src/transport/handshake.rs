//! Why a handshake failed, in words with which an operator finds the client at fault.

use std::fmt;
use std::io;

use rustls::pki_types::UnixTime;
use rustls::{CertificateError, Error, InvalidMessage, PeerIncompatible};

/// Shows what the TLS library says of a failed handshake.
pub(super) struct Why<'e>(pub(super) &'e io::Error);

impl fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use io::ErrorKind::{ConnectionReset, UnexpectedEof};
        if matches!(self.0.kind(), UnexpectedEof | ConnectionReset) {
            return f.write_str(
                "the client went away before its first call; it may expect another name or ca",
            );
        }
        let said = self.0.get_ref().and_then(|error| error.downcast_ref::<Error>());
        match said {
            Some(Error::InvalidCertificate(error)) => certificate(error, f),
            Some(Error::NoCertificatesPresented) => f.write_str("the client sent no certificate"),
            Some(Error::NoApplicationProtocol) => f.write_str("the client did not offer h2 (alpn)"),
            Some(Error::PeerIncompatible(
                PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled,
            )) => f.write_str("the client does not offer tls 1.3"),
            Some(Error::InvalidMessage(InvalidMessage::InvalidContentType)) => {
                f.write_str("the client does not speak tls")
            }
            Some(Error::AlertReceived(alert)) => {
                write!(f, "the client refused this server (alert {})", u8::from(*alert))?;
                match u8::from(*alert) {
                    // RFC 8446, section 6.2: what a client says of a certificate.
                    42..=48 => f.write_str(": its ca or the name it connects to is another"),
                    _ => Ok(()),
                }
            }
            _ => write!(f, "the tls handshake failed: {}", self.0),
        }
    }
}

fn certificate(error: &CertificateError, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match error {
        CertificateError::Other(ours) => fmt::Display::fmt(&ours.0, f),
        CertificateError::UnknownIssuer => {
            f.write_str("no authority of tls.client_ca issued the client certificate")
        }
        CertificateError::BadSignature => {
            f.write_str("the client certificate is not signed with the key of tls.client_ca")
        }
        CertificateError::Expired => f.write_str("the client certificate has expired"),
        CertificateError::ExpiredContext { time, not_after } => {
            let ago = seconds(*not_after, *time);
            write!(f, "the client certificate has expired, {ago} seconds ago")
        }
        CertificateError::NotValidYet => f.write_str("the client certificate is not valid yet"),
        CertificateError::NotValidYetContext { time, not_before } => {
            let left = seconds(*time, *not_before);
            write!(f, "the client certificate is not valid yet, for {left} seconds more")
        }
        other => write!(f, "the client certificate is refused: {other}"),
    }
}

fn seconds(from: UnixTime, to: UnixTime) -> u64 {
    to.as_secs().saturating_sub(from.as_secs())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use rustls::{AlertDescription, OtherError};

    use super::*;
    use crate::transport::identity::IdentityError;

    fn said(error: impl Into<Error>) -> String {
        Why(&io::Error::other(error.into())).to_string()
    }

    #[test]
    fn an_operator_reads_no_name_of_a_type() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let ours = IdentityError::Count { found: 2, kind: "spiffe" };
        let expected = ours.to_string();
        let ours = CertificateError::Other(OtherError(Arc::new(ours)));
        assert_eq!(said(ours), expected);
        let expired = CertificateError::ExpiredContext { time: at(9), not_after: at(2) };
        assert!(said(expired).ends_with("has expired, 7 seconds ago"));
        let early = CertificateError::NotValidYetContext { time: at(2), not_before: at(9) };
        assert!(said(early).ends_with("not valid yet, for 7 seconds more"));
        assert!(said(Error::AlertReceived(AlertDescription::UnknownCA)).contains("alert 48"));
        for error in [
            Error::InvalidCertificate(CertificateError::UnknownIssuer),
            Error::PeerIncompatible(PeerIncompatible::SupportedVersionsExtensionRequired),
            Error::InvalidMessage(InvalidMessage::InvalidContentType),
            Error::NoApplicationProtocol,
            Error::NoCertificatesPresented,
        ] {
            let said = said(error);
            assert!(said.contains("client") && !said.contains("handshake failed"), "{said}");
            assert_eq!(said, said.to_lowercase());
        }
        let gone = io::Error::from(io::ErrorKind::UnexpectedEof);
        assert!(Why(&gone).to_string().contains("went away"));
        let other = io::Error::other("the wire is cut");
        assert_eq!(Why(&other).to_string(), "the tls handshake failed: the wire is cut");
    }
}
