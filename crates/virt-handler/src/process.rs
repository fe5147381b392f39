//! What the kernel knows of QEMU processes, independent of libvirt.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

const PROC: &str = "/proc";

/// The directories of all processes.
fn processes(proc: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(proc)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// What was read of a process; `None`: it has ended meanwhile.
fn unless_gone<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Err(error)
            if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) =>
        {
            Ok(None)
        }
        read => read.map(Some),
    }
}

/// Whether a QEMU process of the domain `name` lives. A dead process that was not reaped yet has no command line and does not count.
///
/// # Errors
/// None was found, but not every process could be looked at.
pub fn qemu_alive(name: &str) -> io::Result<bool> {
    alive_in(Path::new(PROC), name)
}

fn alive_in(proc: &Path, name: &str) -> io::Result<bool> {
    let exact = format!("guest={name}");
    let followed = format!("guest={name},");
    let is_guest = |argument: &[u8]| argument == exact.as_bytes() || argument.starts_with(followed.as_bytes());
    let mut unread = None;
    for process in processes(proc)? {
        match unless_gone(std::fs::read(process.join("cmdline"))) {
            Ok(Some(command)) if command.split(|byte| *byte == 0).any(is_guest) => return Ok(true),
            Ok(_) => {}
            // Another one may be the guest all the same.
            Err(error) => unread = Some(error),
        }
    }
    unread.map_or(Ok(false), Err)
}

/// What a process has used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessStats {
    /// Seconds of CPU time of all its threads, also of those that ended.
    pub user: f64,
    pub system: f64,
    /// Bytes of memory.
    pub resident: u64,
}

/// Reads [`ProcessStats`]. `None`: there is no such process any more.
pub fn stats(pid: u32) -> Option<ProcessStats> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse_stats(&text, rustix::param::clock_ticks_per_second(), rustix::param::page_size() as u64)
}

fn parse_stats(text: &str, ticks_per_second: u64, page: u64) -> Option<ProcessStats> {
    // The second field is the program's name in parentheses, and may contain anything.
    let (_, fields) = text.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    // Numbers of proc(5) begin at 1, and two fields came before.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let seconds = |ticks: u64| ticks as f64 / ticks_per_second as f64;
    // A dead process that was not reaped yet has no memory and uses nothing any more.
    if fields.first() == Some(&"Z") {
        return None;
    }
    Some(ProcessStats {
        user: seconds(field(14)?),
        system: seconds(field(15)?),
        resident: field(24)?.checked_mul(page)?,
    })
}

/// The host users under which processes run.
///
/// # Errors
/// Not every process could be looked at.
pub fn users_with_processes() -> io::Result<BTreeSet<u32>> {
    let mut users = BTreeSet::new();
    for process in processes(Path::new(PROC))? {
        users.extend(unless_gone(process.metadata())?.map(|meta| meta.uid()));
    }
    Ok(users)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_is_found_by_its_exact_name() {
        let name = format!("fv-test-{}", std::process::id());
        let spawn = |argument: String| {
            // The argument only has to be on a command line.
            std::process::Command::new("sleep").arg0(argument).arg("120").spawn().unwrap()
        };
        use std::os::unix::process::CommandExt;
        assert!(!qemu_alive(&name).unwrap());
        let mut child = spawn(format!("guest={name},debug-threads=on"));
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while !qemu_alive(&name).unwrap() {
            assert!(std::time::Instant::now() < deadline, "not found");
            std::thread::yield_now();
        }
        assert!(!qemu_alive(&name[..name.len() - 1]).unwrap());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!qemu_alive(&name).unwrap());
    }

    #[test]
    fn guest_counts_as_gone_only_if_every_process_was_looked_at() {
        use std::fs::{create_dir, create_dir_all, write};
        let dir = tempfile::tempdir().unwrap();
        let proc = dir.path();
        let (gone, none) = (io::ErrorKind::NotFound, proc.join("none"));
        assert_eq!(alive_in(&none, "vm").map_err(|error| error.kind()), Err(gone), "no /proc");
        create_dir(proc.join("1")).unwrap();
        assert!(!alive_in(proc, "vm").unwrap(), "a process that has just ended has no command line any more");
        // Reading a directory fails, and not because it is gone.
        create_dir_all(proc.join("2/cmdline")).unwrap();
        assert!(alive_in(proc, "vm").is_err());
        create_dir(proc.join("3")).unwrap();
        write(proc.join("3/cmdline"), "qemu\0-name\0guest=vm,debug-threads=on\0").unwrap();
        assert!(alive_in(proc, "vm").unwrap(), "found is found");
        assert!(alive_in(proc, "v").is_err());
    }

    #[test]
    fn only_what_has_ended_is_passed_over() {
        for (error, passed) in
            [(Errno::NOENT, true), (Errno::SRCH, true), (Errno::MFILE, false), (Errno::ACCESS, false)]
        {
            assert_eq!(unless_gone::<()>(Err(error.into())).is_ok(), passed, "{error}");
        }
    }

    #[test]
    fn statistics_are_read_past_a_name_with_parentheses() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 4 0 999 123456 25 18446744073709551615 1";
        let stats = parse_stats(&format!("42 (qemu) (x) {rest}"), 100, 4096).unwrap();
        assert_eq!(stats, ProcessStats { user: 2.5, system: 0.5, resident: 102_400 });
        assert_eq!(parse_stats(&format!("42 (qemu) {}", rest.replacen('S', "Z", 1)), 100, 4096), None);
        assert_eq!(parse_stats("42 (qemu", 100, 4096), None);
    }

    #[test]
    fn our_own_statistics_are_there_and_those_of_nobody_are_not() {
        assert!(stats(std::process::id()).unwrap().resident > 0);
        assert_eq!(stats(u32::MAX), None);
    }

    #[test]
    fn our_own_user_has_processes() {
        assert!(users_with_processes().unwrap().contains(&rustix::process::geteuid().as_raw()));
    }
}
