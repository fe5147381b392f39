//! The image in a volume. The directory is a tenant's: what lies there is reached by descriptor, judged, and never named again.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};

use fv_api::{Quantity, Volume};
use fv_disk::Owner;
use fv_host::fsinfo;
use fv_host::safe_path::SafeDir;
use rustix::fs::{FallocateFlags, FileType, Mode, OFlags, fallocate};
use rustix::io::Errno;

use super::VolumeError;
use super::place::Source;
use crate::ports::PodVolume;

/// The image of a volume that has a directory to itself.
const DISK_FILE: &str = "disk.img";
/// Type of a hostDisk that may be missing.
const DISK_OR_CREATE: &str = "DiskOrCreate";
/// Upstream's QEMU: with our group as well, a file was made for guests.
const UPSTREAM_UID: u32 = 107;
/// What a new image may be smaller than was asked for, in per cent, and what is left free beside it: upstream's defaults.
pub(super) const TOLERATION: u64 = 10;
const RESERVE: u64 = 131_072;
const MIB: u64 = 1 << 20;

/// What is wanted of a volume that has, or is, an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Name of the file, unless the volume is a device.
    pub(super) file: String,
    /// Path on the node of a hostDisk: what lies there may be the node's own.
    pub(super) host: Option<String>,
    /// Size of the image to be made when there is none.
    pub(super) create: Option<u64>,
    /// One that is smaller than that grows: its claim did.
    pub(super) grow: bool,
    pub(super) read_only: bool,
    /// What the guest writes goes to an overlay that ends with the VMI.
    pub(super) overlay: bool,
}

/// What the volume's source asks for; `None` when it is no image. `capacity` is that of its claim.
pub(super) fn wanted(volume: &Volume, capacity: Option<u64>) -> Option<Wanted> {
    let disk =
        Wanted { file: DISK_FILE.to_owned(), host: None, create: None, grow: false, read_only: false, overlay: false };
    if let Some(host) = &volume.host_disk {
        let size = host.capacity.as_ref().filter(|_| host.type_ == DISK_OR_CREATE).map(Quantity::bytes);
        let file = host.path.rsplit('/').next().unwrap_or_default().to_owned();
        Some(Wanted { file, host: Some(host.path.clone()), create: size, ..disk })
    } else if let Some(claim) = &volume.persistent_volume_claim {
        let read_only = claim.read_only == Some(true);
        Some(Wanted { create: capacity.filter(|_| !read_only), grow: true, read_only, ..disk })
    } else if volume.ephemeral.is_some() {
        Some(Wanted { read_only: true, overlay: true, ..disk })
    } else {
        None
    }
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) size: u64,
    pub(super) is_device: bool,
    pub(super) direct_io: bool,
    pub(super) preallocated: bool,
}

/// Finds the image, makes it where it may be made, and sees that QEMU may open it. Repeating it is fine.
pub(super) fn ensure(volume: &PodVolume, wanted: &Wanted, owner: Owner) -> Result<(Image, Source), VolumeError> {
    match volume {
        PodVolume::Directory(directory) => {
            let (file, image) = in_directory(&directory.dir, wanted, owner)?;
            let copy = directory.copy(&file).map_err(VolumeError::io("copy the mount of", &wanted.file))?;
            Ok((image, Source::File(copy)))
        }
        PodVolume::Device(number) => Ok((device(*number, wanted)?, Source::Device(*number))),
    }
}

/// What the kernel says of a block device.
fn device(number: u64, wanted: &Wanted) -> Result<Image, VolumeError> {
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    let read = |name| -> Result<u64, VolumeError> {
        let path = format!("/sys/dev/block/{major}:{minor}/{name}");
        let text = std::fs::read_to_string(path).map_err(VolumeError::open("look at its block device"))?;
        Ok(text.trim().parse().unwrap_or(0))
    };
    if read("ro")? != 0 && !wanted.read_only {
        return Err(VolumeError::ReadOnly);
    }
    // The kernel counts in sectors of this size, whatever the device's are.
    let size = read("size")?.saturating_mul(512);
    if size == 0 {
        return Err(VolumeError::Empty { file: format!("block device {major}:{minor}") });
    }
    Ok(Image { size, is_device: true, direct_io: true, preallocated: true })
}

