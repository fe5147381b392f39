//! manifests/crds/*.yaml, one file a kind.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use fv_render::install::definition;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

const FOLDER: &str = "manifests/crds";
const HEADER: &str = "# Generated from the Rust types by `cargo xtask crds`; do not edit.\n";

/// Writes every file.
pub(crate) fn write(root: &Path) -> Result<()> {
    fs::create_dir_all(root.join(FOLDER)).with_context(|| format!("create {FOLDER}"))?;
    for (path, text) in render(root)? {
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// Fails when a file is not what [`write`] would write, or is nobody's.
pub(crate) fn check(root: &Path) -> Result<()> {
    let rendered = render(root)?;
    for (path, text) in &rendered {
        let found =
            fs::read_to_string(path).with_context(|| format!("read {}; run `cargo xtask crds`", path.display()))?;
        if &found != text {
            bail!("{} is stale: run `cargo xtask crds` and commit the result", path.display());
        }
    }
    for entry in fs::read_dir(root.join(FOLDER)).with_context(|| format!("list {FOLDER}"))? {
        let path = entry?.path();
        if !rendered.iter().any(|(known, _)| known == &path) {
            bail!("{} belongs to no kind: remove it", path.display());
        }
    }
    Ok(())
}

fn definitions() -> Result<Vec<CustomResourceDefinition>> {
    let mut crds = fv_api::crd::all()?;
    crds.push(fv_api::crd::kubevirt()?);
    Ok(crds)
}

fn render(root: &Path) -> Result<Vec<(PathBuf, String)>> {
    definitions()?
        .into_iter()
        .map(|crd| {
            let path = root.join(FOLDER).join(format!("{}.yaml", crd.spec.names.plural));
            let value = definition(crd)?;
            let yaml = serde_saphyr::to_string(&value).with_context(|| format!("render {}", path.display()))?;
            Ok((path, format!("{HEADER}{yaml}")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn committed_crds_are_what_the_types_say() {
        super::check(&crate::root().unwrap()).unwrap();
    }

    #[test]
    fn rendered_yaml_reads_back_as_the_same_crd() {
        let root = crate::root().unwrap();
        let crds = super::definitions().unwrap();
        for ((path, text), crd) in super::render(&root).unwrap().into_iter().zip(crds) {
            let back: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
            let expected = super::definition(crd).unwrap();
            assert_eq!(back, expected, "{}", path.display());
        }
    }
}
