//! The address of `server.listen`, held from the start and listened on when the sidecar can serve.

use std::net::SocketAddr;

use tokio::net::TcpSocket;

use crate::failure::ServeError;

/// Connections that wait to be taken.
pub(crate) const BACKLOG: u32 = 1024;

/// Holds the address. Whoever connects is refused until the sidecar listens, when it can serve.
pub(crate) fn bind(address: SocketAddr) -> Result<TcpSocket, ServeError> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    };
    let bound = socket.and_then(|socket| {
        // The connections of the process before may still be closing.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(socket)
    });
    bound.map_err(|error| unheard(address, error))
}

/// Why the address cannot be used.
pub(crate) fn unheard(address: SocketAddr, error: std::io::Error) -> ServeError {
    ServeError::Listen { setting: "server.listen", address, error }
}
