//! What must survive: lost pods, lost controllers.

use fv_api::VirtualMachineInstance;
use kube::ResourceExt;
use kube::api::DeleteParams;

use crate::cluster::{Cluster, NODE};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_pod_is_replaced_on_the_same_node_and_the_instance_goes_on() {
    let cluster = Cluster::start().await;
    let controller = cluster.controller();
    cluster.create_vm("Always").await;
    let first = cluster.bring_up().await;
    let vmi = cluster.phase("Running").await;
    cluster.lose_pod(&first).await;
    let second = cluster.a_pod(Some(&first)).await;
    let affinity = serde_json::to_string(&second.spec.as_ref().and_then(|spec| spec.affinity.clone())).expect("json");
    assert!(affinity.contains(r#"{"key":"metadata.name","operator":"In","values":["n1"]}"#), "{affinity}");
    cluster.run_pod(&second).await;
    let active = second.uid().expect("uid");
    let after = cluster
        .vmi("the new pod is active", move |vmi| {
            let pods = vmi.status.as_ref().map(|status| status.active_pods.clone()).unwrap_or_default();
            pods.len() == 1 && pods.get(&active).map(String::as_str) == Some(NODE)
        })
        .await;
    assert_eq!(after.uid(), vmi.uid());
    cluster.pod_becomes_ready(&second).await;
    cluster.vm_says("Running").await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_pod_is_replaced_before_it_is_gone() {
    let cluster = Cluster::start().await;
    let controller = cluster.controller();
    cluster.create_vm("Always").await;
    let first = cluster.bring_up().await;
    cluster
        .api::<k8s_openapi::api::core::v1::Pod>()
        .delete(&first.name_any(), &DeleteParams::default())
        .await
        .expect("deleted");
    let second = cluster.a_pod(Some(&first)).await;
    assert_ne!(first.name_any(), second.name_any());
    cluster.run_pod(&second).await;
    cluster.pod_ends(&first).await;
    cluster.pod_becomes_ready(&second).await;
    let still = cluster.phase("Running").await;
    assert!(still.metadata.deletion_timestamp.is_none());
    assert_eq!(cluster.pods().await.len(), 1);
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_started_anew_goes_on_wherever_the_last_one_was_killed() {
    let cluster = Cluster::start().await;
    cluster.create_vm("Always").await;

    let controller = cluster.controller();
    let pod = cluster.a_pod(None).await;
    controller.kill().await;

    cluster.run_pod(&pod).await;
    let controller = cluster.controller();
    let vmi = cluster.phase("Scheduled").await;
    controller.kill().await;

    cluster.node_reports("Running", None).await;
    let controller = cluster.controller();
    cluster.pod_becomes_ready(&pod).await;
    cluster.vm_says("Running").await;
    assert_eq!(cluster.pods().await.len(), 1);
    controller.kill().await;

    cluster.api::<fv_api::VirtualMachine>().delete("demo", &DeleteParams::default()).await.expect("deleted");
    let controller = cluster.controller();
    let going = cluster.vmi("it is deleted", |vmi| vmi.metadata.deletion_timestamp.is_some()).await;
    assert_eq!(going.uid(), vmi.uid());
    controller.kill().await;

    cluster.node_reports("Succeeded", Some(("DomainDeleted", "True"))).await;
    let controller = cluster.controller();
    cluster.pod_ends(&pod).await;
    cluster.gone::<VirtualMachineInstance>("demo").await;
    cluster.gone::<fv_api::VirtualMachine>("demo").await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_lost_while_the_controller_is_away_is_replaced_when_it_is_back() {
    let cluster = Cluster::start().await;
    let controller = cluster.controller();
    cluster.create_vm("Always").await;
    let first = cluster.bring_up().await;
    controller.kill().await;
    cluster.lose_pod(&first).await;
    let controller = cluster.controller();
    let second = cluster.a_pod(Some(&first)).await;
    assert_eq!(second.name_any(), first.name_any(), "the name is free again");
    cluster.phase("Running").await;
    controller.stop().await;
}
