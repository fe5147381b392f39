//! From manifest to running guest and back.

use fv_api::{VirtualMachine, VirtualMachineInstance};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::cluster::{Cluster, NODE, phase_of};

fn condition(conditions: &[fv_api::Condition], type_: &str) -> Option<String> {
    conditions.iter().find(|condition| condition.type_ == type_).map(|condition| condition.status.clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vm_is_started_reported_and_deleted_without_leftovers() {
    let cluster = Cluster::start().await;
    let controller = cluster.controller();
    cluster.create_vm("Always").await;

    let pod = cluster.a_pod(None).await;
    assert!(pod.name_any().starts_with("virt-launcher-demo-"), "{}", pod.name_any());
    cluster.phase("Scheduling").await;
    cluster.vm_says("Starting").await;
    cluster.run_pod(&pod).await;
    let vmi = cluster.phase("Scheduled").await;
    let status = vmi.status.clone().expect("a status");
    assert_eq!(status.node_name.as_deref(), Some(NODE));
    assert_eq!(vmi.labels().get("kubevirt.io/nodeName").map(String::as_str), Some(NODE));
    assert_eq!(status.active_pods.get(&pod.uid().expect("uid")).map(String::as_str), Some(NODE));
    assert_eq!(status.qos_class.as_deref(), Some("Burstable"));
    let steps: Vec<_> = status.phase_transition_timestamps.iter().filter_map(|step| step.phase.clone()).collect();
    assert_eq!(steps, ["Scheduling", "Scheduled"]);

    let changes = cluster.changes();
    cluster.node_reports("Running", None).await;
    // With the four of others (create, bind, pod running, guest running) this makes ten.
    let until_running = [
        "PATCH virtualmachines",
        "POST virtualmachineinstances",
        "PATCH virtualmachines/status",
        "POST pods",
        "PATCH virtualmachineinstances",
        "PATCH virtualmachineinstances",
    ];
    let mut changes = changes;
    changes.sort_unstable();
    // On a machine so slow that copied conditions do not wait for the next step, the VM's status is written once more.
    changes.dedup_by(|a, b| a == b && a.ends_with("virtualmachines/status"));
    let mut expected = until_running.map(str::to_owned).to_vec();
    expected.sort_unstable();
    assert_eq!(changes, expected);

    cluster.pod_becomes_ready(&pod).await;
    let ready = |vmi: &VirtualMachineInstance| {
        vmi.status.as_ref().and_then(|status| condition(&status.conditions, "Ready")).as_deref() == Some("True")
    };
    cluster.vmi("it is ready", ready).await;
    let says_ready =
        |vm: Option<&VirtualMachine>| vm.and_then(|vm| vm.status.as_ref()).is_some_and(|s| s.ready == Some(true));
    let vm = cluster.wait("the VM is ready", "demo", says_ready).await.expect("the VM");
    let status = vm.status.expect("a status");
    assert_eq!((status.created, status.printable_status.as_deref()), (Some(true), Some("Running")));
    assert_eq!(condition(&status.conditions, "Ready").as_deref(), Some("True"));
    assert_eq!(status.run_strategy.as_deref(), Some("Always"));

    cluster.api::<VirtualMachine>().delete("demo", &DeleteParams::default()).await.expect("deleted");
    cluster.vm_says("Terminating").await;
    let going = cluster.vmi("it is deleted", |vmi| vmi.metadata.deletion_timestamp.is_some()).await;
    assert_eq!(phase_of(&going), "Running");
    assert!(
        cluster.pods().await[0].metadata.deletion_timestamp.is_none(),
        "the pod stays until the node has cleaned up"
    );
    cluster.take_down(&pod).await;
    cluster.gone::<VirtualMachineInstance>("demo").await;
    cluster.gone::<VirtualMachine>("demo").await;
    assert!(cluster.pods().await.is_empty());

    controller.stop().await;
    let events: Api<Event> = cluster.api();
    let told: Vec<String> = events
        .list(&ListParams::default())
        .await
        .expect("events")
        .items
        .into_iter()
        .map(|event| event.message.unwrap_or_default())
        .collect();
    for text in [
        "Started the virtual machine by creating the new virtual machine instance demo".to_owned(),
        format!("Created virtual machine pod {}", pod.name_any()),
        "Stopped the virtual machine by deleting the virtual machine instance demo".to_owned(),
        format!("Deleted virtual machine pod {}", pod.name_any()),
    ] {
        assert!(told.contains(&text), "{text} in {told:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_request_gives_a_new_instance() {
    let cluster = Cluster::start().await;
    let controller = cluster.controller();
    cluster.create_vm("Always").await;
    let pod = cluster.bring_up().await;
    let first = cluster.phase("Running").await;
    cluster.request(json!([{"action": "Stop", "uid": first.uid()}, {"action": "Start"}])).await;
    cluster.take_down(&pod).await;
    let uid = first.uid();
    cluster.vmi("there is a new instance", move |vmi| vmi.uid() != uid).await;
    let second = cluster.a_pod(Some(&pod)).await;
    assert_ne!(second.name_any(), pod.name_any());
    cluster.run_pod(&second).await;
    cluster.phase("Scheduled").await;
    let none_left = |vm: Option<&VirtualMachine>| {
        vm.and_then(|vm| vm.status.as_ref()).is_some_and(|status| status.state_change_requests.is_empty())
    };
    cluster.wait("the requests are done", "demo", none_left).await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stop_and_start_follow_the_run_strategy() {
    let cluster = Cluster::start().await;
    let controller = cluster.controller();
    cluster.create_vm("Halted").await;
    cluster.vm_says("Stopped").await;
    assert!(cluster.pods().await.is_empty());

    cluster.patch_vm(json!({"spec": {"runStrategy": "Always"}})).await;
    let pod = cluster.bring_up().await;
    cluster.patch_vm(json!({"spec": {"runStrategy": "Halted"}})).await;
    cluster.vm_says("Stopping").await;
    cluster.take_down(&pod).await;
    let vm = cluster.vm_says("Stopped").await;
    cluster.gone::<VirtualMachineInstance>("demo").await;
    assert!(vm.metadata.finalizers.is_some());
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_that_powers_off_is_started_again_by_always() {
    let cluster = Cluster::start().await;
    let controller = cluster.controller();
    cluster.create_vm("Always").await;
    let pod = cluster.bring_up().await;
    let first = cluster.phase("Running").await.uid();
    cluster.node_reports("Succeeded", Some(("DomainDeleted", "True"))).await;
    cluster.pod_ends(&pod).await;
    cluster.vmi("there is a new instance", move |vmi| vmi.uid() != first).await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_that_fails_is_counted_and_waited_for() {
    let cluster = Cluster::start().await;
    let controller = cluster.controller();
    cluster.create_vm("Always").await;
    let pod = cluster.a_pod(None).await;
    cluster.phase("Scheduling").await;
    let ended = json!({"status": {"phase": "Failed"}});
    let pods: Api<Pod> = cluster.api();
    pods.patch_status(&pod.name_any(), &Default::default(), &kube::api::Patch::Merge(ended)).await.expect("ended");
    cluster.pod_ends(&pod).await;
    let vm = cluster.vm_says("CrashLoopBackOff").await;
    let failure = vm.status.and_then(|status| status.start_failure).expect("a count");
    assert_eq!(failure.consecutive_fail_count, Some(1));
    cluster.gone::<VirtualMachineInstance>("demo").await;
    controller.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_instance_of_the_name_is_told_and_left_alone() {
    let cluster = Cluster::start().await;
    let foreign: VirtualMachineInstance = serde_json::from_value(json!({
        "metadata": {"name": "demo"}, "spec": {"domain": {"devices": {}, "memory": {"guest": "64Mi"}}}
    }))
    .expect("a VMI");
    let made = cluster.api::<VirtualMachineInstance>().create(&Default::default(), &foreign).await.expect("created");
    let controller = cluster.controller();
    cluster.create_vm("Always").await;
    let failed = |vm: Option<&VirtualMachine>| {
        let status = vm.and_then(|vm| vm.status.as_ref());
        status.and_then(|status| condition(&status.conditions, "Failure")).as_deref() == Some("True")
    };
    cluster.wait("the failure is told", "demo", failed).await;
    let vmi = cluster.phase("Scheduling").await;
    assert_eq!((vmi.uid(), vmi.metadata.deletion_timestamp), (made.uid(), None));
    controller.stop().await;
}
