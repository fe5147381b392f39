//! The layering rule: a crate depends only on crates of lower layers.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Every package of the workspace and its layer, lowest first. A new package must be entered here.
const LAYERS: &[(&str, u8)] = &[
    // Words.
    ("fv-api", 0),
    // Pure: data and `now` in, data out.
    ("fv-admit", 1),
    ("fv-domain", 1),
    ("fv-guestdata", 1),
    ("fv-metrics", 1),
    ("fv-netplan", 1),
    ("fv-plan", 1),
    ("fv-render", 1),
    ("fv-smd", 1),
    // Engines.
    ("fv-apiserver", 2),
    ("fv-device-plugin", 2),
    ("fv-disk", 2),
    ("fv-host", 2),
    ("fv-hypervisor", 2),
    ("fv-runtime", 2),
    ("fv-stream", 2),
    // What tests share; nothing else depends on it.
    ("fv-testkit", 2),
    // Components; the embedded mode puts them all into one process.
    ("fv-ctl", 3),
    ("fv-virt-api", 3),
    ("fv-virt-controller", 3),
    ("fv-virt-handler", 3),
    ("fv-virt-operator", 3),
    ("fv-standalone", 4),
    // Programs.
    ("ferrovirt", 5),
    ("fv-benches", 6),
    ("fv-clients", 6),
    ("fv-conformance", 5),
    ("virt-handler", 5),
    ("virt-api", 5),
    ("virt-controller", 5),
    ("virt-launcher", 5),
    ("virt-operator", 5),
    ("virtctl", 5),
    ("xtask", 5),
];

/// Dependencies within a layer that are meant: plans name the objects that `render` builds, which owners patch as Kubernetes does, and every
/// server of ours accepts connections in the same way.
const WITHIN: &[(&str, &str)] =
    &[("fv-plan", "fv-render"), ("fv-render", "fv-smd"), ("fv-apiserver", "fv-runtime"), ("fv-stream", "fv-runtime")];

/// Layers of pure crates, which may also use no effectful library.
const PURE: u8 = 1;
/// Libraries that do IO; pure crates may not depend on them. (`kube` they use for its types.)
const EFFECTFUL: &[&str] = &["tokio", "hyper", "axum", "rusqlite", "virt", "rtnetlink", "rustix", "libc", "reqwest"];

/// Reads `cargo metadata` and fails with every forbidden dependency.
pub(crate) fn check(root: &Path) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .current_dir(root)
        .output()
        .context("run cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let metadata = serde_json::from_slice(&output.stdout).context("read cargo metadata")?;
    let faults = faults(&metadata);
    if !faults.is_empty() {
        bail!("dependencies against the layers:\n  {}", faults.join("\n  "));
    }
    Ok(())
}

/// Every breach, worded. Dependencies of tests may not point upwards either, but may stay within a layer.
fn faults(metadata: &Value) -> Vec<String> {
    let layers: BTreeMap<&str, u8> = LAYERS.iter().copied().collect();
    let mut faults = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(layer) = layers.get(name) else {
            faults.push(format!("{name} has no layer: enter it in xtask/src/layers.rs"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let used = dependency["name"].as_str().unwrap_or_default();
            let in_tests = dependency["kind"] == "dev";
            if let Some(other) = layers.get(used) {
                let meant = in_tests || WITHIN.contains(&(name, used));
                if other > layer || (other == layer && !meant) {
                    faults.push(format!("{name} (layer {layer}) depends on {used} (layer {other})"));
                }
            } else if *layer <= PURE && !in_tests && EFFECTFUL.contains(&used) {
                faults.push(format!("{name} (layer {layer}, pure) depends on {used}"));
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_workspace_keeps_its_layers() {
        check(&crate::root().unwrap()).unwrap();
    }

    #[test]
    fn upward_sideways_and_effectful_dependencies_are_found() {
        let metadata = json!({"packages": [
            {"name": "fv-plan", "dependencies": [
                {"name": "fv-api", "kind": null}, {"name": "fv-render", "kind": null}, {"name": "fv-domain", "kind": null},
                {"name": "fv-runtime", "kind": null},
                {"name": "tokio", "kind": null}, {"name": "fv-admit", "kind": "dev"}]},
            {"name": "fv-new", "dependencies": []}
        ]});
        assert_eq!(
            faults(&metadata),
            [
                "fv-plan (layer 1) depends on fv-domain (layer 1)",
                "fv-plan (layer 1) depends on fv-runtime (layer 2)",
                "fv-plan (layer 1, pure) depends on tokio",
                "fv-new has no layer: enter it in xtask/src/layers.rs",
            ]
        );
    }
}
