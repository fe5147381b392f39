//! `GET …/version`: what `virtctl version` shows as the server's.

use fv_api::meta::KUBEVIRT_API_LEVEL;
use serde_json::{Value, json};

/// The version document: the level of the KubeVirt API, and `own`, our version, as build metadata.
pub fn info(own: &str) -> Value {
    let (major, rest) = KUBEVIRT_API_LEVEL.split_once('.').unwrap_or((KUBEVIRT_API_LEVEL, "0"));
    let minor = rest.split('.').next().unwrap_or("0");
    json!({
        "gitVersion": format!("v{KUBEVIRT_API_LEVEL}+ferrovirt.{}", own.trim_start_matches('v')),
        "major": major,
        "minor": minor,
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, arch()),
    })
}

/// Go's word for the architecture, which is what users of the Kubernetes world expect.
fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
