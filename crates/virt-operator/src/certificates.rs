//! Making certificates, and reading those that the cluster has.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fv_api::config::Lifetime;
use fv_plan::operator::certificates::{Authority, AuthorityCertificate, LeafCertificate};
use fv_plan::operator::objects::Live;
use fv_render::install::ObjectId;
use fv_render::install::certificates::{self as rendered, Certificate, Usage};
use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Annotation of a Secret: which authority signed its certificate.
pub(crate) const ISSUER: &str = "ferrovirt.io/issuer";
/// Keys of the successor in the authority's Secret.
pub(crate) const NEXT_CERTIFICATE: &str = "next.crt";
pub(crate) const NEXT_KEY: &str = "next.key";
/// A client's clock may be behind.
const BACKDATED: Duration = Duration::from_secs(3600);

/// Why a certificate cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("make the certificate of {subject}")]
    Make {
        subject: String,
        #[source]
        source: rcgen::Error,
    },
    #[error("Secret {0} does not hold an authority with its key")]
    NoAuthority(&'static str),
}

/// A certificate with its key, both PEM.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

/// A new authority.
pub(crate) fn authority(lifetime: Lifetime, now: Timestamp) -> Result<Pair, CertificateError> {
    // The random part tells authorities apart that otherwise look the same.
    let subject = format!("kubevirt.io@{:08x}", rand::random::<u32>());
    let mut params = params(&subject, now, after(now, lifetime.duration));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    let made = || -> Result<Pair, rcgen::Error> {
        let key = KeyPair::generate()?;
        Ok(Pair { certificate: params.self_signed(&key)?.pem(), key: key.serialize_pem() })
    };
    made().map_err(|source| CertificateError::Make { subject, source })
}

/// A certificate signed by an authority, which it does not outlast.
pub(crate) fn issue(
    authority: &Pair,
    wanted: &Certificate,
    lifetime: Lifetime,
    now: Timestamp,
) -> Result<Pair, CertificateError> {
    let known = read_authority(&authority.certificate).ok_or(CertificateError::NoAuthority(rendered::AUTHORITY))?;
    let mut params = params(&wanted.common_name, now, after(now, lifetime.duration).min(known.not_after));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![match wanted.usage {
        Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
        Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
    }];
    params.use_authority_key_identifier_extension = true;
    let mut made = || -> Result<Pair, rcgen::Error> {
        for name in &wanted.dns_names {
            params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
        }
        let issuer = Issuer::from_ca_cert_pem(&authority.certificate, KeyPair::from_pem(&authority.key)?)?;
        let key = KeyPair::generate()?;
        Ok(Pair { certificate: params.signed_by(&key, &issuer)?.pem(), key: key.serialize_pem() })
    };
    made().map_err(|source| CertificateError::Make { subject: wanted.common_name.clone(), source })
}

fn params(common_name: &str, now: Timestamp, not_after: Timestamp) -> CertificateParams {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let seconds = |at: Timestamp| Duration::from_secs(u64::try_from(at.as_second()).unwrap_or_default());
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = epoch + seconds(now).saturating_sub(BACKDATED);
    params.not_after = epoch + seconds(not_after);
    let mut serial = rand::random::<[u8; 16]>();
    serial[0] &= 0x7f;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params
}

/// What is known of the certificates among the cluster's objects.
pub(crate) fn read(live: &BTreeMap<ObjectId, Live>, namespace: &str) -> Authority {
    let object = |kind: &str, name: &str| {
        let is = |id: &&ObjectId| id.kind == kind && id.name == name && id.namespace == namespace;
        live.iter().find(|(id, _)| is(id)).map(|(_, live)| &live.value)
    };
    let secret = object("Secret", rendered::AUTHORITY);
    let authority_at = |certificate: &str, key: &str| {
        secret.and_then(|secret| pair(secret, certificate, key)).and_then(|pair| read_authority(&pair.certificate))
    };
    let bundle = object("ConfigMap", rendered::AUTHORITY).and_then(|map| map["data"][rendered::BUNDLE_KEY].as_str());
    let leaves = rendered::certificates(namespace).into_iter().filter_map(|wanted| {
        let value = object("Secret", wanted.secret)?;
        let issuer = value["metadata"]["annotations"][ISSUER].as_str()?;
        let pair = pair(value, "tls.crt", "tls.key")?;
        Some((wanted.secret.to_owned(), read_leaf(&pair.certificate, issuer)?))
    });
    Authority {
        current: authority_at("tls.crt", "tls.key"),
        next: authority_at(NEXT_CERTIFICATE, NEXT_KEY),
        published: bundle.map(read_bundle).unwrap_or_default(),
        leaves: leaves.collect(),
    }
}

