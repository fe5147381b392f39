//! Layers: files sorted, of root, without a time, so that equal contents are equal bytes.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::{Context, Result};
use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use sha2::{Digest, Sha256};

/// The files of a layer by path.
#[derive(Default)]
pub(crate) struct Tree(BTreeMap<String, Entry>);

enum Entry {
    Folder { mode: u32 },
    File { mode: u32, bytes: Vec<u8> },
    Link(String),
}

impl Tree {
    /// An executable file (libraries are as well).
    pub(crate) fn program(&mut self, path: &str, bytes: Vec<u8>) {
        self.put(path, Entry::File { mode: 0o755, bytes });
    }

    /// A file that is only read.
    pub(crate) fn file(&mut self, path: &str, bytes: Vec<u8>) {
        self.put(path, Entry::File { mode: 0o444, bytes });
    }

    /// A symbolic link.
    pub(crate) fn link(&mut self, path: &str, target: &str) {
        self.put(path, Entry::Link(target.to_owned()));
    }

    /// A folder with a mode of its own. (Others are made as needed.)
    pub(crate) fn folder(&mut self, path: &str, mode: u32) {
        self.put(path, Entry::Folder { mode });
    }

    fn put(&mut self, path: &str, entry: Entry) {
        let path = path.trim_start_matches('/');
        for (at, _) in path.match_indices('/') {
            self.0.entry(path[..at].to_owned()).or_insert(Entry::Folder { mode: 0o755 });
        }
        self.0.insert(path.to_owned(), entry);
    }

    pub(crate) fn pack(&self) -> Result<Layer> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, entry) in &self.0 {
            append(&mut tar, path, entry).with_context(|| format!("adding /{path} to a layer"))?;
        }
        let plain = tar.into_inner()?;
        // The best that gzip gives: built once, pulled often.
        let mut gzip: GzEncoder<Vec<u8>> = GzBuilder::new().mtime(0).write(Vec::new(), Compression::default());
        gzip.write_all(&plain)?;
        Ok(Layer { diff_id: sha256(&plain), packed: gzip.finish()? })
    }
}

fn append(tar: &mut tar::Builder<Vec<u8>>, path: &str, entry: &Entry) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    match entry {
        Entry::Folder { mode } => {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(*mode);
            tar.append_data(&mut header, format!("{path}/"), std::io::empty())?;
        }
        Entry::File { mode, bytes } => {
            header.set_entry_type(tar::EntryType::Regular);
            header.set_mode(*mode);
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, path, bytes.as_slice())?;
        }
        Entry::Link(target) => {
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_mode(0o777);
            tar.append_link(&mut header, path, target)?;
        }
    }
    Ok(())
}

/// A packed layer.
pub(crate) struct Layer {
    /// Digest (hex) of the layer before compression.
    pub(crate) diff_id: String,
    /// As it is stored: tar, gzip.
    pub(crate) packed: Vec<u8>,
}

/// The digest in hex.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}
