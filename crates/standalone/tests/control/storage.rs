use std::path::{Path, PathBuf};

use fv_standalone::scheduler;
use fv_standalone::storage::{self, Directories};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::support::{Cluster, Part, create, from, pod, until};

/// A cluster with a node, its scheduler and its storage.
struct Store {
    cluster: Cluster,
    home: tempfile::TempDir,
    storage: Option<Part>,
    _scheduler: Part,
}

impl Store {
    async fn new() -> Self {
        let cluster = Cluster::with_guests().await;
        cluster.add_node(10).await;
        let label = json!({"metadata": {"labels": {"kubernetes.io/hostname": "n1"}}});
        cluster.nodes().patch("n1", &PatchParams::default(), &Patch::Merge(&label)).await.unwrap();
        let scheduler = cluster.run("system:kube-scheduler", scheduler::run);
        let home = tempfile::tempdir().unwrap();
        let mut store = Self { cluster, home, storage: None, _scheduler: scheduler };
        store.start();
        until("the default class is there", || async { store.classes().get_opt("local-path").await.unwrap() }).await;
        store
    }

    fn start(&mut self) {
        let directories = Directories::new(self.root());
        let run = |client, stop| storage::run(client, directories, "n1".into(), stop);
        self.storage = Some(self.cluster.run("system:persistent-volume-controller", run));
    }

    async fn stop(&mut self) {
        self.storage.take().unwrap().stop().await;
    }

    fn root(&self) -> PathBuf {
        self.home.path().join("volumes")
    }

    fn claims(&self) -> Api<PersistentVolumeClaim> {
        Api::namespaced(self.cluster.client.clone(), "default")
    }

    fn volumes(&self) -> Api<PersistentVolume> {
        Api::all(self.cluster.client.clone())
    }

    fn classes(&self) -> Api<StorageClass> {
        Api::all(self.cluster.client.clone())
    }

