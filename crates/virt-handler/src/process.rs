//! What the kernel knows of QEMU processes, independent of libvirt.

use std::os::unix::fs::MetadataExt;

fn processes() -> impl Iterator<Item = std::path::PathBuf> {
    let numeric = |entry: &std::fs::DirEntry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit);
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter(move |entry| numeric(entry))
        .map(|entry| entry.path())
}

/// Whether a QEMU process of the domain `name` lives. A dead process that was not reaped yet has no command line and does not count.
pub fn qemu_alive(name: &str) -> bool {
    let exact = format!("guest={name}");
    let followed = format!("guest={name},");
    processes().any(|process| {
        let Ok(command) = std::fs::read(process.join("cmdline")) else { return false };
        command
            .split(|byte| *byte == 0)
            .any(|argument| argument == exact.as_bytes() || argument.starts_with(followed.as_bytes()))
    })
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
pub fn users_with_processes() -> std::collections::BTreeSet<u32> {
    processes().filter_map(|process| Some(process.metadata().ok()?.uid())).collect()
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
        assert!(!qemu_alive(&name));
        let mut child = spawn(format!("guest={name},debug-threads=on"));
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while !qemu_alive(&name) {
            assert!(std::time::Instant::now() < deadline, "not found");
            std::thread::yield_now();
        }
        assert!(!qemu_alive(&name[..name.len() - 1]));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!qemu_alive(&name));
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
        assert!(users_with_processes().contains(&rustix::process::geteuid().as_raw()));
    }
}
