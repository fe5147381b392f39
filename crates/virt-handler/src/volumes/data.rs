//! Volumes of small data (ConfigMap, Secret, downward API, service account): their files, for a disk made of them.

use std::io::Read;
use std::path::Path;

use fv_api::Volume;
use fv_disk::IsoFile;
use fv_host::safe_path::SafeDir;

use super::VolumeError;

/// Upstream's label of such disks.
const LABEL: &str = "cfgdata";
/// A ConfigMap or Secret holds a mebibyte, and a projected volume several of them.
const MAX_BYTES: u64 = 4 << 20;
const MAX_FILES: u64 = 1024;
const MAX_DEPTH: usize = 8;
const WANTED: &str = "file or directory";
/// Where a kubelet keeps the current version of all files; names beside it are links into it.
const CURRENT: &str = "..data";

/// A file of a volume.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DataFile {
    path: String,
    bytes: Vec<u8>,
}

impl DataFile {
    pub(crate) fn as_iso(&self) -> IsoFile<'_> {
        IsoFile { path: &self.path, bytes: &self.bytes }
    }
}

/// Label of the disk that the volume becomes; `None`: it is no volume of small data.
pub(crate) fn label(volume: &Volume) -> Option<&str> {
    let wanted = if let Some(map) = &volume.config_map {
        &map.volume_label
    } else if let Some(secret) = &volume.secret {
        &secret.volume_label
    } else if let Some(downward) = &volume.downward_api {
        &downward.volume_label
    } else if volume.service_account.is_some() {
        &None
    } else {
        return None;
    };
    Some(wanted.as_deref().filter(|label| !label.is_empty()).unwrap_or(LABEL))
}

/// All files of such a volume, in order of their paths.
pub(crate) fn read(volume: &SafeDir) -> Result<Vec<DataFile>, VolumeError> {
    let mut files = Files::default();
    // One version of all, also while a kubelet puts the next in its place.
    match volume.read_link(CURRENT).map_err(VolumeError::io("read", CURRENT))? {
        Some(version) => {
            let version = Path::new(&version);
            files.add(&volume.open_dir(version).map_err(VolumeError::io("open", CURRENT))?, "", 0)?;
        }
        None => files.add(volume, "", 0)?,
    }
    files.found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files.found)
}

#[derive(Default)]
struct Files {
    found: Vec<DataFile>,
    bytes: u64,
}

impl Files {
    fn add(&mut self, dir: &SafeDir, prefix: &str, depth: usize) -> Result<(), VolumeError> {
        for name in dir.names().map_err(VolumeError::io("list", prefix))? {
            let path = format!("{prefix}{}", name.to_string_lossy());
            let name = name.to_str().ok_or_else(|| VolumeError::Kind { path: path.clone(), wanted: WANTED })?;
            match dir.open_dir(name) {
                Ok(_) if depth == MAX_DEPTH => {
                    return Err(VolumeError::TooMuch { most: MAX_DEPTH as u64, what: "levels of directories" });
                }
                Ok(below) => self.add(&below, &format!("{path}/"), depth + 1)?,
                Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => self.add_file(dir, name, path)?,
                Err(error) => return Err(VolumeError::io("open", &path)(error)),
            }
        }
        Ok(())
    }

