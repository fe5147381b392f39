//! Kernel parameters of the calling thread's network namespace.

use std::fs;
use std::io;
use std::path::PathBuf;

/// Sets a parameter (`net.ipv4.ip_forward`) unless it has that value already. To be called inside [`crate::netns::NetNs::run`]:
/// `/proc/sys/net` shows the namespace of the thread that opens it. Returns whether it had another value.
pub fn set(key: &str, value: &str) -> io::Result<bool> {
    let path = path(key)?;
    match fs::read_to_string(&path) {
        Ok(current) if current.trim() == value => return Ok(false),
        // A kernel without IPv6 has nothing to switch off.
        Err(error) if error.kind() == io::ErrorKind::NotFound && key.starts_with("net.ipv6.") => return Ok(false),
        Ok(_) | Err(_) => {}
    }
    fs::write(&path, value).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
    Ok(true)
}

/// Reads a parameter.
pub fn get(key: &str) -> io::Result<String> {
    Ok(fs::read_to_string(path(key)?)?.trim().to_owned())
}

fn path(key: &str) -> io::Result<PathBuf> {
    if key.split('.').any(|part| part.is_empty() || part.contains('/')) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("sysctl key {key:?}")));
    }
    Ok(PathBuf::from("/proc/sys").join(key.replace('.', "/")))
}
