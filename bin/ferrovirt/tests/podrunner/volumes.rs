//! Volumes of pods: made before the containers start, kept up to date, gone afterwards without what they showed.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use fv_virt_handler::sandbox::PodSandboxes;
use k8s_openapi::api::core::v1::{ConfigMap, Event, PersistentVolume, PersistentVolumeClaim, Secret};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::{World, compute, container, kill, until};

/// A container that says what it sees of volume `name`, then stays.
fn looking(name: &str, script: &str) -> Value {
    let mut looking = container("compute", &format!("{script}; echo done; exec sleep 1000"));
    looking["volumeMounts"] = json!([{"name": name, "mountPath": "/v"}]);
    looking
}

impl World {
    async fn add_config_map(&self, name: &str, data: Value) {
        let map = serde_json::from_value(json!({"metadata": {"name": name}, "data": data})).unwrap();
        let api = Api::<ConfigMap>::namespaced(self.client.clone(), "default");
        api.create(&PostParams::default(), &map).await.unwrap();
    }

    /// A pod with one volume; what its container says before it is done.
    async fn seen(&self, name: &str, volume: Value, script: &str) -> (String, String) {
        let mut full = json!({"name": "v"});
        json_merge(&mut full, &volume);
        let uid = self.add(name, &json!({"containers": [looking("v", script)], "volumes": [full]})).await;
        let log = self.pod_dir(&uid).join("logs/compute.log");
        let said = until(&format!("{name} has looked"), || async {
            std::fs::read_to_string(&log).ok().filter(|text| text.ends_with("done\n"))
        })
        .await;
        (uid, said.trim_end_matches("done\n").to_owned())
    }

    fn volume(&self, uid: &str, name: &str) -> std::path::PathBuf {
        self.pod_dir(uid).join("volumes").join(name)
    }

    fn mounts_below(&self, directory: &Path) -> usize {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let directory = directory.display().to_string();
        mounts.lines().filter(|line| line.split(' ').nth(4).is_some_and(|at| at.starts_with(&directory))).count()
    }

    async fn delete_now(&self, name: &str, uid: &str) {
        self.pods().delete(name, &DeleteParams::default().grace_period(0)).await.unwrap();
        until("nothing of the pod is left", || async { (!self.pod_dir(uid).exists()).then_some(()) }).await;
    }
}

