//! The directories of our provisioner's volumes: `<data directory>/volumes/<volume>`, made and removed by descriptor.

use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use fv_host::safe_path::SafeDir;
use k8s_openapi::api::core::v1::PersistentVolume;

use super::words::is_ours;

/// The directory that holds those of all volumes.
#[derive(Clone, Debug)]
pub struct Directories(PathBuf);

impl Directories {
    /// Beneath `root`, made when the first volume is.
    pub fn new(root: PathBuf) -> Self {
        Self(root)
    }

    /// Where the directory of a volume is.
    pub(crate) fn path(&self, volume: &str) -> PathBuf {
        self.0.join(volume)
    }

    /// Makes the directory of a volume; one that is there is kept. Any user of a pod may write to it, nobody else gets to it.
    pub(crate) fn make(&self, volume: &str) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        let directory = SafeDir::open_trusted(&self.0)?.mkdir(single(volume)?, 0o700)?;
        File::from(directory.as_fd().try_clone_to_owned()?).set_permissions(Permissions::from_mode(0o777))
    }

    /// Removes the directory of a volume with everything in it, following no link and entering no mount. Blocking.
    pub(crate) fn remove(&self, volume: &PersistentVolume) -> io::Result<()> {
        let Some(name) = self.name_of(volume) else {
            let text = format!("the volume is not a directory of {}; remove its data yourself", self.0.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        };
        match SafeDir::open_trusted(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            root => root?.remove_tree(single(name)?),
        }
    }

    /// The name of a volume that our provisioner made here; what its object says is not enough, for users may write that.
    fn name_of<'a>(&self, volume: &'a PersistentVolume) -> Option<&'a str> {
        let name = volume.metadata.name.as_deref()?;
        let path = &volume.spec.as_ref()?.local.as_ref()?.path;
        (is_ours(volume) && Path::new(path) == self.path(name)).then_some(name)
    }
}

fn single(name: &str) -> io::Result<&Path> {
    let path = Path::new(name);
    let mut components = path.components();
    match (components.next(), components.next()) {
        (Some(Component::Normal(only)), None) if only == name => Ok(path),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is no name of a directory"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn volume(name: &str, path: &Path, by: &str) -> PersistentVolume {
        serde_json::from_value(
            json!({"metadata": {"name": name, "annotations": {"pv.kubernetes.io/provisioned-by": by}},
            "spec": {"local": {"path": path}}}),
        )
        .unwrap()
    }

    #[test]
    fn a_directory_goes_with_its_content_but_not_with_what_links_point_to() {
        let home = tempfile::tempdir().unwrap();
        let directories = Directories::new(home.path().join("volumes"));
        directories.make("pvc-1").unwrap();
        directories.make("pvc-1").unwrap();
        let path = directories.path("pvc-1");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o777);
        assert_eq!(std::fs::metadata(home.path().join("volumes")).unwrap().permissions().mode() & 0o777, 0o700);
        std::fs::write(home.path().join("precious"), "").unwrap();
        std::os::unix::fs::symlink(home.path(), path.join("link")).unwrap();
        std::fs::create_dir_all(path.join("a/b")).unwrap();
        let volume = volume("pvc-1", &path, "ferrovirt.io/local-path");
        directories.remove(&volume).unwrap();
        assert!(!path.exists() && home.path().join("precious").exists());
        directories.remove(&volume).unwrap();
    }

    #[test]
    fn nothing_that_is_not_ours_is_removed() {
        let home = tempfile::tempdir().unwrap();
        let directories = Directories::new(home.path().join("volumes"));
        directories.make("pvc-1").unwrap();
        let elsewhere = home.path().join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        let path = directories.path("pvc-1");
        for volume in [
            volume("pvc-1", &elsewhere, "ferrovirt.io/local-path"),
            volume("pvc-1", &path, "somebody.else/provisioner"),
            volume("..", &directories.path(".."), "ferrovirt.io/local-path"),
            volume("pvc-2", &path, "ferrovirt.io/local-path"),
        ] {
            assert!(directories.remove(&volume).is_err(), "{volume:?}");
        }
        assert!(elsewhere.exists() && path.exists());
    }
}
