//! Authentication: from a verified client certificate to a [`UserInfo`].
//!
//! As in Kubernetes the common name is the user and the organisations are its groups. A connection without a certificate gets no
//! identity, and the request handler answers 401.

use x509_parser::prelude::{FromDer, X509Certificate};

use crate::identity::UserInfo;

/// The user a certificate stands for; `None` when it names nobody. The chain must have been verified.
pub fn user_from_certificate(der: &[u8]) -> Option<UserInfo> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let subject = certificate.subject();
    let username = subject.iter_common_name().find_map(|cn| cn.as_str().ok()).filter(|cn| !cn.is_empty())?.to_owned();
    let groups = subject.iter_organization().filter_map(|o| o.as_str().ok()).map(str::to_owned).collect();
    Some(UserInfo::authenticated(username, groups))
}
