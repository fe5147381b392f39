//! The node's images of containerDisks, once nobody uses them.

use std::sync::Arc;
use std::time::Duration;

use fv_disk::{GcPolicy, ImageStore};
use tokio_util::sync::CancellationToken;

/// How often the disk is looked at for images to remove.
const COLLECTION: Duration = Duration::from_secs(300);

/// Removes images nobody uses while the disk is nearly full, until `shutdown`. From the moment it is there an image is leased to the VM it
/// was fetched for, until that VM's disks are released.
pub async fn collect(images: Arc<ImageStore>, policy: GcPolicy, shutdown: CancellationToken) {
    let mut due = tokio::time::interval(COLLECTION);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = due.tick() => {}
        }
        let images = Arc::clone(&images);
        match tokio::task::spawn_blocking(move || images.collect_garbage(policy)).await {
            Ok(Ok(report)) if report.removed.is_empty() => {}
            Ok(Ok(report)) => tracing::info!(
                removed = report.removed.len(),
                freed_bytes = report.freed_bytes,
                missing_bytes = report.missing_bytes,
                "collected unused images: the disk is nearly full"
            ),
            Ok(Err(error)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "collecting unused images failed")
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "collecting unused images panicked")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use fv_disk::{StoreConfig, UnpackedImage, no_progress};

    use super::*;

    /// Within twice the time between two collections.
    async fn until_gone(path: &Path) {
        for _ in 0..600 {
            if !path.exists() {
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        panic!("{} is still there", path.display());
    }

    /// Needs root.
    #[tokio::test(start_paused = true)]
    async fn copies_of_container_disks_go_when_their_last_user_has_gone_and_no_sooner() {
        let dir = tempfile::tempdir().unwrap();
        let store = StoreConfig { reserve_bytes: 0, ..StoreConfig::new(dir.path().join("images")) };
        let images = Arc::new(ImageStore::open(store).unwrap());
        let mut copies = Vec::new();
        for (index, holders) in [&["a", "b"][..], &["c"], &["d"]].into_iter().enumerate() {
            let root = dir.path().join(format!("root-{index}"));
            fs::create_dir_all(root.join("disk")).unwrap();
            fs::write(root.join("disk/disk.img"), vec![index as u8 + 1; 4096]).unwrap();
            let image = UnpackedImage {
                image: format!("demo:{index}"),
                digest: format!("demo@sha256:{index}"),
                scope: "ns".to_owned(),
                path: None,
            };
            let mut path = None;
            for holder in holders {
                let root = fs::File::open(&root).unwrap().into();
                path = Some(images.ensure_unpacked(&image, root, holder, no_progress()).await.unwrap().path);
            }
            copies.push(path.unwrap());
        }
        images.release("a").unwrap();
        images.release("c").unwrap();

        // Every disk is as full as this.
        let full = GcPolicy { high_percent: 0, low_percent: 0, min_age_seconds: 0 };
        let shutdown = CancellationToken::new();
        let collector = tokio::spawn(collect(Arc::clone(&images), full, shutdown.clone()));
        until_gone(&copies[1]).await;
        assert!(copies[0].exists() && copies[2].exists(), "in use");
        images.release("b").unwrap();
        until_gone(&copies[0]).await;
        assert!(copies[2].exists(), "in use");
        shutdown.cancel();
        collector.await.unwrap();
    }
}
