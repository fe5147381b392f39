//! The shape of a small read-only disk.

use sha2::{Digest, Sha256};

/// The files of one read-only disk, in the order they are written.
#[derive(Clone, PartialEq, Eq)]
pub struct FileTree {
    /// Volume label, which is how guests find the disk (`cidata`, `config-2`).
    pub label: &'static str,
    /// Sorted by path.
    pub files: Vec<TreeFile>,
}

/// One file of a [`FileTree`].
#[derive(Clone, PartialEq, Eq)]
pub struct TreeFile {
    /// Path from the root of the disk, with `/` between components and none in front.
    pub path: String,
    /// Content.
    pub bytes: Vec<u8>,
}

impl FileTree {
    pub(crate) fn new(label: &'static str, mut files: Vec<TreeFile>) -> Self {
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Self { label, files }
    }

    /// The file at `path`.
    pub fn get(&self, path: &str) -> Option<&[u8]> {
        self.files.iter().find(|file| file.path == path).map(|file| file.bytes.as_slice())
    }

    /// A digest of label, paths and contents: equal trees and only they have equal fingerprints. Lets the owner of the disk
    /// see whether it has to be written anew without keeping the content (which may be secret) around.
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        let mut put = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        put(self.label.as_bytes());
        for file in &self.files {
            put(file.path.as_bytes());
            put(&file.bytes);
        }
        hex::encode(hash.finalize())
    }
}

impl TreeFile {
    pub(crate) fn new(path: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), bytes: bytes.into() }
    }
}

// Contents are passwords and keys: they do not belong into a log line.
impl std::fmt::Debug for FileTree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileTree").field("label", &self.label).field("files", &self.files).finish()
    }
}

impl std::fmt::Debug for TreeFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({} bytes)", self.path, self.bytes.len())
    }
}
