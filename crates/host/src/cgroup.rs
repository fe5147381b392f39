//! Control groups, version 1 and 2.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

/// The controllers used here.
const CONTROLLERS: [&str; 4] = ["cpu", "cpuset", "memory", "pids"];

/// What is mounted on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hierarchy {
    /// One tree per controller: controller → mount point.
    V1(BTreeMap<String, PathBuf>),
    /// One tree for all.
    V2(PathBuf),
    /// None: limits cannot be applied.
    None,
}

/// Limits of one group. Absent = not touched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Kubernetes' CPU request in thousandths of a CPU: the share under contention.
    pub cpu_request_milli: Option<u64>,
    /// CPU limit in thousandths of a CPU.
    pub cpu_limit_milli: Option<u64>,
    /// Memory limit in bytes.
    pub memory_bytes: Option<u64>,
}

/// A group, by its path below the root of each hierarchy (`ferrovirt/1a2b3c4d`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    hierarchy: Hierarchy,
    path: PathBuf,
}

impl Hierarchy {
    /// Looks at what is mounted. Version 2 counts only if it has the memory controller: hybrid machines mount an empty one.
    pub fn detect() -> io::Result<Self> {
        Ok(Self::parse(&fs::read_to_string("/proc/self/mounts")?, |root| {
            fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default()
        }))
    }

    fn parse(mounts: &str, controllers_of: impl Fn(&Path) -> String) -> Self {
        let mut v1 = BTreeMap::new();
        let mut v2 = None;
        for line in mounts.lines() {
            let fields: Vec<&str> = line.split(' ').collect();
            let [_, point, kind, options, ..] = fields[..] else { continue };
            match kind {
                "cgroup" => {
                    for controller in CONTROLLERS.iter().filter(|c| options.split(',').any(|o| o == **c)) {
                        v1.entry((*controller).to_owned()).or_insert_with(|| PathBuf::from(point));
                    }
                }
                "cgroup2" => v2 = v2.or(Some(PathBuf::from(point))),
                _ => {}
            }
        }
        match v2 {
            Some(root) if controllers_of(&root).split_whitespace().any(|c| c == "memory") => Self::V2(root),
            _ if v1.is_empty() => Self::None,
            _ => Self::V1(v1),
        }
    }

    /// The root of the tree that a controller is in.
    fn root_of(&self, controller: &str) -> Option<&PathBuf> {
        match self {
            Self::V1(mounts) => mounts.get(controller),
            Self::V2(root) => Some(root),
            Self::None => None,
        }
    }

    /// Its roots: one per controller for version 1, without repetition.
    fn roots(&self) -> Vec<&Path> {
        match self {
            Self::V1(mounts) => {
                let mut roots: Vec<&Path> = mounts.values().map(PathBuf::as_path).collect();
                roots.sort_unstable();
                roots.dedup();
                roots
            }
            Self::V2(root) => vec![root],
            Self::None => Vec::new(),
        }
    }
}

