//! What a start says of the process: its settings and its certificates.

use fieldseal_model::Principal;
use prost::Message as _;

use super::SystemEvent;
use crate::record::{ProcessCertificate, ProcessSetting, Record};
use crate::wire;

/// What a process was started with, as far as its log tells it. Nothing in it is secret.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Started {
    /// SHA-256 over all settings; empty if there is no configuration.
    pub settings_digest: Vec<u8>,
    /// Settings that matter to an auditor, by name and value, without any path.
    pub settings: Vec<(String, String)>,
    /// Its certificates; none if it serves nobody.
    pub certificates: Vec<StartedCertificate>,
}

/// A certificate that a process was started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartedCertificate {
    /// What it is for: `server` for the server's own, `client_ca` for an authority of its callers.
    pub usage: String,
    /// SHA-256 over its DER form.
    pub sha256: Vec<u8>,
    /// When it expires, in seconds since 1970-01-01T00:00:00Z.
    pub not_after: i64,
}

impl Started {
    /// That of a record.
    pub(crate) fn of(record: &Record) -> Self {
        let settings = record.settings_told.iter();
        let certificates = record.certificates.iter().map(|certificate| StartedCertificate {
            usage: certificate.usage.clone(),
            sha256: certificate.sha256.clone(),
            not_after: certificate.not_after,
        });
        Self {
            settings_digest: record.settings_digest.clone(),
            settings: settings.map(|told| (told.name.clone(), told.value.clone())).collect(),
            certificates: certificates.collect(),
        }
    }

    /// What it takes in a message, in bytes: never less than it really does.
    pub(crate) fn bytes(&self) -> usize {
        // Each has tags and lengths besides; digests are shown in hexadecimal.
        let settings = self.settings.iter().map(|(name, value)| 16 + name.len() + value.len());
        let certificates = self.certificates.iter();
        let certificates = certificates.map(|one| 32 + one.usage.len() + 2 * one.sha256.len());
        2 * self.settings_digest.len() + settings.sum::<usize>() + certificates.sum::<usize>()
    }
}

impl SystemEvent {
    /// A start says what the process was started with.
    #[must_use]
    pub fn with(mut self, started: &Started) -> Self {
        let public = &mut self.public;
        wire::bytes(public, 81, &started.settings_digest);
        for (name, value) in &started.settings {
            let told = ProcessSetting { name: name.clone(), value: value.clone() };
            wire::message(public, 82, told.encoded_len());
            public.extend_from_slice(&told.encode_to_vec());
        }
        for StartedCertificate { usage, sha256, not_after } in &started.certificates {
            let (usage, sha256, not_after) = (usage.clone(), sha256.clone(), *not_after);
            let certificate = ProcessCertificate { usage, sha256, not_after };
            wire::message(public, 83, certificate.encoded_len());
            public.extend_from_slice(&certificate.encode_to_vec());
        }
        self
    }
}

/// Writes who called: the name, and which certificate was shown if one was.
pub(super) fn write_caller(public: &mut Vec<u8>, principal: &Principal) {
    wire::bytes(public, 3, principal.as_str().as_bytes());
    let certificate = principal.certificate().map(|certificate| &certificate.as_bytes()[..]);
    wire::bytes(public, 80, certificate.unwrap_or_default());
}
