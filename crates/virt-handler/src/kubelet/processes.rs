//! The processes of a pod, held by descriptor.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use fv_host::process::{Process, ProcessId};
use fv_host::safe_path::SafeDir;

use super::cgroup_path::PodCgroup;

/// A process of a container, for as long as it lives: a pid that went to somebody else is noticed.
#[derive(Debug)]
pub struct PodProcess {
    process: Process,
    cgroup: PodCgroup,
    container: String,
}

impl PodProcess {
    /// Opens `pid` if it is a process of a container of this pod. The question is asked again once it is held.
    fn open(pid: u32, pod_uid: &str) -> io::Result<Option<Self>> {
        if cgroup_of(pid)?.is_none_or(|found| found.uid != pod_uid) {
            return Ok(None);
        }
        let Some(process) = Process::open(ProcessId::of(pid)?)? else { return Ok(None) };
        let Some(cgroup) = cgroup_of(pid)?.filter(|found| found.uid == pod_uid) else { return Ok(None) };
        let Some(container) = cgroup.container.clone() else { return Ok(None) };
        Ok(process.is_alive()?.then_some(Self { process, cgroup, container }))
    }

    /// Id of its container. The pod's sandbox has one, too.
    pub fn container(&self) -> &str {
        &self.container
    }

    /// Where its pod stands among the control groups.
    pub fn cgroup(&self) -> &PodCgroup {
        &self.cgroup
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        self.process.is_alive().unwrap_or(false)
    }

    /// What `take` gets out of the process' directory in /proc. `None`: the process ended, and what was there was perhaps another's.
    fn take<T>(&self, take: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<Option<T>> {
        let taken = take(&PathBuf::from(format!("/proc/{}", self.process.id().pid)));
        if self.process.is_alive()? { taken.map(Some) } else { Ok(None) }
    }

    /// Its network namespace.
    pub fn netns(&self) -> io::Result<Option<File>> {
        self.take(|proc| File::open(proc.join("ns/net")))
    }

    /// Its mount namespace.
    pub fn mounts(&self) -> io::Result<Option<File>> {
        self.take(|proc| File::open(proc.join("ns/mnt")))
    }

    /// Its root directory. What lies beneath is the container's: names resolve within, links lead nowhere.
    pub fn root(&self) -> io::Result<Option<SafeDir>> {
        self.take(|proc| SafeDir::open_trusted(&proc.join("root")))
    }
}

fn cgroup_of(pid: u32) -> io::Result<Option<PodCgroup>> {
    Ok(PodCgroup::parse(&std::fs::read_to_string(format!("/proc/{pid}/cgroup"))?))
}

/// The processes of a pod's containers, oldest first: the sandbox's own before all others, then each container's first.
pub fn of_pod(pod_uid: &str) -> io::Result<Vec<PodProcess>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // Processes come and go while they are looked at.
        if let Ok(Some(process)) = PodProcess::open(pid, pod_uid) {
            found.push(process);
        }
    }
    found.sort_by_key(|process| (process.process.id().start_time, process.process.id().pid));
    Ok(found)
}
