//! An own certificate authority, kept in one directory that only its owner can read.
//!
//! Each file holds a key and its certificate and is written at once, so a crash never leaves half a pair.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use jiff::{Timestamp, ToSpan as _, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType, SerialNumber,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Life of the authority.
const CA_DAYS: i64 = 3650;
/// Life of everything it issues.
const LEAF_DAYS: i64 = 365;
/// A certificate with less than this left is replaced.
const RENEW_DAYS: i64 = 90;

/// Why certificates cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The directory or a file cannot be used.
    #[error("{action} {path}")]
    File {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The authority's file does not hold what it should.
    #[error(
        "read the certificate authority {path}: {problem}; restore the file, or move it away: a new authority is then made and \
         every kubeconfig must be fetched anew"
    )]
    Authority {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A certificate cannot be made.
    #[error("issue a certificate for {subject}")]
    Issue {
        /// For whom.
        subject: String,
        /// Why not.
        #[source]
        source: rcgen::Error,
    },
}

/// A key with its certificate.
#[derive(Clone)]
pub struct Identity {
    /// PEM.
    pub certificate: String,
    /// PEM, PKCS#8.
    pub key: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// The certificate authority in a directory.
#[derive(Debug, Clone)]
pub struct Pki {
    dir: PathBuf,
    ca: Identity,
    /// The authority's subject, DER: what certificates issued by it name as issuer.
    ca_subject: Vec<u8>,
}

impl Pki {
    /// Opens the authority in `dir`, making directory (0700) and authority when they are not there.
    pub fn open(dir: &Path, now: Timestamp) -> Result<Pki, PkiError> {
        let file = |action, source| PkiError::File { action, path: dir.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| file("create directory", e))?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).map_err(|e| file("set the mode of", e))?;
        let path = dir.join("ca.pem");
        let broken = |problem: String| PkiError::Authority { path: path.clone(), problem };
        let ca = match read(&path)? {
            Some(text) => split(&text).map_err(broken)?,
            None => {
                let ca = new_authority(now)?;
                write(&path, &ca)?;
                ca
            }
        };
        KeyPair::from_pem(&ca.key).map_err(|e| broken(format!("its key: {e}")))?;
        let der = CertificateDer::from_pem_slice(ca.certificate.as_bytes())
            .map_err(|e| broken(format!("its certificate: {e}")))?;
        let (_, parsed) = X509Certificate::from_der(&der).map_err(|e| broken(format!("its certificate: {e}")))?;
        if parsed.validity().not_after.timestamp() <= now.as_second() {
            return Err(broken(format!("it expired at {}", parsed.validity().not_after)));
        }
        let ca_subject = parsed.subject().as_raw().to_vec();
        Ok(Pki { dir: dir.to_owned(), ca, ca_subject })
    }

    /// The authority's certificate, PEM.
    pub fn ca_certificate(&self) -> &str {
        &self.ca.certificate
    }

    /// The server's certificate for these host names and addresses (localhost and the loopback addresses are always added):
    /// the stored one while it is valid long enough and names them all, else a new one.
    pub fn server(&self, names: &[String], now: Timestamp) -> Result<Identity, PkiError> {
        let mut all: Vec<String> =
            ["localhost", "127.0.0.1", "::1", "kubernetes.default.svc"].map(str::to_owned).into();
        for name in names {
            let unspecified = name.parse::<std::net::IpAddr>().is_ok_and(|a| a.is_unspecified());
            if !name.is_empty() && !unspecified && !all.contains(name) {
                all.push(name.clone());
            }
        }
        let path = self.dir.join("server.pem");
        if let Some(known) = self.usable(&path, now, &all, None)? {
            return Ok(known);
        }
        let mut params = leaf("ferrovirt", "", ExtendedKeyUsagePurpose::ServerAuth, now);
        params.subject_alt_names = all.iter().filter_map(|n| alternative_name(n)).collect();
        self.issue(&path, "the API server", &params)
    }

    /// The certificate of a user (common name) in a group (organisation, may be empty), kept under `name`.
    pub fn client(&self, name: &str, user: &str, group: &str, now: Timestamp) -> Result<Identity, PkiError> {
        let safe: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
        let path = self.dir.join(format!("client-{safe}.pem"));
        if let Some(known) = self.usable(&path, now, &[], Some((user, group)))? {
            return Ok(known);
        }
        let params = leaf(user, group, ExtendedKeyUsagePurpose::ClientAuth, now);
        self.issue(&path, user, &params)
    }