/// A certificate and its key out of a Secret, if both can be used.
pub(crate) fn pair(secret: &Value, certificate: &str, key: &str) -> Option<Pair> {
    let text = |key: &str| {
        let encoded = secret["data"][key].as_str()?;
        String::from_utf8(STANDARD.decode(encoded).ok()?).ok()
    };
    let pair = Pair { certificate: text(certificate)?, key: text(key)? };
    KeyPair::from_pem(&pair.key).ok()?;
    Some(pair)
}

fn read_bundle(text: &str) -> Vec<AuthorityCertificate> {
    let ders = CertificateDer::pem_slice_iter(text.as_bytes()).filter_map(Result::ok);
    ders.filter_map(|der| authority_of(&der)).collect()
}

fn read_authority(pem: &str) -> Option<AuthorityCertificate> {
    authority_of(&CertificateDer::from_pem_slice(pem.as_bytes()).ok()?)
}

fn authority_of(der: &CertificateDer<'_>) -> Option<AuthorityCertificate> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    let made_at = Timestamp::from_second(parsed.validity().not_before.timestamp()).ok()?;
    Some(AuthorityCertificate {
        pem: pem_of(der),
        fingerprint: hex::encode(Sha256::digest(der)),
        made_at: after(made_at, BACKDATED),
        not_after: Timestamp::from_second(parsed.validity().not_after.timestamp()).ok()?,
    })
}

/// One way to write a certificate, whoever wrote it before.
fn pem_of(der: &[u8]) -> String {
    const LINE: usize = 64;
    let text = STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, left) = rest.split_at(LINE.min(rest.len()));
        pem.push_str(line);
        pem.push('\n');
        rest = left;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

fn read_leaf(pem: &str, issuer: &str) -> Option<LeafCertificate> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    let (_, parsed) = X509Certificate::from_der(&der).ok()?;
    let names = parsed.subject_alternative_name().ok()?;
    let names = names.map(|names| names.value.general_names.clone()).unwrap_or_default();
    let dns = names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    });
    Some(LeafCertificate {
        issuer: issuer.to_owned(),
        common_name: parsed.subject().iter_common_name().find_map(|name| name.as_str().ok())?.to_owned(),
        dns_names: dns.collect(),
        not_after: Timestamp::from_second(parsed.validity().not_after.timestamp()).ok()?,
    })
}

/// Names an authority by its certificate.
pub(crate) fn fingerprint(pem: &str) -> Option<String> {
    read_authority(pem).map(|known| known.fingerprint)
}

fn after(at: Timestamp, span: Duration) -> Timestamp {
    SignedDuration::try_from(span).ok().and_then(|span| at.checked_add(span).ok()).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const HOUR: Lifetime = Lifetime { duration: Duration::from_secs(3600), renew_before: Duration::from_secs(600) };
    const DAY: Lifetime = Lifetime { duration: Duration::from_secs(86_400), renew_before: Duration::from_secs(600) };

    fn now() -> Timestamp {
        "2026-11-25T12:00:00Z".parse().unwrap()
    }

    fn live(value: Value) -> (ObjectId, Live) {
        (ObjectId::of(&value), Live { value })
    }

    fn secret(name: &str, pair: &Pair, issuer: Option<&str>) -> Value {
        let mut value = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "kubevirt"},
            "data": {"tls.crt": STANDARD.encode(&pair.certificate), "tls.key": STANDARD.encode(&pair.key)}});
        if let Some(issuer) = issuer {
            value["metadata"]["annotations"][ISSUER] = json!(issuer);
        }
        value
    }

    #[test]
    fn what_was_made_is_read_back_and_does_not_outlast_its_authority() {
        let ca = authority(HOUR, now()).unwrap();
        let wanted = rendered::certificates("kubevirt").remove(0);
        let made = issue(&ca, &wanted, DAY, now()).unwrap();
        let name = fingerprint(&ca.certificate).unwrap();
        let bundle = rendered::bundle("kubevirt", &ca.certificate).value;
        let known = read(
            &[
                live(secret(rendered::AUTHORITY, &ca, None)),
                live(secret(wanted.secret, &made, Some(&name))),
                live(bundle),
            ]
            .into(),
            "kubevirt",
        );
        let current = known.current.clone().unwrap();
        assert_eq!((current.made_at, current.not_after), (now(), now() + SignedDuration::from_hours(1)));
        assert_eq!((current.fingerprint.as_str(), &known.next), (name.as_str(), &None));
        assert_eq!(known.published, std::slice::from_ref(&current));
        let leaf = &known.leaves[wanted.secret];
        assert_eq!((&leaf.common_name, &leaf.dns_names), (&wanted.common_name, &wanted.dns_names));
        assert_eq!((&leaf.issuer, leaf.not_after), (&name, current.not_after));
    }

    #[test]
    fn a_damaged_secret_counts_as_none() {
        let ca = authority(HOUR, now()).unwrap();
        let broken = Pair { key: "no key".into(), ..ca };
        let known = read(&[live(secret(rendered::AUTHORITY, &broken, None))].into(), "kubevirt");
        assert_eq!(known, Authority::default());
    }
}
