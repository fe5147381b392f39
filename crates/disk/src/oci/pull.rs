//! From a reference to a stored image.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};

use super::auth::credentials;
use super::blob::{BlobReader, feed};
use super::disk::DiskSearch;
use super::manifest::{self, Document, MAX_CONFIG_BYTES, Manifest};
use super::{PullError, PullPolicy};
use crate::progress::{Progress, ProgressFn, Stage};
use crate::safe_fs::{fs_error, try_lock};
use crate::store::{Digest, ImageHandle, ImageRequest, ImageStore, PulledFrom, StoreError};

/// Chunks on their way from the network to the unpacker.
const IN_FLIGHT: usize = 16;

/// A reference resolved to one image.
struct Resolved {
    client: Client,
    /// By digest, so that nothing can change under us.
    reference: Reference,
    digest: String,
    manifest: Manifest,
}

impl ImageStore {
    /// The image for a containerDisk, pulled if the policy says so, with a lease for `holder` (the VMI's uid): until
    /// [`ImageStore::release`] it is neither collected nor removable, across restarts of any process. An image imported
    /// under the requested name wins over any registry, whatever the policy. Concurrent calls for one image pull it once;
    /// dropping the future stops the pull.
    pub async fn ensure(
        &self,
        request: &ImageRequest,
        holder: &str,
        progress: ProgressFn,
    ) -> Result<ImageHandle, PullError> {
        let image = request.image.as_str();
        let invalid = |reason: String| PullError::InvalidName { image: image.into(), reason };
        let reference: Reference = image.parse().map_err(|error: oci_client::ParseError| invalid(error.to_string()))?;
        if reference.digest().is_some_and(|digest| digest.parse::<Digest>().is_err()) {
            return Err(invalid("its digest is not sha256 with 64 hex digits".into()));
        }
        let (whole, path) = (reference.whole(), request.path.clone().unwrap_or_default());
        if let Some(handle) = self.take_stored(request, &whole, &path, holder).await? {
            return Ok(handle);
        }
        if request.policy == PullPolicy::Never {
            return Err(PullError::NeverPull { image: image.into() });
        }
        progress(Progress { stage: Stage::Resolving, done: 0, total: None });
        let resolved = self.resolve(&reference, image, &request.pull_secrets).await?;

        // Whoever comes second waits here, in this process and in others, and then finds the image.
        let key = format!("{} {path}", resolved.digest);
        let lock = self.pull_lock(&key);
        let _in_process = lock.lock().await;
        let _between_processes = self.pull_file_lock(&key).await?;
        if let Some(handle) = self.take_by_manifest(&whole, &path, &resolved.digest, holder).await? {
            return Ok(handle);
        }
        self.pull(resolved, request, &whole, holder, progress).await
    }

    /// The image if no registry need be asked.
    async fn take_stored(
        &self,
        request: &ImageRequest,
        whole: &str,
        path: &str,
        holder: &str,
    ) -> Result<Option<ImageHandle>, PullError> {
        let (image, policy) = (request.image.clone(), request.policy);
        let (key, holder) = (PulledFrom::key(whole, path), holder.to_owned());
        self.blocking(move |store| {
            store.locked_mut(|index| {
                let imported = index.imported.get(&crate::store::with_tag(&image));
                let pulled = index.pulled.get(&key).map(|pulled| &pulled.disk).filter(|_| policy != PullPolicy::Always);
                let Some(digest) = imported.or(pulled).cloned() else { return Ok(None) };
                store.take(index, &digest, &holder)
            })
        })
        .await
    }

