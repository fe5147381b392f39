//! Everything around the handler may go away, and so may the handler.

use fv_hypervisor::StopReason;
use fv_hypervisor::fake::Call;
use fv_virt_handler::vm::decide::Trouble;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::support::{World, let_it_act, until, uuid};

/// A client whose every request fails.
fn no_api() -> kube::Client {
    let service = tower::service_fn(|_: http::Request<kube::client::Body>| async {
        Err::<http::Response<kube::client::Body>, std::io::Error>(std::io::ErrorKind::ConnectionRefused.into())
    });
    kube::Client::new(service, "default")
}

#[tokio::test]
async fn restarted_handler_takes_its_guests_over_untouched() {
    let world = World::new().await;
    let handler = world.start().await;
    let vmi = world.schedule("vm", |_| {}).await;
    world.reach(&vmi, "Running").await;
    let before = world.get(&vmi).await;
    handler.end().await;
    let resumes = world.hypervisor.count(Call::Resume);
    let handler = world.start().await;
    until("the network", async || world.recorded.count("network ensure") >= 2).await;
    let_it_act().await;
    for call in [Call::Destroy, Call::Shutdown, Call::Suspend, Call::Reset] {
        assert_eq!(world.hypervisor.count(call), 0, "{call:?}");
    }
    assert_eq!((world.hypervisor.count(Call::Start), world.hypervisor.count(Call::Resume)), (1, resumes));
    assert_eq!(world.recorded.count("taps create"), 1);
    assert_eq!(world.get(&vmi).await.status, before.status);
    assert!(handler.handler.troubles().is_empty());
}

#[tokio::test]
async fn guest_that_powered_off_meanwhile_has_succeeded() {
    let world = World::new().await;
    let handler = world.start().await;
    let vmi = world.schedule("vm", |_| {}).await;
    world.reach(&vmi, "Running").await;
    handler.end().await;
    world.hypervisor.stop_domain(uuid(&vmi), StopReason::Shutdown);
    let _handler = world.start().await;
    world.reach(&vmi, "Succeeded").await;
    until("release", async || world.records() == 0).await;
    assert_eq!(world.hypervisor.count(Call::Start), 1);
}

#[tokio::test]
async fn vmi_deleted_meanwhile_is_shut_down() {
    let world = World::new().await;
    let handler = world.start().await;
    let vmi = world.schedule("vm", |_| {}).await;
    world.reach(&vmi, "Running").await;
    handler.end().await;
    world.delete(&vmi).await;
    let _handler = world.start().await;
    world.deleted(&vmi).await;
    assert_eq!(world.hypervisor.count(Call::Shutdown), 1);
}

#[tokio::test]
async fn without_the_api_nothing_happens_to_guests() {
    let world = World::new().await;
    let handler = world.start().await;
    let vmi = world.schedule("vm", |_| {}).await;
    world.reach(&vmi, "Running").await;
    handler.end().await;
    let blind = world.start_with(no_api()).await;
    let_it_act().await;
    assert!(world.hypervisor.count(Call::Shutdown) == 0 && world.hypervisor.count(Call::Destroy) == 0);
    assert_eq!(world.recorded.count("disks release"), 0);
    // An unreachable API makes nobody an orphan.
    assert!(blind.handler.troubles().is_empty());
}

#[tokio::test]
async fn lost_libvirt_connection_kills_and_restarts_nobody() {
    let world = World::new().await;
    let handler = world.start().await;
    let vmi = world.schedule("vm", |_| {}).await;
    world.reach(&vmi, "Running").await;
    world.hypervisor.disconnect("killed");
    until("the trouble", async || handler.handler.troubles().iter().any(|t| t.trouble == Trouble::LibvirtUnreachable))
        .await;
    let_it_act().await;
    assert_eq!(world.phase(&vmi).await, "Running");
    world.hypervisor.reconnect();
    until("calm", async || handler.handler.troubles().is_empty()).await;
    assert_eq!((world.hypervisor.count(Call::Start), world.recorded.count("disks release")), (1, 0));
    assert_eq!(world.phase(&vmi).await, "Running");
}

#[tokio::test]
async fn guest_whose_vmi_vanished_is_an_orphan_until_an_operator_stops_it() {
    let world = World::new().await;
    let handler = world.start().await;
    let vmi = world.schedule("vm", |_| {}).await;
    world.reach(&vmi, "Running").await;
    // Somebody removes finalizer and object at one stroke, while the handler is away: no deletion was ever to be seen.
    handler.end().await;
    let none = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    world.vmis().patch(&vmi.name, &PatchParams::default(), &none).await.unwrap();
    world.delete(&vmi).await;
    let handler = world.start().await;
    until("the orphan", async || handler.handler.troubles().iter().any(|t| t.trouble == Trouble::Orphan)).await;
    let_it_act().await;
    assert!(world.hypervisor.count(Call::Shutdown) == 0 && world.hypervisor.count(Call::Destroy) == 0);
    assert_eq!(world.records(), 1);

    assert!(handler.handler.stop_orphan(&vmi.uid, std::time::Duration::from_secs(20)));
    until("release", async || world.records() == 0).await;
    assert_eq!(world.hypervisor.count(Call::Shutdown), 1);
    assert!(world.recorded.count("network release") == 1 && world.recorded.count("disks release") == 1);
}

