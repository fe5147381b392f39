//! Brings a directory to hold just the files of a volume.
//!
//! It is a plain directory, not kubelet's chain of `..data` links: virt-handler reads volumes by descriptor and follows no link.
//! Each file is replaced at once; a reader that wants several of one version reads until they agree, as with any directory.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use fv_host::safe_path::SafeDir;

use super::payload::{Entry, Files};

/// Writes what differs, removes what is not wanted. With a group, its members may read everything, as under kubelet.
pub(super) fn sync(directory: &SafeDir, files: &Files, group: Option<u32>) -> io::Result<()> {
    for name in unwanted(directory, Path::new(""), files)? {
        directory.remove_tree(name)?;
    }
    own(directory, group)?;
    for (path, entry) in files {
        let mut parent = PathBuf::new();
        for component in path.parent().into_iter().flat_map(Path::components) {
            parent.push(component);
            own(&directory.mkdir(&parent, 0o755)?, group)?;
        }
        let mode = group.map_or(entry.mode, |_| entry.mode | 0o440);
        if !holds(directory, path, entry, mode, group)? {
            directory.write_atomic_for(path, &entry.content, mode, group)?;
        }
    }
    Ok(())
}

/// What is in the way: names that no file has or leads through, and those of the wrong kind.
fn unwanted(directory: &SafeDir, here: &Path, files: &Files) -> io::Result<Vec<PathBuf>> {
    let open = if here.as_os_str().is_empty() { None } else { Some(directory.open_dir(here)?) };
    let mut found = Vec::new();
    for name in open.as_ref().unwrap_or(directory).names()? {
        let path = here.join(&name);
        let is_directory = rustix::fs::FileType::from_raw_mode(directory.stat(&path)?.st_mode).is_dir();
        if is_directory && files.keys().any(|f| f != &path && f.starts_with(&path)) {
            found.extend(unwanted(directory, &path, files)?);
        } else if is_directory || !files.contains_key(&path) {
            found.push(path);
        }
    }
    Ok(found)
}

fn own(directory: &SafeDir, group: Option<u32>) -> io::Result<()> {
    let file = File::from(directory.as_fd().try_clone_to_owned()?);
    std::os::unix::fs::fchown(&file, None, group)?;
    file.set_permissions(std::fs::Permissions::from_mode(if group.is_some() { 0o2755 } else { 0o755 }))
}

fn holds(directory: &SafeDir, path: &Path, entry: &Entry, mode: u32, group: Option<u32>) -> io::Result<bool> {
    let mut file = match directory.open_regular(path, false) {
        Ok(file) => file,
        // Whatever else stands there is replaced.
        Err(_) => return Ok(false),
    };
    let meta = file.metadata()?;
    if meta.len() != entry.content.len() as u64
        || meta.mode() & 0o7777 != mode
        || group.is_some_and(|g| g != meta.gid())
    {
        return Ok(false);
    }
    let mut content = Vec::with_capacity(entry.content.len());
    file.read_to_end(&mut content)?;
    Ok(content == entry.content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str, u32)]) -> Files {
        let one = |(path, content, mode): &(&str, &str, u32)| {
            (PathBuf::from(path), Entry { content: content.as_bytes().to_vec(), mode: *mode })
        };
        list.iter().map(one).collect()
    }

    fn tree(path: &Path) -> Vec<String> {
        let mut all = Vec::new();
        let mut left = vec![path.to_owned()];
        while let Some(directory) = left.pop() {
            for entry in std::fs::read_dir(directory).unwrap().flatten() {
                match entry.file_type().unwrap().is_dir() {
                    true => left.push(entry.path()),
                    false => all.push(entry.path().strip_prefix(path).unwrap().display().to_string()),
                }
            }
        }
        all.sort();
        all
    }

    #[test]
    fn a_directory_follows_its_files_and_leaves_what_is_the_same_alone() {
        let home = tempfile::tempdir().unwrap();
        let directory = SafeDir::open_trusted(home.path()).unwrap();
        sync(&directory, &files(&[("a", "1", 0o600), ("d/e/f", "2", 0o644), ("old/x", "3", 0o644)]), None).unwrap();
        assert_eq!(tree(home.path()), ["a", "d/e/f", "old/x"]);
        let inode = |name: &str| std::fs::metadata(home.path().join(name)).unwrap().ino();
        let (a, f) = (inode("a"), inode("d/e/f"));

        sync(&directory, &files(&[("a", "1", 0o600), ("d/e/f", "new", 0o400), ("old", "now a file", 0o644)]), None)
            .unwrap();
        assert_eq!(tree(home.path()), ["a", "d/e/f", "old"]);
        assert_eq!(inode("a"), a, "the same content stays the same file");
        assert_ne!(inode("d/e/f"), f, "a change is a new file put in the old one's place");
        let meta = std::fs::metadata(home.path().join("d/e/f")).unwrap();
        assert_eq!(
            (std::fs::read_to_string(home.path().join("d/e/f")).unwrap(), meta.mode() & 0o777),
            ("new".into(), 0o400)
        );

        sync(&directory, &files(&[("a/b", "a file becomes a directory", 0o644)]), None).unwrap();
        assert_eq!(tree(home.path()), ["a/b"]);
        sync(&directory, &Files::new(), None).unwrap();
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_link_in_the_way_is_removed_and_never_followed() {
        let home = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("precious"), "untouched").unwrap();
        std::os::unix::fs::symlink(outside.path(), home.path().join("d")).unwrap();
        std::os::unix::fs::symlink(outside.path().join("precious"), home.path().join("f")).unwrap();
        let directory = SafeDir::open_trusted(home.path()).unwrap();
        sync(&directory, &files(&[("d/x", "1", 0o644), ("f", "2", 0o644)]), None).unwrap();
        assert_eq!(tree(home.path()), ["d/x", "f"]);
        assert_eq!(tree(outside.path()), ["precious"]);
        assert_eq!(std::fs::read_to_string(outside.path().join("precious")).unwrap(), "untouched");
    }
}
