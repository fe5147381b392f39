//! hostPath volumes: kubelet's checks and words, decided apart from what they look at.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

use fv_host::mount::Access;

/// What a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    Directory,
    File,
    Socket,
    CharDevice,
    BlockDevice,
    Other,
}

/// What to do before the path can be mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Use,
    MakeDirectory,
    MakeFile,
}

/// Kubernetes' rule for a type of hostPath and what is there.
fn check(type_: &str, path: &str, found: Found) -> Result<Step, String> {
    let (wanted, words, missing) = match type_ {
        // Not checked: kubelet leaves it to the container runtime, which makes a directory.
        "" if found == Found::Nothing => return Ok(Step::MakeDirectory),
        "" => return Ok(Step::Use),
        "Directory" => (Found::Directory, "a directory", None),
        "DirectoryOrCreate" => (Found::Directory, "a directory", Some(Step::MakeDirectory)),
        "File" => (Found::File, "a file", None),
        "FileOrCreate" => (Found::File, "a file", Some(Step::MakeFile)),
        "Socket" => (Found::Socket, "a socket file", None),
        "CharDevice" => (Found::CharDevice, "a character device", None),
        "BlockDevice" => (Found::BlockDevice, "a block device", None),
        other => return Err(format!("{other} is an invalid volume type")),
    };
    match (found, missing) {
        (Found::Nothing, Some(step)) => Ok(step),
        (found, _) if found == wanted => Ok(Step::Use),
        _ => Err(format!("hostPath type check failed: {path} is not {words}")),
    }
}

fn find(path: &Path) -> io::Result<Found> {
    let kind = match std::fs::metadata(path) {
        Ok(meta) => meta.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(error),
    };
    Ok(match kind {
        k if k.is_dir() => Found::Directory,
        k if k.is_file() => Found::File,
        k if k.is_socket() => Found::Socket,
        k if k.is_char_device() => Found::CharDevice,
        k if k.is_block_device() => Found::BlockDevice,
        _ => Found::Other,
    })
}

/// Opens what a hostPath names, made first if its type says so, as a mere reference. Links are followed, as by kubelet: who may
/// write a hostPath rules the machine.
pub(super) fn open(path: &str, type_: &str) -> Result<(OwnedFd, Access), String> {
    let failed = |error: io::Error| format!("{path}: {error}");
    let place = Path::new(path);
    if place.components().any(|c| c == std::path::Component::ParentDir) {
        return Err(format!("invalid HostPath `{path}`: must not contain '..'"));
    }
    match check(type_, path, find(place).map_err(failed)?)? {
        Step::Use => {}
        Step::MakeDirectory => DirBuilder::new().recursive(true).mode(0o755).create(place).map_err(failed)?,
        Step::MakeFile => {
            let made = OpenOptions::new().create(true).append(true).mode(0o644).open(place);
            made.map(drop).map_err(failed)?;
        }
    }
    let file = OpenOptions::new().read(true).custom_flags(rustix::fs::OFlags::PATH.bits() as i32).open(place);
    let file: File = file.map_err(failed)?;
    let kind = file.metadata().map_err(failed)?.file_type();
    let device = kind.is_block_device() || kind.is_char_device();
    Ok((file.into(), if device { Access::Device } else { Access::ReadWrite }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_checked_as_kubelet_does() {
        use Found::{BlockDevice, CharDevice, Directory, File, Nothing, Socket};
        let failed = |what: &str| Err(format!("hostPath type check failed: /p is not {what}"));
        let cases = [
            ("", Nothing, Ok(Step::MakeDirectory)),
            ("", File, Ok(Step::Use)),
            ("Directory", Directory, Ok(Step::Use)),
            ("Directory", Nothing, failed("a directory")),
            ("Directory", File, failed("a directory")),
            ("DirectoryOrCreate", Nothing, Ok(Step::MakeDirectory)),
            ("DirectoryOrCreate", Directory, Ok(Step::Use)),
            ("DirectoryOrCreate", File, failed("a directory")),
            ("File", File, Ok(Step::Use)),
            ("File", Nothing, failed("a file")),
            ("FileOrCreate", Nothing, Ok(Step::MakeFile)),
            ("FileOrCreate", Directory, failed("a file")),
            ("Socket", Socket, Ok(Step::Use)),
            ("Socket", File, failed("a socket file")),
            ("CharDevice", CharDevice, Ok(Step::Use)),
            ("CharDevice", BlockDevice, failed("a character device")),
            ("BlockDevice", BlockDevice, Ok(Step::Use)),
            ("BlockDevice", Nothing, failed("a block device")),
            ("Odd", File, Err("Odd is an invalid volume type".to_string())),
        ];
        for (type_, found, expected) in cases {
            assert_eq!(check(type_, "/p", found), expected, "{type_} {found:?}");
        }
    }
}