impl Cgroup {
    /// Names a group; nothing is made yet.
    pub fn new(hierarchy: Hierarchy, path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let fine = path.components().next().is_some() && path.components().all(|c| matches!(c, Component::Normal(_)));
        if !fine {
            let text = format!("cgroup path {} must be relative, without ..", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Ok(Self { hierarchy, path })
    }

    /// Its directories, one per hierarchy (for `ContainerSpec::cgroups`).
    pub fn directories(&self) -> Vec<PathBuf> {
        self.hierarchy.roots().into_iter().map(|root| root.join(&self.path)).collect()
    }

    /// Makes it everywhere. Existing is fine.
    pub fn ensure(&self) -> io::Result<()> {
        for root in self.hierarchy.roots() {
            let mut here = root.to_owned();
            for name in self.path.components() {
                if let Hierarchy::V2(_) = self.hierarchy {
                    enable_controllers(&here)?;
                }
                let above = here.clone();
                here.push(name);
                match fs::create_dir(&here) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(at(&here, error)),
                    _ => {}
                }
                inherit_cpuset(&above, &here)?;
            }
        }
        Ok(())
    }

    /// A group below this one.
    pub fn child(&self, name: &str) -> io::Result<Self> {
        Self::new(self.hierarchy.clone(), self.path.join(name))
    }

    /// Its path below the root of each hierarchy.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is there, in every hierarchy. False where none is mounted.
    pub fn exists(&self) -> bool {
        let directories = self.directories();
        !directories.is_empty() && directories.iter().all(|directory| directory.is_dir())
    }

    /// Takes over shares and limits of another group of the same hierarchy.
    pub fn limit_like(&self, other: &Self) -> io::Result<()> {
        let files: &[(&str, &str)] = match &self.hierarchy {
            Hierarchy::V1(_) => &[
                ("cpu", "cpu.shares"),
                ("cpu", "cpu.cfs_period_us"),
                ("cpu", "cpu.cfs_quota_us"),
                ("memory", "memory.limit_in_bytes"),
            ],
            Hierarchy::V2(_) => &[("cpu", "cpu.weight"), ("cpu", "cpu.max"), ("memory", "memory.max")],
            Hierarchy::None => &[],
        };
        for (controller, file) in files {
            let Some(root) = self.hierarchy.root_of(controller) else { continue };
            let (from, to) = (root.join(&other.path).join(file), root.join(&self.path).join(file));
            let wanted = fs::read_to_string(&from).map_err(|error| at(&from, error))?;
            let current = fs::read_to_string(&to).map_err(|error| at(&to, error))?;
            if wanted != current {
                write(&to, wanted.trim_end())?;
            }
        }
        Ok(())
    }

    /// Makes the group below an existing one, which hands no controller down to it: so it may hold processes whatever its parent does.
    pub fn ensure_last(&self) -> io::Result<()> {
        for directory in self.directories() {
            match fs::create_dir(&directory) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(at(&directory, error)),
                _ => {}
            }
            if let Some(above) = directory.parent() {
                inherit_cpuset(above, &directory)?;
            }
        }
        Ok(())
    }

    /// Puts a process, with all its threads, into the group.
    pub fn add(&self, pid: u32) -> io::Result<()> {
        for directory in self.directories() {
            write(&directory.join("cgroup.procs"), &pid.to_string())?;
        }
        Ok(())
    }

    /// The processes in it.
    pub fn pids(&self) -> io::Result<Vec<u32>> {
        let mut pids = Vec::new();
        for directory in self.directories() {
            let file = directory.join("cgroup.procs");
            match fs::read_to_string(&file) {
                Ok(text) => pids.extend(text.lines().filter_map(|l| l.parse::<u32>().ok())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(at(&file, error)),
            }
        }
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    /// Applies limits.
    pub fn limit(&self, limits: &Limits) -> io::Result<()> {
        for (controller, file, value) in settings(&self.hierarchy, limits) {
            if let Some(root) = self.hierarchy.root_of(controller) {
                write(&root.join(&self.path).join(file), &value)?;
            }
        }
        Ok(())
    }

    /// Removes it and the groups below it. Gone already is fine; processes in one of them are an error, never killed.
    pub fn remove_tree(&self) -> io::Result<()> {
        for directory in self.directories() {
            let below = match fs::read_dir(&directory) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(|error| at(&directory, error))?,
            };
            for entry in below {
                let entry = entry.map_err(|error| at(&directory, error))?;
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    Self { hierarchy: self.hierarchy.clone(), path: self.path.join(entry.file_name()) }
                        .remove_tree()?;
                }
            }
        }
        self.remove()
    }

    /// Removes it. Gone already is fine; processes in it are an error (`EBUSY`), never killed.
    pub fn remove(&self) -> io::Result<()> {
        for directory in self.directories() {
            match fs::remove_dir(&directory) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&directory, error)),
                _ => {}
            }
        }
        Ok(())
    }
}

/// Controller, file and value of each limit, with the kernel's and the kubelet's conversions.
fn settings(hierarchy: &Hierarchy, limits: &Limits) -> Vec<(&'static str, &'static str, String)> {
    const PERIOD: u64 = 100_000;
    let shares = limits.cpu_request_milli.map(|milli| (milli * 1024 / 1000).clamp(2, 262_144));
    // The kernel refuses quotas under one millisecond.
    let quota = limits.cpu_limit_milli.map(|milli| (milli * PERIOD / 1000).max(1000));
    let mut settings = Vec::new();
    match hierarchy {
        Hierarchy::V1(_) => {
            settings.extend(shares.map(|s| ("cpu", "cpu.shares", s.to_string())));
            settings.extend(quota.map(|_| ("cpu", "cpu.cfs_period_us", PERIOD.to_string())));
            settings.extend(quota.map(|q| ("cpu", "cpu.cfs_quota_us", q.to_string())));
            settings.extend(limits.memory_bytes.map(|b| ("memory", "memory.limit_in_bytes", b.to_string())));
        }
        Hierarchy::V2(_) => {
            settings.extend(shares.map(|s| ("cpu", "cpu.weight", (1 + (s - 2) * 9999 / 262_142).to_string())));
            settings.extend(quota.map(|q| ("cpu", "cpu.max", format!("{q} {PERIOD}"))));
            settings.extend(limits.memory_bytes.map(|b| ("memory", "memory.max", b.to_string())));
        }
        Hierarchy::None => {}
    }
    settings
}

