//! What the API server and the operator know of built-in kinds, generated from the Kubernetes that `tests/cluster/go.mod` pins.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

mod merges;
mod messages;
mod schemas;

const FOLDER: &str = "crates/apiserver/src/schema";
const MERGES: &str = "crates/render/src/install/merges.json";

/// Writes the tables.
pub(crate) fn write(root: &Path) -> Result<()> {
    for (path, text) in render(root)? {
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// Fails when a table is not what [`write`] would write.
pub(crate) fn check(root: &Path) -> Result<()> {
    for (path, text) in render(root)? {
        let found = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        if found != text {
            bail!("{} is stale: run `cargo xtask kinds` and commit the result", path.display());
        }
    }
    Ok(())
}

fn render(root: &Path) -> Result<[(PathBuf, String); 3]> {
    let module = |name: &str| module(root, name);
    let folder = root.join(FOLDER);
    let kubernetes = module("k8s.io/kubernetes")?;
    Ok([
        (folder.join("builtin/table.json"), schemas::render(&kubernetes)?),
        (root.join(MERGES), merges::render(&kubernetes)?),
        (folder.join("protobuf/table.txt"), messages::render(&module("k8s.io/api")?, &module("k8s.io/apimachinery")?)?),
    ])
}

/// The folder of a Go module, downloaded if it is not there.
fn module(root: &Path, name: &str) -> Result<PathBuf> {
    let pinned = root.join("tests/cluster");
    let output = Command::new("go")
        .args(["mod", "download", "-json", name])
        .current_dir(&pinned)
        .output()
        .context("run go, which downloads the sources of Kubernetes")?;
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("go mod download {name}: {}", String::from_utf8_lossy(&output.stderr)))?;
    let dir = answer["Dir"].as_str().with_context(|| format!("go mod download {name}: {}", answer["Error"]))?;
    Ok(PathBuf::from(dir))
}
