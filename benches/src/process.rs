//! Memory and processor time of processes, from /proc.

use std::path::Path;

use anyhow::{Context, Result};

/// Memory of a process, or the sum of several, in kB.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Memory {
    pub(crate) rss: f64,
    /// Shared pages divided by the number of sharers.
    pub(crate) pss: f64,
}

impl std::ops::AddAssign for Memory {
    fn add_assign(&mut self, other: Self) {
        self.rss += other.rss;
        self.pss += other.pss;
    }
}

/// Memory of one process.
pub(crate) fn memory(pid: u32) -> Result<Memory> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    Ok(Memory { rss: field(&text, "Rss:"), pss: field(&text, "Pss:") })
}

fn field(text: &str, name: &str) -> f64 {
    text.lines().filter_map(|line| line.strip_prefix(name)).filter_map(kilobytes).sum()
}

fn kilobytes(text: &str) -> Option<f64> {
    text.split_whitespace().next()?.parse().ok()
}

/// Resident memory of a QEMU without its guest's: the mapping as large as the guest's memory is left out.
pub(crate) fn beyond_guest(pid: u32, guest_kb: f64) -> Result<f64> {
    let path = format!("/proc/{pid}/smaps");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let (mut size, mut resident, mut of_guest) = (0.0, 0.0, 0.0f64);
    for line in text.lines() {
        if let Some(value) = line.strip_prefix("Size:").and_then(kilobytes) {
            size = value;
        } else if let Some(value) = line.strip_prefix("Rss:").and_then(kilobytes) {
            resident += value;
            if (size - guest_kb).abs() < 1.0 {
                of_guest = of_guest.max(value);
            }
        }
    }
    Ok(resident - of_guest)
}

/// Seconds of processor time a process has used, all its threads together.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    // Hundredths of a second: USER_HZ is the same on every Linux this runs on.
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let after_name = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: f64 = after_name.split_whitespace().skip(11).take(2).filter_map(|word| word.parse::<f64>().ok()).sum();
    Ok(ticks / 100.0)
}

/// Processes whose command line contains `text`, with their names.
pub(crate) fn with_argument(text: &str) -> Vec<(u32, String)> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let command = std::fs::read(entry.path().join("cmdline")).ok()?;
            String::from_utf8_lossy(&command).contains(text).then(|| (pid, name(&entry.path())))
        })
        .collect()
}

fn name(directory: &Path) -> String {
    std::fs::read_to_string(directory.join("comm")).unwrap_or_default().trim().to_string()
}

/// One-minute load average.
pub(crate) fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("?").to_string()
}

/// Processor model, count, memory and kernel of the machine, for the heading.
pub(crate) fn machine() -> String {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("?", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let count = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = field(&meminfo, "MemTotal:") / 1024.0 / 1024.0;
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{count} × {model}, {memory:.0} GiB, Linux {}", kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_memory_and_time_are_read() {
        let pid = std::process::id();
        let own = memory(pid).unwrap();
        assert!(own.rss > 100.0 && own.pss > 0.0 && own.pss <= own.rss, "{own:?}");
        assert!(cpu_seconds(pid).unwrap() >= 0.0);
        assert!(machine().contains("Linux"));
    }
}
