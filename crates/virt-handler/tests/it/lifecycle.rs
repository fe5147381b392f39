//! Start, end and deletion of guests.

use fv_hypervisor::StopReason;
use fv_hypervisor::fake::{Call, OnShutdown};
use serde_json::json;

use crate::support::{NODE, World, let_it_act, until, uuid};

#[tokio::test]
async fn vmi_is_started_reported_and_deleted_without_a_trace() {
    let world = World::new().await;
    let _handler = world.start().await;
    let vmi = world.schedule("vm", |_| {}).await;
    world.reach(&vmi, "Running").await;

    let status = world.get(&vmi).await.status.unwrap();
    let interface = &status.interfaces[0];
    assert_eq!(interface.ip_address.as_deref(), Some("10.244.0.7"));
    assert_eq!(interface.pod_interface_name.as_deref(), Some("eth0"));
    assert_eq!(status.machine.unwrap().type_.as_deref(), Some("pc-q35-7.2"));
    assert_eq!(status.volume_status[0].target, "vda");
    assert_eq!(world.condition(&vmi, "LiveMigratable").await.unwrap().0, "False");
    assert_eq!(world.condition(&vmi, "SoftwareEmulation").await.unwrap().0, "True");
    assert!(world.condition(&vmi, "Synchronized").await.is_none());
    let pod = status.active_pods.keys().next().unwrap().clone();
    let share = world.pods.share(&pod);
    let dhcp: serde_json::Value = serde_json::from_slice(&std::fs::read(share.join("dhcp.json")).unwrap()).unwrap();
    assert_eq!(dhcp["interfaces"][0]["guest"], "10.0.2.2/24");
    let calls = world.recorded.calls.lock().clone();
    assert_eq!(calls[..4], ["disks prepare", "network ensure", "taps create", "taps attach"]);

    world.delete(&vmi).await;
    world.deleted(&vmi).await;
    assert!(share.join("released").exists());
    until("an empty node directory", async || world.records() == 0).await;
    assert_eq!(world.phase(&vmi).await, "Succeeded");
    assert_eq!((world.recorded.count("network release"), world.recorded.count("disks release")), (1, 1));
    assert_eq!((world.hypervisor.count(Call::Start), world.hypervisor.count(Call::Destroy)), (1, 0));
    for reason in ["Created", "Started", "ShuttingDown", "Stopped"] {
        until(reason, async || world.events().await.iter().any(|r| r == reason)).await;
    }
}

#[tokio::test]
async fn guest_that_does_not_listen_is_destroyed_after_its_grace_period() {
    let world = World::new().await;
    let _handler = world.start().await;
    world.hypervisor.on_shutdown(OnShutdown::Ignore);
    let vmi = world.schedule("vm", |v| v["spec"]["terminationGracePeriodSeconds"] = 2.into()).await;
    world.reach(&vmi, "Running").await;
    world.delete(&vmi).await;
    world.deleted(&vmi).await;
    assert_eq!(world.phase(&vmi).await, "Failed");
    assert_eq!(world.hypervisor.count(Call::Destroy), 1);
    assert!(world.hypervisor.count(Call::Shutdown) >= 1);
}

#[tokio::test]
async fn no_grace_period_means_no_power_button() {
    let world = World::new().await;
    let _handler = world.start().await;
    let vmi = world.schedule("vm", |v| v["spec"]["terminationGracePeriodSeconds"] = 0.into()).await;
    world.reach(&vmi, "Running").await;
    world.delete(&vmi).await;
    world.deleted(&vmi).await;
    assert_eq!((world.hypervisor.count(Call::Shutdown), world.hypervisor.count(Call::Destroy)), (0, 1));
}

#[tokio::test]
async fn ends_of_guests_become_phases() {
    let world = World::new().await;
    let _handler = world.start().await;
    for (name, reason, phase, word) in [
        ("off", StopReason::Shutdown, "Succeeded", None),
        ("crash", StopReason::Crashed, "Failed", Some("GuestCrashed")),
        ("killed", StopReason::Destroyed, "Failed", Some("DomainDestroyed")),
    ] {
        let vmi = world.schedule(name, |_| {}).await;
        world.reach(&vmi, "Running").await;
        world.hypervisor.stop_domain(uuid(&vmi), reason);
        world.reach(&vmi, phase).await;
        assert_eq!(world.get(&vmi).await.status.unwrap().reason.as_deref(), word);
        until("release", async || world.records() == 0).await;
        // A final VMI that is deleted later has nothing left to wait for.
        world.delete(&vmi).await;
        world.deleted(&vmi).await;
    }
    assert_eq!(world.hypervisor.count(Call::Start), 3);
}

