//! Certificates that are mounted as files and replaced while we run.
//!
//! Kubelet replaces the files of a mounted Secret or ConfigMap by swapping one symbolic link. Content is compared, not names or
//! times: that is right for every way of replacing a file. What cannot be used is reported and the old content kept.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use rustls::client::ResolvesClientCert;
use rustls::crypto::ring::default_provider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::sync::CancellationToken;

/// Names of the files in a Secret of type `kubernetes.io/tls`.
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
/// How often mounted files are looked at. Kubelet itself takes up to a minute to bring a change.
pub const RELOAD_EVERY: Duration = Duration::from_secs(5);

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{place} is no PEM file with {what}: {why}")]
    Content { place: String, what: &'static str, why: String },
}

/// Something that is read from files again and again.
pub trait Reload: Send + Sync {
    /// Takes over what the files say now. False when they say what they said before.
    ///
    /// # Errors
    /// The files cannot be used; what was read before stays in force.
    fn reload(&self) -> Result<bool, CertificateError>;
    /// What it is, for logs.
    fn place(&self) -> String;
}

/// A certificate with its key: what we show to peers.
#[derive(Debug)]
pub struct Identity {
    dir: PathBuf,
    content: Mutex<(Vec<u8>, Vec<u8>)>,
    current: RwLock<Arc<CertifiedKey>>,
}

impl Identity {
    /// Reads `tls.crt` and `tls.key` of `dir`.
    ///
    /// # Errors
    /// A file is missing, is no PEM, or the key belongs to another certificate.
    pub fn open(dir: &Path) -> Result<Arc<Self>, CertificateError> {
        let content = Self::read(dir)?;
        let current = RwLock::new(Arc::new(Self::parse(dir, &content)?));
        Ok(Arc::new(Self { dir: dir.to_owned(), content: Mutex::new(content), current }))
    }

    /// What is shown now.
    pub fn current(&self) -> Arc<CertifiedKey> {
        self.current.read().clone()
    }

    fn read(dir: &Path) -> Result<(Vec<u8>, Vec<u8>), CertificateError> {
        Ok((read(&dir.join(CERTIFICATE))?, read(&dir.join(KEY))?))
    }

    fn parse(dir: &Path, (certificate, key): &(Vec<u8>, Vec<u8>)) -> Result<CertifiedKey, CertificateError> {
        let place = dir.join(CERTIFICATE).display().to_string();
        let chain = certificates(&place, certificate)?;
        let unusable = |why: String| CertificateError::Content {
            place: dir.join(KEY).display().to_string(),
            what: "the private key of the certificate beside it",
            why,
        };
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| unusable(e.to_string()))?;
        // Also refuses a key of another certificate: the two files may be read while they are replaced.
        CertifiedKey::from_der(chain, key, &default_provider()).map_err(|e| unusable(e.to_string()))
    }
}

impl Reload for Identity {
    fn reload(&self) -> Result<bool, CertificateError> {
        let content = Self::read(&self.dir)?;
        if *self.content.lock() == content {
            return Ok(false);
        }
        let current = Arc::new(Self::parse(&self.dir, &content)?);
        *self.current.write() = current;
        *self.content.lock() = content;
        Ok(true)
    }

    fn place(&self) -> String {
        self.dir.display().to_string()
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// The authorities whose certificates we believe.
#[derive(Debug)]
pub struct Authorities {
    file: Option<PathBuf>,
    content: Mutex<Vec<u8>>,
    roots: RwLock<Arc<RootCertStore>>,
}

impl Authorities {
    /// Reads a PEM bundle.
    ///
    /// # Errors
    /// The file cannot be read, or holds no certificate.
    pub fn open(file: &Path) -> Result<Arc<Self>, CertificateError> {
        let authorities = Self { file: Some(file.to_owned()), ..Self::empty() };
        authorities.reload()?;
        Ok(Arc::new(authorities))
    }

    /// Believes nobody until [`Authorities::replace`].
    pub fn none() -> Arc<Self> {
        Arc::new(Self::empty())
    }

    fn empty() -> Self {
        let roots = RwLock::new(Arc::new(RootCertStore::empty()));
        Self { file: None, content: Mutex::default(), roots }
    }

    /// Believes the authorities of `pem` and no others from now on. False when they are the same as before.
    ///
    /// # Errors
    /// It holds no certificate, or one that is no authority.
    pub fn replace(&self, pem: &[u8]) -> Result<bool, CertificateError> {
        if *self.content.lock() == pem {
            return Ok(false);
        }
        let place = self.place();
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&place, pem)? {
            roots.add(certificate).map_err(|e| CertificateError::Content {
                place: place.clone(),
                what: "certificates of authorities",
                why: e.to_string(),
            })?;
        }
        *self.roots.write() = Arc::new(roots);
        *self.content.lock() = pem.to_vec();
        Ok(true)
    }

    /// Who is believed now.
    pub fn roots(&self) -> Arc<RootCertStore> {
        self.roots.read().clone()
    }
}

impl Reload for Authorities {
    fn reload(&self) -> Result<bool, CertificateError> {
        match &self.file {
            Some(file) => self.replace(&read(file)?),
            None => Ok(false),
        }
    }

    fn place(&self) -> String {
        self.file.as_ref().map_or_else(|| "the bundle given".to_owned(), |file| file.display().to_string())
    }
}

/// Reads `parts` again and again until `shutdown`.
pub async fn keep_reloading(parts: Vec<Arc<dyn Reload>>, every: Duration, shutdown: CancellationToken) {
    let mut due = tokio::time::interval(every);
    due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = due.tick() => {}
        }
        for part in &parts {
            match part.reload() {
                Ok(false) => {}
                Ok(true) => tracing::info!(place = part.place(), "certificates were replaced"),
                Err(error) => tracing::error!(
                    place = part.place(),
                    error = &error as &dyn std::error::Error,
                    "replaced certificates cannot be used; the old ones stay"
                ),
            }
        }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    fs::read(path).map_err(|source| CertificateError::Read { path: path.to_owned(), source })
}

fn certificates(place: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let unusable = |why: String| CertificateError::Content { place: place.to_owned(), what: "certificates", why };
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|e| unusable(e.to_string()))?;
    if chain.is_empty() {
        return Err(unusable("it holds none".to_owned()));
    }
    Ok(chain)
}
