//! The readiness probe of a pod whose guest is asked through its agent: says what the handler, which asks, found last.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::process::ExitCode;

use crate::args::ProbeArgs;

/// What the handler writes is a line.
const MAX_FINDING: u64 = 4096;

/// Succeeds when the file is there and empty; else prints what is wrong with the guest.
pub(crate) fn report(args: &ProbeArgs) -> io::Result<ExitCode> {
    let mut finding = Vec::new();
    match File::open(&args.file) {
        Ok(file) => file.take(MAX_FINDING).read_to_end(&mut finding).map(drop)?,
        Err(error) if error.kind() == ErrorKind::NotFound => finding.extend(b"the guest has not been asked yet"),
        Err(error) => return Err(io::Error::new(error.kind(), format!("{}: {error}", args.file.display()))),
    }
    if finding.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    finding.push(b'\n');
    io::stdout().write_all(&finding)?;
    Ok(ExitCode::FAILURE)
}
