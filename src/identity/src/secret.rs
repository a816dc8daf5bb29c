//! The file of a shared secret.

use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use zeroize::Zeroizing;

/// RFC 7518, section 3.2: a key of HS256 has at least the size of the hash.
const LEAST_BYTES: usize = 32;
const MOST_BYTES: usize = 1024;

/// Reads a secret: the bytes of a plain file that nobody but its owner can use, without a line end.
pub(crate) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let failed = |e: std::io::Error| format!("the file of the secret cannot be read: {e}");
    // Without blocking: a named pipe in its place must not hang a reload.
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let flags = flags.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
    let found = file.metadata().map_err(failed)?;
    if !found.is_file() {
        return Err("the file of the secret is no plain file".to_owned());
    }
    if found.mode() & 0o077 != 0 {
        return Err("others can use the file of the secret; chmod 600 it".to_owned());
    }
    // Never grown, so that no piece of it stays behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MOST_BYTES + 2));
    file.take(MOST_BYTES as u64 + 2).read_to_end(&mut bytes).map_err(failed)?;
    for end in [b'\n', b'\r'] {
        if bytes.last() == Some(&end) {
            bytes.pop();
        }
    }
    if !(LEAST_BYTES..=MOST_BYTES).contains(&bytes.len()) {
        return Err(format!("a secret has {LEAST_BYTES} to {MOST_BYTES} bytes"));
    }
    Ok(bytes)
}
