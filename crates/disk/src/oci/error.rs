//! Why an image cannot be had, in kubelet's words.

use oci_client::errors::{DigestError, OciDistributionError, OciErrorCode};

use crate::store::StoreError;

/// Why an image cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    #[error("couldn't parse image name {image:?}: {reason}")]
    InvalidName { image: String, reason: String },
    #[error("container image {image:?} is not present with pull policy of Never")]
    NeverPull { image: String },
    #[error("failed to resolve reference {image:?}: not found")]
    NotFound { image: String },
    #[error(
        "pull access denied for {image:?}, repository does not exist or may require authorization: check the credentials in imagePullSecret"
    )]
    Unauthorized { image: String },
    #[error("registry {registry:?} is not reachable: {reason}")]
    Unreachable { registry: String, reason: String },
    #[error("registry {registry:?} answered with an error: {reason}")]
    Registry { registry: String, reason: String },
    #[error("pull secret is not a docker config: {reason}")]
    PullSecret { reason: String },
    #[error("digest of {what} is {actual}, not {expected}: the registry or something on the way changed it")]
    WrongDigest { what: &'static str, expected: String, actual: String },
    #[error("manifest of {image:?} is not usable: {reason}")]
    Manifest { image: String, reason: String },
    #[error("no image for platform {platform} in {image:?}; it has {available}")]
    Platform { image: String, platform: String, available: String },
    #[error("layer {digest} is not readable: {reason}")]
    Layer { digest: String, reason: String },
    #[error("no disk in {image:?}: {reason}")]
    NoDisk { image: String, reason: String },
    #[error("several disks in {image:?}: {}; name one in containerDisk.path", paths.join(", "))]
    SeveralDisks { image: String, paths: Vec<String> },
    #[error("disk {path:?} in {image:?} is a {kind}; only a regular file is taken")]
    NotRegular { image: String, path: String, kind: &'static str },
    #[error("connection to registry {registry:?} was lost: {reason}")]
    Interrupted { registry: String, reason: String },
    #[error("pull was cancelled")]
    Cancelled,
    #[error("image store: {0}")]
    Store(#[source] StoreError),
}

impl From<StoreError> for PullError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl PullError {
    /// Kubernetes' reason word for the first failure: `InvalidImageName`, `ErrImageNeverPull`, `RegistryUnavailable` or `ErrImagePull`.
    /// While waiting for the next try the reason is `ImagePullBackOff` whatever this says.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::InvalidName { .. } => "InvalidImageName",
            Self::NeverPull { .. } => "ErrImageNeverPull",
            Self::Unreachable { .. } => "RegistryUnavailable",
            _ => "ErrImagePull",
        }
    }

    /// Whether trying again later can help without anybody changing the object.
    pub fn is_transient(&self) -> bool {
        !matches!(self, Self::InvalidName { .. } | Self::PullSecret { .. })
    }

    /// The text for the event and the container's waiting message, as kubelet words it.
    pub fn message(&self, image: &str) -> String {
        match self {
            Self::InvalidName { reason, .. } => {
                format!("Failed to apply default image tag {image:?}: couldn't parse image name {image:?}: {reason}")
            }
            Self::NeverPull { .. } => format!("Container image {image:?} is not present with pull policy of Never"),
            _ => format!("Failed to pull image {image:?}: {}", chain(self)),
        }
    }

    /// What the registry client's error means for `image`.
    pub(super) fn from_client(error: OciDistributionError, image: &str, registry: &str) -> Self {
        use OciDistributionError as E;
        let (image, registry) = (image.to_owned(), registry.to_owned());
        match error {
            E::UnauthorizedError { .. } | E::AuthenticationFailure(_) => Self::Unauthorized { image },
            E::ImageManifestNotFoundError(_) => Self::NotFound { image },
            E::ServerError { code: 404, .. } => Self::NotFound { image },
            E::ServerError { code: 401 | 403, .. } => Self::Unauthorized { image },
            E::RegistryError { ref envelope, .. } => {
                let has = |codes: &[OciErrorCode]| envelope.errors.iter().any(|error| codes.contains(&error.code));
                use OciErrorCode as C;
                if has(&[C::Unauthorized, C::Denied]) {
                    Self::Unauthorized { image }
                } else if has(&[C::ManifestUnknown, C::NameUnknown, C::NotFound]) {
                    Self::NotFound { image }
                } else {
                    Self::Registry { registry, reason: short(&error.to_string()) }
                }
            }
            E::DigestError(DigestError::VerificationError { expected, actual }) => {
                Self::WrongDigest { what: "manifest", expected, actual }
            }
            E::RequestError(error) if error.is_connect() || error.is_timeout() => {
                Self::Unreachable { registry, reason: short(&chain(&error)) }
            }
            error => Self::Registry { registry, reason: short(&chain(&error)) },
        }
    }
}

/// The error and its causes on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// What a registry says, cut to what fits an event.
fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(500).collect()
}
