//! Programs of the build machine with every library they load.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::layer::Tree;

/// Adds `programs` (found in PATH) at /usr/bin, and the libraries that they and `ours` load where the loader finds them.
pub(crate) fn add(tree: &mut Tree, programs: &[&str], ours: &Path) -> Result<()> {
    let mut libraries = libraries_of(ours)?;
    for name in programs {
        let path = find(name)?;
        libraries.extend(libraries_of(&path)?);
        tree.program(&format!("/usr/bin/{name}"), read(&path)?);
    }
    for library in libraries {
        let bytes = read(Path::new(&library))?;
        tree.program(&library, bytes);
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("reading {}", path.display()))
}

fn find(program: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
        .with_context(|| format!("{program} is not installed"))
}

fn libraries_of(program: &Path) -> Result<BTreeSet<String>> {
    let output = Command::new("ldd").arg(program).env("LC_ALL", "C").output().context("running ldd")?;
    if !output.status.success() {
        bail!("ldd {}: {}", program.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    parse(&String::from_utf8_lossy(&output.stdout)).with_context(|| format!("ldd {}", program.display()))
}

/// The paths in `ldd`'s answer, the loader's included.
fn parse(answer: &str) -> Result<BTreeSet<String>> {
    let mut paths = BTreeSet::new();
    for line in answer.lines().map(str::trim) {
        // `libm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x…)`, `/lib64/ld-linux-x86-64.so.2 (0x…)`, `linux-vdso.so.1 (0x…)`.
        let found = line.split_once(" => ").map_or(line, |(_, found)| found);
        if found.starts_with("not found") {
            bail!("{line}");
        }
        let path = found.split(" (").next().unwrap_or_default();
        if path.starts_with('/') {
            paths.insert(path.to_owned());
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_loader_are_found_and_the_kernels_own_is_not() {
        let answer = "\tlinux-vdso.so.1 (0x00007ffe)\n\tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007f)\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let paths: Vec<String> = parse(answer).unwrap().into_iter().collect();
        assert_eq!(paths, ["/lib/x86_64-linux-gnu/libm.so.6", "/lib64/ld-linux-x86-64.so.2"]);
    }

    #[test]
    fn a_missing_library_is_an_error_that_names_it() {
        let error = parse("\tlibnope.so.3 => not found\n").unwrap_err();
        assert!(error.to_string().contains("libnope.so.3"), "{error}");
    }
}