    pub(super) async fn take_by_manifest(
        &self,
        whole: &str,
        path: &str,
        manifest: &str,
        holder: &str,
    ) -> Result<Option<ImageHandle>, PullError> {
        let (whole, path, manifest, holder) =
            (whole.to_owned(), path.to_owned(), manifest.to_owned(), holder.to_owned());
        self.blocking(move |store| {
            store.locked_mut(|index| {
                let Some(digest) = index.by_manifest(&manifest, &path).cloned() else { return Ok(None) };
                let handle = store.take(index, &digest, &holder)?;
                if handle.is_some() {
                    index.record_pull(PulledFrom { image: &whole, path: &path, manifest: &manifest }, &digest);
                }
                Ok(handle)
            })
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, PullError> {
        let store = self.clone();
        match tokio::task::spawn_blocking(move || work(&store)).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(PullError::Cancelled),
        }
    }

    /// Keeps other processes from pulling the same. Polled, because a thread waiting in flock cannot be cancelled.
    pub(super) async fn pull_file_lock(&self, key: &str) -> Result<PullFileLock<'_>, PullError> {
        let name = format!("pull-{}", hex::encode(Sha256::digest(key)));
        loop {
            let opened = self.inner.tmp.open_file(&name, OFlags::RDWR | OFlags::CREATE, 0o600);
            let file = opened.map_err(StoreError::from)?;
            let path = self.inner.tmp.join(&name);
            let locked = try_lock(&file).map_err(fs_error("lock", &path)).map_err(StoreError::from)?;
            // Unlinked by a clean-up between open and lock: then the lock is on a file nobody else sees.
            if locked && path.exists() {
                return Ok(PullFileLock { store: self, name, _file: file });
            }
            drop(file);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn resolve(&self, reference: &Reference, image: &str, secrets: &[Vec<u8>]) -> Result<Resolved, PullError> {
        let registry = reference.resolve_registry();
        let mut refused = PullError::Unauthorized { image: image.into() };
        for auth in credentials(secrets, reference.registry(), reference.repository())? {
            match self.resolve_with(reference, image, &auth).await {
                Err(error @ PullError::Unauthorized { .. }) => refused = error,
                other => return other,
            }
        }
        tracing::debug!(registry, image, "no credential was accepted");
        Err(refused)
    }

    async fn resolve_with(
        &self,
        reference: &Reference,
        image: &str,
        auth: &RegistryAuth,
    ) -> Result<Resolved, PullError> {
        let config = &self.inner.config.registry;
        // One client per pull: it caches tokens by registry, and credentials must not leak from one tenant to another.
        let client = self.client(reference)?;
        let max = self.inner.config.max_image_bytes;
        let (bytes, digest) = fetch(&client, reference, image, auth).await?;
        let (reference, digest, manifest) = match manifest::parse(&bytes, image, &config.os, &config.architecture, max)?
        {
            Document::Image(manifest) => (reference.clone_with_digest(digest.clone()), digest, manifest),
            Document::Index(digest) => {
                let reference = reference.clone_with_digest(digest);
                let (bytes, digest) = fetch(&client, &reference, image, auth).await?;
                match manifest::parse(&bytes, image, &config.os, &config.architecture, max)? {
                    Document::Image(manifest) => (reference, digest, manifest),
                    Document::Index(_) => {
                        return Err(PullError::Manifest { image: image.into(), reason: "an index in an index".into() });
                    }
                }
            }
        };
        Ok(Resolved { client, reference, digest, manifest })
    }

    fn client(&self, reference: &Reference) -> Result<Client, PullError> {
        let config = &self.inner.config.registry;
        let certificates = config
            .extra_ca_pem
            .iter()
            .map(|pem| Certificate { encoding: CertificateEncoding::Pem, data: pem.clone() })
            .collect();
        let client_config = ClientConfig {
            protocol: ClientProtocol::HttpsExcept(config.plain_http.clone()),
            extra_root_certificates: certificates,
            connect_timeout: Some(config.connect_timeout),
            read_timeout: Some(config.read_timeout),
            user_agent: concat!("ferrovirt/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        // Not `new`, which falls back to a client without our settings.
        Client::try_from(client_config).map_err(|error| PullError::Registry {
            registry: reference.resolve_registry().into(),
            reason: super::error::chain(&error),
        })
    }

    async fn pull(
        &self,
        resolved: Resolved,
        request: &ImageRequest,
        whole: &str,
        holder: &str,
        progress: ProgressFn,
    ) -> Result<ImageHandle, PullError> {
        let Resolved { client, reference, digest, manifest } = resolved;
        let space = self.inner.tmp.space().map_err(StoreError::from)?;
        let packed: u64 = manifest.layers.iter().map(|layer| layer.size).sum();
        if packed.saturating_add(self.inner.config.reserve_bytes) > space.available {
            return Err(self.no_space(space.available).into());
        }
        let config = fetch_config(&client, &reference, &manifest).await?;
        let diff_ids = manifest::diff_ids(&config, &request.image, manifest.layers.len())?;

        let (senders, receivers): (Vec<_>, Vec<_>) =
            manifest.layers.iter().map(|_| tokio::sync::mpsc::channel(IN_FLIGHT)).unzip();
        let (store, layers) = (self.clone(), manifest.layers.clone());
        let (image, path) = (request.image.clone(), request.path.clone());
        let (whole, holder, report) = (whole.to_owned(), holder.to_owned(), Arc::clone(&progress));
        let worker = tokio::task::spawn_blocking(move || -> Result<ImageHandle, PullError> {
            let mut search = DiskSearch::new(&store, &image, path.as_deref())?;
            let mut before = 0;
            for ((layer, receiver), diff_id) in layers.into_iter().zip(receivers).zip(diff_ids) {
                let (digest, size, report) = (layer.digest.clone(), layer.size, Arc::clone(&report));
                let blob = BlobReader::new(receiver, layer, move |done| {
                    report(Progress { stage: Stage::Downloading, done: before + done, total: Some(packed) });
                });
                search.read_layer(blob, &digest, &diff_id)?;
                before += size;
            }
            report(Progress { stage: Stage::Verifying, done: 0, total: None });
            let (found, temp, copied) = search.finish()?;
            let info = store.check_image(&format!("{image}{found}"), &temp.file)?;
            let staged = store.staged(temp, copied, info)?;
            let from = PulledFrom { image: &whole, path: path.as_deref().unwrap_or_default(), manifest: &digest };
            Ok(store.keep_pulled(staged, from, &holder)?)
        });
        // Dropping this future drops the senders, which ends the worker.
        let feeder = async {
            for (layer, sender) in manifest.layers.iter().zip(senders) {
                feed(&client, &reference, layer, sender).await;
            }
        };
        let (result, ()) = tokio::join!(worker, feeder);
        result.unwrap_or(Err(PullError::Cancelled))
    }
}

/// The lock between processes; its file goes with it, while it is still locked.
pub(super) struct PullFileLock<'a> {
    store: &'a ImageStore,
    name: String,
    _file: std::fs::File,
}

impl Drop for PullFileLock<'_> {
    fn drop(&mut self) {
        // Left behind, it is removed when the store is opened next.
        let _ = self.store.inner.tmp.unlink(&self.name);
    }
}

async fn fetch(
    client: &Client,
    reference: &Reference,
    image: &str,
    auth: &RegistryAuth,
) -> Result<(bytes::Bytes, String), PullError> {
    let registry = reference.resolve_registry();
    let (bytes, _) =
        client.pull_manifest_raw(reference, auth, manifest::ACCEPTED).await.map_err(|error| match error {
            // Token servers that fail are not the same as a missing right.
            OciDistributionError::RegistryTokenDecodeError(reason) => {
                PullError::Registry { registry: registry.into(), reason }
            }
            error => PullError::from_client(error, image, registry),
        })?;
    if let Some(digest) = reference.digest() {
        manifest::verify("manifest", &bytes, digest)?;
    }
    let digest = format!("sha256:{}", hex::encode(Sha256::digest(&bytes)));
    Ok((bytes, digest))
}

async fn fetch_config(client: &Client, reference: &Reference, manifest: &Manifest) -> Result<Vec<u8>, PullError> {
    let registry = reference.resolve_registry();
    let failed = |error| PullError::from_client(error, &reference.whole(), registry);
    let mut stream = client.pull_blob_stream(reference, manifest.config.digest.as_str()).await.map_err(failed)?.stream;
    let mut config = Vec::new();
    while let Some(chunk) = stream.next().await {
        // The client's own digest check reports here too; ours below says it better.
        let Ok(chunk) = chunk else { break };
        config.extend_from_slice(&chunk);
        if config.len() as u64 > MAX_CONFIG_BYTES {
            break;
        }
    }
    manifest::verify("config", &config, &manifest.config.digest)?;
    Ok(config)
}
