//! Who uses which image. One file per holder, so that what a crashed process registered is still there.

use std::collections::BTreeMap;
use std::io::Read as _;

use super::{Digest, ImageStore, StoreError};
use crate::safe_fs::{TEMP_PREFIX, fs_error, is_plain_name};

const MAX_LEASE_BYTES: u64 = 1 << 20;

impl ImageStore {
    /// `holder` no longer uses any image. Nothing held is success.
    pub fn release(&self, holder: &str) -> Result<(), StoreError> {
        check_holder(holder)?;
        self.locked_mut(|index| {
            for digest in self.lease(holder)? {
                index.touch(&digest);
            }
            Ok(self.inner.leases.unlink(holder)?)
        })
    }

    /// Who holds leases: compare with the VMIs that exist and release the rest.
    pub fn holders(&self) -> Result<Vec<String>, StoreError> {
        Ok(self.inner.leases.names()?.into_iter().filter(|name| !name.starts_with(TEMP_PREFIX)).collect())
    }

    /// Adds `digest` to what `holder` uses. The index lock is held exclusively.
    pub(crate) fn add_lease(&self, holder: &str, digest: &Digest) -> Result<(), StoreError> {
        check_holder(holder)?;
        let mut lease = self.lease(holder)?;
        if !lease.contains(digest) {
            lease.push(digest.clone());
            let text: String = lease.iter().map(|digest| format!("{digest}\n")).collect();
            self.inner.leases.write_atomically(holder, text.as_bytes(), 0o600)?;
        }
        Ok(())
    }

    /// Users of each image in use.
    pub(crate) fn users(&self) -> Result<BTreeMap<Digest, Vec<String>>, StoreError> {
        let mut users = BTreeMap::<_, Vec<_>>::new();
        for holder in self.holders()? {
            for digest in self.lease(&holder)? {
                users.entry(digest).or_default().push(holder.clone());
            }
        }
        Ok(users)
    }

    fn lease(&self, holder: &str) -> Result<Vec<Digest>, StoreError> {
        let path = self.inner.leases.join(holder);
        let Some(file) = self.inner.leases.open_existing(holder)? else { return Ok(Vec::new()) };
        let mut text = String::new();
        file.take(MAX_LEASE_BYTES).read_to_string(&mut text).map_err(fs_error("read", &path))?;
        // A line that is no digest protects nothing; better to say so than to guess what may be deleted.
        text.lines()
            .map(|line| line.parse().map_err(|reason| StoreError::Index { path: path.clone(), reason }))
            .collect()
    }
}

fn check_holder(holder: &str) -> Result<(), StoreError> {
    if is_plain_name(holder) && !holder.starts_with('.') { Ok(()) } else { Err(StoreError::Holder(holder.into())) }
}
