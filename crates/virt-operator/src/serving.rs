//! The operator's own certificate. The Secret that holds it is the operator's to make, so it cannot be mounted from the start: it is
//! read from the API, by the leader and the others alike, and until it is there a certificate of our own answers the probes.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use fv_api::config::Lifetime;
use fv_render::install::certificates::OPERATOR;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use parking_lot::RwLock;
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::sync::CancellationToken;

use crate::certificates::{self, CertificateError, Pair};

/// What is shown to clients, replaced when the Secret changes.
#[derive(Debug)]
pub(crate) struct Certificate(RwLock<Arc<CertifiedKey>>);

impl Certificate {
    /// One that nobody trusts; probes do not ask.
    pub(crate) fn temporary(now: Timestamp) -> Result<Arc<Self>, CertificateError> {
        const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
        let pair = certificates::authority(Lifetime { duration: YEAR, renew_before: Duration::ZERO }, now)?;
        let key = certified(&pair).ok_or(CertificateError::NoAuthority(OPERATOR))?;
        Ok(Arc::new(Self(RwLock::new(key))))
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().clone())
    }
}

fn certified(pair: &Pair) -> Option<Arc<CertifiedKey>> {
    let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).ok()?];
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).ok()?;
    CertifiedKey::from_der(chain, key, &default_provider()).ok().map(Arc::new)
}

/// TLS with that certificate, without client certificates and without sessions that outlive it.
pub(crate) fn tls(certificate: Arc<Certificate>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// Takes over what the Secret holds until `shutdown`.
pub(crate) async fn follow(
    client: Client,
    namespace: String,
    certificate: Arc<Certificate>,
    shutdown: CancellationToken,
) {
    let config = watcher::Config::default().fields(&format!("metadata.name={OPERATOR}"));
    let stream = watcher(Api::<Secret>::namespaced(client, &namespace), config).default_backoff().applied_objects();
    let mut stream = std::pin::pin!(stream);
    loop {
        let secret = tokio::select! {
            () = shutdown.cancelled() => return,
            secret = stream.next() => secret,
        };
        match secret {
            Some(Ok(secret)) => match pair(&secret).as_ref().and_then(certified) {
                Some(key) => *certificate.0.write() = key,
                None => tracing::warn!(secret = OPERATOR, "holds no certificate with its key; the old one is kept"),
            },
            Some(Err(error)) => tracing::debug!(%error, "the watch of the certificate broke and begins again"),
            None => return,
        }
    }
}

fn pair(secret: &Secret) -> Option<Pair> {
    let data = secret.data.as_ref()?;
    let text = |key: &str| String::from_utf8(data.get(key)?.0.clone()).ok();
    Some(Pair { certificate: text("tls.crt")?, key: text("tls.key")? })
}