    fn issue(&self, path: &Path, subject: &str, params: &CertificateParams) -> Result<Identity, PkiError> {
        let failed = |source| PkiError::Issue { subject: subject.to_owned(), source };
        let ca_key = KeyPair::from_pem(&self.ca.key).map_err(failed)?;
        let issuer = Issuer::from_ca_cert_pem(&self.ca.certificate, ca_key).map_err(failed)?;
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, &issuer).map_err(failed)?;
        let identity = Identity { certificate: certificate.pem(), key: key.serialize_pem() };
        write(path, &identity)?;
        Ok(identity)
    }

    /// The stored pair, if it is ours, valid long enough, and says what is wanted. Anything else is replaced: it can be.
    fn usable(
        &self,
        path: &Path,
        now: Timestamp,
        names: &[String],
        user: Option<(&str, &str)>,
    ) -> Result<Option<Identity>, PkiError> {
        let Some(text) = read(path)? else { return Ok(None) };
        let Ok(identity) = split(&text) else {
            tracing::warn!(path = %path.display(), "certificate file is damaged and will be replaced");
            return Ok(None);
        };
        let fits = || -> Option<bool> {
            KeyPair::from_pem(&identity.key).ok()?;
            let der = CertificateDer::from_pem_slice(identity.certificate.as_bytes()).ok()?;
            let (_, certificate) = X509Certificate::from_der(&der).ok()?;
            let left = certificate.validity().not_after.timestamp() - now.as_second();
            let ours = certificate.issuer().as_raw() == self.ca_subject.as_slice();
            let named = names.iter().all(|name| has_name(&certificate, name));
            let whose = user.is_none_or(|(user, group)| {
                let subject = certificate.subject();
                let name = subject.iter_common_name().find_map(|cn| cn.as_str().ok());
                let organisation = subject.iter_organization().find_map(|o| o.as_str().ok());
                name == Some(user) && organisation.unwrap_or_default() == group
            });
            Some(ours && named && whose && left > RENEW_DAYS * 86_400)
        };
        Ok(fits().unwrap_or(false).then(|| identity.clone()))
    }
}

fn has_name(certificate: &X509Certificate<'_>, name: &str) -> bool {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return false };
    let address = name.parse::<std::net::IpAddr>().ok().map(|a| match a {
        std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
        std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
    });
    names.value.general_names.iter().any(|known| match (known, &address) {
        (GeneralName::IPAddress(bytes), Some(address)) => *bytes == address.as_slice(),
        (GeneralName::DNSName(dns), None) => dns.eq_ignore_ascii_case(name),
        _ => false,
    })
}

fn alternative_name(name: &str) -> Option<SanType> {
    match name.parse() {
        Ok(address) => Some(SanType::IpAddress(address)),
        // A host name that no certificate can carry is left out, not an error: the other names still work.
        Err(_) => name.try_into().ok().map(SanType::DnsName),
    }
}

fn validity(params: &mut CertificateParams, now: Timestamp, days: i64) {
    let date = |days: i64| {
        let date = now.to_zoned(TimeZone::UTC).date().saturating_add(days.days());
        rcgen::date_time_ymd(i32::from(date.year()), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    // A client's clock may be behind.
    params.not_before = date(-1);
    params.not_after = date(days);
}

fn serial() -> SerialNumber {
    let mut bytes = rand::random::<[u8; 16]>();
    bytes[0] &= 0x7f;
    SerialNumber::from_slice(&bytes)
}

fn new_authority(now: Timestamp) -> Result<Identity, PkiError> {
    // The random part tells authorities apart that otherwise look the same.
    let subject = format!("ferrovirt-ca@{:08x}", rand::random::<u32>());
    let failed = |source| PkiError::Issue { subject: subject.clone(), source };
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, subject.clone());
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params.serial_number = Some(serial());
    validity(&mut params, now, CA_DAYS);
    let key = KeyPair::generate().map_err(failed)?;
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok(Identity { certificate: certificate.pem(), key: key.serialize_pem() })
}

fn leaf(user: &str, group: &str, usage: ExtendedKeyUsagePurpose, now: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, user);
    if !group.is_empty() {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(serial());
    validity(&mut params, now, LEAF_DAYS);
    params
}

/// The text of a file; `None` when there is none.
fn read(path: &Path) -> Result<Option<String>, PkiError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PkiError::File { action: "read", path: path.to_owned(), source }),
    }
}

/// Takes key and certificate out of a file.
fn split(text: &str) -> Result<Identity, String> {
    let block = |kind: &str| {
        let (begin, end) = (format!("-----BEGIN {kind}-----"), format!("-----END {kind}-----"));
        let from = text.find(&begin).ok_or_else(|| format!("it has no {kind} block"))?;
        let to = text[from..].find(&end).ok_or_else(|| format!("its {kind} block has no end"))?;
        Ok::<String, String>(format!("{}\n", &text[from..from + to + end.len()]))
    };
    let identity = Identity { certificate: block("CERTIFICATE")?, key: block("PRIVATE KEY")? };
    PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).map_err(|e| format!("its key: {e}"))?;
    CertificateDer::from_pem_slice(identity.certificate.as_bytes()).map_err(|e| format!("its certificate: {e}"))?;
    Ok(identity)
}

fn write(path: &Path, identity: &Identity) -> Result<(), PkiError> {
    write_private(path, format!("{}{}", identity.certificate, identity.key).as_bytes())
        .map_err(|source| PkiError::File { action: "write", path: path.to_owned(), source })
}

/// Replaces a file at once, readable by its owner only.
pub(super) fn write_private(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let dir = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = dir.join(format!(".{name}.{:016x}", rand::random::<u64>()));
    let result = (|| {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        fs::File::open(dir)?.sync_all()
    })();
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    result
}
