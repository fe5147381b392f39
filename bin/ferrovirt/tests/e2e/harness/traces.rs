//! What an instance has on the machine, found by its id, its directories and the UIDs of its machines. Others may run beside it.

use std::collections::BTreeSet;
use std::path::Path;

use super::{command, run};

/// One line for each thing whose name contains one of the marks.
pub(crate) fn traces(marks: &BTreeSet<String>) -> Vec<String> {
    let marked = |text: &str| marks.iter().any(|mark| text.contains(mark.as_str()));
    let mut found = Vec::new();
    for (what, program, args) in [
        ("link", "ip", &["-o", "link", "show"][..]),
        ("netns", "ls", &["/run/netns"][..]),
        ("table", "nft", &["list", "tables"][..]),
        ("cgroup", "find", &["/sys/fs/cgroup", "-maxdepth", "6", "-type", "d"][..]),
        ("run", "find", &["/run", "/var/run", "/var/lib/cni", "/var/lib/libvirt", "/var/log/libvirt", "-xdev"][..]),
    ] {
        // A directory that is not there has nothing in it.
        let done = run(&mut command(program, args), "");
        found.extend(done.out.lines().filter(|line| marked(line)).map(|line| format!("{what} {line}")));
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    found.extend(mounts.lines().filter(|line| marked(line)).map(|line| format!("mount {line}")));
    for (pid, line) in processes() {
        if marked(&line) {
            found.push(format!("process {pid} {line}"));
        }
    }
    found.extend(
        marks
            .iter()
            .filter(|mark| mark.starts_with('/') && Path::new(mark).exists())
            .map(|mark| format!("file {mark}")),
    );
    found
}

/// Pid and command line of every process but this one.
pub(crate) fn processes() -> Vec<(u32, String)> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let line = std::fs::read(entry.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            (pid != std::process::id() && !line.is_empty()).then_some((pid, line))
        })
        .collect()
}
