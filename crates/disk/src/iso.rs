//! ISO 9660 images with Joliet and Rock Ridge names, as cloud-init and config drives expect them.

use std::io::Cursor;

use hadris_iso::joliet::JolietLevel;
use hadris_iso::read::PathSeparator;
use hadris_iso::rrip::RripOptions;
use hadris_iso::write::options::{BaseIsoLevel, CreationFeatures, IsoFormatOptions};
use hadris_iso::write::{InputEntry, InputTree, IsoImageWriter};

/// A file of an ISO image.
#[derive(Clone, Copy)]
pub struct IsoFile<'a> {
    /// Path from the root, `/` between components, no leading slash.
    pub path: &'a str,
    /// Content.
    pub bytes: &'a [u8],
}

/// Why an ISO image cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum IsoError {
    #[error("iso path {path:?} is not a relative path of plain components of at most 64 characters, or is there twice")]
    Path { path: String },
    #[error("iso label {label:?} is not 1 to 16 letters, digits, dashes or underscores")]
    Label { label: String },
    #[error("cannot lay out iso image {label:?}: {reason}")]
    Layout { label: String, reason: String },
}

/// Builds the image in memory (these disks are a few kilobytes).
pub fn build_iso(label: &str, files: &[IsoFile<'_>]) -> Result<Vec<u8>, IsoError> {
    // Joliet keeps 16 characters of a label.
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if label.is_empty() || label.len() > 16 || !label.chars().all(plain) {
        return Err(IsoError::Label { label: label.into() });
    }
    let mut entries = Vec::new();
    for file in files {
        insert(&mut entries, file.path, file).ok_or_else(|| IsoError::Path { path: file.path.into() })?;
    }
    let tree = InputTree::new(PathSeparator::ForwardSlash, entries.into_iter().map(Node::into_entry).collect());
    let options = IsoFormatOptions {
        volume_name: label.into(),
        system_id: None,
        volume_set_id: None,
        publisher_id: None,
        preparer_id: None,
        application_id: None,
        sector_size: 2048,
        features: CreationFeatures {
            filenames: BaseIsoLevel::Level1 { supports_lowercase: false, supports_rrip: true },
            long_filenames: false,
            joliet: Some(JolietLevel::Level3),
            rock_ridge: Some(RripOptions { enabled: true, ..RripOptions::default() }),
            el_torito: None,
            hybrid_boot: None,
        },
        path_separator: PathSeparator::ForwardSlash,
        // Lower-case labels are what cloud-init documents, and what every tool writes.
        strict_charset: false,
    };
    let content: usize = files.iter().map(|file| file.bytes.len().next_multiple_of(2048) + 8192).sum();
    let mut image = Cursor::new(vec![0; content + (256 << 10)]);
    let layout = |error: &dyn std::fmt::Debug| IsoError::Layout { label: label.into(), reason: format!("{error:?}") };
    IsoImageWriter::create(&mut image, tree, options).map_err(|error| layout(&error))?;
    let mut image = image.into_inner();
    let blocks = image.get(32_848..32_852).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_le_bytes);
    // The buffer was a generous guess; the volume descriptor says how long the image is.
    image.truncate((blocks as usize).saturating_mul(2048).max(64 << 10));
    Ok(image)
}

enum Node<'a> {
    File(&'a str, &'a [u8]),
    Directory(&'a str, Vec<Node<'a>>),
}

impl<'a> Node<'a> {
    fn name(&self) -> &'a str {
        match self {
            Self::File(name, _) | Self::Directory(name, _) => name,
        }
    }

    fn into_entry(self) -> InputEntry {
        match self {
            Self::File(name, bytes) => InputEntry::file(name, bytes),
            Self::Directory(name, children) => {
                InputEntry::directory(name, children.into_iter().map(Node::into_entry).collect())
            }
        }
    }
}

fn insert<'a>(nodes: &mut Vec<Node<'a>>, path: &'a str, file: &IsoFile<'a>) -> Option<()> {
    let (name, rest) = match path.split_once('/') {
        Some((name, rest)) => (name, Some(rest)),
        None => (path, None),
    };
    if name.is_empty()
        || name.len() > 64
        || name == "."
        || name == ".."
        || name.contains(['\0', '\\', '*', ':', ';', '?'])
    {
        return None;
    }
    let at = nodes.iter().position(|node| node.name() == name);
    let Some(rest) = rest else {
        if at.is_some() {
            return None;
        }
        nodes.push(Node::File(name, file.bytes));
        return Some(());
    };
    let at = at.unwrap_or_else(|| {
        nodes.push(Node::Directory(name, Vec::new()));
        nodes.len() - 1
    });
    match &mut nodes[at] {
        Node::Directory(_, children) => insert(children, rest, file),
        Node::File(..) => None,
    }
}