fn in_directory(dir: &SafeDir, wanted: &Wanted, owner: Owner) -> Result<(File, Image), VolumeError> {
    let name = wanted.file.as_str();
    let io = |step| VolumeError::io(step, name);
    let (file, created) = match open(dir, wanted)? {
        Some(file) => (file, false),
        None => (create(dir, wanted)?, true),
    };
    let mut meta = file.metadata().map_err(io("look at"))?;
    if meta.nlink() != 1 {
        return Err(VolumeError::HardLink { file: name.to_owned(), names: meta.nlink() });
    }
    let new_size = match (meta.len(), wanted.create) {
        // New, or begun by somebody who did not get further.
        (0, Some(size)) => Some(fitting(dir, name, size)?),
        (0, None) => return Err(VolumeError::Empty { file: name.to_owned() }),
        _ => None,
    };
    // Before anything of it changes: it may be refused.
    allow(&file, &meta, wanted, owner, created)?;
    if let Some(size) = new_size {
        file.set_len(size).and_then(|()| file.sync_all()).map_err(io("set the size of"))?;
        meta = file.metadata().map_err(io("look at"))?;
    }
    if let (true, Some(size)) = (wanted.grow, wanted.create)
        && let Some(size) = grown(dir, name, &meta, size)?
    {
        extend(&file, &meta, size).and_then(|()| file.sync_all()).map_err(io("grow"))?;
        meta = file.metadata().map_err(io("look at"))?;
    }
    let image = Image {
        size: meta.len(),
        is_device: false,
        direct_io: opens_directly(&file),
        preallocated: allocated(&meta) >= meta.len(),
    };
    Ok((file, image))
}

fn open(dir: &SafeDir, wanted: &Wanted) -> Result<Option<File>, VolumeError> {
    let name = wanted.file.as_str();
    match dir.stat(name).map(|stat| FileType::from_raw_mode(stat.st_mode)) {
        Ok(FileType::RegularFile) => {}
        Ok(FileType::Symlink) => return Err(VolumeError::Link { file: name.to_owned() }),
        Ok(_) => return Err(VolumeError::Kind { path: name.to_owned(), wanted: "regular file" }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(VolumeError::io("look at", name)(error)),
    }
    // It may be another one by now; what is opened is judged once more.
    dir.open_regular(name, !wanted.read_only).map(Some).map_err(|error| match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => VolumeError::ReadOnly,
        _ => VolumeError::io("open", name)(error),
    })
}

fn create(dir: &SafeDir, wanted: &Wanted) -> Result<File, VolumeError> {
    let name = wanted.file.as_str();
    let Some(size) = wanted.create.filter(|_| !wanted.read_only) else {
        return Err(VolumeError::NoImage { file: name.to_owned() });
    };
    fitting(dir, name, size)?;
    dir.create_new(name, 0o660).map_err(|error| match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => VolumeError::ReadOnly,
        _ => VolumeError::io("create", name)(error),
    })
}

/// The size that an image should grow to; none where it is large enough, or as large as there is room for.
fn grown(dir: &SafeDir, name: &str, meta: &Metadata, wanted: u64) -> Result<Option<u64>, VolumeError> {
    if meta.len() >= wanted {
        return Ok(None);
    }
    let space = fsinfo::space_of(dir).map_err(VolumeError::io("look at the space for", name))?;
    let room = space.available.saturating_sub(RESERVE).saturating_add(allocated(meta));
    let size = wanted.min(room) / MIB * MIB;
    Ok((size > meta.len()).then_some(size))
}

/// What is new is allocated where all of it was.
fn extend(file: &File, meta: &Metadata, size: u64) -> io::Result<()> {
    if allocated(meta) >= meta.len() {
        match fallocate(file, FallocateFlags::empty(), meta.len(), size - meta.len()) {
            // Not every file system can.
            Err(Errno::OPNOTSUPP) => {}
            outcome => return Ok(outcome?),
        }
    }
    file.set_len(size)
}

/// Bytes that a file takes of its file system.
fn allocated(meta: &Metadata) -> u64 {
    meta.blocks().saturating_mul(512)
}

/// The size that a new image gets: what was asked for, or a little less where there is not more.
fn fitting(dir: &SafeDir, name: &str, wanted: u64) -> Result<u64, VolumeError> {
    let space = fsinfo::space_of(dir).map_err(VolumeError::io("look at the space for", name))?;
    let available = space.available.saturating_sub(RESERVE);
    size_within(wanted, available).ok_or_else(|| VolumeError::TooSmall { file: name.to_owned(), wanted, available })
}

fn size_within(wanted: u64, available: u64) -> Option<u64> {
    let least = wanted - wanted / 100 * TOLERATION;
    let size = wanted.min(available);
    let whole = size - size % MIB;
    (size >= least && size > 0).then_some(if whole == 0 { size } else { whole })
}