#[tokio::test]
async fn paused_start_waits_for_the_user() {
    let world = World::new().await;
    let _handler = world.start().await;
    let vmi = world.schedule("vm", |v| v["spec"]["startStrategy"] = "Paused".into()).await;
    world.reach(&vmi, "Running").await;
    assert_eq!(world.condition(&vmi, "Paused").await.unwrap().1, "PausedByUser");
    assert_eq!(world.hypervisor.count(Call::Resume), 0);
}

#[tokio::test]
async fn failing_start_is_told_tried_again_and_taken_back() {
    let world = World::new().await;
    *world.recorded.disks_fail.lock() = true;
    let _handler = world.start().await;
    let vmi = world.schedule("vm", |_| {}).await;
    until("the failure", async || {
        world.condition(&vmi, "Synchronized").await == Some(("False".into(), "UnsupportedVolume".into()))
    })
    .await;
    assert_eq!(world.phase(&vmi).await, "Scheduled");
    *world.recorded.disks_fail.lock() = false;
    world.reach(&vmi, "Running").await;
    assert!(world.condition(&vmi, "Synchronized").await.is_none());
}

#[tokio::test]
async fn deletion_ends_a_pull_that_hangs() {
    let world = World::new().await;
    *world.recorded.pull_hangs.lock() = true;
    let _handler = world.start().await;
    let vmi = world.schedule("vm", |_| {}).await;
    until("the pull", async || world.recorded.count("disks prepare") == 1).await;
    world.delete(&vmi).await;
    world.deleted(&vmi).await;
    assert_eq!(world.hypervisor.count(Call::Start), 0);
    assert_eq!(world.recorded.count("disks release"), 1);
}

#[tokio::test]
async fn vmi_of_another_node_is_left_alone() {
    let world = World::new().await;
    let _handler = world.start().await;
    let vmi = world
        .schedule("vm", |v| {
            v["metadata"]["labels"]["kubevirt.io/nodeName"] = "node2".into();
            v["status"]["nodeName"] = "node2".into();
        })
        .await;
    let_it_act().await;
    assert_eq!(world.phase(&vmi).await, "Scheduled");
    assert_eq!((world.hypervisor.count(Call::Start), world.records()), (0, 0));
}

#[tokio::test]
async fn replaced_launcher_gets_the_network_and_the_dhcp_answer() {
    let world = World::new().await;
    let _handler = world.start().await;
    let vmi = world.schedule("vm", |_| {}).await;
    world.reach(&vmi, "Running").await;
    let old = world.get(&vmi).await.status.unwrap().active_pods.keys().next().unwrap().clone();
    let new = uuid::Uuid::new_v4().to_string();
    let share = world.pods.add(&new);
    world.pods.remove(&old);
    world.patch(&vmi, json!({"status": {"activePods": {old: null, &new: "node1"}}})).await;
    until("dhcp.json in the new pod", async || share.join("dhcp.json").exists()).await;
    assert_eq!(world.phase(&vmi).await, "Running");
    assert_eq!(world.hypervisor.count(Call::Start), 1);
    world.delete(&vmi).await;
    world.deleted(&vmi).await;
    assert!(share.join("released").exists());
}

#[tokio::test]
async fn guest_leaves_a_pod_that_is_being_deleted_for_its_replacement() {
    let world = World::new().await;
    let _handler = world.start().await;
    let vmi = world.schedule("vm", |_| {}).await;
    world.reach(&vmi, "Running").await;
    let old = world.get(&vmi).await.status.unwrap().active_pods.keys().next().unwrap().clone();
    // The launcher of a pod that is being deleted waits to be released, so its sandbox stays.
    let leaving = world.launcher_pod(&vmi, "old").await;
    let share = world.pods.add(&leaving);
    let old_share = world.pods.share(&old);
    world.pods.remove(&old);
    world.patch(&vmi, json!({"status": {"activePods": {&old: null, &leaving: "node1"}}})).await;
    until("the first move", async || share.join("dhcp.json").exists()).await;
    assert!(!old_share.exists() && !share.join("released").exists());

    let replacement = world.launcher_pod(&vmi, "new").await;
    world.delete_pod("old").await;
    world.patch(&vmi, json!({"status": {"activePods": {&replacement: "node1"}}})).await;
    let_it_act().await;
    assert!(!share.join("released").exists(), "released before there was another pod");
    let new_share = world.pods.add(&replacement);
    until("the second move", async || new_share.join("dhcp.json").exists()).await;
    until("the release", async || share.join("released").exists()).await;
    assert!(!new_share.join("released").exists());
    assert_eq!(world.phase(&vmi).await, "Running");
    assert_eq!(world.hypervisor.count(Call::Start), 1);
}

