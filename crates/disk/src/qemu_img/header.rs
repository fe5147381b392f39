//! The first bytes of an image file. Pure.

use super::{ImageFormat, ImageInfo};

/// Bytes [`parse`] wants from the start of the file.
pub(super) const START: usize = 1024;

pub(super) const ENCRYPTED: &str = "it is encrypted; give the guest a plain image";
pub(super) const CORRUPT: &str = "it is marked corrupt; run `qemu-img check -r all` on it first";

/// Refcount structures and tables beyond this are no image but an attack: QEMU's own limit for the L1 table.
const MAX_L1_BYTES: u64 = 32 << 20;

pub(super) fn backing_refusal(backing: &str) -> String {
    let shown: String = backing.chars().take(100).collect();
    format!(
        "it has the backing file {shown:?}, and reading other files is not allowed; flatten it with `qemu-img convert -O qcow2`"
    )
}

pub(super) fn data_file_refusal(data_file: Option<&str>) -> String {
    let shown: String = data_file.unwrap_or_default().chars().take(100).collect();
    format!("it keeps its data in an external file {shown:?}; pack it with `qemu-img convert -O qcow2`")
}

/// Magic numbers of what is not a raw disk: (offset, bytes, name, a verb to get a usable image).
const FOREIGN: &[(usize, &[u8], &str, &str)] = &[
    (0, b"KDMV", "a VMDK image", "convert"),
    (0, b"COWD", "a VMDK image", "convert"),
    (0, b"# Disk DescriptorFile", "a VMDK description", "convert"),
    (0, b"vhdxfile", "a VHDX image", "convert"),
    (0, b"conectix", "a VHD image", "convert"),
    (64, b"\x7f\x10\xda\xbe", "a VDI image", "convert"),
    (0, b"QED\0", "a QED image", "convert"),
    (0, b"WithoutFreeSpace", "a Parallels image", "convert"),
    (0, b"WithouFreSpacExt", "a Parallels image", "convert"),
    (0, b"OOOM", "a copy-on-write image of User Mode Linux", "convert"),
    (0, b"LUKS\xba\xbe", "an encrypted (LUKS) image", "decrypt"),
    (0, b"\x1f\x8b", "compressed with gzip", "decompress"),
    (0, b"\xfd7zXZ\0", "compressed with xz", "decompress"),
    (0, b"\x28\xb5\x2f\xfd", "compressed with zstd", "decompress"),
    (0, b"BZh", "compressed with bzip2", "decompress"),
    (0, b"PK\x03\x04", "a zip archive", "unpack"),
    (257, b"ustar", "a tar archive", "unpack"),
];

pub(super) fn parse(start: &[u8], length: u64, max_virtual_size: u64) -> Result<ImageInfo, String> {
    if length == 0 {
        return Err("it is empty".into());
    }
    let info = if start.starts_with(b"QFI\xfb") {
        ImageInfo { format: ImageFormat::Qcow2, virtual_size: qcow2(start, length)? }
    } else {
        for (offset, magic, name, verb) in FOREIGN {
            if start.get(*offset..).is_some_and(|rest| rest.starts_with(magic)) {
                return Err(format!("it is {name}; raw and qcow2 are supported, {verb} it first"));
            }
        }
        // QEMU shows a raw file's last partial sector as a whole one.
        ImageInfo { format: ImageFormat::Raw, virtual_size: length.checked_next_multiple_of(512).unwrap_or(u64::MAX) }
    };
    if info.virtual_size == 0 {
        return Err("its virtual size is 0".into());
    }
    if info.virtual_size > max_virtual_size {
        return Err(format!("its virtual size is {} bytes, at most {max_virtual_size} are allowed", info.virtual_size));
    }
    Ok(info)
}