/// Makes the image the VM's where it writes to it; what it only reads must be readable already, for others may read it as well. Of the
/// node's files only those become the VM's that were made for guests; any other has to be open to it as it is.
fn allow(file: &File, meta: &Metadata, wanted: &Wanted, owner: Owner, created: bool) -> Result<(), VolumeError> {
    let mode = meta.mode() & 0o777;
    let need = if wanted.read_only { 0o4 } else { 0o6 };
    let given = if meta.uid() == owner.uid {
        mode >> 6
    } else if meta.gid() == owner.gid {
        mode >> 3
    } else {
        mode
    };
    let for_guests = created || (meta.gid() == owner.gid && [owner.uid, UPSTREAM_UID].contains(&meta.uid()));
    let foreign = wanted.host.as_ref().filter(|_| !for_guests);
    if !wanted.read_only && foreign.is_none() {
        // Group 107 as upstream leaves it: it, and any later VM of ours, goes on from here.
        let taken = fchown(file, Some(owner.uid), Some(owner.gid))
            .and_then(|()| file.set_permissions(std::fs::Permissions::from_mode(mode | 0o660)));
        match taken {
            Ok(()) => return Ok(()),
            // A server that gives root no rights; it may let us all the same.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) => return Err(VolumeError::io("set the owner of", &wanted.file)(error)),
        }
    }
    if given & need == need {
        return Ok(());
    }
    if let Some(path) = foreign {
        return Err(VolumeError::Foreign { path: path.clone(), uid: meta.uid(), gid: meta.gid(), mode });
    }
    Err(VolumeError::Denied {
        file: wanted.file.clone(),
        uid: meta.uid(),
        gid: meta.gid(),
        mode,
        verb: if wanted.read_only { "read" } else { "write" },
    })
}

/// Whether the file system lets its cache be passed by.
fn opens_directly(file: &File) -> bool {
    use std::os::fd::AsRawFd;
    let again = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    rustix::fs::open(again, OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC, Mode::empty()).is_ok()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::chown;

    use serde_json::json;

    use super::*;

    const OWNER: Owner = Owner { uid: 1_000_000_011, gid: 107 };

    /// Needs root.
    #[test]
    fn only_files_made_for_guests_become_the_machines() {
        let host = |source| {
            let volume = json!({"name": "data", "hostDisk": source});
            wanted(&serde_json::from_value(volume).unwrap(), None).unwrap()
        };
        let disk = || host(json!({"path": "/etc/shadow", "type": "Disk"}));
        let or_create = || host(json!({"path": "/etc/shadow", "type": "DiskOrCreate", "capacity": "1Mi"}));
        let claim = || Wanted { host: None, file: "shadow".to_owned(), ..disk() };
        let given = Some((OWNER.uid, 107, 0o660));
        for (wanted, found, becomes) in [
            // What is there: owner, group, mode and size. What becomes of it; none: it is refused, and stays.
            (or_create(), None, given),
            (disk(), Some((107, 107, 0o600, 4096)), given),
            (or_create(), Some((107, 107, 0o644, 0)), Some((OWNER.uid, 107, 0o664))),
            (disk(), Some((OWNER.uid, 107, 0o640, 4096)), given),
            // Of an earlier guest, or prepared by hand: it opens as it is.
            (disk(), Some((1_000_000_010, 107, 0o660, 4096)), Some((1_000_000_010, 107, 0o660))),
            (disk(), Some((0, 107, 0o660, 4096)), Some((0, 107, 0o660))),
            (disk(), Some((0, 0, 0o666, 4096)), Some((0, 0, 0o666))),
            (disk(), Some((0, 42, 0o640, 4096)), None),
            (or_create(), Some((0, 0, 0o644, 4096)), None),
            (or_create(), Some((0, 0, 0o644, 0)), None),
            (disk(), Some((0, 107, 0o755, 4096)), None),
            // Another guest's own disk.
            (disk(), Some((1_000_000_010, 107, 0o600, 4096)), None),
            // A claim's image is its tenant's, whoever put it there.
            (claim(), Some((0, 0, 0o600, 4096)), given),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("shadow");
            if let Some((uid, gid, mode, size)) = found {
                fs::write(&path, vec![1; size]).unwrap();
                chown(&path, Some(uid), Some(gid)).unwrap();
                fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            }
            let opened = SafeDir::from_fd(File::open(dir.path()).unwrap().into()).unwrap();
            let outcome = in_directory(&opened, &wanted, OWNER);
            let meta = fs::metadata(&path).unwrap();
            let is = (meta.uid(), meta.gid(), meta.mode() & 0o777);
            if let Some(becomes) = becomes {
                outcome.unwrap();
                assert_eq!(is, becomes, "{wanted:?} {found:?}");
            } else {
                let (uid, gid, mode, size) = found.unwrap();
                assert_eq!((is, meta.len()), ((uid, gid, mode), size as u64), "changed: {found:?}");
                let told = outcome.unwrap_err().to_string();
                for part in ["\"/etc/shadow\"", &format!(" {uid}:{gid} with mode {mode:03o}"), "chown 107:107"] {
                    assert!(told.contains(part), "{told}");
                }
            }
        }
    }
}
