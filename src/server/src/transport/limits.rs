//! The limits of the listener.

use std::time::Duration;

/// The largest message in either direction, in bytes. Set on every generated server and client
/// with `max_decoding_message_size` and `max_encoding_message_size`.
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// The largest header list of a request, in bytes as HTTP/2 counts them.
pub const MAX_HEADER_LIST_BYTES: u32 = 16 * 1024;

/// What a listener accepts at most, and how long it waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// How long a TLS handshake may take, from accept to the first byte of HTTP/2.
    pub handshake: Duration,
    /// Handshakes at the same time. While so many are pending no connection is accepted; the
    /// next ones wait in the kernel's queue, at most until a pending handshake's deadline.
    pub handshakes: usize,
    /// Connections at the same time, pending handshakes included. One more is closed at once.
    pub connections: usize,
    /// Connections of one principal at the same time. One more is closed after its handshake.
    pub connections_per_principal: usize,
    /// Calls at the same time on one connection (`SETTINGS_MAX_CONCURRENT_STREAMS`).
    pub streams: u32,
    /// A connection on which nothing arrives for this long is asked whether it lives.
    pub keepalive_interval: Duration,
    /// How long the answer to that may take.
    pub keepalive_timeout: Duration,
    /// How old a connection grows before it is asked to go (GOAWAY), give or take a tenth.
    pub connection_age: Duration,
    /// How long calls may go on after GOAWAY, at the end of a connection's age and on shutdown.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(5),
            handshakes: 256,
            connections: 4_000,
            connections_per_principal: 1_000,
            streams: 128,
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(10),
            connection_age: Duration::from_secs(600),
            drain: Duration::from_secs(10),
        }
    }
}
