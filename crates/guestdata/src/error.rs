//! What can be wrong with a cloud-init volume.

use std::fmt;

/// A field of a cloud-init volume source, as written in the manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    UserData,
    UserDataBase64,
    SecretRef,
    NetworkData,
    NetworkDataBase64,
    NetworkDataSecretRef,
}

impl Field {
    /// The name in the manifest.
    pub fn name(self) -> &'static str {
        match self {
            Self::UserData => "userData",
            Self::UserDataBase64 => "userDataBase64",
            Self::SecretRef => "secretRef",
            Self::NetworkData => "networkData",
            Self::NetworkDataBase64 => "networkDataBase64",
            Self::NetworkDataSecretRef => "networkDataSecretRef",
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a cloud-init disk cannot be built. Every variant names the volume and the field, and says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GuestDataError {
    /// The volume gives the same kind of data twice.
    #[error("volume {volume:?}: {first} and {second} are both set; keep one of them")]
    TwoSources { volume: String, first: Field, second: Field },
    /// The named secret was not found.
    #[error(
        "volume {volume:?}: {field} names secret {secret:?}, which does not exist in namespace {namespace:?}; create it"
    )]
    SecretMissing { volume: String, field: Field, secret: String, namespace: String },
    /// The secret exists but holds none of the keys that are looked for.
    #[error("volume {volume:?}: {field} names secret {secret:?}, which has no key {}; add one of them", keys.join(" or "))]
    SecretKeyMissing { volume: String, field: Field, secret: String, keys: &'static [&'static str] },
    /// Base64 that does not decode.
    #[error("volume {volume:?}: {field} is not valid base64: {reason}")]
    Base64 { volume: String, field: Field, reason: String },
    /// More data than a datasource takes.
    #[error("volume {volume:?}: {field} is {size} bytes long, at most {limit} are allowed")]
    TooLong { volume: String, field: Field, size: usize, limit: usize },
}
