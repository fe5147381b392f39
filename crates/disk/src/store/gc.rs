//! Making room when the disk gets full.

use super::{Digest, ImageStore, StoreError, now};

/// When garbage collection starts and stops, as shares of the file system's size.
#[derive(Clone, Copy, Debug)]
pub struct GcPolicy {
    /// Collect when more than this per cent is used …
    pub high_percent: u8,
    /// … until no more than this is.
    pub low_percent: u8,
    /// Images used within this many seconds stay.
    pub min_age_seconds: u64,
}

impl Default for GcPolicy {
    /// Kubelet's thresholds.
    fn default() -> Self {
        Self { high_percent: 85, low_percent: 80, min_age_seconds: 120 }
    }
}

/// What garbage collection did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcReport {
    pub removed: Vec<Digest>,
    pub freed_bytes: u64,
    /// Bytes that should have been freed, but what is left is in use, imported or young.
    pub missing_bytes: u64,
}

impl ImageStore {
    /// Removes pulled images nobody uses, least recently used first, if the disk is too full. Images under way are in `tmp/`,
    /// which this does not touch.
    pub fn collect_garbage(&self, policy: GcPolicy) -> Result<GcReport, StoreError> {
        let space = self.inner.root.space()?;
        let used = space.total.saturating_sub(space.available);
        let share = |percent: u8| (u128::from(space.total) * u128::from(percent.min(100)) / 100) as u64;
        if used <= share(policy.high_percent) {
            return Ok(GcReport::default());
        }
        let wanted = used.saturating_sub(share(policy.low_percent.min(policy.high_percent)));
        self.locked_mut(|index| {
            let users = self.users()?;
            let young = now().saturating_sub(policy.min_age_seconds);
            let mut candidates: Vec<(u64, Digest, u64)> = index
                .images
                .iter()
                .filter(|(digest, image)| {
                    !users.contains_key(digest) && !index.is_imported(digest) && image.last_used <= young
                })
                .map(|(digest, image)| (image.last_used, digest.clone(), image.disk_usage))
                .collect();
            candidates.sort();
            let mut report = GcReport::default();
            for (_, digest, bytes) in candidates {
                if report.freed_bytes >= wanted {
                    break;
                }
                self.delete(index, &digest)?;
                tracing::info!(%digest, bytes, "removed unused image");
                report.freed_bytes += bytes;
                report.removed.push(digest);
            }
            report.missing_bytes = wanted.saturating_sub(report.freed_bytes);
            Ok(report)
        })
    }
}
