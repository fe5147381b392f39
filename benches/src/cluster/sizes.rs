//! What a node, or a mirror, has to fetch.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Options;
use crate::stats::mib;
use crate::table::Table;

pub(crate) fn measure(options: &Options, table: &mut Table) -> Result<()> {
    table.section("Images, compressed as they are pulled");
    let index = read(&options.images.join("index.json"))?;
    for image in index["manifests"].as_array().into_iter().flatten() {
        let name = image["annotations"]["org.opencontainers.image.ref.name"].as_str().unwrap_or_default();
        let name = name.split(':').next().unwrap_or_default();
        let digest = image["digest"].as_str().and_then(|digest| digest.strip_prefix("sha256:")).unwrap_or_default();
        let bytes = layers(&read(&options.images.join("blobs/sha256").join(digest))?);
        let aim = match name {
            "virt-launcher" => "< 1 MiB",
            "virt-handler" => "",
            _ => "≤ 25 MiB",
        };
        table.fact(name, mib(bytes / 1024.0), aim);
    }
    Ok(())
}

/// Bytes of all layers of an image manifest.
fn layers(manifest: &Value) -> f64 {
    manifest["layers"].as_array().into_iter().flatten().filter_map(|layer| layer["size"].as_f64()).sum()
}

fn read(path: &Path) -> Result<Value> {
    let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("parse {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_as_large_as_its_layers() {
        let manifest = serde_json::json!({"config": {"size": 7}, "layers": [{"size": 1024}, {"size": 512}]});
        assert!((layers(&manifest) - 1536.0).abs() < f64::EPSILON);
    }
}