fn qcow2(start: &[u8], length: u64) -> Result<u64, String> {
    const SHORT: &str = "its qcow2 header is cut off";
    let u32_at = |at: usize| -> Result<u64, String> {
        let bytes = start.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).ok_or(SHORT)?;
        Ok(u32::from_be_bytes(bytes).into())
    };
    let u64_at = |at: usize| -> Result<u64, String> { Ok(u32_at(at)? << 32 | u32_at(at + 4)?) };
    let version = u32_at(4)?;
    let (backing_offset, backing_length) = (u64_at(8)?, u32_at(16)?);
    let (cluster_bits, size, crypt_method) = (u32_at(20)?, u64_at(24)?, u32_at(32)?);
    let (l1_entries, l1_offset) = (u32_at(36)?, u64_at(40)?);
    let features = match version {
        2 => 0,
        3 => u64_at(72)?,
        _ => return Err(format!("it is qcow version {version}; convert it with `qemu-img convert -O qcow2`")),
    };
    if backing_offset != 0 {
        let name = usize::try_from(backing_offset).ok().and_then(|at| start.get(at..)?.get(..backing_length as usize));
        return Err(backing_refusal(&String::from_utf8_lossy(name.unwrap_or_default())));
    }
    if crypt_method != 0 {
        return Err(ENCRYPTED.into());
    }
    if features & 2 != 0 {
        return Err(CORRUPT.into());
    }
    if features & 4 != 0 {
        return Err(data_file_refusal(None));
    }
    // Dirty refcounts, compression type and extended L2 entries are fine.
    let unknown = features & !0b1_1111;
    if unknown != 0 {
        return Err(format!("it uses unknown qcow2 features ({unknown:#x})"));
    }
    if !(9..=21).contains(&cluster_bits) {
        return Err(format!("its cluster size is 2^{cluster_bits} bytes"));
    }
    let l1_bytes = l1_entries * 8;
    if l1_bytes > MAX_L1_BYTES || l1_offset.checked_add(l1_bytes).is_none_or(|end| end > length) {
        return Err(format!("its table of {l1_entries} entries at {l1_offset} does not fit a file of {length} bytes"));
    }
    // One L1 entry covers cluster_size * (cluster_size / 8) bytes; 16-byte entries with extended L2.
    let entry_bits = if features & 16 != 0 { 4 } else { 3 };
    if u128::from(size) > u128::from(l1_entries) << (2 * cluster_bits - entry_bits) {
        return Err(format!("its virtual size of {size} bytes is more than its tables can map"));
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: u64 = 1 << 40;

    /// A version 3 header of a 1 GiB image, changed by `edit`.
    fn header(edit: impl FnOnce(&mut [u8])) -> Vec<u8> {
        let mut bytes = vec![0; START];
        bytes[..4].copy_from_slice(b"QFI\xfb");
        bytes[7] = 3;
        bytes[23] = 16;
        bytes[24..32].copy_from_slice(&(1u64 << 30).to_be_bytes());
        bytes[36..40].copy_from_slice(&2u32.to_be_bytes());
        bytes[40..48].copy_from_slice(&196_608u64.to_be_bytes());
        edit(&mut bytes);
        bytes
    }

    fn refusal(bytes: &[u8]) -> String {
        parse(bytes, 262_144, MAX).unwrap_err()
    }

    #[test]
    fn plain_qcow2_and_raw_are_taken() {
        assert_eq!(
            parse(&header(|_| ()), 262_144, MAX),
            Ok(ImageInfo { format: ImageFormat::Qcow2, virtual_size: 1 << 30 })
        );
        assert_eq!(parse(&[0xeb, 0x63], 1000, MAX), Ok(ImageInfo { format: ImageFormat::Raw, virtual_size: 1024 }));
    }

    #[test]
    fn dangerous_and_foreign_images_are_refused_by_name() {
        let cases: [(Vec<u8>, &str); 14] = [
            (
                header(|b| {
                    b[8..16].copy_from_slice(&512u64.to_be_bytes());
                    b[19] = 11;
                    b[512..523].copy_from_slice(b"/etc/shadow");
                }),
                "backing file \"/etc/shadow\"",
            ),
            (header(|b| b[8] = 255), "backing file \"\""),
            (header(|b| b[35] = 2), "encrypted"),
            (header(|b| b[79] = 2), "marked corrupt"),
            (header(|b| b[79] = 4), "external file"),
            (header(|b| b[72] = 0x80), "unknown qcow2 features"),
            (header(|b| b[23] = 63), "cluster size is 2^63"),
            (header(|b| b[36] = 0x7f), "does not fit"),
            (header(|b| b[40] = 0xff), "does not fit"),
            (header(|b| b[26] = 1), "more than its tables can map"),
            (header(|b| b[7] = 1), "qcow version 1"),
            (header(|_| ())[..40].to_vec(), "cut off"),
            (b"KDMV\x01".to_vec(), "a VMDK image; raw and qcow2 are supported, convert it first"),
            (b"\x1f\x8b\x08".to_vec(), "compressed with gzip"),
        ];
        for (bytes, expected) in cases {
            let text = refusal(&bytes);
            assert!(text.contains(expected), "{text:?} lacks {expected:?}");
        }
        assert!(parse(&[], 0, MAX).unwrap_err().contains("empty"));
        assert!(parse(&[1], MAX + 1, MAX).unwrap_err().contains("at most"));
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_answer_within_the_cap(mut bytes in prop::collection::vec(any::<u8>(), 0..START), length: u64, qcow: bool) {
            if qcow && bytes.len() > 8 {
                bytes[..4].copy_from_slice(b"QFI\xfb");
                bytes[4..8].copy_from_slice(&3u32.to_be_bytes());
            }
            let length = length.max(bytes.len() as u64) >> 1;
            if let Ok(info) = parse(&bytes, length, MAX) {
                prop_assert!(info.virtual_size > 0 && info.virtual_size <= MAX);
            }
        }
    }
}
