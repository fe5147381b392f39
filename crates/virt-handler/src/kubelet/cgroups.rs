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
    /// `<record>/<vmi uid>` names a VM's group, for when its pod is gone. On a tmpfs, as groups do not survive a reboot either.
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
    let before = recorded(records, vmi_uid)?;
    write_record(records, vmi_uid, &path)?;
    group.ensure().map_err(failed("make", &path))?;
    group.limit_like(&pod).map_err(failed("limit", &path))?;
    inner.ensure_last().map_err(failed("make", inner.path()))?;
    inner.add(*pid).map_err(failed("move QEMU to", inner.path()))?;
    // A replacement pod of another class.
    if let Some(before) = before.filter(|before| *before != path) {
        remove(hierarchy, &before)?;
    }
    Ok(())
}

fn remove(hierarchy: Hierarchy, path: &Path) -> Result<(), CgroupError> {
    let group = Cgroup::new(hierarchy, path).map_err(failed("name", path))?;
    group.remove_tree().map_err(failed("remove", path))
}

fn recorded(records: &Path, vmi_uid: &str) -> Result<Option<PathBuf>, CgroupError> {
    let record = records.join(vmi_uid);
    match std::fs::read_to_string(&record) {
        Ok(text) => Ok(Some(PathBuf::from(text))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("read the record of", &record)(error)),
    }
}

fn write_record(records: &Path, vmi_uid: &str, path: &Path) -> Result<(), CgroupError> {
    let record = records.join(vmi_uid);
    let draft = records.join(format!(".{vmi_uid}"));
    std::fs::create_dir_all(records)
        .and_then(|()| std::fs::write(&draft, path.as_os_str().as_encoded_bytes()))
        .and_then(|()| std::fs::rename(&draft, &record))
        .map_err(failed("record", path))
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
            let Some(path) = recorded(&records, &uid)? else { return Ok(()) };
            remove(hierarchy, &path)?;
            let record = records.join(&uid);
            std::fs::remove_file(&record).map_err(failed("forget the record of", &record))
        };
        tokio::task::spawn_blocking(work).await.map_err(CgroupError::Aborted)?
    }
}
