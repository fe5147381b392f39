//! Manifests, indexes and image configs. Pure.

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::PullError;

/// Media types asked for, single images first.
pub(super) const ACCEPTED: &[&str] = &[
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// A reference image has a handful; more is an attack on our patience.
const MAX_LAYERS: usize = 128;
/// Longest image config that is read.
pub(super) const MAX_CONFIG_BYTES: u64 = 4 << 20;

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub(super) digest: String,
    pub(super) size: u64,
    #[serde(default)]
    pub(super) media_type: String,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Platform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
}

/// An image manifest whose figures have been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
}

/// What a manifest document is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Document {
    Image(Manifest),
    /// Digest of the manifest for our platform.
    Index(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
}

#[derive(Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

/// Checks that `bytes` are what `expected` (`sha256:…`) stands for.
pub(super) fn verify(what: &'static str, bytes: &[u8], expected: &str) -> Result<(), PullError> {
    let actual = format!("sha256:{}", hex::encode(Sha256::digest(bytes)));
    if actual == expected {
        return Ok(());
    }
    Err(PullError::WrongDigest { what, expected: expected.into(), actual })
}

fn is_sha256(digest: &str) -> bool {
    digest.parse::<crate::store::Digest>().is_ok()
}

pub(super) fn parse(bytes: &[u8], image: &str, os: &str, architecture: &str, max: u64) -> Result<Document, PullError> {
    let bad = |reason: String| PullError::Manifest { image: image.into(), reason };
    let raw: Raw = serde_json::from_slice(bytes).map_err(|error| bad(error.to_string()))?;
    if raw.schema_version != 2 {
        return Err(bad(format!("schemaVersion is {}, not 2; push the image with a current tool", raw.schema_version)));
    }
    if let Some(kind) = raw.media_type.as_deref().filter(|kind| !ACCEPTED.contains(kind)) {
        return Err(bad(format!("mediaType {kind:?} is no image")));
    }
    if let Some(entries) = raw.manifests {
        return platform(&entries, image, os, architecture).map(Document::Index);
    }
    let (Some(config), Some(layers)) = (raw.config, raw.layers) else {
        return Err(bad("it has neither config and layers nor manifests".into()));
    };
    if layers.is_empty() || layers.len() > MAX_LAYERS {
        return Err(bad(format!("it has {} layers, 1 to {MAX_LAYERS} are allowed", layers.len())));
    }
    if let Some(odd) = layers.iter().chain([&config]).find(|part| !is_sha256(&part.digest)) {
        return Err(bad(format!("{:?} is not a sha256 digest", odd.digest)));
    }
    if config.size > MAX_CONFIG_BYTES {
        return Err(bad(format!("its config is {} bytes long, at most {MAX_CONFIG_BYTES} are read", config.size)));
    }
    let total = layers.iter().try_fold(0_u64, |sum, layer| sum.checked_add(layer.size));
    if total.is_none_or(|total| total > max) {
        return Err(bad(format!("its layers are more than the {max} bytes that are allowed")));
    }
    Ok(Document::Image(Manifest { config, layers }))
}

fn platform(entries: &[Descriptor], image: &str, os: &str, architecture: &str) -> Result<String, PullError> {
    let fits =
        |entry: &&Descriptor| entry.platform.as_ref().is_some_and(|p| p.os == os && p.architecture == architecture);
    // An index of one image without a platform leaves no choice.
    let only = || match entries {
        [entry] if entry.platform.is_none() => Some(entry),
        _ => None,
    };
    let Some(entry) = entries.iter().find(fits).or_else(only) else {
        let names = entries.iter().filter_map(|e| e.platform.as_ref()).map(|p| format!("{}/{}", p.os, p.architecture));
        let mut names: Vec<String> = names.take(20).collect();
        names.dedup();
        return Err(PullError::Platform {
            image: image.into(),
            platform: format!("{os}/{architecture}"),
            available: if names.is_empty() { "none".into() } else { names.join(", ") },
        });
    };
    if !is_sha256(&entry.digest) {
        return Err(PullError::Manifest {
            image: image.into(),
            reason: format!("{:?} is not a sha256 digest", entry.digest),
        });
    }
    Ok(entry.digest.clone())
}

