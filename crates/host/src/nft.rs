//! nftables through the `nft` program, in libnftables' JSON.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

/// Where administrators' programs are when PATH does not say.
const EXTRA_PATH: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

/// Applies commands as one transaction to the calling thread's network namespace.
pub fn apply(commands: &[Value]) -> io::Result<()> {
    let document = serde_json::to_vec(&json!({ "nftables": commands }))?;
    let mut child = Command::new(program()?)
        .args(["-j", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let written = match child.stdin.take() {
        Some(mut stdin) => stdin.write_all(&document),
        None => Ok(()),
    };
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let text: String = String::from_utf8_lossy(&output.stderr).chars().take(2000).collect();
        return Err(io::Error::other(format!("nft: {}: {}", output.status, text.trim())));
    }
    written
}

/// The ruleset of the calling thread's network namespace.
pub fn list() -> io::Result<Value> {
    let output = Command::new(program()?).args(["-j", "list", "ruleset"]).stdin(Stdio::null()).output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!("nft: {}", String::from_utf8_lossy(&output.stderr).trim())));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn program() -> io::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(EXTRA_PATH.iter().map(PathBuf::from))
        .map(|directory| directory.join("nft"))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, "the program nft is missing: install the nftables package")
        })
}
