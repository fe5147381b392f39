//! The private daemon itself.

use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};

use fv_hypervisor::daemon::{
    DaemonError, DaemonKind, LibvirtEndpoint, SupervisorCommand, SystemPlaces, ensure_libvirtd, stop_libvirtd,
};
use fv_hypervisor::kvm::{KvmProbe, probe_kvm};
use fv_hypervisor::{Hypervisor, LibvirtConfig, LibvirtHypervisor};

use virt::connect::Connect;

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

/// An instance that takes the daemons of `machine` for those of the system.
fn beside(machine: &World) -> World {
    let mut world = World::new();
    world.config.use_system = true;
    world.config.system = SystemPlaces { run_dir: machine.run().to_owned(), log_dir: machine.data().join("log") };
    world
}

#[test]
fn the_machines_own_daemon_is_used_the_modular_one_first_and_one_that_does_not_serve_is_passed_over() {
    let (libvirtd, virtqemud) = (World::new(), World::new());
    let places = libvirtd.run().join("libvirt");
    let world = beside(&libvirtd);
    libvirtd.ensure();
    let used = world.ensure();
    assert_eq!((used.kind, used.started, used.partition), (DaemonKind::SystemLibvirtd, false, None));
    assert_eq!((used.socket, used.state_dir), (places.join("libvirt-sock"), places.join("qemu")));

    symlink(virtqemud.ensure().socket, places.join("virtqemud-sock")).unwrap();
    let used = world.ensure();
    assert_eq!((used.kind, used.socket), (DaemonKind::SystemVirtqemud, places.join("virtqemud-sock")));

    std::fs::remove_file(places.join("virtqemud-sock")).unwrap();
    let closes = UnixListener::bind(places.join("virtqemud-sock")).unwrap();
    std::thread::spawn(move || closes.incoming().for_each(drop));
    assert_eq!(world.ensure().kind, DaemonKind::SystemLibvirtd);
    assert_eq!(world.processes(), Vec::<String>::new(), "a daemon of our own beside the machine's");
}

#[test]
fn the_machines_own_daemon_is_not_replaced_while_guests_run_that_it_may_know() {
    let machine = World::new();
    let world = beside(&machine);
    let socket = machine.ensure().socket;
    assert_eq!(world.ensure().kind, DaemonKind::SystemLibvirtd);
    stop_libvirtd(&machine.config).unwrap();
    // By its name a QEMU with one of our guests.
    let mut guest = Command::new("sh").args(["-c", "read _", "guest=fv-test"]).stdin(Stdio::piped()).spawn().unwrap();
    // A moment after its start a process has no command line yet.
    let words = format!("/proc/{}/cmdline", guest.id());
    wait_until("its command line", || std::fs::read_to_string(&words).is_ok_and(|line| line.contains("guest=fv-test")));
    let refused = ensure_libvirtd(&world.config);
    guest.kill().unwrap();
    guest.wait().unwrap();
    let refused = refused.unwrap_err();
    assert!(matches!(&refused, DaemonError::SystemDaemonGone { socket: gone } if *gone == socket), "{refused}");
    assert!(refused.to_string().contains("start it again"), "{refused}");
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

/// `/dev/kvm` as a process sees it.
fn kvm_seen_by(pid: u32) -> Option<Metadata> {
    std::fs::metadata(format!("/proc/{pid}/root/dev/kvm")).ok()
}

/// What tells a device from anything else at its path, and whether anybody changed it.
fn identity(file: &Metadata) -> (u64, u64, u64, u32, u32, u32) {
    (file.dev(), file.ino(), file.rdev(), file.mode(), file.uid(), file.gid())
}

fn is_hidden(seen: &Metadata) -> bool {
    seen.is_file() && seen.len() == 0 && seen.mode() & 0o777 == 0
}

/// Whether libvirt offers guests with KVM; that it offers emulated ones is made sure of.
fn libvirt_offers_kvm(endpoint: &LibvirtEndpoint) -> bool {
    let mut connect = Connect::open(Some(&endpoint.uri)).unwrap();
    let all = connect.get_capabilities().unwrap();
    let emulated = connect.get_domain_capabilities(None, Some(std::env::consts::ARCH), None, Some("qemu"), 0).unwrap();
    let with_kvm = connect.get_domain_capabilities(None, Some(std::env::consts::ARCH), None, Some("kvm"), 0);
    connect.close().unwrap();
    assert!(all.contains("<domain type='qemu'"), "{all}");
    assert!(emulated.contains("<domain>qemu</domain>"), "{emulated}");
    let offered = all.contains("<domain type='kvm'");
    assert_eq!(offered, with_kvm.is_ok(), "{with_kvm:?} and {all}");
    offered
}

/// What this proves depends on the machine: only where `/dev/kvm` exists and is of no use there is something to hide.
#[test]
fn an_unusable_kvm_is_hidden_from_the_private_daemon_and_left_to_the_machine() {
    let before = std::fs::metadata("/dev/kvm").ok();
    let world = World::new();
    let endpoint = world.ensure();
    let seen = kvm_seen_by(endpoint.pid.unwrap());
    let probe = probe_kvm();
    match &probe {
        KvmProbe::NoDevice => assert!(seen.is_none(), "{seen:?}"),
        KvmProbe::Usable => assert_eq!(seen.as_ref().map(identity), before.as_ref().map(identity)),
        KvmProbe::CannotOpen(_) | KvmProbe::NoCpuSupport => assert!(seen.as_ref().is_some_and(is_hidden), "{seen:?}"),
    }
    assert_eq!(libvirt_offers_kvm(&endpoint), probe.is_usable(), "{probe}");
    let after = std::fs::metadata("/dev/kvm").ok();
    assert_eq!(after.as_ref().map(identity), before.as_ref().map(identity), "the machine's own device changed");
}

/// Where KVM is usable nothing is hidden, so here the order is given whatever the machine can do.
#[test]
fn the_private_daemon_sees_the_machines_kvm_unless_it_is_ordered_hidden() {
    let Some(machine) = std::fs::metadata("/dev/kvm").ok().filter(|file| file.file_type().is_char_device()) else {
        assert!(!Path::new("/dev/kvm").exists());
        println!("no /dev/kvm on this machine: nothing can be hidden");
        return;
    };
    for hide in [false, true] {
        let mut world = World::new();
        let own = world.config.supervisor.clone();
        let order = format!(
            "FERROVIRT_LIBVIRTD_SUPERVISOR=$(printf %s \"$FERROVIRT_LIBVIRTD_SUPERVISOR\" | \
             sed 's/\"hideKvm\":[a-z]*/\"hideKvm\":{hide}/') exec \"$0\" \"$@\""
        );
        let mut args = vec!["-c".to_owned(), order, own.program.to_str().unwrap().to_owned()];
        args.extend(own.args);
        world.config.supervisor = SupervisorCommand { program: "/bin/sh".into(), args };
        let endpoint = world.ensure();
        let seen = kvm_seen_by(endpoint.pid.unwrap()).unwrap();
        if hide {
            assert!(is_hidden(&seen), "{seen:?}");
            assert!(!libvirt_offers_kvm(&endpoint));
        } else {
            assert_eq!(identity(&seen), identity(&machine));
        }
    }
}
