//! An OCI image layout on disk: blobs by digest, shared between images, and an index with the images by name.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, anyhow};
use oci_spec::image::{
    ANNOTATION_REF_NAME, Arch, ConfigBuilder, Descriptor, ImageConfigurationBuilder, ImageIndex, ImageIndexBuilder,
    ImageManifestBuilder, MediaType, OciLayoutBuilder, Os, RootFsBuilder, Sha256Digest,
};

use super::Architecture;
use super::layer::{Layer, sha256};
use super::table::Image;

/// A layout that is being written.
pub(crate) struct Layout {
    folder: PathBuf,
    manifests: Vec<Descriptor>,
}

/// What became of an image.
pub(crate) struct Summary {
    pub(crate) digest: String,
    /// Of all its layers, compressed.
    pub(crate) bytes: u64,
}

impl Layout {
    /// Begins anew: what an earlier run left in the folder's index is forgotten.
    pub(crate) fn create(folder: &Path) -> Result<Self> {
        let blobs = folder.join("blobs");
        if blobs.exists() {
            std::fs::remove_dir_all(&blobs).with_context(|| format!("removing {}", blobs.display()))?;
        }
        let blobs = blobs.join("sha256");
        std::fs::create_dir_all(&blobs).with_context(|| format!("making {}", blobs.display()))?;
        Ok(Self { folder: folder.to_owned(), manifests: Vec::new() })
    }

    /// Adds an image of `layers` as `name`, which has its tag. Its programs are told that they are of `version`.
    pub(crate) fn add(
        &mut self,
        (name, version): (&str, &str),
        architecture: Architecture,
        image: &Image,
        layers: &[Layer],
    ) -> Result<Summary> {
        let config = ConfigBuilder::default()
            .user(image.user)
            .env(vec!["PATH=/usr/bin:/bin".to_owned(), format!("KUBEVIRT_VERSION={version}")])
            .entrypoint(vec![image.entrypoint.to_owned()])
            .working_dir("/")
            .build()?;
        let diff_ids = layers.iter().map(|layer| format!("sha256:{}", layer.diff_id)).collect::<Vec<_>>();
        let configuration = ImageConfigurationBuilder::default()
            .created("1970-01-01T00:00:00Z")
            .architecture(match architecture {
                Architecture::Amd64 => Arch::Amd64,
                Architecture::Arm64 => Arch::ARM64,
            })
            .os(Os::Linux)
            .config(config)
            .rootfs(RootFsBuilder::default().typ("layers").diff_ids(diff_ids).build()?)
            .build()?;
        let layers = layers
            .iter()
            .map(|layer| self.blob(MediaType::ImageLayerGzip, &layer.packed))
            .collect::<Result<Vec<_>>>()?;
        let bytes = layers.iter().map(Descriptor::size).sum();
        let manifest = ImageManifestBuilder::default()
            .schema_version(2u32)
            .media_type(MediaType::ImageManifest)
            .config(self.blob(MediaType::ImageConfig, configuration.to_string()?.as_bytes())?)
            .layers(layers)
            .build()?;
        let mut descriptor = self.blob(MediaType::ImageManifest, manifest.to_string()?.as_bytes())?;
        descriptor.set_annotations(Some(HashMap::from([(ANNOTATION_REF_NAME.to_owned(), name.to_owned())])));
        let digest = descriptor.digest().to_string();
        self.manifests.push(descriptor);
        Ok(Summary { digest, bytes })
    }

    /// Writes a blob unless it is there.
    fn blob(&self, kind: MediaType, bytes: &[u8]) -> Result<Descriptor> {
        let hex = sha256(bytes);
        let digest = Sha256Digest::from_str(&hex)?;
        let path = self.folder.join("blobs/sha256").join(&hex);
        if !path.exists() {
            std::fs::write(&path, bytes).with_context(|| format!("writing {}", path.display()))?;
        }
        Ok(Descriptor::new(kind, bytes.len() as u64, digest))
    }

    /// Writes the index, after which the folder is an image layout.
    pub(crate) fn finish(self) -> Result<()> {
        let index = ImageIndexBuilder::default()
            .schema_version(2u32)
            .media_type(MediaType::ImageIndex)
            .manifests(self.manifests)
            .build()?;
        index.to_file(self.folder.join("index.json"))?;
        OciLayoutBuilder::default().image_layout_version("1.0.0").build()?.to_file(self.folder.join("oci-layout"))?;
        Ok(())
    }
}

/// The images of a finished layout: name with tag, and the descriptor of its manifest.
pub(crate) fn images(folder: &Path) -> Result<Vec<(String, Descriptor)>> {
    let index = ImageIndex::from_file(folder.join("index.json"))?;
    index
        .manifests()
        .iter()
        .map(|manifest| {
            let name = manifest.annotations().as_ref().and_then(|annotations| annotations.get(ANNOTATION_REF_NAME));
            let name = name.ok_or_else(|| anyhow!("{}: an image without a name", folder.display()))?;
            Ok((name.clone(), manifest.clone()))
        })
        .collect()
}

/// Reads a blob of a layout.
pub(crate) fn read_blob(folder: &Path, descriptor: &Descriptor) -> Result<Vec<u8>> {
    let path = folder.join("blobs/sha256").join(descriptor.digest().digest());
    std::fs::read(&path).with_context(|| format!("reading {}", path.display()))
}
