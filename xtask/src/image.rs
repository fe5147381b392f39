//! `cargo xtask image`: the container images, made without a container engine.
//!
//! ```text
//! table ─► programs (cargo, cc) ─► closure (ldd) ─► layer (tar, gzip) ─► layout (OCI image layout) ─► push (registry)
//! ```
//!
//! The same programs give the same bytes: times are zero, entries are sorted, owners are root.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

mod closure;
mod layer;
mod layout;
mod programs;
mod push;
mod table;
#[cfg(test)]
mod tests;

use self::layout::Layout;
use self::programs::Programs;
use self::table::{Image, PRODUCT};

/// What to build, and where to put it.
#[derive(Args)]
pub(crate) struct ImageArgs {
    /// Names of images; the product's five by default.
    names: Vec<String>,
    /// The folder that becomes an OCI image layout.
    #[arg(long, default_value = "target/images")]
    output: PathBuf,
    #[arg(long, default_value = "devel")]
    tag: String,
    /// What the programs call themselves, whatever tag their images get.
    #[arg(long, default_value = concat!("v", env!("CARGO_PKG_VERSION")))]
    version: String,
    /// Put before every name, e.g. `test-` for test-virt-api.
    #[arg(long, default_value = "")]
    prefix: String,
    /// Also push to this registry by plain http: `host:port` or `host:port/path`.
    #[arg(long)]
    push: Option<String>,
    #[arg(long, value_enum, default_value_t = Architecture::of_this_machine())]
    architecture: Architecture,
    /// Cargo profile of the programs. (The launcher is always built for size.)
    #[arg(long, default_value = "release")]
    profile: String,
    /// Take our programs from this folder in place of building them.
    #[arg(long)]
    programs: Option<PathBuf>,
}

/// Processors images are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Architecture {
    Amd64,
    Arm64,
}

impl Architecture {
    fn of_this_machine() -> Self {
        if cfg!(target_arch = "aarch64") { Self::Arm64 } else { Self::Amd64 }
    }

    fn rust_target(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// The C compiler, which is also the linker, by the name that distributions give it.
    fn compiler(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-linux-gnu-gcc",
            Self::Arm64 => "aarch64-linux-gnu-gcc",
        }
    }
}

/// Builds what `args` ask for and prints a line for each image.
#[allow(clippy::print_stdout)]
pub(crate) fn run(root: &Path, args: &ImageArgs) -> Result<()> {
    let images = select(&args.names)?;
    let programs =
        Programs { root, architecture: args.architecture, profile: &args.profile, prebuilt: args.programs.as_deref() };
    let mut layout = Layout::create(&args.output)?;
    for image in &images {
        let built = image.build(&programs).with_context(|| format!("building image {}", image.name))?;
        let name = format!("{}{}:{}", args.prefix, image.name, args.tag);
        let summary = layout.add((&name, &args.version), args.architecture, image, &built)?;
        println!("{name:<32} {:>9} bytes  {}", summary.bytes, summary.digest);
        // Programs for debugging are larger.
        if args.profile == "release" && args.programs.is_none() {
            image.check_size(summary.bytes)?;
        }
    }
    layout.finish()?;
    if let Some(registry) = &args.push {
        for name in push::push(&args.output, registry)? {
            println!("pushed {name}");
        }
    }
    Ok(())
}

fn select(names: &[String]) -> Result<Vec<&'static Image>> {
    if names.is_empty() {
        return Ok(PRODUCT.iter().collect());
    }
    names
        .iter()
        .map(|name| {
            let Some(image) = table::all().find(|image| image.name == name) else {
                let known: Vec<&str> = table::all().map(|image| image.name).collect();
                bail!("there is no image {name}; there are {}", known.join(", "));
            };
            Ok(image)
        })
        .collect()
}
