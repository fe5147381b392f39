//! Who is at the other end of a connection.

use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The verified certificate of a client; [`serve`](super::serve) gives it to each request as an extension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate(pub CertificateDer<'static>);

impl PeerCertificate {
    /// The common name, when there is one.
    pub fn common_name(&self) -> Option<String> {
        common_name(&self.0)
    }
}

/// The first common name of a certificate's subject.
pub(super) fn common_name(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    certificate.subject().iter_common_name().find_map(|cn| cn.as_str().ok()).map(str::to_owned)
}