/// Version 2: children get only what the parent hands down.
fn enable_controllers(directory: &Path) -> io::Result<()> {
    let file = directory.join("cgroup.subtree_control");
    let enabled = fs::read_to_string(&file).map_err(|e| at(&file, e))?;
    let available = fs::read_to_string(directory.join("cgroup.controllers")).map_err(|e| at(directory, e))?;
    for controller in CONTROLLERS {
        let listed = |text: &str| text.split_whitespace().any(|c| c == controller);
        if listed(&available) && !listed(&enabled) {
            write(&file, &format!("+{controller}"))?;
        }
    }
    Ok(())
}

/// Version 1: a new cpuset is empty and takes no process until it has CPUs and memory nodes.
fn inherit_cpuset(above: &Path, here: &Path) -> io::Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let (from, to) = (above.join(file), here.join(file));
        let Ok(current) = fs::read_to_string(&to) else { continue };
        let version_2 = here.join("cgroup.controllers").exists();
        if current.trim().is_empty() && !version_2 {
            write(&to, fs::read_to_string(&from).map_err(|e| at(&from, e))?.trim())?;
        }
    }
    Ok(())
}

fn write(path: &Path, value: &str) -> io::Result<()> {
    fs::write(path, value).map_err(|error| at(path, error))
}

fn at(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hybrid_machine_counts_as_version_1() {
        let mounts = "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0\n\
                      cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n";
        let Hierarchy::V1(found) = Hierarchy::parse(mounts, |_| String::new()) else { panic!("not version 1") };
        assert_eq!(found.keys().collect::<Vec<_>>(), ["cpu", "memory"]);
        let unified = Hierarchy::parse("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n", |_| "cpuset cpu memory pids".into());
        assert_eq!(unified, Hierarchy::V2("/sys/fs/cgroup".into()));
        assert_eq!(Hierarchy::parse("proc /proc proc rw 0 0\n", |_| String::new()), Hierarchy::None);
    }

    #[test]
    fn limits_convert_as_the_kubelet_does() {
        let limits = Limits { cpu_request_milli: Some(500), cpu_limit_milli: Some(1500), memory_bytes: Some(1 << 30) };
        let values =
            |h: &Hierarchy| settings(h, &limits).into_iter().map(|(_, f, v)| format!("{f}={v}")).collect::<Vec<_>>();
        assert_eq!(
            values(&Hierarchy::V1(BTreeMap::new())),
            [
                "cpu.shares=512",
                "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=150000",
                "memory.limit_in_bytes=1073741824"
            ]
        );
        assert_eq!(
            values(&Hierarchy::V2("/".into())),
            ["cpu.weight=20", "cpu.max=150000 100000", "memory.max=1073741824"]
        );
    }

    #[test]
    fn version_2_limits_are_copied_where_they_differ() {
        let root = tempfile::tempdir().unwrap();
        let hierarchy = Hierarchy::V2(root.path().to_owned());
        let group = |name: &str| Cgroup::new(hierarchy.clone(), name).unwrap();
        for name in ["pod", "vm"] {
            fs::create_dir(root.path().join(name)).unwrap();
            for (file, value) in [("cpu.weight", "20"), ("cpu.max", "max 100000"), ("memory.max", "max")] {
                fs::write(root.path().join(name).join(file), value).unwrap();
            }
        }
        fs::write(root.path().join("pod/memory.max"), "134217728\n").unwrap();
        assert!(group("pod").exists() && !group("pod").child("x").unwrap().exists());
        group("vm").limit_like(&group("pod")).unwrap();
        assert_eq!(fs::read_to_string(root.path().join("vm/memory.max")).unwrap(), "134217728");
        assert_eq!(fs::read_to_string(root.path().join("vm/cpu.weight")).unwrap(), "20");
    }

    #[test]
    fn paths_that_lead_out_are_refused() {
        for path in ["", "/a", "a/../b", ".."] {
            assert!(Cgroup::new(Hierarchy::None, path).is_err(), "{path}");
        }
    }
}
