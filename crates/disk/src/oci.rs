//! Getting the disk out of a container image in a registry.

mod auth;
mod blob;
mod disk;
mod error;
mod manifest;
mod pull;
mod unpacked;

use std::time::Duration;

pub use error::PullError;
pub use unpacked::UnpackedImage;

/// `imagePullPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

impl PullPolicy {
    /// The policy of a volume: as written, else `Always` for `:latest` or no tag and `IfNotPresent` otherwise, as Kubernetes does.
    /// `None` for a word that is no policy.
    pub fn of(written: Option<&str>, image: &str) -> Option<Self> {
        match written.unwrap_or_default() {
            "Always" => Some(Self::Always),
            "IfNotPresent" => Some(Self::IfNotPresent),
            "Never" => Some(Self::Never),
            "" => {
                let name = image.rsplit('/').next().unwrap_or_default();
                let latest = !image.contains('@') && name.split_once(':').is_none_or(|(_, tag)| tag == "latest");
                Some(if latest { Self::Always } else { Self::IfNotPresent })
            }
            _ => None,
        }
    }
}

/// How registries are spoken to.
#[derive(Clone, Debug)]
pub struct RegistryConfig {
    /// Registries (`host:port`) reached by plain http. All others by TLS.
    pub plain_http: Vec<String>,
    /// PEM certificates trusted beside the system's.
    pub extra_ca_pem: Vec<Vec<u8>>,
    /// Time to connect.
    pub connect_timeout: Duration,
    /// Longest silence while reading.
    pub read_timeout: Duration,
    /// Go's names of the platform picked from an image index.
    pub os: String,
    pub architecture: String,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            plain_http: Vec::new(),
            extra_ca_pem: Vec::new(),
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(60),
            os: "linux".into(),
            architecture: match std::env::consts::ARCH {
                "x86_64" => "amd64",
                "aarch64" => "arm64",
                other => other,
            }
            .into(),
        }
    }
}

/// The registry client's HTTP library takes whatever cryptography the process has chosen, and panics where none is. The first choice
/// stays, so calling this after a program made its own is harmless.
pub(crate) fn install_tls_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

#[cfg(test)]
mod tests {
    use super::PullPolicy::{self, Always, IfNotPresent, Never};

    #[test]
    fn default_policy_follows_the_tag() {
        let cases = [
            (None, "demo", Some(Always)),
            (None, "registry:5000/demo", Some(Always)),
            (None, "demo:latest", Some(Always)),
            (Some(""), "registry:5000/demo:1", Some(IfNotPresent)),
            (None, "demo@sha256:00", Some(IfNotPresent)),
            (Some("Never"), "demo", Some(Never)),
            (Some("IfNotPresent"), "demo", Some(IfNotPresent)),
            (Some("always"), "demo", None),
        ];
        for (written, image, expected) in cases {
            assert_eq!(PullPolicy::of(written, image), expected, "{written:?} {image}");
        }
    }
}
