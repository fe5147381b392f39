//! Real guests: libvirtd of our own, QEMU, namespaces, disks from the image store. Needs root.

mod machine;
mod volumes;

use std::sync::Arc;
use std::time::Duration;

use fv_host::cgroup::{Hierarchy, Limits};
use fv_hypervisor::daemon::supervise_if_asked;
use fv_stream::agent::{DomainVerb, NodeAgent, StreamTarget};
use fv_virt_handler::kubelet::KubeletCgroups;
use serde_json::json;

use crate::kubelet::PodGroup;
use crate::support::{NODE, phase, until, uuid};
use machine::{Machine, Terminal};

/// The test binary becomes libvirtd's supervisor through this test.
#[test]
fn libvirtd_supervisor() {
    supervise_if_asked();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guest_outlives_handler_launcher_and_libvirtd_and_leaves_nothing_behind() {
    let mut machine = Machine::new().await;
    let before = machine.traces();
    let pod = machine.pod("pod-a", "10.88.0.5");
    let handler = machine.start_handler().await;
    let vmi = machine.schedule("demo", &pod, |_| {}).await;
    machine.reach(&vmi, "Running").await;
    let qemu = machine.qemu_pid(&vmi).await;

    let mut terminal = Terminal::new(handler.handler.open(NODE, &vmi, StreamTarget::Console).await.unwrap());
    terminal.log_in("demo", "ferro").await;
    assert_eq!(terminal.run("hostname").await, "cloudy", "user data was not honoured");
    let boot_id = terminal.run("cat /proc/sys/kernel/random/boot_id").await;
    // The launcher, which answers DHCP, is not part of this test.
    let address = "ip addr add 10.0.2.2/24 dev eth0; ip link set eth0 up; ip route add default via 10.0.2.1";
    terminal
        .run(&format!("until [ -e /sys/class/net/eth0 ] && killall udhcpc; do sleep 1; done; sleep 1; {address}"))
        .await;
    assert!(machine.page("10.88.0.5").await.contains(&boot_id));

    // A paused guest's clock stands still.
    let uptime =
        async |terminal: &mut Terminal| -> f64 { terminal.run("cut -d' ' -f1 /proc/uptime").await.parse().unwrap() };
    let begin = std::time::Instant::now();
    let first = uptime(&mut terminal).await;
    handler.handler.act(NODE, &vmi, DomainVerb::Pause).await.unwrap();
    let paused = std::time::Instant::now();
    machine.condition(&vmi, "Paused", true).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    handler.handler.act(NODE, &vmi, DomainVerb::Unpause).await.unwrap();
    let pause = paused.elapsed().as_secs_f64();
    let second = uptime(&mut terminal).await;
    assert!(
        second - first < begin.elapsed().as_secs_f64() - pause / 2.0,
        "{first} {second}: the clock went on during {pause} s"
    );
    machine.condition(&vmi, "Paused", false).await;

    // A new handler.
    handler.end().await;
    drop(terminal);
    let handler = machine.start_handler().await;
    until("the console", async || handler.handler.open(NODE, &vmi, StreamTarget::Console).await.is_ok()).await;
    let mut terminal = Terminal::new(handler.handler.open(NODE, &vmi, StreamTarget::Console).await.unwrap());
    terminal.wake().await;
    assert_eq!(terminal.run("cat /proc/sys/kernel/random/boot_id").await, boot_id);
    assert_eq!(machine.qemu_pid(&vmi).await, qemu);

    // A new libvirtd.
    machine.kill_libvirtd().await;
    assert_eq!(machine.qemu_pid(&vmi).await, qemu);
    assert_eq!(phase(&machine.vmis().get(&vmi.name).await.unwrap()), "Running");
    assert_eq!(terminal.run("cat /proc/sys/kernel/random/boot_id").await, boot_id);
    assert!(machine.page("10.88.0.5").await.contains(&boot_id));

    // A new launcher pod with a new address.
    let new_pod = machine.pod("pod-b", "10.88.0.6");
    machine.remove_pod(&pod);
    let pods = json!({"status": {"activePods": {&pod: null, &new_pod: NODE}}});
    machine.patch(&vmi, pods).await;
    until("the new address", async || {
        let status = machine.vmis().get(&vmi.name).await.unwrap().status.unwrap();
        status.interfaces.first().and_then(|i| i.ip_address.clone()).as_deref() == Some("10.88.0.6")
    })
    .await;
    assert!(machine.page("10.88.0.6").await.contains(&boot_id));
    assert!(machine.share(&new_pod).join("dhcp.json").exists());
    assert_eq!(terminal.run("cat /proc/sys/kernel/random/boot_id").await, boot_id);
    until("the console in the new pod's log", async || machine.console_log(&new_pod).contains(&boot_id)).await;

    // VNC speaks RFB, through one session at a time.
    use tokio::io::AsyncReadExt as _;
    let mut greeting = [0u8; 4];
    let mut vnc = handler.handler.open(NODE, &vmi, StreamTarget::Vnc { preserve_session: false }).await.unwrap();
    vnc.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, b"RFB ");
    assert!(handler.handler.open(NODE, &vmi, StreamTarget::Vnc { preserve_session: true }).await.is_err());
    drop(vnc);

    machine.delete(&vmi).await;
    machine.condition(&vmi, "DomainDeleted", true).await;
    assert_eq!(
        phase(&machine.vmis().get(&vmi.name).await.unwrap()),
        "Succeeded",
        "the guest did not hear the power button"
    );
    assert!(machine.share(&new_pod).join("released").exists());
    until("the end of the record", async || machine.records() == 0).await;
    assert!(!fv_virt_handler::process::qemu_alive(&fv_domain::domain_name(uuid(&vmi))).unwrap());
    handler.end().await;
    assert_eq!(machine.traces(), before);
    assert!(machine.images.holders().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guest_beside_its_pods_group_outlives_libvirtd_and_frees_the_group() {
    let mut machine = Machine::new().await;
    let records = tempfile::tempdir().unwrap();
    let cgroups = KubeletCgroups::new(Hierarchy::detect().unwrap(), records.path());
    let pod = machine.pod("pod-a", "10.88.0.5");
    let mut group = PodGroup::new(&pod);
    group.add_pause();
    group.pod.limit(&Limits { memory_bytes: Some(512 << 20), ..Limits::default() }).unwrap();
    let handler = machine.start_handler_with(Some(Arc::new(cgroups))).await;
    let vmi = machine.schedule("demo", &pod, |_| {}).await;
    machine.reach(&vmi, "Running").await;
    let qemu = machine.qemu_pid(&vmi).await;
    let beside = group.beside(&format!("ferrovirt-{}", vmi.uid.replace('-', "")));
    let held = || {
        let of_qemu = std::fs::read_to_string(format!("/proc/{qemu}/cgroup")).unwrap();
        of_qemu.contains(&format!("kubepods/burstable/ferrovirt-{}/", vmi.uid.replace('-', "")))
            && beside.iter().all(|dir| dir.is_dir())
    };
    assert!(held());

    // A libvirtd that finds QEMU where it did not put it must take it over, or it ends the guest.
    machine.kill_libvirtd().await;
    until("the console", async || handler.handler.open(NODE, &vmi, StreamTarget::Console).await.is_ok()).await;
    let mut terminal = Terminal::new(handler.handler.open(NODE, &vmi, StreamTarget::Console).await.unwrap());
    terminal.log_in("demo", "ferro").await;
    assert_eq!(machine.qemu_pid(&vmi).await, qemu);
    assert_eq!(phase(&machine.vmis().get(&vmi.name).await.unwrap()), "Running");
    assert!(held());

    machine.delete(&vmi).await;
    machine.condition(&vmi, "DomainDeleted", true).await;
    until("the end of the record", async || machine.records() == 0).await;
    assert!(beside.iter().all(|dir| !dir.exists()));
    handler.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn power_off_succeeds_and_panic_fails() {
    let mut machine = Machine::new().await;
    let handler = machine.start_handler().await;
    for (name, address, command, wanted, reason) in [
        ("off", "10.88.0.5", "poweroff", "Succeeded", None),
        (
            "panic",
            "10.88.0.6",
            "until grep -q pvpanic_mmio /proc/modules; do sleep 1; done; sleep 1; echo c >/proc/sysrq-trigger",
            "Failed",
            Some("GuestCrashed"),
        ),
    ] {
        let pod = machine.pod(name, address);
        let vmi = machine.schedule(name, &pod, |_| {}).await;
        machine.reach(&vmi, "Running").await;
        let mut terminal = Terminal::new(handler.handler.open(NODE, &vmi, StreamTarget::Console).await.unwrap());
        terminal.log_in("demo", "ferro").await;
        terminal.send(command).await;
        machine.reach(&vmi, wanted).await;
        let told = machine.vmis().get(&vmi.name).await.unwrap().status.unwrap().reason;
        if let Some(reason) = reason {
            assert!(told.as_deref() == Some(reason) || told.as_deref() == Some("GuestPanicked"), "{told:?}");
        }
        until("the end of the record", async || machine.records() == 0).await;
    }
    handler.end().await;
}