/// The digests of the unpacked layers.
pub(super) fn diff_ids(config: &[u8], image: &str, layers: usize) -> Result<Vec<String>, PullError> {
    let bad = |reason: String| PullError::Manifest { image: image.into(), reason };
    let config: Config = serde_json::from_slice(config).map_err(|error| bad(format!("config: {error}")))?;
    let ids = config.rootfs.diff_ids;
    if ids.len() != layers {
        return Err(bad(format!("config names {} layers, the manifest {layers}", ids.len())));
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const MAX: u64 = 1 << 30;

    fn digest(digit: char) -> String {
        format!("sha256:{}", digit.to_string().repeat(64))
    }

    fn read(value: serde_json::Value) -> Result<Document, PullError> {
        parse(value.to_string().as_bytes(), "demo:1", "linux", "amd64", MAX)
    }

    fn layer(size: u64) -> serde_json::Value {
        json!({"digest": digest('b'), "size": size, "mediaType": "application/vnd.oci.image.layer.v1.tar"})
    }

    #[test]
    fn image_and_index_are_told_apart() {
        let config = json!({"digest": digest('a'), "size": 10});
        let Document::Image(manifest) =
            read(json!({"schemaVersion": 2, "config": config, "layers": [layer(5)]})).unwrap()
        else {
            panic!("not an image")
        };
        assert_eq!((manifest.config.digest, manifest.layers[0].size), (digest('a'), 5));
        let entry = |architecture: &str, digit| json!({"digest": digest(digit), "size": 1, "platform": {"os": "linux", "architecture": architecture}});
        let index = json!({"schemaVersion": 2, "manifests": [entry("arm64", 'c'), entry("amd64", 'd')]});
        assert_eq!(read(index).unwrap(), Document::Index(digest('d')));
        let alone = json!({"schemaVersion": 2, "manifests": [{"digest": digest('e'), "size": 1}]});
        assert_eq!(read(alone).unwrap(), Document::Index(digest('e')));
        let error = read(json!({"schemaVersion": 2, "manifests": [entry("arm64", 'c')]})).unwrap_err();
        assert_eq!(error.to_string(), "no image for platform linux/amd64 in \"demo:1\"; it has linux/arm64");
    }

    #[test]
    fn malformed_manifests_are_refused_with_the_reason() {
        let config = json!({"digest": digest('a'), "size": 10});
        let cases = [
            (json!({"schemaVersion": 1}), "schemaVersion is 1"),
            (json!([]), "invalid length 0"),
            (json!({"schemaVersion": 2}), "neither config and layers nor manifests"),
            (json!({"schemaVersion": 2, "mediaType": "application/wasm"}), "is no image"),
            (json!({"schemaVersion": 2, "config": config, "layers": []}), "0 layers"),
            (json!({"schemaVersion": 2, "config": config, "layers": vec![layer(1); 129]}), "129 layers"),
            (json!({"schemaVersion": 2, "config": config, "layers": [layer(u64::MAX), layer(1)]}), "more than"),
            (
                json!({"schemaVersion": 2, "config": config, "layers": [{"digest": "sha256:../../x", "size": 1}]}),
                "not a sha256",
            ),
            (
                json!({"schemaVersion": 2, "config": {"digest": digest('a'), "size": 1_u64 << 40}, "layers": [layer(1)]}),
                "config is",
            ),
            (
                json!({"schemaVersion": 2, "config": config, "layers": [{"digest": digest('b'), "size": -1}]}),
                "invalid value",
            ),
        ];
        for (value, expected) in cases {
            let error = read(value.clone()).unwrap_err().to_string();
            assert!(error.contains(expected), "{value}: {error:?} lacks {expected:?}");
        }
        assert!(diff_ids(br#"{"rootfs": {"diff_ids": ["a"]}}"#, "demo:1", 2).is_err());
        assert!(diff_ids(b"{}", "demo:1", 1).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes, "x", "linux", "amd64", MAX);
            let _ = diff_ids(&bytes, "x", 1);
        }
    }
}
