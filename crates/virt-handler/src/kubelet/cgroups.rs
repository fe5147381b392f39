//! QEMU's control group: a sibling of its pod's, so that the kubelet, which ends everything inside a pod's group, leaves it alone, and the
//! limits and the class of the pod still hold for it.
//!
//! ```text
//! kubepods/burstable/pod<uid>/…                                           the launcher
//! kubepods/burstable/ferrovirt-<vmi uid>/                                 the pod's shares and limits
//! kubepods/burstable/ferrovirt-<vmi uid>/<domain>.libvirt-qemu/           QEMU
//! ```
//!
//! The name of the innermost group is the one libvirt itself would choose: a libvirtd that starts again checks it before it takes a
//! domain over. Libvirt makes QEMU elsewhere, paused; it is moved before its guest runs. On version 1 only cpu, cpuset, memory and pids
//! are moved: the devices controller stays with libvirt's rules.

use std::io;
use std::path::{Path, PathBuf};

use fv_host::cgroup::{Cgroup, Hierarchy};

use super::processes::of_pod;
use crate::ports::{CgroupError, NodeCgroups, QemuProcess};

/// Control groups beside the kubelet's.
pub struct KubeletCgroups {
    hierarchy: Hierarchy,
    /// `<record>/<vmi uid>` names a VM's group, for when its pod is gone, and those it was in before until they are removed; one a line.
    /// On a tmpfs, as groups do not survive a reboot either.
    records: PathBuf,
}

impl KubeletCgroups {
    /// `records` is a directory that only root can write to.
    pub fn new(hierarchy: Hierarchy, records: impl Into<PathBuf>) -> Self {
        Self { hierarchy, records: records.into() }
    }
}

/// A kubelet takes every name with `pod` in it for a pod's; a uid has no such letters.
fn group_name(vmi_uid: &str) -> String {
    format!("ferrovirt-{}", vmi_uid.replace('-', ""))
}

fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CgroupError {
    let path = path.to_owned();
    move |source| CgroupError::Group { step, path, source }
}

fn confine(hierarchy: Hierarchy, records: &Path, qemu: &QemuProcess) -> Result<(), CgroupError> {
    let QemuProcess { vmi_uid, domain, pid, pod_uid } = qemu;
    let look = of_pod(pod_uid).map_err(failed("find", Path::new("of the pod")))?;
    let place = look.first().map(|process| process.cgroup().clone());
    let place = place.ok_or_else(|| CgroupError::PodMissing { pod_uid: pod_uid.clone() })?;
    let pod = Cgroup::new(hierarchy.clone(), &place.pod).map_err(failed("name", &place.pod))?;
    if !pod.exists() {
        return Err(CgroupError::NotVisible { path: place.pod });
    }
    let path = place.parent().join(group_name(vmi_uid));
    let group = Cgroup::new(hierarchy.clone(), &path).map_err(failed("name", &path))?;
    let inner = group.child(&format!("{domain}.libvirt-qemu")).map_err(failed("name", &path))?;
    // Of pods of other classes that this one replaced. They stay recorded until they are gone, whatever fails before.
    let before: Vec<_> = recorded(records, vmi_uid)?.into_iter().filter(|before| *before != path).collect();
    write_record(records, vmi_uid, before.iter().chain([&path]))?;
    group.ensure().map_err(failed("make", &path))?;
    group.limit_like(&pod).map_err(failed("limit", &path))?;
    inner.ensure_last().map_err(failed("make", inner.path()))?;
    inner.add(*pid).map_err(failed("move QEMU to", inner.path()))?;
    if before.is_empty() {
        return Ok(());
    }
    for before in &before {
        remove(hierarchy.clone(), before)?;
    }
    write_record(records, vmi_uid, [&path])
}

fn remove(hierarchy: Hierarchy, path: &Path) -> Result<(), CgroupError> {
    let group = Cgroup::new(hierarchy, path).map_err(failed("name", path))?;
    group.remove_tree().map_err(failed("remove", path))
}

fn recorded(records: &Path, vmi_uid: &str) -> Result<Vec<PathBuf>, CgroupError> {
    let record = records.join(vmi_uid);
    match std::fs::read_to_string(&record) {
        // The kernel allows no line feed in a group's name.
        Ok(text) => Ok(text.lines().map(PathBuf::from).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed("read the record of", &record)(error)),
    }
}

fn write_record<'a>(
    records: &Path,
    vmi_uid: &str,
    groups: impl IntoIterator<Item = &'a PathBuf>,
) -> Result<(), CgroupError> {
    let record = records.join(vmi_uid);
    let draft = records.join(format!(".{vmi_uid}"));
    let mut text = Vec::new();
    for group in groups {
        text.extend_from_slice(group.as_os_str().as_encoded_bytes());
        text.push(b'\n');
    }
    std::fs::create_dir_all(records)
        .and_then(|()| std::fs::write(&draft, text))
        .and_then(|()| std::fs::rename(&draft, &record))
        .map_err(failed("record", &record))
}

#[async_trait::async_trait]
impl NodeCgroups for KubeletCgroups {
    async fn confine(&self, qemu: &QemuProcess) -> Result<(), CgroupError> {
        let (hierarchy, records, qemu) = (self.hierarchy.clone(), self.records.clone(), qemu.clone());
        let work = move || confine(hierarchy, &records, &qemu);
        tokio::task::spawn_blocking(work).await.map_err(CgroupError::Aborted)?
    }

    async fn release(&self, vmi_uid: &str) -> Result<(), CgroupError> {
        let (hierarchy, records, uid) = (self.hierarchy.clone(), self.records.clone(), vmi_uid.to_owned());
        let work = move || {
            let groups = recorded(&records, &uid)?;
            if groups.is_empty() {
                return Ok(());
            }
            for group in &groups {
                remove(hierarchy.clone(), group)?;
            }
            let record = records.join(&uid);
            std::fs::remove_file(&record).map_err(failed("forget the record of", &record))
        };
        tokio::task::spawn_blocking(work).await.map_err(CgroupError::Aborted)?
    }
}
