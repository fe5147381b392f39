//! The programs that go into images: built here, or taken from a folder.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::Architecture;
use super::layer::Tree;

/// One of our programs; package and binary have one name.
pub(crate) struct Program {
    pub(crate) package: &'static str,
    /// Its cargo profile, where that is not for the caller to choose.
    pub(crate) profile: Option<&'static str>,
    pub(crate) linkage: Linkage,
}

/// How a program finds its libraries.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Linkage {
    /// It has them: it runs in an image that holds nothing else.
    Static,
    /// It loads them.
    Dynamic,
}

/// Where programs come from.
pub(crate) struct Programs<'a> {
    pub(crate) root: &'a Path,
    pub(crate) architecture: Architecture,
    pub(crate) profile: &'a str,
    /// A folder with our programs; `None`: cargo builds them.
    pub(crate) prebuilt: Option<&'a Path>,
}

impl Programs<'_> {
    /// The file of one of our programs.
    pub(crate) fn ours(&self, program: &Program) -> Result<PathBuf> {
        let file = match self.prebuilt {
            Some(folder) => folder.join(program.package),
            None => self.cargo(program)?,
        };
        let elf = Elf::of(&file)?;
        if elf.architecture != Some(self.architecture) {
            bail!("{} is not for {:?}", file.display(), self.architecture);
        }
        if program.linkage == Linkage::Static && elf.is_dynamic {
            bail!(
                "{} loads libraries, and its image has none: link it with -C target-feature=+crt-static",
                file.display()
            );
        }
        Ok(file)
    }

    fn cargo(&self, program: &Program) -> Result<PathBuf> {
        let target = self.architecture.rust_target();
        let profile = program.profile.unwrap_or(self.profile);
        let base = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| self.root.join("target"), PathBuf::from);
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.current_dir(self.root).args(["build", "--profile", profile, "--package", program.package]);
        let folder = if program.linkage == Linkage::Static {
            // A folder of its own: the other flags would have cargo build everything anew each time. With an explicit target
            // they do not apply to procedural macros, which cannot be static.
            let base = base.join("static");
            command.arg("--target-dir").arg(&base).args(["--target", target]);
            command.env("RUSTFLAGS", "-C target-feature=+crt-static");
            base.join(target)
        } else if self.architecture != Architecture::of_this_machine() {
            command.args(["--target", target]);
            base.join(target)
        } else {
            base
        };
        if self.architecture != Architecture::of_this_machine() {
            let linker = format!("CARGO_TARGET_{}_LINKER", target.to_uppercase().replace('-', "_"));
            if std::env::var_os(&linker).is_none() {
                command.env(linker, self.architecture.compiler());
            }
        }
        let status = command.status().context("running cargo")?;
        if !status.success() {
            bail!("cargo build --package {}: {status}", program.package);
        }
        Ok(folder.join(if profile == "dev" { "debug" } else { profile }).join(program.package))
    }

    /// A C program of one source, static and small.
    pub(crate) fn compiled(&self, source: &str) -> Result<Vec<u8>> {
        let compiler = self.architecture.compiler();
        let folder = tempfile::tempdir()?;
        let output = folder.path().join("program");
        let status = Command::new(compiler)
            .args(["-static", "-Os", "-s", "-Wall", "-Werror", "-o"])
            .arg(&output)
            .arg(self.root.join(source))
            .status()
            .with_context(|| format!("running {compiler}"))?;
        if !status.success() {
            bail!("{compiler} {source}: {status}");
        }
        Ok(std::fs::read(output)?)
    }

    /// The disk that guest/build.sh makes.
    pub(crate) fn demo_guest(&self) -> Result<Vec<u8>> {
        let folder = tempfile::tempdir()?;
        let output = folder.path().join("demo.qcow2");
        let script = self.root.join("guest/build.sh");
        let status =
            Command::new(&script).arg(&output).status().with_context(|| format!("running {}", script.display()))?;
        if !status.success() {
            bail!("{}: {status}", script.display());
        }
        Ok(std::fs::read(output)?)
    }

    /// What is copied from this machine can only be for its own kind.
    pub(crate) fn must_be_of_this_machine(&self) -> Result<()> {
        if self.architecture != Architecture::of_this_machine() {
            bail!("it holds files of the build machine: build it on a machine of architecture {:?}", self.architecture);
        }
        Ok(())
    }
}

/// What the header of a program says about it.
#[derive(Debug, PartialEq, Eq)]
struct Elf {
    architecture: Option<Architecture>,
    /// Whether a loader has to find libraries for it: it names an interpreter (program header PT_INTERP).
    is_dynamic: bool,
}

impl Elf {
    fn of(file: &Path) -> Result<Self> {
        let bytes = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
        Self::parse(&bytes).with_context(|| format!("{} is no 64-bit little-endian ELF program", file.display()))
    }

    fn parse(elf: &[u8]) -> Option<Self> {
        const PT_INTERP: u32 = 3;
        let u16_at = |at: usize| Some(u16::from_le_bytes(elf.get(at..at + 2)?.try_into().ok()?));
        let u64_at = |at: usize| Some(u64::from_le_bytes(elf.get(at..at + 8)?.try_into().ok()?));
        elf.starts_with(b"\x7fELF\x02\x01").then_some(())?;
        let architecture = match u16_at(18)? {
            62 => Some(Architecture::Amd64),
            183 => Some(Architecture::Arm64),
            _ => None,
        };
        let table = usize::try_from(u64_at(32)?).ok()?;
        let (size, count) = (usize::from(u16_at(54)?), usize::from(u16_at(56)?));
        let mut is_dynamic = false;
        for index in 0..count {
            let at = table.checked_add(index.checked_mul(size)?)?;
            is_dynamic |= elf.get(at..at.checked_add(4)?)? == PT_INTERP.to_le_bytes();
        }
        Some(Self { architecture, is_dynamic })
    }
}

/// Adds the machine's static busybox with all its commands.
pub(crate) fn busybox(tree: &mut Tree) -> Result<()> {
    const BUSYBOX: &str = "/bin/busybox";
    if Elf::of(Path::new(BUSYBOX))?.is_dynamic {
        bail!("{BUSYBOX} is not static: install busybox-static");
    }
    let list = Command::new(BUSYBOX).arg("--list").output().context("running busybox --list")?;
    for command in String::from_utf8(list.stdout)?.lines().filter(|command| *command != "busybox") {
        tree.link(&format!("/bin/{command}"), "busybox");
    }
    tree.program(BUSYBOX, std::fs::read(BUSYBOX)?);
    tree.folder("/tmp", 0o1777);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_that_load_libraries_are_told_from_static_ones() {
        let architecture = Some(Architecture::of_this_machine());
        let own = Elf::of(&std::env::current_exe().unwrap()).unwrap();
        assert_eq!(own, Elf { architecture, is_dynamic: true });
        assert_eq!(Elf::of(Path::new("/bin/busybox")).unwrap(), Elf { architecture, is_dynamic: false });
    }

    #[test]
    fn what_is_no_program_is_an_error() {
        for bytes in
            [&b""[..], b"#!/bin/sh\n", b"\x7fELF\x02\x01", &[b"\x7fELF\x02\x01".as_slice(), &[0xff; 80]].concat()]
        {
            assert_eq!(Elf::parse(bytes), None);
        }
    }
}