    fn add_file(&mut self, dir: &SafeDir, name: &str, path: String) -> Result<(), VolumeError> {
        if self.found.len() as u64 == MAX_FILES {
            return Err(VolumeError::TooMuch { most: MAX_FILES, what: "files" });
        }
        let file = dir.open_regular(name, false).map_err(|error| match error.kind() {
            std::io::ErrorKind::InvalidInput => VolumeError::Kind { path: path.clone(), wanted: WANTED },
            _ => VolumeError::io("open", &path)(error),
        })?;
        let mut bytes = Vec::new();
        let room = MAX_BYTES - self.bytes;
        file.take(room + 1).read_to_end(&mut bytes).map_err(VolumeError::io("read", &path))?;
        if bytes.len() as u64 > room {
            return Err(VolumeError::TooMuch { most: MAX_BYTES, what: "bytes" });
        }
        self.bytes += bytes.len() as u64;
        self.found.push(DataFile { path, bytes });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn read_dir(dir: &Path) -> Result<Vec<(String, Vec<u8>)>, String> {
        let files = read(&SafeDir::open_trusted(dir).unwrap()).map_err(|error| error.to_string())?;
        Ok(files.into_iter().map(|file| (file.path, file.bytes)).collect())
    }

    #[test]
    fn files_are_read_as_a_kubelet_lays_them_out() {
        let dir = tempfile::tempdir().unwrap();
        let version = dir.path().join("..2026_01_01");
        fs::create_dir_all(version.join("sub")).unwrap();
        fs::write(version.join("b"), "two").unwrap();
        fs::write(version.join("sub/c"), "three").unwrap();
        symlink("..2026_01_01", dir.path().join("..data")).unwrap();
        symlink("..data/b", dir.path().join("b")).unwrap();
        symlink("..data/sub", dir.path().join("sub")).unwrap();
        let expected = [("b".to_owned(), b"two".to_vec()), ("sub/c".to_owned(), b"three".to_vec())];
        assert_eq!(read_dir(dir.path()).unwrap(), expected);
    }

    #[test]
    fn files_are_read_as_they_lie_and_nothing_is_fine() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read_dir(dir.path()), Ok(vec![]));
        fs::write(dir.path().join("a"), "one").unwrap();
        assert_eq!(read_dir(dir.path()).unwrap(), [("a".to_owned(), b"one".to_vec())]);
    }

    #[test]
    fn links_that_lead_out_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        symlink("/etc/passwd", dir.path().join("a")).unwrap();
        assert!(read_dir(dir.path()).unwrap_err().contains("\"a\""));
        fs::remove_file(dir.path().join("a")).unwrap();
        symlink("/etc", dir.path().join("..data")).unwrap();
        assert!(read_dir(dir.path()).is_err());
    }

    #[test]
    fn size_number_and_depth_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let big = fs::File::create(dir.path().join("big")).unwrap();
        big.set_len(MAX_BYTES).unwrap();
        assert_eq!(read_dir(dir.path()).unwrap().len(), 1);
        big.set_len(MAX_BYTES + 1).unwrap();
        assert!(read_dir(dir.path()).unwrap_err().contains("4194304 bytes"));
        fs::remove_file(dir.path().join("big")).unwrap();
        for number in 0..=MAX_FILES {
            fs::write(dir.path().join(number.to_string()), "").unwrap();
        }
        assert!(read_dir(dir.path()).unwrap_err().contains("1024 files"));
        let deep = tempfile::tempdir().unwrap();
        fs::create_dir_all(deep.path().join("d/".repeat(MAX_DEPTH + 1))).unwrap();
        assert!(read_dir(deep.path()).unwrap_err().contains("8 levels"));
    }

    #[test]
    fn labels_are_the_users_or_upstreams() {
        let label_of = |source: serde_json::Value| {
            let volume: Volume = serde_json::from_value(source).unwrap();
            label(&volume).map(str::to_owned)
        };
        for (source, expected) in [
            (serde_json::json!({"name": "a", "configMap": {"name": "x", "volumeLabel": "mine"}}), Some("mine")),
            (serde_json::json!({"name": "a", "secret": {"secretName": "x", "volumeLabel": ""}}), Some("cfgdata")),
            (serde_json::json!({"name": "a", "downwardAPI": {"volumeLabel": "me"}}), Some("me")),
            (serde_json::json!({"name": "a", "serviceAccount": {"serviceAccountName": "x"}}), Some("cfgdata")),
            (serde_json::json!({"name": "a", "emptyDisk": {"capacity": "1Gi"}}), None),
        ] {
            assert_eq!(label_of(source.clone()).as_deref(), expected, "{source}");
        }
    }
}
