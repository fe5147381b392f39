//! Which pod and container a process belongs to, by the names of its control groups. Pure.
//!
//! | kubelet's driver | path below the hierarchy's root |
//! |---|---|
//! | cgroupfs | `/[root/]kubepods[/burstable\|/besteffort]/pod<uid>/<container>` |
//! | systemd | `/[root.slice/]kubepods.slice[/…-burstable.slice]/kubepods[-burstable]-pod<uid, _ for ->.slice/cri-containerd-<container>.scope` |

use std::path::{Path, PathBuf};

/// Longer names are nobody's.
const MAX_COMPONENT: usize = 255;
/// What runtimes put before a container's id under systemd.
const SCOPES: [&str; 4] = ["cri-containerd-", "crio-", "docker-", "libpod-"];

/// Where a process stands among the pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodCgroup {
    /// The pod's group, relative to the hierarchy's root: `kubepods/burstable/pod<uid>`.
    pub pod: PathBuf,
    /// The pod's uid, in the API's spelling.
    pub uid: String,
    /// The container's id; `None`: a process of the runtime beside the containers.
    pub container: Option<String>,
}

impl PodCgroup {
    /// Reads `/proc/<pid>/cgroup`. The outermost group that is a pod's counts: those below it may have been made by the container.
    pub fn parse(text: &str) -> Option<Self> {
        text.lines().find_map(|line| Self::of_path(line.splitn(3, ':').nth(2)?))
    }

    fn of_path(path: &str) -> Option<Self> {
        let mut components = path.split('/').filter(|component| !component.is_empty());
        let mut pod = PathBuf::new();
        loop {
            let component = components.next().filter(|component| component.len() <= MAX_COMPONENT)?;
            // Seen from a control group namespace of our own: the names further down are the same, the place is not.
            if component != ".." {
                pod.push(component);
            }
            if let Some(uid) = pod_uid(component) {
                return Some(Self { pod, uid, container: components.next().and_then(container_id) });
            }
        }
    }

    /// The group that holds the pod and its like: `kubepods/burstable`.
    pub fn parent(&self) -> &Path {
        self.pod.parent().unwrap_or(Path::new(""))
    }
}

/// The uid in a pod's group's name.
fn pod_uid(component: &str) -> Option<String> {
    let uid = match component.strip_suffix(".slice") {
        None => component.strip_prefix("pod")?.to_owned(),
        Some(slice) => slice.rsplit_once("-pod")?.1.replace('_', "-"),
    };
    let hex = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
    // A UUID, or the hash that stands for it in pods the kubelet read from files.
    (uuid::Uuid::parse_str(&uid).is_ok() && (uid.len() == 36 || uid.len() == 32) && uid.split('-').all(hex))
        .then_some(uid)
}

/// The container's id in its group's name.
fn container_id(component: &str) -> Option<String> {
    let id = match component.strip_suffix(".scope") {
        None => component,
        Some(scope) => SCOPES.iter().find_map(|prefix| scope.strip_prefix(prefix))?,
    };
    (id.len() >= 12 && id.bytes().all(|b| b.is_ascii_hexdigit())).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const UID: &str = "6ad4b1b4-6f5c-4d1e-9f4e-0c1b5a3f9a11";
    const ID: &str = "0b6e9f1c2d3a4b5c6d7e8f900b6e9f1c2d3a4b5c6d7e8f900b6e9f1c2d3a4b5c";

    #[test]
    fn every_driver_version_and_runtime_is_read() {
        let under = UID.replace('-', "_");
        for (text, pod, container) in [
            (format!("12:pids:/kubepods/burstable/pod{UID}/{ID}\n"), format!("kubepods/burstable/pod{UID}"), true),
            (format!("5:cpu,cpuacct:/kubepods/pod{UID}/{ID}\n0::/\n"), format!("kubepods/pod{UID}"), true),
            (
                format!("1:name=systemd:/\n4:memory:/node1/kubepods/besteffort/pod{UID}/{ID}/emulator\n"),
                format!("node1/kubepods/besteffort/pod{UID}"),
                true,
            ),
            (
                format!(
                    "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{under}.slice/cri-containerd-{ID}.scope\n"
                ),
                format!("kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{under}.slice"),
                true,
            ),
            (
                format!("0::/kubepods.slice/kubepods-pod{under}.slice/crio-{ID}.scope/container\n"),
                format!("kubepods.slice/kubepods-pod{under}.slice"),
                true,
            ),
            (
                format!("0::/x.slice/x-kubepods.slice/x-kubepods-pod{under}.slice/docker-{ID}.scope\n"),
                format!("x.slice/x-kubepods.slice/x-kubepods-pod{under}.slice"),
                true,
            ),
            (format!("0::/../../kubepods/pod{UID}/{ID}\n"), format!("kubepods/pod{UID}"), true),
            // The runtime's own helper lives beside the containers, in the host's namespaces.
            (
                format!("0::/kubepods.slice/kubepods-pod{under}.slice/crio-conmon-{ID}.scope\n"),
                format!("kubepods.slice/kubepods-pod{under}.slice"),
                false,
            ),
            (format!("0::/kubepods/pod{UID}\n"), format!("kubepods/pod{UID}"), false),
        ] {
            let found = PodCgroup::parse(&text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!((found.pod.to_str().unwrap(), found.uid.as_str()), (pod.as_str(), UID), "{text}");
            assert_eq!(found.container.as_deref(), container.then_some(ID), "{text}");
        }
    }

    #[test]
    fn group_a_container_made_below_its_own_does_not_count() {
        let other = "11111111-2222-3333-4444-555555555555";
        let text = format!("0::/kubepods/pod{UID}/{ID}/kubepods/pod{other}/{}\n", ID.replace('0', "1"));
        let found = PodCgroup::parse(&text).unwrap();
        assert_eq!((found.uid.as_str(), found.container.as_deref()), (UID, Some(ID)));
        assert_eq!(found.parent(), Path::new("kubepods"));
    }

    #[test]
    fn other_processes_belong_to_no_pod() {
        for text in [
            "",
            "0::/",
            "garbage",
            "0::/system.slice/containerd.service",
            "0::/machine.slice/machine-qemu\\x2d1\\x2dfv.scope",
            "4:memory:/kubepods/burstable/ferrovirt-0a1b2c3d/fv-x.libvirt-qemu",
            "0::/podman/pod-infra",
            "0::/user.slice/my-pod.slice",
        ] {
            assert_eq!(PodCgroup::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "[0-9:/a-z.{}_\n-]{0,200}|.*") {
            if let Some(found) = PodCgroup::parse(&text) {
                prop_assert!(found.pod.is_relative());
            }
        }
    }
}
