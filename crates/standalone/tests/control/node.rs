use fv_standalone::node::{Machine, register};
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::support::Cluster;

fn machine(cpus: usize) -> Machine {
    Machine {
        hostname: "n1".into(),
        cpus,
        memory_bytes: 8 << 30,
        disk_bytes: 100 << 30,
        address: "10.96.0.1".into(),
        kernel: "6".into(),
        os_image: "Debian".into(),
        machine_id: "m".into(),
        boot_id: "b".into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn registering_again_keeps_what_an_operator_set_and_renews_what_the_machine_is() {
    let cluster = Cluster::new().await;
    register(&cluster.client, "n1", &machine(2)).await.unwrap();
    let taint = json!({"key": "k", "value": "v", "effect": "NoSchedule"});
    let patch = json!({
        "metadata": {"labels": {"disk": "fast", "kubernetes.io/hostname": "wrong"}, "annotations": {"a": "b"}},
        "spec": {"unschedulable": true, "taints": [taint]},
    });
    cluster.nodes().patch("n1", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    register(&cluster.client, "n1", &machine(4)).await.unwrap();
    let node = cluster.nodes().get("n1").await.unwrap();
    let labels = node.metadata.labels.unwrap();
    assert_eq!((labels["disk"].as_str(), labels["kubernetes.io/hostname"].as_str()), ("fast", "n1"));
    assert_eq!(node.metadata.annotations.unwrap()["a"], "b");
    let spec = node.spec.unwrap();
    assert_eq!(spec.unschedulable, Some(true));
    assert!(spec.taints.unwrap().iter().any(|t| t.key == "k"));
    assert_eq!(node.status.unwrap().allocatable.unwrap()["cpu"].0, "4");
}
