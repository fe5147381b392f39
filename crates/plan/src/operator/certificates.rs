//! When certificates are made and renewed.
//!
//! A new authority is published before it signs anything: for [`PROPAGATION`] it stands in the bundle as successor, so that every
//! component trusts it when it meets the first certificate it signed. The old one stays in the bundle until it ends. Nothing
//! has to be restarted.

use std::collections::BTreeMap;
use std::time::Duration;

use fv_api::config::{CertificateRotation, Lifetime};
use fv_render::install::{ObjectId, certificates as rendered};
use jiff::{SignedDuration, Timestamp};

/// How long a bundle takes to reach every component: kubelets look every minute or so, and they may be late.
pub const PROPAGATION: Duration = Duration::from_secs(600);

/// An authority's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityCertificate {
    /// PEM.
    pub pem: String,
    /// Hash of the certificate.
    pub fingerprint: String,
    /// When it was made.
    pub made_at: Timestamp,
    pub not_after: Timestamp,
}

/// A certificate that the authority signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafCertificate {
    /// [`AuthorityCertificate::fingerprint`] of who signed it.
    pub issuer: String,
    pub common_name: String,
    pub dns_names: Vec<String>,
    pub not_after: Timestamp,
}

/// What the cluster has. What cannot be read counts as not there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authority {
    /// The one that signs.
    pub current: Option<AuthorityCertificate>,
    /// The one that will.
    pub next: Option<AuthorityCertificate>,
    /// All in the published bundle.
    pub published: Vec<AuthorityCertificate>,
    /// By name of the Secret.
    pub leaves: BTreeMap<String, LeafCertificate>,
}

/// One renewal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateStep {
    /// Make the first authority, or a new one when the old cannot be used.
    NewAuthority { lifetime: Lifetime },
    /// Make the authority that is to follow.
    NewSuccessor { lifetime: Lifetime },
    /// Let the successor sign from now on.
    Promote,
    /// Publish this bundle.
    Publish { bundle: String },
    /// Sign a certificate.
    Issue { certificate: rendered::Certificate, lifetime: Lifetime },
}

/// What is to be renewed now, and when to look again. Each step is decided on what the one before it left in the cluster.
pub fn renewals(
    authority: &Authority,
    rotation: CertificateRotation,
    namespace: &str,
    now: Timestamp,
) -> (Vec<CertificateStep>, Option<Duration>) {
    let Some(current) = authority.current.as_ref().filter(|current| current.not_after > now) else {
        return match &authority.next {
            Some(next) if next.not_after > now => (vec![CertificateStep::Promote], None),
            _ => (vec![CertificateStep::NewAuthority { lifetime: rotation.ca }], None),
        };
    };
    let mut alarms = vec![current.not_after];
    let successor_at = before(current.not_after, rotation.ca.renew_before);
    match &authority.next {
        None if successor_at <= now => return (vec![CertificateStep::NewSuccessor { lifetime: rotation.ca }], None),
        None => alarms.push(successor_at),
        Some(next) => {
            let is_published = authority.published.iter().any(|known| known.fingerprint == next.fingerprint);
            let promote_at = after(next.made_at, PROPAGATION.min(rotation.ca.renew_before / 2));
            if is_published && promote_at <= now {
                return (vec![CertificateStep::Promote], None);
            }
            alarms.push(promote_at);
        }
    }
    let bundle = bundle(authority, now);
    if bundle != published(authority) {
        return (vec![CertificateStep::Publish { bundle }], None);
    }
    alarms.extend(authority.published.iter().map(|known| known.not_after));
    let mut steps = Vec::new();
    // What ends with its authority lasts no longer when it is signed anew: it waits for the next authority.
    let renew_at = |leaf: &LeafCertificate| match leaf.not_after < current.not_after {
        true => before(leaf.not_after, rotation.server.renew_before),
        false => current.not_after,
    };
    for certificate in rendered::certificates(namespace) {
        match authority.leaves.get(certificate.secret) {
            Some(leaf)
                if leaf.issuer == current.fingerprint
                    && leaf.common_name == certificate.common_name
                    && leaf.dns_names == certificate.dns_names
                    && renew_at(leaf) > now =>
            {
                alarms.push(renew_at(leaf));
            }
            _ => steps.push(CertificateStep::Issue { certificate, lifetime: rotation.server }),
        }
    }
    let next_look = alarms.into_iter().filter(|at| *at > now).min();
    (steps, next_look.and_then(|at| Duration::try_from(at.duration_since(now)).ok()))
}

/// Everything to be trusted: who signs, who will, and whoever signed something that may still be shown.
fn bundle(authority: &Authority, now: Timestamp) -> String {
    let mut all: Vec<&AuthorityCertificate> = Vec::new();
    for known in authority.current.iter().chain(&authority.next).chain(&authority.published) {
        if known.not_after > now && !all.iter().any(|listed| listed.fingerprint == known.fingerprint) {
            all.push(known);
        }
    }
    all.iter().map(|known| known.pem.as_str()).collect()
}

/// The bundle as it is published.
pub fn published(authority: &Authority) -> String {
    authority.published.iter().map(|known| known.pem.as_str()).collect()
}

/// Whether every component can show a certificate and check those of others.
pub fn is_complete(authority: &Authority, namespace: &str) -> bool {
    authority.current.is_some()
        && !authority.published.is_empty()
        && rendered::certificates(namespace).iter().all(|wanted| authority.leaves.contains_key(wanted.secret))
}

/// Whether an object is one of the certificates' of an installation in `namespace`.
pub(super) fn is_ours(id: &ObjectId, namespace: &str) -> bool {
    if id.namespace != namespace || !id.group.is_empty() {
        return false;
    }
    match id.kind.as_str() {
        "ConfigMap" => id.name == rendered::AUTHORITY,
        "Secret" => {
            id.name == rendered::AUTHORITY
                || rendered::certificates(namespace).iter().any(|certificate| certificate.secret == id.name)
        }
        _ => false,
    }
}

fn before(at: Timestamp, span: Duration) -> Timestamp {
    SignedDuration::try_from(span).ok().and_then(|span| at.checked_sub(span).ok()).unwrap_or(Timestamp::MIN)
}

fn after(at: Timestamp, span: Duration) -> Timestamp {
    SignedDuration::try_from(span).ok().and_then(|span| at.checked_add(span).ok()).unwrap_or(Timestamp::MAX)
}