#[tokio::test]
async fn bridged_guest_is_told_to_ask_for_its_new_address() {
    let world = World::new().await;
    let handler = world.start().await;
    let vmi = world
        .schedule("vm", |v| {
            let interfaces = &mut v["spec"]["domain"]["devices"]["interfaces"];
            *interfaces = json!([{"name": "default", "bridge": {}, "model": "virtio"}]);
        })
        .await;
    world.reach(&vmi, "Running").await;
    let old = world.get(&vmi).await.status.unwrap().active_pods.keys().next().unwrap().clone();
    let new = uuid::Uuid::new_v4().to_string();
    // A pod that keeps the address, and a new handler, disturb nobody.
    handler.end().await;
    let handler = world.start().await;
    until("the network", async || world.recorded.count("taps attach") >= 2).await;
    assert!(world.hypervisor.links(uuid(&vmi)).is_empty());

    *world.recorded.address.lock() = Some("10.244.0.8/24".into());
    world.pods.add(&new);
    world.pods.remove(&old);
    world.patch(&vmi, json!({"status": {"activePods": {old: null, &new: "node1"}}})).await;
    until("the cable to be out", async || !world.hypervisor.links(uuid(&vmi)).is_empty()).await;
    // Whoever dies with the cable out leaves it to the next one to put it in again.
    handler.end().await;
    let handler = world.start().await;
    until("the cable to be in", async || world.hypervisor.links(uuid(&vmi)).last().is_some_and(|(_, up)| *up)).await;
    until("the address", async || {
        let status = world.get(&vmi).await.status.unwrap();
        status.interfaces[0].ip_address.as_deref() == Some("10.244.0.8")
    })
    .await;
    // Once is enough.
    until("the event", async || world.events().await.iter().any(|r| r == "AddressChanged")).await;
    let network = world.data.path().join("node/vmis").join(&vmi.uid).join("network.json");
    until("the plan to be settled", async || {
        let plan: serde_json::Value = serde_json::from_slice(&std::fs::read(&network).unwrap()).unwrap();
        plan["linkRefreshNeeded"] == false
    })
    .await;
    handler.end().await;
    let links = world.hypervisor.links(uuid(&vmi)).len();
    let attached = world.recorded.count("taps attach");
    let _handler = world.start().await;
    until("the network", async || world.recorded.count("taps attach") > attached).await;
    assert_eq!(world.hypervisor.links(uuid(&vmi)).len(), links);
}

#[tokio::test]
async fn network_that_fails_under_a_running_guest_does_not_hide_it() {
    let world = World::new().await;
    let handler = world.start().await;
    let vmi = world.schedule("vm", |_| {}).await;
    world.reach(&vmi, "Running").await;
    handler.end().await;
    *world.recorded.network_fails.lock() = true;
    let _handler = world.start().await;
    until("the failure", async || {
        world.condition(&vmi, "Synchronized").await == Some(("False".into(), "FailedNetworkSetup".into()))
    })
    .await;
    assert_eq!(world.phase(&vmi).await, "Running");
    *world.recorded.network_fails.lock() = false;
    until("recovery", async || world.condition(&vmi, "Synchronized").await.is_none()).await;
}

#[tokio::test]
async fn guest_whose_server_is_gone_ends_by_its_liveness_probe() {
    let world = World::new().await;
    let _handler = world.start().await;
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    let vmi = world
        .schedule("vm", |v| {
            let probe =
                json!({"tcpSocket": {"port": port}, "periodSeconds": 1, "timeoutSeconds": 5, "failureThreshold": 2});
            v["spec"]["livenessProbe"] = probe;
        })
        .await;
    world.reach(&vmi, "Running").await;
    // Somebody has asked, and the guest goes on.
    server.accept().await.unwrap();
    server.accept().await.unwrap();
    assert_eq!(world.phase(&vmi).await, "Running");
    drop(server);
    world.reach(&vmi, "Failed").await;
    assert_eq!(world.get(&vmi).await.status.unwrap().reason.as_deref(), Some("LivenessProbeFailed"));
    assert_eq!((world.hypervisor.count(Call::Shutdown), world.hypervisor.count(Call::Destroy)), (1, 0));
    let events = world.all_events().await;
    let told = events.iter().find(|event| event.reason.as_deref() == Some("Unhealthy")).expect("an event");
    assert!(
        told.message.as_deref().is_some_and(|m| m.starts_with("Liveness probe failed: dial tcp 10.244.0.7:")),
        "{told:?}"
    );
}

