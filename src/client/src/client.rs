//! One connection to a sidecar and the services on it.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use fieldseal_api::MAX_MESSAGE_BYTES;
use fieldseal_api::v1::audit_service_client::AuditServiceClient;
use fieldseal_api::v1::encryption_service_client::EncryptionServiceClient;
use fieldseal_api::v1::key_service_client::KeyServiceClient;
use fieldseal_api::v1::system_service_client::SystemServiceClient;
use http::Uri;
use tonic::transport::{Channel, Endpoint};

use crate::connector::{Connector, Identity, tls};
use crate::failure::ClientError;
use crate::settings::Settings;

/// `EncryptionService`: encrypt and decrypt.
pub type EncryptionClient = EncryptionServiceClient<Channel>;
/// `KeyService`: create, show and rotate keys.
pub type KeyClient = KeyServiceClient<Channel>;
/// `AuditService`: read the audit log.
pub type AuditClient = AuditServiceClient<Channel>;
/// `SystemService`: ask how the process is.
pub type SystemClient = SystemServiceClient<Channel>;

/// An HTTP/2 PING follows so long a silence, and an answer must follow the PING.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How many bytes of answers may be on their way, on one call and on one connection.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// A connection to a sidecar, with mutual TLS. Cheap to clone; clones share the connection, which is
/// made again when it was lost. For many callers at once a few clients spread the work better than
/// one.
#[derive(Clone)]
pub struct Client {
    channel: Channel,
    endpoint: String,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Client {
    /// Connects. The server checks the caller's certificate after the client's part of the
    /// handshake is over (TLS 1.3), so a refused caller may learn of it with the first call.
    ///
    /// # Errors
    /// [`ClientError`] if a file cannot be used, or the server is not there or not the right one.
    pub async fn connect(settings: Settings) -> Result<Self, ClientError> {
        let identity =
            Identity { certificate: &settings.certificate, private_key: &settings.private_key };
        Self::connect_as(&settings.endpoint, &settings.ca, &identity).await
    }

    /// Shakes hands without a certificate and waits to hear what the server makes of it: a sidecar
    /// always refuses that, and this is how to see it.
    ///
    /// # Errors
    /// [`ClientError::Knock`] with the alert by which the server refuses, or without one if it
    /// hangs up or is not there; otherwise as [`Client::connect`]. It is `Ok` only if the server
    /// spoke on, to a caller that it does not know.
    pub async fn knock_without_certificate(endpoint: &str, ca: &Path) -> Result<(), ClientError> {
        let uri: Uri = endpoint.parse().map_err(|_| ClientError::Endpoint)?;
        let heard = Connector::new(&uri, tls(ca, None)?)?.knock().await;
        heard.map_err(|source| ClientError::Knock { endpoint: endpoint.to_owned(), source })
    }

    async fn connect_as(
        endpoint: &str,
        ca: &Path,
        identity: &Identity<'_>,
    ) -> Result<Self, ClientError> {
        let uri: Uri = endpoint.parse().map_err(|_| ClientError::Endpoint)?;
        let connector = Connector::new(&uri, tls(ca, Some(identity))?)?;
        let channel = Endpoint::from(uri)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .connect_with_connector(connector)
            .await
            .map_err(|source| ClientError::Connect { endpoint: endpoint.to_owned(), source })?;
        Ok(Self { channel, endpoint: endpoint.to_owned() })
    }

    /// `EncryptionService`.
    #[must_use]
    pub fn encryption(&self) -> EncryptionClient {
        EncryptionServiceClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// `KeyService`.
    #[must_use]
    pub fn keys(&self) -> KeyClient {
        KeyServiceClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// `AuditService`.
    #[must_use]
    pub fn audit(&self) -> AuditClient {
        AuditServiceClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// `SystemService`.
    #[must_use]
    pub fn system(&self) -> SystemClient {
        SystemServiceClient::new(self.channel.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// The connection, for other services such as `grpc.health.v1`.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }
}
