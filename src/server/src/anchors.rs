//! An address that keeps checkpoints of the log (`audit.anchor_url`): it answers GET with the newest one, or
//! with 404 if it has none, and takes a newer one by PUT.

use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use fieldseal_engine::AnchorService;
use http::{HeaderValue, Method, StatusCode};
use rustix::fs::OFlags;

use crate::https::{Answer, Peer};

/// How long a request may take.
const DEADLINE: Duration = Duration::from_secs(8);
/// The longest checkpoint that it may answer with, in bytes.
const MOST: usize = 4 * 1024;
/// The longest token, in bytes.
const MOST_TOKEN: u64 = 8 * 1024;

/// How to reach it.
pub(crate) struct Address {
    /// `https://…`, or `http://…` on this machine.
    pub(crate) url: String,
    /// The authorities that issue its certificate.
    pub(crate) ca: Option<PathBuf>,
    /// The file with the token that it is shown.
    pub(crate) token: Option<PathBuf>,
}

impl AnchorService for Address {
    fn get(&self) -> Result<Option<String>, String> {
        let answer = self.send(Method::GET, Bytes::new())?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::OK if answer.body.is_empty() => Err("it answers with nothing".to_owned()),
            StatusCode::OK => String::from_utf8(answer.body.to_vec())
                .map(Some)
                .map_err(|_| "it answers with no text".to_owned()),
            status => Err(unexpected(status)),
        }
    }

    fn put(&self, line: &str) -> Result<(), String> {
        let status = self.send(Method::PUT, Bytes::copy_from_slice(line.as_bytes()))?.status;
        match status {
            StatusCode::OK | StatusCode::CREATED | StatusCode::NO_CONTENT => Ok(()),
            status => Err(unexpected(status)),
        }
    }
}

impl Address {
    /// Whoever asks has a thread that may wait, and no runtime. Files are read each time, so that a renewed
    /// one counts.
    fn send(&self, method: Method, body: Bytes) -> Result<Answer, String> {
        let peer = Peer::new(&self.url, self.ca.as_deref(), MOST, DEADLINE)?;
        let token = self.token.as_deref().map(bearer).transpose()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        runtime.block_on(peer.send(method, body, token))
    }
}

fn unexpected(status: StatusCode) -> String {
    format!("it answers with {}", status.as_u16())
}

/// The header field with the token of a file that nobody but its owner can use (RFC 6750).
fn bearer(path: &Path) -> Result<HeaderValue, String> {
    let failed = |e: std::io::Error| format!("{} cannot be read: {e}", path.display());
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(failed)?;
    let found = file.metadata().map_err(failed)?;
    if !found.is_file() || found.mode() & 0o077 != 0 {
        return Err(format!("{} is no file of its owner alone; chmod 600 it", path.display()));
    }
    let mut text = String::new();
    file.take(MOST_TOKEN).read_to_string(&mut text).map_err(failed)?;
    let token = text.trim_ascii_end();
    let is_token = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    let value = HeaderValue::try_from(format!("Bearer {token}")).ok().filter(|_| is_token);
    value.ok_or_else(|| format!("{} holds no token", path.display()))
}
