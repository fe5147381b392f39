//! The private daemon itself.

use fv_hypervisor::daemon::{DaemonKind, ensure_libvirtd, stop_libvirtd};
use fv_hypervisor::{Hypervisor, LibvirtConfig, LibvirtHypervisor};

use crate::support::{World, wait_until};

#[test]
fn a_private_daemon_starts_once_and_leaves_nothing() {
    let world = World::new();
    let first = world.ensure();
    assert!(first.started && first.kind == DaemonKind::Private);
    let again = world.ensure();
    assert!(!again.started);
    assert_eq!(again.pid, first.pid);
    assert!(!world.cgroups().is_empty());
    stop_libvirtd(&world.config).unwrap();
    wait_until("the end of all processes", || world.processes().is_empty());
    assert_eq!(world.cgroups(), Vec::<std::path::PathBuf>::new());
    assert!(!world.run().join("libvirt").exists());
    // Stopping what does not run is no error; starting again works.
    stop_libvirtd(&world.config).unwrap();
    assert!(world.ensure().started);
}

#[test]
fn two_programs_at_once_share_one_daemon() {
    let world = World::new();
    let pids: Vec<_> = std::thread::scope(|scope| {
        let ensure = || ensure_libvirtd(&world.config).unwrap().pid;
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(ensure)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(pids.iter().all(|pid| pid.is_some() && *pid == pids[0]), "{pids:?}");
}

#[test]
fn daemons_of_two_instances_do_not_meet() {
    let (one, two) = (World::new(), World::new());
    let (first, second) = (one.ensure(), two.ensure());
    assert_ne!(first.pid, second.pid);
    assert_ne!(first.uri, second.uri);
    assert_ne!(first.partition, second.partition);
    stop_libvirtd(&one.config).unwrap();
    assert!(!two.ensure().started, "stopping one must not end the other");
}

#[tokio::test]
async fn capabilities_tell_what_this_machine_can_run() {
    let world = World::new();
    let endpoint = world.ensure();
    let hypervisor = LibvirtHypervisor::new(LibvirtConfig::new(&endpoint, world.id()));
    hypervisor.await_connected(std::time::Duration::from_secs(180)).await.unwrap();
    let facts = hypervisor.capabilities().await.unwrap();
    assert_eq!(facts.arch, std::env::consts::ARCH);
    assert!(std::path::Path::new(&facts.emulator).exists());
    assert_eq!(facts.kvm_usable, fv_hypervisor::kvm::kvm_usable());
    assert!(facts.resolve_machine("q35").is_some_and(|machine| machine.starts_with("pc-q35-")));
    assert!(facts.efi_firmware(false).is_some() && facts.efi_firmware(true).is_some(), "{:?}", facts.efi);
    assert!(!facts.cpu_models.is_empty());
    println!("{} {} efi {:?}", facts.libvirt_version, facts.qemu_version, facts.efi);
}
