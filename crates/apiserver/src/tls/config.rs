//! The TLS side of the server: its certificate, renewed while it runs, and whom it believes.

use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::RwLock;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::pki::{Identity, Pki, PkiError};

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// No certificate.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The certificate or key cannot be used.
    #[error("use the certificate of the API server: {0}")]
    Certificate(String),
}

/// What [`serve_tls`](super::serve_tls) needs to speak TLS.
#[derive(Debug)]
pub struct ServerTls {
    pki: Pki,
    names: Vec<String>,
    resolver: Arc<Resolver>,
    config: Arc<ServerConfig>,
}

#[derive(Debug)]
struct Resolver(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().clone())
    }
}

impl ServerTls {
    /// TLS for a server known by these host names and addresses. Clients may present certificates of the authority.
    pub fn new(pki: Pki, names: Vec<String>, now: Timestamp) -> Result<ServerTls, TlsError> {
        let unusable = |e: &dyn std::fmt::Display| TlsError::Certificate(e.to_string());
        let key = certified(&pki.server(&names, now)?)?;
        let resolver = Arc::new(Resolver(RwLock::new(Arc::new(key))));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_slice(pki.ca_certificate().as_bytes()).map_err(|e| unusable(&e))?;
        roots.add(ca).map_err(|e| unusable(&e))?;
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .allow_unauthenticated()
            .build()
            .map_err(|e| unusable(&e))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| unusable(&e))?
            .with_client_cert_verifier(clients)
            .with_cert_resolver(resolver.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(ServerTls { pki, names, resolver, config: Arc::new(config) })
    }

    /// Replaces the server's certificate when it is about to expire. Connections stay.
    pub fn renew(&self, now: Timestamp) -> Result<(), TlsError> {
        let key = certified(&self.pki.server(&self.names, now)?)?;
        *self.resolver.0.write() = Arc::new(key);
        Ok(())
    }

    /// The authority.
    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    pub(super) fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }
}

fn certified(identity: &Identity) -> Result<CertifiedKey, TlsError> {
    let unusable = |e: &dyn std::fmt::Display| TlsError::Certificate(e.to_string());
    let certificate = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).map_err(|e| unusable(&e))?;
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).map_err(|e| unusable(&e))?;
    let key = rustls::crypto::ring::sign::any_supported_type(&key).map_err(|e| unusable(&e))?;
    Ok(CertifiedKey::new(vec![certificate], key))
}
