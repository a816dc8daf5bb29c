//! One CA, one server, one caller: ECDSA P-256, for the time of a run.

use std::path::Path;
use std::{fs, io};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, SanType,
};

use crate::error::BenchError;

/// File names; the first three are the defaults of a sidecar's configuration.
pub(crate) const CA: &str = "ca.pem";
pub(crate) const SERVER: &str = "server.pem";
pub(crate) const SERVER_KEY: &str = "server.key";
pub(crate) const CALLER: &str = "bench.pem";
pub(crate) const CALLER_KEY: &str = "bench.key";

/// Who calls.
pub(crate) const PRINCIPAL: &str = "spiffe://fieldseal.local/bench";

/// Makes all five files in a directory.
///
/// # Errors
/// If a certificate cannot be made or a file cannot be written.
pub(crate) fn make(directory: &Path) -> Result<(), BenchError> {
    let files = files().map_err(io::Error::other)?;
    fs::create_dir_all(directory)?;
    for (name, text) in files {
        fs::write(directory.join(name), text)?;
    }
    Ok(())
}

fn files() -> Result<[(&'static str, String); 5], rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "fieldseal bench");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;

    let mut server = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let server_key = KeyPair::generate()?;

    let mut caller = CertificateParams::default();
    caller.subject_alt_names = vec![SanType::URI(PRINCIPAL.try_into()?)];
    caller.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let caller_key = KeyPair::generate()?;
    Ok([
        (CA, ca.pem()),
        (SERVER, server.signed_by(&server_key, &ca)?.pem()),
        (SERVER_KEY, server_key.serialize_pem()),
        (CALLER, caller.signed_by(&caller_key, &ca)?.pem()),
        (CALLER_KEY, caller_key.serialize_pem()),
    ])
}
