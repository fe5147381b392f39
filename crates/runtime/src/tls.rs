//! TLS between our programs: certificates and authorities may be replaced at any time, and each handshake uses the newest.
//!
//! Sessions are never resumed: a resumed one would be believed on the strength of an authority that may have been withdrawn.

mod limits;
mod peer;
mod serve;
mod verify;

use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::ring::default_provider;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, ServerConfig};

use crate::certificates::{Authorities, Identity};
use verify::{ClientVerifier, ServerVerifier};

pub use limits::ConnectionLimits;
pub use peer::PeerCertificate;
pub use serve::{serve, serve_within};

/// What a server asks of its clients.
#[derive(Clone, Debug)]
pub enum ClientCertificates {
    /// No certificate is asked for.
    Ignored,
    /// One that is shown must come from these authorities; none need be shown.
    Optional(Arc<Authorities>),
    /// One from these authorities must be shown.
    Required(Arc<Authorities>),
}

/// The configuration of a server for [`serve`]: HTTP/1.1 only, so that every connection can become a WebSocket.
///
/// # Errors
/// None with the cipher suites this program is built with.
pub fn server_config(identity: Arc<Identity>, clients: ClientCertificates) -> Result<Arc<ServerConfig>, rustls::Error> {
    let verifier = match clients {
        ClientCertificates::Ignored => WebPkiClientVerifier::no_client_auth(),
        ClientCertificates::Optional(authorities) => ClientVerifier::shared(authorities, false),
        ClientCertificates::Required(authorities) => ClientVerifier::shared(authorities, true),
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(identity);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// The configuration of a client that shows `identity` and believes a server whose certificate comes from `authorities` and has
/// the common name `server`. Our servers are reached at addresses that no certificate can know beforehand.
///
/// # Errors
/// None with the cipher suites this program is built with.
pub fn client_config(
    identity: Arc<Identity>,
    authorities: Arc<Authorities>,
    server: &str,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(ServerVerifier::shared(authorities, server))
        .with_client_cert_resolver(identity);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}