    async fn add_claim(&self, name: &str, spec: Value) -> PersistentVolumeClaim {
        let mut full = json!({"metadata": {"name": name},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
        json_patch::merge(&mut full["spec"], &spec);
        self.claims().create(&PostParams::default(), &from(full)).await.unwrap()
    }

    async fn add_class(&self, name: &str, provisioner: &str, mode: &str) {
        let class = json!({"metadata": {"name": name}, "provisioner": provisioner, "volumeBindingMode": mode,
            "allowVolumeExpansion": true});
        self.classes().create(&PostParams::default(), &from(class)).await.unwrap();
    }

    async fn add_volume(&self, name: &str, spec: Value) {
        let mut full = json!({"metadata": {"name": name}, "spec": {"capacity": {"storage": "10Gi"},
            "accessModes": ["ReadWriteOnce"], "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": "/tmp"}}});
        json_patch::merge(&mut full["spec"], &spec);
        self.volumes().create(&PostParams::default(), &from(full)).await.unwrap();
    }

    /// A pod that has the claim in a volume.
    async fn add_user(&self, name: &str, claim: &str) {
        let volumes = json!([{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]);
        let user = pod(name, &json!({"volumes": volumes}));
        self.cluster.pods().create(&PostParams::default(), &user).await.unwrap();
    }

    async fn bound(&self, claim: &str) -> (PersistentVolumeClaim, PersistentVolume) {
        until(&format!("{claim} is bound"), || async {
            let claim = self.claims().get(claim).await.unwrap();
            if claim.status.as_ref()?.phase.as_deref() != Some("Bound") {
                return None;
            }
            let volume = self.volumes().get(claim.spec.as_ref()?.volume_name.as_deref()?).await.unwrap();
            (volume.status.as_ref()?.phase.as_deref() == Some("Bound")).then_some((claim, volume))
        })
        .await
    }

    async fn phase_of_volume(&self, name: &str, wanted: &str) -> PersistentVolume {
        until(&format!("{name} is {wanted}"), || async {
            let volume = self.volumes().get(name).await.unwrap();
            (volume.status.as_ref()?.phase.as_deref() == Some(wanted)).then_some(volume)
        })
        .await
    }

    async fn on_node(&self, pod: &str) {
        until(&format!("{pod} is on the node"), || async {
            self.cluster.pods().get(pod).await.unwrap().spec.unwrap().node_name
        })
        .await;
    }

    async fn delete_pod(&self, name: &str) {
        self.cluster.pods().delete(name, &DeleteParams::default().grace_period(0)).await.unwrap();
    }

    async fn event(&self, object: &str, reason: &str) -> String {
        until(&format!("event {reason} of {object}"), || async {
            let events = self.cluster.events_of(object).await;
            events.into_iter().find(|e| e.reason.as_deref() == Some(reason)).and_then(|e| e.message)
        })
        .await
    }

    async fn unschedulable(&self, pod: &str, text: &str) {
        until(&format!("{pod} is refused: {text}"), || async {
            let status = self.cluster.pods().get(pod).await.unwrap().status?;
            let condition = status.conditions?.into_iter().find(|c| c.type_ == "PodScheduled")?;
            (condition.message? == text).then_some(())
        })
        .await;
    }
}

fn directories(root: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    entries.map(|e| e.file_name().into_string().unwrap()).collect()
}

fn storage_of(
    amounts: Option<&std::collections::BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>,
) -> String {
    amounts.and_then(|a| a.get("storage")).map(|q| q.0.clone()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_waits_for_its_first_pod_and_its_directory_goes_with_it() {
    let store = Store::new().await;
    let claim = store.add_claim("data", json!({})).await;
    assert_eq!(claim.spec.unwrap().storage_class_name.as_deref(), Some("local-path"));
    assert_eq!(
        store.event("data", "WaitForFirstConsumer").await,
        "waiting for first consumer to be created before binding"
    );
    assert!(directories(&store.root()).is_empty());

    store.add_user("user", "data").await;
    let (claim, volume) = store.bound("data").await;
    store.on_node("user").await;
    let name = format!("pvc-{}", claim.uid().unwrap());
    assert_eq!(volume.name_any(), name);
    assert_eq!(directories(&store.root()), std::slice::from_ref(&name));
    let annotations = claim.annotations();
    assert_eq!(annotations["volume.kubernetes.io/selected-node"], "n1");
    assert_eq!(annotations["pv.kubernetes.io/bind-completed"], "yes");
    assert_eq!(storage_of(claim.status.as_ref().unwrap().capacity.as_ref()), "1Gi");
    let spec = volume.spec.as_ref().unwrap();
    assert_eq!(spec.local.as_ref().unwrap().path, store.root().join(&name).display().to_string());
    assert_eq!(spec.persistent_volume_reclaim_policy.as_deref(), Some("Delete"));
    assert_eq!(volume.annotations()["pv.kubernetes.io/provisioned-by"], "ferrovirt.io/local-path");
    let text = store.event("data", "ProvisioningSucceeded").await;
    assert_eq!(text, format!("Successfully provisioned volume {name}"));

    std::fs::write(store.root().join(&name).join("disk.img"), "data").unwrap();
    store.delete_pod("user").await;
    store.claims().delete("data", &DeleteParams::default()).await.unwrap();
    until("volume and directory are gone", || async {
        (store.volumes().get_opt(&name).await.unwrap().is_none() && directories(&store.root()).is_empty()).then_some(())
    })
    .await;
    assert!(store.claims().get_opt("data").await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_in_use_is_deleted_only_when_its_last_user_is_gone() {
    let store = Store::new().await;
    store.add_claim("data", json!({})).await;
    store.add_user("user", "data").await;
    let (_, volume) = store.bound("data").await;
    store.on_node("user").await;
    let guest = json!({"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance", "metadata": {"name": "guest"},
        "spec": {"domain": {"devices": {}}, "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}]}});
    let guests = store.cluster.api("kubevirt.io/v1", "VirtualMachineInstance", Some("default"));
    create(&guests, guest).await;
    store.claims().delete("data", &DeleteParams::default()).await.unwrap();
    store.volumes().delete(&volume.name_any(), &DeleteParams::default()).await.unwrap();

    // What is looked at after the deletion was seen also shows that it was held back.
    let looked = async |name: &str| {
        store.add_claim(name, json!({"storageClassName": "none"})).await;
        store.event(name, "ProvisioningFailed").await;
        assert!(store.claims().get("data").await.unwrap().metadata.deletion_timestamp.is_some());
        assert!(store.volumes().get(&volume.name_any()).await.unwrap().metadata.deletion_timestamp.is_some());
        assert_eq!(directories(&store.root()).len(), 1);
    };
    looked("first").await;
    store.add_user("late", "data").await;
    store
        .unschedulable(
            "late",
            "0/1 nodes are available: persistentvolumeclaim \"data\" is being deleted. preemption: 0/1 nodes are available: \
             1 Preemption is not helpful for scheduling.",
        )
        .await;
    store.delete_pod("user").await;
    looked("second").await;
    guests.delete("guest", &DeleteParams::default()).await.unwrap();
    until("everything is gone", || async {
        let gone = store.claims().get_opt("data").await.unwrap().is_none()
            && store.volumes().get_opt(&volume.name_any()).await.unwrap().is_none();
        (gone && directories(&store.root()).is_empty()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_made_volume_is_bound_by_size_and_outlives_its_claim() {
    let store = Store::new().await;
    store.add_class("manual", "kubernetes.io/no-provisioner", "Immediate").await;
    for (name, size) in [("small", "500Mi"), ("large", "50Gi"), ("right", "5Gi")] {
        store.add_volume(name, json!({"storageClassName": "manual", "capacity": {"storage": size}})).await;
        store.phase_of_volume(name, "Available").await;
    }
    store.add_claim("data", json!({"storageClassName": "manual"})).await;
    let (claim, volume) = store.bound("data").await;
    assert_eq!(volume.name_any(), "right");
    assert_eq!(storage_of(claim.status.as_ref().unwrap().capacity.as_ref()), "5Gi");
    assert_eq!(volume.annotations()["pv.kubernetes.io/bound-by-controller"], "yes");
    store.claims().delete("data", &DeleteParams::default()).await.unwrap();
    store.phase_of_volume("right", "Released").await;
    // It is not given to another claim: its data may be wanted.
    store.add_claim("next", json!({"storageClassName": "manual"})).await;
    assert_eq!(store.bound("next").await.1.name_any(), "large");
    store.volumes().delete("right", &DeleteParams::default()).await.unwrap();
    until("it is gone", || async { store.volumes().get_opt("right").await.unwrap().is_none().then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_made_volume_of_a_waiting_class_is_chosen_with_the_node() {
    let store = Store::new().await;
    store.add_class("disks", "kubernetes.io/no-provisioner", "WaitForFirstConsumer").await;
    let affinity = |host: &str| {
        json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [
            {"key": "kubernetes.io/hostname", "operator": "In", "values": [host]}]}]}})
    };
    store.add_volume("elsewhere", json!({"storageClassName": "disks", "nodeAffinity": affinity("n2")})).await;
    store.phase_of_volume("elsewhere", "Available").await;
    store.add_claim("data", json!({"storageClassName": "disks"})).await;
    store.add_user("user", "data").await;
    store
        .unschedulable(
            "user",
            "0/1 nodes are available: 1 node(s) didn't find available persistent volumes to bind. preemption: 0/1 nodes are \
             available: 1 Preemption is not helpful for scheduling.",
        )
        .await;
    store.add_volume("here", json!({"storageClassName": "disks", "nodeAffinity": affinity("n1")})).await;
    assert_eq!(store.bound("data").await.1.name_any(), "here");
    store.on_node("user").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_whose_claim_is_missing_or_unbound_says_so_and_starts_when_it_can() {
    let store = Store::new().await;
    store.add_user("user", "late").await;
    let text = |reason: &str| {
        format!(
            "0/1 nodes are available: {reason}. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
        )
    };
    store.unschedulable("user", &text("persistentvolumeclaim \"late\" not found")).await;
    store.add_claim("late", json!({"storageClassName": "none"})).await;
    store.unschedulable("user", &text("pod has unbound immediate PersistentVolumeClaims")).await;
    assert_eq!(store.event("late", "ProvisioningFailed").await, "storageclass.storage.k8s.io \"none\" not found");
    store.add_class("none", "ferrovirt.io/local-path", "Immediate").await;
    store.bound("late").await;
    store.on_node("user").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_grows_in_use() {
    let store = Store::new().await;
    store.add_claim("data", json!({})).await;
    store.add_user("user", "data").await;
    store.bound("data").await;
    let larger = json!({"spec": {"resources": {"requests": {"storage": "3Gi"}}}});
    store.claims().patch("data", &PatchParams::default(), &Patch::Merge(&larger)).await.unwrap();
    let volume = until("the claim is larger", || async {
        let claim = store.claims().get("data").await.unwrap();
        (storage_of(claim.status.as_ref()?.capacity.as_ref()) == "3Gi").then_some(claim.spec?.volume_name?)
    })
    .await;
    let volume = store.volumes().get(&volume).await.unwrap();
    assert_eq!(storage_of(volume.spec.unwrap().capacity.as_ref()), "3Gi");
    assert_eq!(store.event("data", "VolumeResizeSuccessful").await, "Resize volume succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_directory_cannot_be_is_refused_with_an_event() {
    let store = Store::new().await;
    store.add_class("now", "ferrovirt.io/local-path", "Immediate").await;
    store.add_claim("block", json!({"storageClassName": "now", "volumeMode": "Block"})).await;
    let text = store.event("block", "ProvisioningFailed").await;
    assert!(
        text.starts_with("failed to provision volume with StorageClass \"now\": ") && text.contains("Filesystem"),
        "{text}"
    );
    // Every mode of access is offered: on one node a directory can be shared.
    store.add_claim("shared", json!({"storageClassName": "now", "accessModes": ["ReadWriteMany"]})).await;
    assert_eq!(store.bound("shared").await.1.spec.unwrap().access_modes.unwrap(), ["ReadWriteMany"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_class_is_the_administrators_after_the_first_start() {
    let mut store = Store::new().await;
    // Made and marked are two writes.
    let namespaces = store.cluster.api("v1", "Namespace", None);
    until("it is marked as made", || async {
        let namespace = namespaces.get("kube-system").await.unwrap();
        namespace.annotations().contains_key("ferrovirt.io/default-storage-class").then_some(())
    })
    .await;
    let class = store.classes().get("local-path").await.unwrap();
    assert_eq!(class.annotations()["storageclass.kubernetes.io/is-default-class"], "true");
    assert_eq!(
        (class.allow_volume_expansion, class.volume_binding_mode.as_deref()),
        (Some(true), Some("WaitForFirstConsumer"))
    );
    store.classes().delete("local-path", &DeleteParams::default()).await.unwrap();
    store.stop().await;
    store.start();
    store.add_claim("data", json!({})).await;
    store.event("data", "FailedBinding").await;
    assert!(store.classes().get_opt("local-path").await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_while_nobody_looked_is_reclaimed_at_the_next_start() {
    let mut store = Store::new().await;
    store.add_class("now", "ferrovirt.io/local-path", "Immediate").await;
    store.add_claim("data", json!({"storageClassName": "now"})).await;
    let (_, volume) = store.bound("data").await;
    store.stop().await;
    store.claims().delete("data", &DeleteParams::default()).await.unwrap();
    store.add_claim("more", json!({"storageClassName": "now"})).await;
    store.start();
    store.bound("more").await;
    until("the volume is gone", || async {
        store.volumes().get_opt(&volume.name_any()).await.unwrap().is_none().then_some(())
    })
    .await;
    assert_eq!(directories(&store.root()).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_that_come_at_once_never_share_a_volume() {
    let store = Store::new().await;
    store.add_class("manual", "kubernetes.io/no-provisioner", "Immediate").await;
    for n in 0..12 {
        store.add_volume(&format!("v{n}"), json!({"storageClassName": "manual"})).await;
    }
    let names: Vec<String> = (0..20).map(|n| format!("c{n}")).collect();
    let spec = json!({"storageClassName": "manual"});
    futures::future::join_all(names.iter().map(|name| store.add_claim(name, spec.clone()))).await;
    let volumes = until("every volume is bound", || async {
        let all = store.volumes().list(&Default::default()).await.unwrap().items;
        let bound = |v: &PersistentVolume| v.status.as_ref().is_some_and(|s| s.phase.as_deref() == Some("Bound"));
        (all.len() == 12 && all.iter().all(bound)).then_some(all)
    })
    .await;
    let claims = store.claims().list(&Default::default()).await.unwrap().items;
    let mut pairs = 0;
    for claim in claims.iter().filter(|c| c.spec.as_ref().unwrap().volume_name.is_some()) {
        let name = claim.spec.as_ref().unwrap().volume_name.clone().unwrap();
        let volume = volumes.iter().find(|v| v.name_any() == name).unwrap();
        let reference = volume.spec.as_ref().unwrap().claim_ref.as_ref().unwrap();
        assert_eq!((reference.name.clone(), reference.uid.clone()), (Some(claim.name_any()), claim.uid()), "{name}");
        pairs += 1;
    }
    assert_eq!(pairs, 12);
}
