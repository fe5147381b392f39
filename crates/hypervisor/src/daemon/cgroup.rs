//! The cgroups of a private daemon: one for itself, outside of whatever our service lives in (a service manager ends all that is
//! in there), and the partition its guests are put into. Both in every hierarchy, v1 and v2 alike.

use std::path::{Path, PathBuf};

/// Where the daemon itself lives.
fn daemon_group(instance_id: &str) -> String {
    format!("ferrovirt-{instance_id}")
}

/// What domains name as their partition.
pub(crate) fn partition(instance_id: &str) -> String {
    format!("/ferrovirt-{instance_id}-vms")
}

/// The directory libvirt makes of [`partition`]: it appends a suffix to names that are not its own.
fn partition_group(instance_id: &str) -> String {
    format!("ferrovirt-{instance_id}-vms.partition")
}

/// Makes both groups and moves this process into the daemon's. Hierarchies that do not allow it are left out: a cgroup that is
/// missing limits nothing, and libvirt says itself what it cannot do without.
pub(crate) fn enter(instance_id: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for root in hierarchies(&std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()) {
        for group in [daemon_group(instance_id), partition_group(instance_id)] {
            if let Err(error) = make_group(&root, &root.join(group)) {
                problems.push(format!("{}: {error}", root.display()));
            }
        }
        if let Err(error) = std::fs::write(root.join(daemon_group(instance_id)).join("cgroup.procs"), "0") {
            problems.push(format!("{}: {error}", root.display()));
        }
    }
    problems
}

fn make_group(root: &Path, group: &Path) -> std::io::Result<()> {
    match std::fs::create_dir(group) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // A new v1 cpuset is empty and takes no process.
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let (own, parent) = (group.join(file), root.join(file));
        let is_empty = std::fs::read_to_string(&own).is_ok_and(|text| text.trim().is_empty());
        if is_empty && let Ok(text) = std::fs::read_to_string(parent) {
            std::fs::write(own, text.trim())?;
        }
    }
    Ok(())
}

/// Removes the groups where they are empty.
pub(crate) fn remove(instance_id: &str) {
    for root in hierarchies(&std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()) {
        for group in [daemon_group(instance_id), partition_group(instance_id)] {
            remove_tree(&root.join(group));
        }
    }
}

/// cgroup directories are removed by `rmdir` alone, leaves first; one with processes in it stays.
fn remove_tree(group: &Path) {
    if let Ok(entries) = std::fs::read_dir(group) {
        for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
            remove_tree(&entry.path());
        }
    }
    let _ = std::fs::remove_dir(group);
}

/// Mount points of cgroup hierarchies, as `/proc/self/mountinfo` lists them.
fn hierarchies(mountinfo: &str) -> Vec<PathBuf> {
    let mut roots: Vec<PathBuf> = mountinfo
        .lines()
        .filter_map(|line| {
            let (fields, rest) = line.split_once(" - ")?;
            let kind = rest.split(' ').next()?;
            let mut fields = fields.split(' ').skip(3);
            let (root, point) = (fields.next()?, fields.next()?);
            // A hierarchy mounted from elsewhere than its root is somebody else's view of it.
            (matches!(kind, "cgroup" | "cgroup2") && root == "/").then(|| PathBuf::from(point))
        })
        .collect();
    roots.dedup();
    roots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_hierarchy_is_found_and_nothing_else() {
        let mountinfo = "27 1 254:0 / / rw - ext4 /dev/vda rw\n\
            31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
            32 31 0:29 / /sys/fs/cgroup/cpu rw shared:7 - cgroup cgroup rw,cpu\n\
            33 31 0:29 /pods /mnt/x rw - cgroup cgroup rw,cpu\n\
            41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
            garbage\n";
        let expected: Vec<PathBuf> = ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/unified"].map(PathBuf::from).to_vec();
        assert_eq!(hierarchies(mountinfo), expected);
    }

    #[test]
    fn libvirt_directory_matches_the_partition_domains_name() {
        assert_eq!(format!("{}.partition", partition("0a1b2c3d")), format!("/{}", partition_group("0a1b2c3d")));
    }
}
