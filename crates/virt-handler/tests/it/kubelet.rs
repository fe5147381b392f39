//! Launcher pods as a kubelet and a container runtime leave them on a node: real processes in real control groups and namespaces.

use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use fv_disk::{ImageStore, StoreConfig};
use fv_host::cgroup::{Cgroup, Hierarchy, Limits};
use fv_host::netns::NetNs;
use fv_virt_handler::cluster::Cluster;
use fv_virt_handler::disks::LocalDisks;
use fv_virt_handler::kubelet::{ContainerVolumes, KubeletCgroups, KubeletDisks, KubeletSandboxes};
use fv_virt_handler::ports::{
    CgroupError, DiskRequest, LauncherPod, NodeCgroups, NodeDisks, PodVolume, PodVolumes, QemuProcess,
};
use fv_virt_handler::sandbox::PodSandboxes;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use uuid::Uuid;

use crate::support::{NODE, api_server, schedule, until};

/// A process of a container; ends with the test.
struct Process(Child);

impl Process {
    fn spawn(program: &str, args: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().unwrap())
    }

    fn id(&self) -> u32 {
        self.0.id()
    }

    /// Waits until it has become the program `unshare` starts.
    async fn becomes(&self, program: &str) {
        let comm = format!("/proc/{}/comm", self.id());
        until(program, async || std::fs::read_to_string(&comm).is_ok_and(|name| name.trim() == program)).await;
    }

    fn end(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// A pod's control groups, below a root of this test's own.
pub(crate) struct PodGroup {
    root: Cgroup,
    pub(crate) pod: Cgroup,
    pub(crate) uid: String,
    processes: Vec<(Process, String)>,
}

impl PodGroup {
    pub(crate) fn new(uid: &str) -> Self {
        let hierarchy = Hierarchy::detect().unwrap();
        let root = Cgroup::new(hierarchy, format!("fv-kubelet-{}", uid.replace('-', ""))).unwrap();
        let pod = root.child(&format!("kubepods/burstable/pod{uid}")).unwrap();
        pod.ensure().unwrap();
        Self { root, pod, uid: uid.to_owned(), processes: Vec::new() }
    }

    /// A new container with this process; returns the container's id.
    fn add(&mut self, process: Process) -> String {
        let id = hex::encode([Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes()].concat());
        let group = self.pod.child(&id).unwrap();
        group.ensure_last().unwrap();
        group.add(process.id()).unwrap();
        self.processes.push((process, id.clone()));
        id
    }

    /// The process a runtime keeps for a pod's namespaces.
    pub(crate) fn add_pause(&mut self) {
        self.add(Process::spawn("sleep", &["10000"]));
    }

    /// Files of the group beside the pod's, by controller directory.
    pub(crate) fn beside(&self, name: &str) -> Vec<PathBuf> {
        let parent = self.pod.path().parent().unwrap().strip_prefix(self.root.path()).unwrap().join(name);
        self.root.child(parent.to_str().unwrap()).unwrap().directories()
    }
}

impl Drop for PodGroup {
    fn drop(&mut self) {
        for (process, _) in &mut self.processes {
            process.end();
        }
        if let Err(error) = self.root.remove_tree() {
            eprintln!("{error}");
        }
    }
}

fn own_netns(pid: u32) -> (u64, u64) {
    let id = NetNs::open(Path::new(&format!("/proc/{pid}/ns/net"))).unwrap().id().unwrap();
    (id.device, id.inode)
}

#[tokio::test]
async fn pod_is_found_by_its_oldest_process_and_its_emptydir() {
    let kubelet = tempfile::tempdir().unwrap();
    let uid = Uuid::new_v4().to_string();
    let share = kubelet.path().join("pods").join(&uid).join("volumes/kubernetes.io~empty-dir/private");
    let sandboxes = KubeletSandboxes::new(kubelet.path());
    let mut group = PodGroup::new(&uid);
    let pause = Process::spawn("unshare", &["--net", "sleep", "10000"]);
    pause.becomes("sleep").await;
    let (pause, expected) = (pause.id(), {
        let id = own_netns(pause.id());
        group.add(pause);
        id
    });
    // A container's process may make itself another namespace; that is not the pod's.
    tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    let stray = Process::spawn("unshare", &["--net", "sleep", "10000"]);
    stray.becomes("sleep").await;
    let stray_netns = own_netns(stray.id());
    group.add(stray);
    assert!(sandboxes.locate(&uid).await.unwrap().is_none(), "no share directory yet");

    std::fs::create_dir_all(&share).unwrap();
    let id = |sandbox: &fv_virt_handler::sandbox::PodSandbox| {
        let id = NetNs::from_borrowed(sandbox.netns.as_fd()).unwrap().id().unwrap();
        (id.device, id.inode)
    };
    for _ in 0..2 {
        let found = sandboxes.locate(&uid).await.unwrap().unwrap();
        assert_eq!((id(&found), &found.share_dir), (expected, &share));
        assert_eq!(found.resolv_conf, std::fs::read_to_string("/etc/resolv.conf").ok());
    }
    assert!(sandboxes.locate(&Uuid::new_v4().to_string()).await.unwrap().is_none());
    assert!(sandboxes.locate("../../etc").await.unwrap().is_none());

    // The sandbox died: what is left of the pod is looked at anew.
    group.processes[0].0.end();
    assert_ne!(pause, group.processes[1].0.id());
    let found = sandboxes.locate(&uid).await.unwrap().unwrap();
    assert_eq!(id(&found), stray_netns);
    group.processes[1].0.end();
    assert!(sandboxes.locate(&uid).await.unwrap().is_none());
}

#[tokio::test]
async fn qemu_lives_beside_its_pod_under_the_pods_limits() {
    let run = tempfile::tempdir().unwrap();
    let uid = Uuid::new_v4().to_string();
    let vmi = Uuid::new_v4().to_string();
    let mut group = PodGroup::new(&uid);
    let limits = Limits { cpu_request_milli: Some(200), cpu_limit_milli: Some(1500), memory_bytes: Some(96 << 20) };
    group.pod.limit(&limits).unwrap();
    let cgroups = KubeletCgroups::new(Hierarchy::detect().unwrap(), run.path().join("cgroups"));
    let mut process = Process::spawn("sleep", &["10000"]);
    let qemu =
        QemuProcess { vmi_uid: vmi.clone(), domain: "fv-x".into(), pid: process.id(), pod_uid: group.uid.clone() };
    assert!(matches!(cgroups.confine(&qemu).await, Err(CgroupError::PodMissing { .. })));
    group.add_pause();
    cgroups.confine(&qemu).await.unwrap();

    let name = format!("ferrovirt-{}", vmi.replace('-', ""));
    assert!(!name.contains("pod"), "a kubelet would take it for a pod's");
    let inside = format!("kubepods/burstable/{name}/fv-x.libvirt-qemu");
    let of_process = std::fs::read_to_string(format!("/proc/{}/cgroup", process.id())).unwrap();
    assert!(of_process.lines().any(|line| line.ends_with(&inside)), "{of_process}");
    let value = |file: &str| -> Vec<(String, String)> {
        let read = |dir: &Path| std::fs::read_to_string(dir.join(file)).ok();
        let pods = group.pod.directories().into_iter();
        pods.zip(group.beside(&name)).filter_map(|(pod, vm)| Some((read(&pod)?, read(&vm)?))).collect()
    };
    let files = ["cpu.shares", "cpu.cfs_quota_us", "memory.limit_in_bytes", "cpu.weight", "cpu.max", "memory.max"];
    let same: Vec<_> = files.iter().flat_map(|file| value(file)).collect();
    assert!(same.len() >= 3 && same.iter().all(|(pod, vm)| pod == vm), "{same:?}");

    // A pod that was resized.
    group.pod.limit(&Limits { memory_bytes: Some(128 << 20), ..Limits::default() }).unwrap();
    cgroups.confine(&qemu).await.unwrap();
    let memory: Vec<_> = ["memory.limit_in_bytes", "memory.max"].iter().flat_map(|file| value(file)).collect();
    assert!(memory.iter().all(|(pod, vm)| pod == vm && vm.trim() == "134217728"), "{memory:?}");

    assert!(cgroups.release(&vmi).await.is_err(), "not while QEMU is in it");
    process.end();
    let gone = || group.beside(&name).iter().all(|dir| !dir.exists());
    until("the end of the group", async || cgroups.release(&vmi).await.is_ok()).await;
    assert!(gone());
    cgroups.release(&vmi).await.unwrap();
}

#[tokio::test]
async fn group_of_the_pod_before_is_removed_although_that_failed_once() {
    let run = tempfile::tempdir().unwrap();
    let cgroups = KubeletCgroups::new(Hierarchy::detect().unwrap(), run.path().join("cgroups"));
    let vmi = Uuid::new_v4().to_string();
    let name = format!("ferrovirt-{}", vmi.replace('-', ""));
    let mut groups = [(); 3].map(|()| PodGroup::new(&Uuid::new_v4().to_string()));
    let mut process = Process::spawn("sleep", &["10000"]);
    let in_pod = |group: &PodGroup| QemuProcess {
        vmi_uid: vmi.clone(),
        domain: "fv-z".into(),
        pid: process.id(),
        pod_uid: group.uid.clone(),
    };
    let places = [0, 1, 2].map(|number| {
        let group: &mut PodGroup = &mut groups[number];
        group.add_pause();
        (in_pod(group), group.beside(&name))
    });
    cgroups.confine(&places[0].0).await.unwrap();
    // Something else keeps the first group busy while the next pod comes.
    let mut other = Process::spawn("sleep", &["10000"]);
    let inner = groups[0].pod.path().parent().unwrap().join(&name).join("fv-z.libvirt-qemu");
    Cgroup::new(Hierarchy::detect().unwrap(), inner).unwrap().add(other.id()).unwrap();
    assert!(cgroups.confine(&places[1].0).await.is_err(), "it was removed under a process");
    assert!(cgroups.confine(&places[2].0).await.is_err(), "it was removed under a process");
    other.end();
    until("the end of the groups before", async || cgroups.confine(&places[2].0).await.is_ok()).await;
    for (place, there) in [(0, false), (1, false), (2, true)] {
        assert!(places[place].1.iter().all(|dir| dir.exists() == there), "group {place}: {:?}", places[place].1);
    }
    process.end();
    until("the end of the group", async || cgroups.release(&vmi).await.is_ok()).await;
    assert!(places[2].1.iter().all(|dir| !dir.exists()));
}

#[tokio::test]
async fn memory_beyond_the_pods_limit_ends_that_guest_only() {
    let run = tempfile::tempdir().unwrap();
    let uid = Uuid::new_v4().to_string();
    let mut group = PodGroup::new(&uid);
    group.pod.limit(&Limits { memory_bytes: Some(32 << 20), ..Limits::default() }).unwrap();
    group.add_pause();
    let cgroups = KubeletCgroups::new(Hierarchy::detect().unwrap(), run.path().join("cgroups"));
    // Takes memory once it is told to.
    let mut command = Command::new("sh");
    command.args(["-c", "read go; head -c 256m /dev/zero | tail"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut greedy = Process(command.stderr(Stdio::null()).spawn().unwrap());
    let vmi = Uuid::new_v4().to_string();
    let qemu =
        QemuProcess { vmi_uid: vmi.clone(), domain: "fv-y".into(), pid: greedy.id(), pod_uid: group.uid.clone() };
    cgroups.confine(&qemu).await.unwrap();
    std::io::Write::write_all(&mut greedy.0.stdin.take().unwrap(), b"go\n").unwrap();
    let status = greedy.0.wait().unwrap();
    assert!(!status.success(), "it had 256 MiB within a limit of 32");
    assert!(group.processes[0].0.0.try_wait().unwrap().is_none(), "the launcher suffered");
    until("the end of the group", async || cgroups.release(&vmi).await.is_ok()).await;
}

#[tokio::test]
async fn disk_comes_from_the_image_of_its_container() {
    let dir = tempfile::tempdir().unwrap();
    let api = api_server().await;
    let client = || api.client_as(fv_apiserver::UserInfo::admin("test"));
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(client(), "default");
    let vmis = Api::namespaced(client(), "default");
    let pod_uid = Uuid::new_v4().to_string();
    let vmi = schedule(&vmis, "demo", &pod_uid, |_| {}).await;
    let pod = serde_json::from_value(json!({
        "metadata": {"name": "virt-launcher-demo", "labels": {"kubevirt.io/created-by": vmi.uid}},
        "spec": {"nodeName": NODE, "containers": [{"name": "compute", "image": "x"}]},
    }))
    .unwrap();
    let pod_uid = pods.create(&PostParams::default(), &pod).await.unwrap().metadata.uid.unwrap();

    // The image's root directory, with a program that keeps it there.
    let root = dir.path().join("root");
    for sub in ["bin", "disk"] {
        std::fs::create_dir_all(root.join(sub)).unwrap();
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    std::fs::write(root.join("disk/disk.img"), vec![7u8; 1 << 20]).unwrap();
    let mut group = PodGroup::new(&pod_uid);
    let process = Process::spawn("chroot", &[root.to_str().unwrap(), "/bin/busybox", "sleep", "10000"]);
    process.becomes("busybox").await;
    let container = group.add(process);

    let store = StoreConfig { reserve_bytes: 0, ..StoreConfig::new(dir.path().join("images")) };
    let images = Arc::new(ImageStore::open(store).unwrap());
    let volumes = Arc::new(ContainerVolumes::new(Cluster::new(client())));
    let local = LocalDisks::new(Arc::clone(&images), dir.path().join("disks"), volumes, dir.path().join("places"));
    let disks = KubeletDisks::new(local, Cluster::new(client()));
    let request = DiskRequest {
        vmi: Arc::new(vmis.get("demo").await.unwrap()),
        uid: vmi.uid.clone(),
        pod_uid: Some(pod_uid),
        qemu_uid: 1_000_000_007,
        secrets: Default::default(),
        pull_secrets: Default::default(),
        efi: None,
    };
    let failed = async || {
        let error = disks.prepare(&request).await.unwrap_err();
        (error.reason(), format!("{error}: {:?}", std::error::Error::source(&error).map(ToString::to_string)))
    };
    let (reason, told) = failed().await;
    assert!(reason == "ContainerDiskNotReady" && told.contains("volumeroot"), "{told}");

    let status = json!({"status": {"containerStatuses": [{
        "name": "volumeroot", "image": "registry.example/demo:v1", "imageID": "registry.example/demo@sha256:aa", "ready": true,
        "restartCount": 0, "containerID": format!("containerd://{container}"), "state": {"running": {}},
    }]}});
    pods.patch_status("virt-launcher-demo", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    // The tenant's image, with a way out of it.
    std::fs::rename(root.join("disk"), root.join("real")).unwrap();
    symlink("/etc", root.join("disk")).unwrap();
    let (reason, told) = failed().await;
    assert!(reason == "ErrImagePull" && told.contains("symbolic link"), "{told}");
    std::fs::remove_file(root.join("disk")).unwrap();
    std::fs::rename(root.join("real"), root.join("disk")).unwrap();

    let prepared = disks.prepare(&request).await.unwrap();
    let overlay = &prepared.sources["root"].path;
    let info = Command::new("qemu-img").args(["info", "--output=json", overlay]).output().unwrap();
    let info: serde_json::Value = serde_json::from_slice(&info.stdout).unwrap();
    let base = info["backing-filename"].as_str().unwrap();
    assert!(base.starts_with(images.root().to_str().unwrap()), "{base}");
    assert_eq!(std::fs::read(base).unwrap(), vec![7u8; 1 << 20]);
    assert_eq!(images.holders().unwrap(), std::slice::from_ref(&vmi.uid));
    // The container is not needed any more.
    drop(group);
    assert!(Path::new(base).exists());
    disks.release(&vmi.uid).await.unwrap();
    assert!(images.holders().unwrap().is_empty());
}

/// A container's view of its files: a root of its own, with a volume in memory at this path.
const CONTAINER: &str = r#"
set -e
mount --bind "$0" "$0"
cd "$0"
mount -t tmpfs none ".$1"
echo theirs >".$1/key"
pivot_root . old
/bin/busybox umount -l /old
exec /bin/busybox sleep 10000
"#;

#[tokio::test]
async fn volumes_are_those_of_the_compute_container_and_do_not_hold_it() {
    let dir = tempfile::tempdir().unwrap();
    let api = api_server().await;
    let client = || api.client_as(fv_apiserver::UserInfo::admin("test"));
    let pods: Api<k8s_openapi::api::core::v1::Pod> = Api::namespaced(client(), "default");
    let vmi_uid = Uuid::new_v4().to_string();
    let pod = serde_json::from_value(json!({
        "metadata": {"name": "virt-launcher-demo", "labels": {"kubevirt.io/created-by": vmi_uid}},
        "spec": {"nodeName": NODE, "containers": [{"name": "compute", "image": "x"}]},
    }))
    .unwrap();
    let uid = pods.create(&PostParams::default(), &pod).await.unwrap().metadata.uid.unwrap();
    let pod = LauncherPod { namespace: "default".into(), uid: uid.clone(), vmi_uid };

    let path = fv_render::volume_mount_path("settings");
    let root = dir.path().join("root");
    for sub in ["bin", "old", path.trim_start_matches('/')] {
        std::fs::create_dir_all(root.join(sub)).unwrap();
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    let mut group = PodGroup::new(&uid);
    let shell = ["--mount", "--propagation", "private", "sh", "-c", CONTAINER, root.to_str().unwrap(), &path];
    let process = Process::spawn("unshare", &shell);
    process.becomes("busybox").await;
    let container = group.add(process);

    let volumes = ContainerVolumes::new(Cluster::new(client()));
    let names = ["settings".to_owned()];
    let error = volumes.open(&pod, &names).await.unwrap_err();
    assert!(error.reason() == "FailedPodSandbox" && error.to_string().contains("compute"), "{error}");
    let status = json!({"status": {"containerStatuses": [{
        "name": "compute", "image": "x", "imageID": "x", "ready": true, "restartCount": 0,
        "containerID": format!("containerd://{container}"), "state": {"running": {}},
    }]}});
    pods.patch_status("virt-launcher-demo", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();

    let error = volumes.open(&pod, &["other".to_owned()]).await.unwrap_err();
    assert!(error.reason() == "FailedVolume" && error.to_string().contains("other"), "{error}");
    let Some(PodVolume::Directory(settings)) = volumes.open(&pod, &names).await.unwrap().remove("settings") else {
        panic!("no directory");
    };
    assert_eq!(settings.dir.names().unwrap(), ["key"]);
    let copy = settings.copy(&settings.dir.open_regular("key", true).unwrap()).unwrap();
    drop(settings);
    // The pod goes; the copy stays until it is let go.
    drop(group);
    let here = dir.path().join("here");
    std::fs::write(&here, "").unwrap();
    fv_host::mount::attach(&copy, &here).unwrap();
    let text = std::fs::read_to_string(&here);
    fv_host::mount::unmount_lazily(&here).unwrap();
    assert_eq!(text.unwrap(), "theirs\n");
}
