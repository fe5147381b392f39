//! version.

use fv_api::meta::KUBEVIRT_API_LEVEL;
use http::Method;
use serde_json::Value;

use crate::cli::{Global, Version};
use crate::connect::Session;
use crate::output::say;
use crate::subresource::send;

pub(super) async fn run(options: &Version, global: &Global) -> anyhow::Result<()> {
    let own = format!("v{KUBEVIRT_API_LEVEL}+ferrovirt.{}", env!("CARGO_PKG_VERSION"));
    let platform = format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH);
    say(&format!("Client Version: version.Info{{GitVersion:\"{own}\", Platform:\"{platform}\"}}"));
    if options.client {
        return Ok(());
    }
    let session = Session::open(global).await?;
    let text = send(&session.client, Method::GET, "/apis/subresources.kubevirt.io/v1/version", None).await?;
    let server: Value = serde_json::from_str(&text)?;
    let field = |name: &str| server[name].as_str().unwrap_or_default().to_string();
    say(&format!(
        "Server Version: version.Info{{GitVersion:\"{}\", Platform:\"{}\"}}",
        field("gitVersion"),
        field("platform")
    ));
    Ok(())
}
