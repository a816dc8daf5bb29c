//! Waiting until a sidecar says where it listens.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// How often the file is looked for.
const PAUSE: Duration = Duration::from_millis(10);

/// Waits until a sidecar can serve: until then its address file is not there. Limit the time from
/// outside, and watch whether the sidecar is still alive.
pub(crate) async fn appears(path: &Path) -> SocketAddr {
    let mut pause = tokio::time::interval(PAUSE);
    loop {
        pause.tick().await;
        if let Some(address) = read(path) {
            return address;
        }
    }
}

/// The address in the file, if it is there.
pub(crate) fn read(path: &Path) -> Option<SocketAddr> {
    std::fs::read_to_string(path).ok()?.trim_end().parse().ok()
}
