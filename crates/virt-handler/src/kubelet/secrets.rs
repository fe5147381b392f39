//! Secrets of cloud-init volumes, where the kubelet mounted them for the launcher pod. Only the kubelet writes there.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use fv_api::Volume;
use fv_guestdata::{Secrets, needed_secrets};
use fv_render::secret_volume_name;
use k8s_openapi::ByteString;

use super::sandboxes::volume_dir;
use crate::disks::PrepareError;

/// Kubernetes' limit on a secret.
const MAX_BYTES: u64 = 1 << 20;

/// The secrets that a VMI's volumes name; one that does not exist keeps its pod from starting.
pub(crate) async fn cloud_init(
    kubelet_dir: PathBuf,
    pod_uid: String,
    volumes: &[Volume],
) -> Result<Secrets, PrepareError> {
    let needs = needed_secrets(volumes);
    let read = move || {
        let mut secrets = Secrets::default();
        for need in needs {
            let volume = secret_volume_name(&need.secret);
            let dir = volume_dir(&kubelet_dir, &pod_uid, "kubernetes.io~secret", &volume)
                .ok_or(PrepareError::LauncherMissing)?;
            let data = read_secret(&dir).map_err(|source| PrepareError::Secret { path: dir.clone(), source })?;
            secrets.insert(need.secret, data);
        }
        Ok(secrets)
    };
    tokio::task::spawn_blocking(read).await.map_err(PrepareError::Aborted)?
}

/// One file per key; names that begin with two dots are the kubelet's own.
fn read_secret(dir: &Path) -> io::Result<BTreeMap<String, ByteString>> {
    let mut data = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let Some(key) = entry.file_name().to_str().filter(|name| !name.starts_with("..")).map(str::to_owned) else {
            continue;
        };
        let mut bytes = Vec::new();
        File::open(entry.path())?.take(MAX_BYTES).read_to_end(&mut bytes)?;
        data.insert(key, ByteString(bytes));
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[tokio::test]
    async fn keys_are_read_as_the_kubelet_lays_them_out() {
        let kubelet = tempfile::tempdir().unwrap();
        let pod = uuid::Uuid::new_v4().to_string();
        let dir = volume_dir(kubelet.path(), &pod, "kubernetes.io~secret", &secret_volume_name("ci")).unwrap();
        fs::create_dir_all(dir.join("..2026_01_01")).unwrap();
        fs::write(dir.join("..2026_01_01/userdata"), "#cloud-config").unwrap();
        symlink("..2026_01_01", dir.join("..data")).unwrap();
        symlink("..data/userdata", dir.join("userdata")).unwrap();
        let volumes: Vec<Volume> = serde_json::from_value(serde_json::json!([
            {"name": "seed", "cloudInitNoCloud": {"secretRef": {"name": "ci"}}},
        ]))
        .unwrap();
        let secrets = cloud_init(kubelet.path().to_owned(), pod.clone(), &volumes).await.unwrap();
        let mut expected = Secrets::default();
        expected.insert("ci", BTreeMap::from([("userdata".to_owned(), ByteString(b"#cloud-config".to_vec()))]));
        assert!(secrets == expected);
        let elsewhere = cloud_init(kubelet.path().to_owned(), "../x".into(), &volumes).await;
        assert!(matches!(elsewhere, Err(PrepareError::LauncherMissing)));
        fs::remove_dir_all(&dir).unwrap();
        let missing = cloud_init(kubelet.path().to_owned(), pod, &volumes).await;
        assert!(matches!(missing, Err(PrepareError::Secret { .. })));
    }
}
