//! What an untrusted image file is, and making new ones with `qemu-img`.

mod header;

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Formats the store takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImageFormat {
    Raw,
    Qcow2,
}

impl ImageFormat {
    /// The name QEMU and libvirt use (`driver type=`).
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

impl std::fmt::Display for ImageFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What [`inspect`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageInfo {
    /// Format, detected from the content.
    pub format: ImageFormat,
    /// Size of the disk the guest sees, in bytes.
    pub virtual_size: u64,
}

/// Why an image is not taken, or cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum QemuImgError {
    #[error("cannot run qemu-img; install it (Debian package qemu-utils)")]
    Spawn(#[source] std::io::Error),
    #[error("qemu-img {step} failed: {message}")]
    Failed { step: &'static str, message: String },
    #[error("qemu-img {step} did not finish within {seconds} s")]
    Timeout { step: &'static str, seconds: u64 },
    /// The image itself is the reason; the text says which rule and how to get an image that passes.
    #[error("image refused: {0}")]
    Refused(String),
    #[error("cannot read image")]
    Read(#[source] std::io::Error),
}

/// Seconds a look at an image may take.
const INFO_SECONDS: u64 = 60;
/// Address space of that process; an image that wants more for its tables is refused.
const INFO_MEMORY: u64 = 2 << 30;
const CREATE_SECONDS: u64 = 60;

/// Looks at an untrusted image; `max_virtual_size` caps what it may claim.
///
/// The format comes from our own reading of the first bytes, so a guest that writes another format's magic into its raw disk cannot make
/// a later reader take the disk for that. `qemu-img` is asked as a second opinion, under limits, and told the format.
pub fn inspect(file: &File, max_virtual_size: u64) -> Result<ImageInfo, QemuImgError> {
    let length = file.metadata().map_err(QemuImgError::Read)?.len();
    let mut start = vec![0; header::START.min(length as usize)];
    file.read_exact_at(&mut start, 0).map_err(QemuImgError::Read)?;
    let info = header::parse(&start, length, max_virtual_size).map_err(QemuImgError::Refused)?;
    if info.format == ImageFormat::Qcow2 {
        second_opinion(file, info)?;
    }
    Ok(info)
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
struct InfoReply {
    virtual_size: u64,
    #[serde(default)]
    backing_filename: Option<String>,
    #[serde(default)]
    encrypted: bool,
    #[serde(default)]
    format_specific: Option<FormatSpecific>,
}

#[derive(serde::Deserialize)]
struct FormatSpecific {
    #[serde(default)]
    data: FormatData,
}

#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
struct FormatData {
    #[serde(default)]
    data_file: Option<String>,
    #[serde(default)]
    corrupt: bool,
}

fn second_opinion(file: &File, expected: ImageInfo) -> Result<(), QemuImgError> {
    let input = file.try_clone().map_err(QemuImgError::Read)?;
    let mut command = limited(INFO_SECONDS, Some(INFO_MEMORY));
    // The open file goes in as standard input: no path, nothing to exchange behind our back.
    command.args(["qemu-img", "info", "--output=json", "-f", "qcow2", "/dev/stdin"]).stdin(Stdio::from(input));
    let output = run("info", INFO_SECONDS, command)?;
    let reply: InfoReply = serde_json::from_slice(&output)
        .map_err(|error| QemuImgError::Failed { step: "info", message: format!("unexpected reply: {error}") })?;
    let data = reply.format_specific.map(|specific| specific.data).unwrap_or_default();
    let refusal = if let Some(backing) = reply.backing_filename {
        header::backing_refusal(&backing)
    } else if let Some(data_file) = data.data_file {
        header::data_file_refusal(Some(&data_file))
    } else if reply.encrypted {
        header::ENCRYPTED.into()
    } else if data.corrupt {
        header::CORRUPT.into()
    } else if reply.virtual_size != expected.virtual_size {
        format!("its header says {} bytes, qemu-img reads {}", expected.virtual_size, reply.virtual_size)
    } else {
        return Ok(());
    };
    Err(QemuImgError::Refused(refusal))
}

/// Where a new overlay's content comes from.
pub(crate) struct Backing<'a> {
    pub(crate) path: &'a Path,
    pub(crate) format: ImageFormat,
}

/// Makes a qcow2 image of `size` bytes in the existing empty file `target`.
pub(crate) fn create_qcow2(target: &Path, size: u64, backing: Option<Backing<'_>>) -> Result<(), QemuImgError> {
    let mut command = limited(CREATE_SECONDS, None);
    command.args(["qemu-img", "create", "-q", "-f", "qcow2"]).stdin(Stdio::null());
    if let Some(backing) = backing {
        // -u: the base is known by digest, size and format; it need not be opened.
        let parts: [&OsStr; 5] =
            ["-u".as_ref(), "-b".as_ref(), backing.path.as_ref(), "-F".as_ref(), backing.format.name().as_ref()];
        command.args(parts);
    }
    command.arg(target).arg(size.to_string());
    run("create", CREATE_SECONDS, command).map(drop)
}

/// A command line that ends by itself and cannot eat the machine's memory. Limits by util-linux and coreutils, which are always
/// there, because setting them between fork and exec would need unsafe code.
fn limited(seconds: u64, memory: Option<u64>) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", &seconds.to_string()]).env("LC_ALL", "C");
    if let Some(memory) = memory {
        command.args(["prlimit", &format!("--as={memory}"), &format!("--cpu={seconds}"), "--core=0", "--"]);
    }
    command
}

fn run(step: &'static str, seconds: u64, mut command: Command) -> Result<Vec<u8>, QemuImgError> {
    let output = command.output().map_err(QemuImgError::Spawn)?;
    match output.status.code() {
        Some(0) => Ok(output.stdout),
        Some(124 | 137) => Err(QemuImgError::Timeout { step, seconds }),
        // `timeout` and `prlimit` say 127 when the program is not there.
        Some(127) => Err(QemuImgError::Spawn(std::io::ErrorKind::NotFound.into())),
        _ => {
            let text = String::from_utf8_lossy(&output.stderr);
            let message: String = text.lines().last().unwrap_or("no message").chars().take(300).collect();
            Err(QemuImgError::Failed { step, message })
        }
    }
}