#[tokio::test]
async fn namesake_of_a_running_guest_gets_its_own() {
    let world = World::new().await;
    let handler = world.start().await;
    let first = world.schedule("vm", |_| {}).await;
    world.reach(&first, "Running").await;
    handler.end().await;
    let none = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    world.vmis().patch(&first.name, &PatchParams::default(), &none).await.unwrap();
    world.delete(&first).await;
    let second = world.schedule("vm", |_| {}).await;
    assert_ne!(first.uid, second.uid);
    let handler = world.start().await;
    world.reach(&second, "Running").await;
    until("the orphan", async || handler.handler.troubles().iter().any(|t| t.uid == first.uid)).await;
    assert_eq!(world.hypervisor.count(Call::Destroy), 0);
}

#[tokio::test]
async fn lost_node_directory_does_not_lose_the_guest() {
    let world = World::new().await;
    let handler = world.start().await;
    let vmi = world.schedule("vm", |_| {}).await;
    world.reach(&vmi, "Running").await;
    handler.end().await;
    std::fs::remove_dir_all(world.data.path().join("node")).unwrap();
    let _handler = world.start().await;
    until("the record", async || world.records() == 1).await;
    assert_eq!(world.hypervisor.count(Call::Start), 1);
    world.delete(&vmi).await;
    world.deleted(&vmi).await;
}

#[tokio::test]
async fn launcher_that_disappears_does_not_end_the_guest() {
    let world = World::new().await;
    let handler = world.start().await;
    let vmi = world.schedule("vm", |_| {}).await;
    world.reach(&vmi, "Running").await;
    let pod = world.get(&vmi).await.status.unwrap().active_pods.keys().next().unwrap().clone();
    world.pods.remove(&pod);
    world.patch(&vmi, json!({"status": {"activePods": {pod: null}}})).await;
    until("the trouble", async || handler.handler.troubles().iter().any(|t| t.trouble == Trouble::LauncherMissing))
        .await;
    let_it_act().await;
    assert_eq!(world.phase(&vmi).await, "Running");
    assert!(world.hypervisor.count(Call::Shutdown) == 0 && world.hypervisor.count(Call::Destroy) == 0);
}

#[tokio::test]
async fn damaged_record_is_told_and_its_guest_left_alone() {
    let world = World::new().await;
    let handler = world.start().await;
    let vmi = world.schedule("vm", |_| {}).await;
    world.reach(&vmi, "Running").await;
    handler.end().await;
    let record = world.data.path().join("node/vmis").join(&vmi.uid).join("record.json");
    std::fs::write(&record, "{ half").unwrap();
    let handler = world.start().await;
    until("the trouble with its name", async || {
        let troubles = handler.handler.troubles();
        troubles.iter().any(|t| t.uid == vmi.uid && t.name == vmi.name && t.trouble == Trouble::DamagedRecord)
    })
    .await;
    until("events about node and VMI", async || {
        let events = world.all_events().await;
        let about = |kind: &str| {
            let mut told = events.iter().filter(|e| e.reason.as_deref() == Some("DamagedRecord"));
            told.any(|e| e.involved_object.kind.as_deref() == Some(kind) && e.type_.as_deref() == Some("Warning"))
        };
        about("Node") && about("VirtualMachineInstance")
    })
    .await;
    world.delete(&vmi).await;
    let_it_act().await;
    assert!(world.hypervisor.count(Call::Shutdown) == 0 && world.hypervisor.count(Call::Destroy) == 0);
    assert_eq!(world.recorded.count("disks release"), 0);
    assert!(record.exists());
}

#[tokio::test]
async fn disks_of_vms_that_nobody_knows_are_released() {
    let world = World::new().await;
    let handler = world.start().await;
    let vmi = world.schedule("vm", |_| {}).await;
    world.reach(&vmi, "Running").await;
    let elsewhere = world.schedule("elsewhere", |v| v["metadata"]["labels"] = json!({})).await;
    handler.end().await;
    let gone = uuid::Uuid::new_v4().to_string();
    let kept = [vmi.uid.clone(), elsewhere.uid.clone(), "the-importer".to_owned()];
    world.recorded.holders.lock().extend(kept.iter().cloned().chain([gone.clone()]));

    // Neither without the API nor without libvirt is anybody gone.
    let blind = world.start_with(no_api()).await;
    let_it_act().await;
    blind.end().await;
    world.hypervisor.disconnect("killed");
    let lost = world.start().await;
    let_it_act().await;
    lost.end().await;
    assert_eq!(world.recorded.count("disks release"), 0);

    world.hypervisor.reconnect();
    let _handler = world.start().await;
    until("the release", async || !world.recorded.holders.lock().contains(&gone)).await;
    assert_eq!(world.recorded.count("disks release"), 1);
    assert_eq!(*world.recorded.holders.lock(), kept.into_iter().collect());
}