fn json_merge(into: &mut Value, from: &Value) {
    for (key, value) in from.as_object().unwrap() {
        into[key] = value.clone();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn config_maps_secrets_and_the_pods_own_fields_are_files() {
    let world = World::new().await;
    let running = world.run();
    world.add_config_map("m", json!({"a": "one", "b": "two"})).await;
    let secret: Secret =
        serde_json::from_value(json!({"metadata": {"name": "s"}, "stringData": {"key": "hush"}})).unwrap();
    Api::<Secret>::namespaced(world.client.clone(), "default").create(&PostParams::default(), &secret).await.unwrap();
    let cases = [
        ("map", json!({"configMap": {"name": "m"}}), "one two\n"),
        ("secret", json!({"secret": {"secretName": "s", "items": [{"key": "key", "path": "deep/k"}]}}), "hush\n"),
        (
            "fields",
            json!({"downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]}}),
            "fields\n",
        ),
        (
            "all",
            json!({"projected": {"sources": [{"configMap": {"name": "m", "items": [{"key": "b", "path": "b"}]}},
                {"secret": {"name": "s"}}]}}),
            "two hush\n",
        ),
    ];
    for (name, volume, expected) in cases {
        let (_, said) =
            world.seen(name, volume, "echo $(find /v -type f | sort | xargs -n1 sh -c 'cat $0; echo')").await;
        assert_eq!(said, expected, "{name}");
    }
    let (_, said) = world.seen("fixed", json!({"configMap": {"name": "m"}}), "touch /v/x || echo read-only").await;
    assert!(said.ends_with("read-only\n"), "{said}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_waits_for_what_its_volumes_name_and_says_so() {
    let world = World::new().await;
    let running = world.run();
    let spec = json!({"containers": [looking("v", "cat /v/a")],
        "volumes": [{"name": "v", "configMap": {"name": "late"}}]});
    let uid = world.add("w", &spec).await;
    let event = world.event("w", "FailedMount").await;
    assert_eq!(event.message.unwrap(), "MountVolume.SetUp failed for volume \"v\" : configmap \"late\" not found");
    assert_eq!(event.source.unwrap().component.as_deref(), Some("kubelet"));
    let pod = world.phase("w", "Pending").await;
    let status = until("its container waits", || async {
        crate::compute_opt(&world.get("w").await).and_then(|status| status.state?.waiting)
    })
    .await;
    assert_eq!(status.reason.as_deref(), Some("ContainerCreating"));
    assert!(pod.status.unwrap().pod_ip.is_none() && !world.instance.netns_dir().join(&uid).exists());
    world.add_config_map("late", json!({"a": "here"})).await;
    world.phase("w", "Running").await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_follow_their_config_map_when_the_runner_looks_again() {
    let world = World::new().await;
    let running = world.run();
    world.add_config_map("m", json!({"a": "old", "gone": "x"})).await;
    let (uid, _) = world.seen("p", json!({"configMap": {"name": "m"}}), "cat /v/a").await;
    running.stop().await;
    let change = json!({"data": {"a": "new", "gone": null, "more": "y"}});
    let api = Api::<ConfigMap>::namespaced(world.client.clone(), "default");
    api.patch("m", &PatchParams::default(), &Patch::Merge(&change)).await.unwrap();
    // A runner looks at once for pods it finds, afterwards every minute.
    let running = world.run();
    let volume = world.volume(&uid, "v");
    until("the files are new", || async {
        let text = |name: &str| std::fs::read_to_string(volume.join(name)).ok();
        (text("a")? == "new" && text("more")? == "y" && text("gone").is_none()).then_some(())
    })
    .await;
    assert_eq!(compute(&world.get("p").await).restart_count, 0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_path_is_mounted_checked_and_outlives_the_pod() {
    let world = World::new().await;
    let running = world.run();
    let host = world.home.path().join("host");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("precious"), "kept").unwrap();
    let (uid, said) =
        world.seen("p", json!({"hostPath": {"path": host, "type": "Directory"}}), "cat /v/precious; echo").await;
    assert_eq!(said, "kept\n");
    let volume = world.volume(&uid, "v");
    assert_eq!(std::fs::metadata(&volume).unwrap().ino(), std::fs::metadata(&host).unwrap().ino());
    assert_eq!(world.mounts_below(&world.pod_dir(&uid)), 1);
    world.delete_now("p", &uid).await;
    assert_eq!(std::fs::read_to_string(host.join("precious")).unwrap(), "kept");
    assert_eq!(world.mounts_below(world.home.path()), 0);

    let made = world.home.path().join("made/here");
    let (uid, _) = world.seen("maker", json!({"hostPath": {"path": made, "type": "DirectoryOrCreate"}}), "true").await;
    assert!(made.is_dir());
    world.delete_now("maker", &uid).await;
    assert!(made.is_dir());

    let volume = json!([{"name": "v", "hostPath": {"path": host.join("nothing"), "type": "File"}}]);
    let uid = world.add("none", &json!({"containers": [looking("v", "true")], "volumes": volume})).await;
    let event = world.event("none", "FailedMount").await;
    let text = format!(
        "MountVolume.SetUp failed for volume \"v\" : hostPath type check failed: {} is not a file",
        host.join("nothing").display()
    );
    assert_eq!(event.message.unwrap(), text);
    std::fs::write(host.join("nothing"), "").unwrap();
    world.phase("none", "Running").await;
    assert!(world.volume(&uid, "v").is_file());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_in_memory_is_bounded_and_unmounted_when_the_pod_ends() {
    let world = World::new().await;
    let running = world.run();
    let volume = json!({"emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}});
    let (uid, said) = world.seen("p", volume, "head -c 2000000 /dev/zero > /v/big 2> /dev/null || echo full").await;
    assert_eq!(said, "full\n");
    assert_eq!(world.mounts_below(&world.pod_dir(&uid)), 1);
    world.delete_now("p", &uid).await;
    assert_eq!(world.mounts_below(world.home.path()), 0);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_reboot_volumes_are_mounted_before_the_container_starts_again() {
    let world = World::new().await;
    let running = world.run();
    let host = world.home.path().join("host");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("precious"), "kept\n").unwrap();
    let (uid, _) = world.seen("p", json!({"hostPath": {"path": host}}), "cat /v/precious").await;
    running.stop().await;
    fv_host::mount::unmount_all(&world.volume(&uid, "v")).unwrap();
    std::fs::write(world.pod_dir(&uid).join("logs/compute.log"), "").unwrap();
    world.reboot(&[world.process(&uid, "compute")]);
    let running = world.run();
    let log = world.pod_dir(&uid).join("logs/compute.log");
    until("it has looked again", || async { (std::fs::read_to_string(&log).ok()? == "kept\ndone\n").then_some(()) })
        .await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_lost_a_mount_is_not_there_for_the_node_agent() {
    let world = World::new().await;
    let running = world.run();
    let host = world.home.path().join("host");
    std::fs::create_dir(&host).unwrap();
    let volumes = json!([{"name": "private", "emptyDir": {}}, {"name": "v", "hostPath": {"path": host}},
        {"name": "m", "emptyDir": {"medium": "Memory"}}]);
    let uid = world.add("p", &json!({"containers": [looking("v", "true")], "volumes": volumes})).await;
    world.phase("p", "Running").await;
    assert!(running.runner.locate(&uid).await.unwrap().is_some());
    for name in ["v", "m"] {
        fv_host::mount::unmount_all(&world.volume(&uid, name)).unwrap();
        assert!(running.runner.locate(&uid).await.unwrap().is_none(), "{name}");
    }
    running.stop().await;
    // The next run mounts again what is missing.
    let running = world.run();
    until("it is there", || async { running.runner.locate(&uid).await.unwrap() }).await;
    running.stop().await;
}

/// Also when the pod's object vanished while no runner was there, as after a crash.
#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_vanished_meanwhile_leaves_no_mount_and_takes_no_host_file_along() {
    let world = World::new().await;
    let running = world.run();
    let host = world.home.path().join("host");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("precious"), "kept").unwrap();
    let (uid, _) = world.seen("p", json!({"hostPath": {"path": host}}), "true").await;
    assert_eq!(world.get("p").await.uid().unwrap(), uid);
    running.stop().await;
    kill(world.process(&uid, "compute"));
    world.pods().delete("p", &DeleteParams::default().grace_period(0)).await.unwrap();
    let running = world.run();
    until("nothing of the pod is left", || async { (!world.pod_dir(&uid).exists()).then_some(()) }).await;
    assert_eq!(std::fs::read_to_string(host.join("precious")).unwrap(), "kept");
    assert_eq!(world.mounts_below(world.home.path()), 0);
    running.stop().await;
}

impl World {
    /// A claim that is bound to a volume of the directory, as the binder leaves them.
    async fn add_claim(&self, name: &str, directory: &Path) {
        let claims = Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), "default");
        let spec = json!({"accessModes": ["ReadWriteOnce"], "storageClassName": "", "volumeName": name,
            "resources": {"requests": {"storage": "1Gi"}}});
        let claim = serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap();
        let claim = claims.create(&PostParams::default(), &claim).await.unwrap();
        let host = json!([{"key": "kubernetes.io/hostname", "operator": "In", "values": [crate::NODE]}]);
        let volume = json!({"metadata": {"name": name}, "spec": {"capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"], "local": {"path": directory},
            "claimRef": {"namespace": "default", "name": name, "uid": claim.uid()},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": host}]}}}});
        let volumes = Api::<PersistentVolume>::all(self.client.clone());
        volumes.create(&PostParams::default(), &serde_json::from_value(volume).unwrap()).await.unwrap();
        let bound = json!({"status": {"phase": "Bound"}});
        claims.patch_status(name, &PatchParams::default(), &Patch::Merge(&bound)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claims_directory_is_mounted_and_keeps_what_pods_write() {
    let world = World::new().await;
    let running = world.run();
    let claim = |read_only: bool| json!({"persistentVolumeClaim": {"claimName": "data", "readOnly": read_only}});
    let uid = world
        .add(
            "early",
            &json!({"containers": [looking("v", "cat /v/kept")],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}),
        )
        .await;
    let event = world.event("early", "FailedMount").await;
    assert_eq!(
        event.message.unwrap(),
        "Unable to attach or mount volumes: unmounted volumes=[v], unattached volumes=[], failed to process volumes=[v]: error \
         processing PVC default/data: failed to fetch PVC from API server: persistentvolumeclaims \"data\" not found"
    );
    let directory = world.home.path().join("disk");
    world.add_claim("data", &directory).await;
    let missing = format!(
        "MountVolume.NewMounter initialization failed for volume \"data\" : path \"{}\" does not exist",
        directory.display()
    );
    let events = Api::<Event>::namespaced(world.client.clone(), "default");
    until("the missing path is told", || async {
        let all = events.list(&ListParams::default()).await.unwrap().items;
        all.iter().any(|e| e.message.as_deref() == Some(&missing)).then_some(())
    })
    .await;
    std::fs::create_dir(&directory).unwrap();
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o777)).unwrap();
    world.phase("early", "Running").await;
    world.delete_now("early", &uid).await;

    let (uid, _) = world.seen("writer", claim(false), "echo data > /v/kept").await;
    world.delete_now("writer", &uid).await;
    assert_eq!(std::fs::read_to_string(directory.join("kept")).unwrap(), "data\n");
    let (uid, said) = world.seen("reader", claim(true), "cat /v/kept; echo x > /v/more || echo read-only").await;
    assert!(said.starts_with("data\n") && said.ends_with("read-only\n"), "{said}");
    world.delete_now("reader", &uid).await;
    assert_eq!(world.mounts_below(world.home.path()), 0);
    running.stop().await;
}