#[tokio::test]
async fn guest_whose_agent_is_gone_ends_by_its_liveness_probe_and_not_by_a_lost_libvirt() {
    let world = World::new().await;
    world.hypervisor.agent_answers("guest-ping", Some(json!({})));
    let _handler = world.start().await;
    let vmi = world
        .schedule("vm", |v| {
            v["spec"]["livenessProbe"] = json!({"guestAgentPing": {}, "periodSeconds": 1, "failureThreshold": 1});
        })
        .await;
    world.reach(&vmi, "Running").await;
    let asked = || world.hypervisor.count(Call::AgentCommand);
    until("the agent is asked", async || asked() > 1).await;
    world.hypervisor.disconnect("restart");
    let before = asked();
    until("the agent is asked again, in vain", async || asked() > before + 1).await;
    // It is back, and has not found the agent again.
    world.hypervisor.agent_answers("guest-ping", None);
    world.hypervisor.reconnect();
    let before = asked();
    until("the agent is asked by the new libvirt", async || asked() > before + 1).await;
    assert_eq!(world.phase(&vmi).await, "Running");
    world.hypervisor.settle();
    world.reach(&vmi, "Failed").await;
    assert_eq!(world.get(&vmi).await.status.unwrap().reason.as_deref(), Some("LivenessProbeFailed"));
    assert_eq!((world.hypervisor.count(Call::Shutdown), world.hypervisor.count(Call::Destroy)), (1, 0));
}

#[tokio::test]
async fn launcher_pods_hear_what_the_guest_agent_says_of_readiness_and_keep_it_while_nobody_asks() {
    let world = World::new().await;
    let handler = world.start().await;
    let vmi = world
        .schedule("vm", |v| {
            v["spec"]["readinessProbe"] =
                json!({"exec": {"command": ["/ready"]}, "periodSeconds": 1, "failureThreshold": 3});
        })
        .await;
    world.reach(&vmi, "Running").await;
    let pod = world.get(&vmi).await.status.unwrap().active_pods.into_keys().next().unwrap();
    let heard = |pod: &str| std::fs::read_to_string(world.pods.share(pod).join("readiness")).ok();
    until("the agent to be missed", async || heard(&pod).as_deref() == Some("QEMU guest agent is not connected")).await;
    world.hypervisor.agent_answers("guest-exec", Some(json!({"pid": 5})));
    world.hypervisor.agent_answers("guest-exec-status", Some(json!({"exited": true, "exitcode": 3})));
    until("the command to fail", async || heard(&pod).as_deref() == Some("command ended with exit code 3")).await;
    world.hypervisor.agent_answers("guest-exec-status", Some(json!({"exited": true, "exitcode": 0})));
    until("the command to pass", async || heard(&pod).as_deref() == Some("")).await;
    // A replacement of the pod is told as well.
    let next = uuid::Uuid::new_v4().to_string();
    world.pods.add(&next);
    world.patch(&vmi, json!({"status": {"activePods": {(next.clone()): NODE}}})).await;
    until("the new pod hears of it", async || heard(&next).as_deref() == Some("")).await;
    // Neither a lost libvirt nor the handler's own end is the guest's fault.
    let asked = || world.hypervisor.count(Call::AgentCommand);
    world.hypervisor.disconnect("restart");
    let before = asked();
    until("the agent is asked again, in vain", async || asked() > before + 1).await;
    assert_eq!(heard(&next).as_deref(), Some(""));
    handler.end().await;
    assert_eq!(heard(&next).as_deref(), Some(""));
    assert_eq!(world.phase(&vmi).await, "Running");
}

#[tokio::test]
async fn guest_that_has_to_leave_its_node_is_shut_down_and_says_so() {
    let world = World::new().await;
    let _handler = world.start().await;
    let vmi = world.schedule("vm", |_| {}).await;
    world.reach(&vmi, "Running").await;
    let node = world.get(&vmi).await.status.unwrap().node_name;
    world.patch(&vmi, json!({"status": {"evacuationNodeName": node}})).await;
    world.reach(&vmi, "Succeeded").await;
    until("release", async || world.records() == 0).await;
    assert_eq!((world.hypervisor.count(Call::Shutdown), world.hypervisor.count(Call::Destroy)), (1, 0));
    // With a strategy of its own the guest is somebody else's to move.
    let vmi = world.schedule("other", |v| v["spec"]["evictionStrategy"] = "External".into()).await;
    world.reach(&vmi, "Running").await;
    world.patch(&vmi, json!({"status": {"evacuationNodeName": node}})).await;
    let_it_act().await;
    assert_eq!(world.phase(&vmi).await, "Running");
}
