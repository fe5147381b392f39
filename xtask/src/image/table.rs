//! Which images there are and what is in them.

use anyhow::{Result, bail};

use super::layer::{Layer, Tree};
use super::programs::{Linkage, Program, Programs};
use super::{closure, programs as sources};

/// An image: its layers from the one that changes least to the one that changes most.
pub(crate) struct Image {
    pub(crate) name: &'static str,
    pub(crate) layers: &'static [Content],
    pub(crate) entrypoint: &'static str,
    /// `uid`, numeric: Kubernetes' `runAsNonRoot` cannot check names.
    pub(crate) user: &'static str,
    /// What its layers may be together, compressed, in bytes; `None`: it is what its libraries are.
    pub(crate) at_most: Option<u64>,
}

const MIB: u64 = 1 << 20;

/// What a layer is made of.
pub(crate) enum Content {
    /// One of our programs, at /usr/bin.
    Ours(Program),
    /// Programs of the build machine's distribution with their libraries, and the libraries of one of our programs.
    Closure { programs: &'static [&'static str], libraries_of: Program },
    /// A C source of this repository, linked statically.
    Compiled { source: &'static str, path: &'static str },
    /// Debian's static busybox with a link for each of its commands.
    Busybox,
    /// The demo guest's disk, as a containerDisk has it.
    DemoGuest,
}

/// The processes of the control plane: one static program each, and nothing else.
const fn control_plane(name: &'static str, layers: &'static [Content], entrypoint: &'static str) -> Image {
    Image { name, layers, entrypoint, user: "1001", at_most: Some(25 * MIB) }
}

const HANDLER: Program = Program { package: "virt-handler", profile: None, linkage: Linkage::Dynamic };

const fn is_static(package: &'static str) -> Content {
    Content::Ours(Program { package, profile: None, linkage: Linkage::Static })
}

/// The product, by the names under which people mirror it.
pub(crate) const PRODUCT: &[Image] = &[
    control_plane("virt-operator", &[is_static("virt-operator")], "/usr/bin/virt-operator"),
    control_plane("virt-api", &[is_static("virt-api")], "/usr/bin/virt-api"),
    control_plane("virt-controller", &[is_static("virt-controller")], "/usr/bin/virt-controller"),
    Image {
        name: "virt-handler",
        layers: &[
            // What it runs: disk images, packet rules, and limits around both.
            Content::Closure { programs: &["nft", "prlimit", "qemu-img", "timeout"], libraries_of: HANDLER },
            Content::Ours(HANDLER),
        ],
        entrypoint: "/usr/bin/virt-handler",
        user: "0",
        at_most: None,
    },
    Image {
        name: "virt-launcher",
        layers: &[Content::Ours(Program {
            package: "virt-launcher",
            profile: Some("launcher"),
            linkage: Linkage::Static,
        })],
        entrypoint: "/usr/bin/virt-launcher",
        user: "107",
        at_most: Some(MIB),
    },
];

/// What the test cluster needs beside it.
const TEST: &[Image] = &[
    Image {
        name: "pause",
        layers: &[Content::Compiled { source: "tests/cluster/pause.c", path: "/pause" }],
        entrypoint: "/pause",
        user: "65535",
        at_most: None,
    },
    Image { name: "busybox", layers: &[Content::Busybox], entrypoint: "/bin/sh", user: "0", at_most: None },
    // Nothing in it can run: whoever uses it brings a program.
    Image { name: "demo-guest", layers: &[Content::DemoGuest], entrypoint: "/disk", user: "107", at_most: None },
];

/// Every image.
pub(crate) fn all() -> impl Iterator<Item = &'static Image> {
    PRODUCT.iter().chain(TEST)
}

impl Image {
    /// Makes its layers.
    pub(crate) fn build(&self, programs: &Programs<'_>) -> Result<Vec<Layer>> {
        self.layers.iter().map(|content| content.tree(programs)?.pack()).collect()
    }

    /// Fails when it has become larger than it may be.
    pub(crate) fn check_size(&self, bytes: u64) -> Result<()> {
        match self.at_most {
            Some(limit) if bytes > limit => bail!("image {} has {bytes} bytes; it may have {limit}", self.name),
            _ => Ok(()),
        }
    }
}

impl Content {
    fn tree(&self, programs: &Programs<'_>) -> Result<Tree> {
        let mut tree = Tree::default();
        match self {
            Self::Ours(program) => {
                tree.program(&format!("/usr/bin/{}", program.package), std::fs::read(programs.ours(program)?)?);
            }
            Self::Closure { programs: names, libraries_of } => {
                programs.must_be_of_this_machine()?;
                closure::add(&mut tree, names, &programs.ours(libraries_of)?)?;
            }
            Self::Compiled { source, path } => tree.program(path, programs.compiled(source)?),
            Self::Busybox => {
                programs.must_be_of_this_machine()?;
                sources::busybox(&mut tree)?;
            }
            Self::DemoGuest => tree.file("/disk/demo.qcow2", programs.demo_guest()?),
        }
        Ok(tree)
    }
}
