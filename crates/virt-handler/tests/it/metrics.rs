//! What a handler tells at a scrape.

use fv_hypervisor::fake::Call;
use fv_hypervisor::stats::{DiskStats, MemoryStats};
use fv_hypervisor::{DomainStats, HypervisorError};
use fv_runtime::metrics::Source;
use serde_json::json;

use crate::support::{Running, World, until, uuid};

async fn series(handler: &Running, name: &str) -> Vec<String> {
    let lines = handler.handler.samples().await.lines();
    lines.into_iter().filter(|line| line.contains(&format!("name=\"{name}\""))).collect()
}

fn stats(reads: Option<u64>) -> DomainStats {
    DomainStats {
        memory: MemoryStats { maximum: Some(98304), ..MemoryStats::default() },
        disks: vec![DiskStats { target: "vda".into(), reads, ..DiskStats::default() }],
        ..DomainStats::default()
    }
}

#[tokio::test]
async fn a_guest_is_told_of_by_volume_interface_and_label_until_it_is_gone() {
    let world = World::new().await;
    let handler = world.start().await;
    let vmi = world.schedule("told", |vmi| vmi["metadata"]["labels"]["team.example/x"] = json!("blue")).await;
    world.reach(&vmi, "Running").await;
    world.hypervisor.set_stats(uuid(&vmi), stats(Some(7)));
    let found = series(&handler, "told").await;
    let common = "kubernetes_vmi_label_kubevirt_io_nodeName=\"node1\",kubernetes_vmi_label_team_example_x=\"blue\"";
    let of = |metric: &str, more: &str, amount: u64| {
        format!("kubevirt_vmi_{metric}{{node=\"node1\",namespace=\"default\",name=\"told\"{more},{common}}} {amount}")
    };
    for expected in [
        of("storage_iops_read_total", ",drive=\"root\"", 7),
        of("memory_domain_bytes", "", 98304 * 1024),
        of("network_receive_bytes_total", ",interface=\"default\"", 4200),
    ] {
        assert!(found.contains(&expected), "{expected} in {found:#?}");
    }
    world.delete(&vmi).await;
    world.deleted(&vmi).await;
    assert!(series(&handler, "told").await.is_empty());
}

#[tokio::test]
async fn statistics_that_cannot_be_read_are_left_out_and_counted() {
    let world = World::new().await;
    let handler = world.start().await;
    let vmi = world.schedule("unread", |_| {}).await;
    world.reach(&vmi, "Running").await;
    let counted = |reason: &str| fv_metrics::live::UNREADABLE.with_label_values(&["node1", "libvirt", reason]).get();

    world.hypervisor.set_stats(uuid(&vmi), stats(Some(7)));
    let before = counted("HypervisorBusy");
    world.hypervisor.fail_next(Call::Stats, HypervisorError::Busy { step: "reading a domain's statistics" });
    let found = series(&handler, "unread").await;
    assert!(!found.iter().any(|line| line.contains("storage") || line.contains("memory_domain")), "{found:#?}");
    assert!(found.iter().any(|line| line.contains("network_receive_bytes_total")), "the network can be read");
    assert!(counted("HypervisorBusy") > before);

    // libvirt names the disk, and could not ask QEMU about it.
    world.hypervisor.set_stats(uuid(&vmi), stats(None));
    let before = counted("DomainBusy");
    assert!(!series(&handler, "unread").await.iter().any(|line| line.contains("storage")));
    assert!(counted("DomainBusy") > before);
}

#[tokio::test]
async fn without_libvirt_a_scrape_says_so_and_nothing_of_guests() {
    let world = World::new().await;
    let handler = world.start().await;
    let vmi = world.schedule("silent", |_| {}).await;
    world.reach(&vmi, "Running").await;
    world.hypervisor.disconnect("killed");
    let lines = handler.handler.samples().await.lines();
    assert_eq!(lines, ["ferrovirt_libvirt_connected{node=\"node1\"} 0"]);
    world.hypervisor.reconnect();
    until("the guest again", async || !series(&handler, "silent").await.is_empty()).await;
}
