//! Pushing a layout to a registry on plain http.

use std::path::Path;

use anyhow::{Context, Result};
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use oci_spec::image::{Descriptor, ImageManifest};

use super::layout;

/// Pushes every image of the layout beneath `registry` (`host:port` or `host:port/path`); blobs that are there are left out.
/// Gives the names they have now.
pub(crate) fn push(folder: &Path, registry: &str) -> Result<Vec<String>> {
    // Fails when there is one already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let client = Client::try_from(ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() })?;
        let mut names = Vec::new();
        for (name, manifest) in layout::images(folder)? {
            let name = format!("{}/{name}", registry.trim_end_matches('/'));
            push_image(&client, folder, &name, &manifest).await.with_context(|| format!("pushing {name}"))?;
            names.push(name);
        }
        Ok(names)
    })
}

async fn push_image(client: &Client, folder: &Path, name: &str, manifest: &Descriptor) -> Result<()> {
    let reference: Reference = name.parse()?;
    client.auth(&reference, &RegistryAuth::Anonymous, oci_client::RegistryOperation::Push).await?;
    let bytes = layout::read_blob(folder, manifest)?;
    let parsed = ImageManifest::from_reader(bytes.as_slice())?;
    for blob in parsed.layers().iter().chain([parsed.config()]) {
        let digest = blob.digest().to_string();
        if !client.blob_exists(&reference, &digest).await? {
            client.push_blob(&reference, layout::read_blob(folder, blob)?, &digest).await?;
        }
    }
    client.push_manifest_raw(&reference, bytes, manifest.media_type().to_string().parse()?).await?;
    Ok(())
}
