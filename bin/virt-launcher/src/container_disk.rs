//! What a containerDisk's container needs: this program inside an image that has none, and a process that keeps the image there.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use crate::args::InstallArgs;
use crate::log;
use crate::watch::Termination;

/// Name of the copy, so that containers find it at the path the launcher's own image has it.
const NAME: &str = "virt-launcher";

/// Copies this program into a directory. Readers see the whole program or none; repeating it is harmless.
pub(crate) fn install(args: &InstallArgs) -> io::Result<()> {
    let InstallArgs { directory } = args;
    let copy = |target: &Path, draft: &Path| -> io::Result<()> {
        match fs::remove_file(draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut from = File::open("/proc/self/exe")?;
        let mut to = OpenOptions::new().write(true).create_new(true).mode(0o755).open(draft)?;
        io::copy(&mut from, &mut to)?;
        drop(to);
        fs::rename(draft, target)
    };
    copy(&directory.join(NAME), &directory.join(".virt-launcher.new")).map_err(|error| {
        io::Error::new(error.kind(), format!("copying this program to {}: {error}", directory.display()))
    })
}

/// Exit status of a program ended by SIGTERM.
const TERMINATED: u8 = 128 + 15;

/// Stays until it is asked to end. The node agent reads the image through this process' root directory.
///
/// Its end is a failure: a kubelet that makes the pod's sandbox anew ends all containers, and starts again what did not succeed.
pub(crate) fn hold() -> io::Result<ExitCode> {
    let termination = Termination::new()?;
    log::line(format_args!("holding the image of a containerDisk"));
    termination.wait()?;
    Ok(ExitCode::from(TERMINATED))
}
