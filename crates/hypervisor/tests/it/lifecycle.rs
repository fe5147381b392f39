//! Real guests through the port.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fv_hypervisor::daemon::{LibvirtEndpoint, keep_libvirtd};
use fv_hypervisor::{
    DomainEventKind, DomainState, Hypervisor, HypervisorError, HypervisorEvent, LibvirtHypervisor, PauseReason,
    StartMode, StopReason,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::sync::broadcast::Receiver;
use uuid::Uuid;

use crate::guest::{Console, GREETING, Guest};
use crate::support::{World, wait_until};

/// A world with a connected hypervisor.
async fn world() -> (World, LibvirtEndpoint, Arc<LibvirtHypervisor>) {
    let world = World::new();
    let endpoint = world.ensure();
    let hypervisor = world.connect(&endpoint).await;
    (world, endpoint, hypervisor)
}

/// Starts a guest and waits for its greeting.
async fn boot(hypervisor: &LibvirtHypervisor, guest: &Guest) -> Console {
    let begin = Instant::now();
    let info = hypervisor.start(&guest.xml, StartMode::Paused).await.unwrap();
    println!("create: {:?}", begin.elapsed());
    assert_eq!(info.state, DomainState::Paused(PauseReason::User));
    let mut console = guest.console();
    hypervisor.resume(guest.uuid).await.unwrap();
    console.expect(GREETING);
    console
}

/// Waits for an event.
async fn await_event(events: &mut Receiver<HypervisorEvent>, what: &str, fits: impl Fn(&HypervisorEvent) -> bool) {
    let found = async {
        let mut seen = Vec::new();
        loop {
            match events.recv().await {
                Ok(event) if fits(&event) => return,
                Ok(event) => seen.push(event),
                Err(error) => panic!("{error} after {seen:?}"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(300), found).await.unwrap_or_else(|_| panic!("no event: {what}"));
}

async fn await_kind(events: &mut Receiver<HypervisorEvent>, uuid: Uuid, kind: DomainEventKind) {
    await_event(
        events,
        &format!("{kind:?}"),
        |event| matches!(event, HypervisorEvent::Domain(event) if event.uuid == uuid && event.kind == kind),
    )
    .await;
}

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

#[tokio::test]
async fn a_guest_boots_pauses_resets_and_shuts_down() {
    let (world, endpoint, hypervisor) = world().await;
    let facts = hypervisor.capabilities().await.unwrap();
    let guest = Guest::prepare(&world, &endpoint, &facts, 1);
    let mut events = hypervisor.events();

    let begin = Instant::now();
    let mut console = boot(&hypervisor, &guest).await;
    println!("create to greeting: {:?}", begin.elapsed());
    await_kind(&mut events, guest.uuid, DomainEventKind::Started).await;
    let info = hypervisor.get(guest.uuid).await.unwrap();
    assert_eq!((info.state, info.metadata.name.as_str()), (DomainState::Running, "same"));
    assert!(info.pid.is_some());
    assert_eq!(hypervisor.list().await.unwrap(), std::slice::from_ref(&info));
    console.send("x");
    console.expect("x");
    assert!(matches!(hypervisor.start(&guest.xml, StartMode::Paused).await, Err(HypervisorError::DomainExists { .. })));

    hypervisor.suspend(guest.uuid).await.unwrap();
    await_kind(&mut events, guest.uuid, DomainEventKind::Paused(PauseReason::User)).await;
    console.send("y");
    console.expect_silence("y", Duration::from_millis(500));
    hypervisor.resume(guest.uuid).await.unwrap();
    console.expect("y");

    hypervisor.reset(guest.uuid).await.unwrap();
    console.expect(GREETING);
    await_kind(&mut events, guest.uuid, DomainEventKind::Rebooted).await;
    console.send("r");
    console.expect(GREETING);
    await_kind(&mut events, guest.uuid, DomainEventKind::Rebooted).await;
    hypervisor.reboot(guest.uuid).await.unwrap();
    console.expect(GREETING);
    assert_eq!(hypervisor.get(guest.uuid).await.unwrap().pid, info.pid);

    // The cable goes out and in again; libvirt asks QEMU, and forgets nothing else about the card.
    let plugged = hypervisor.xml(guest.uuid).await.unwrap();
    hypervisor.set_link(guest.uuid, &guest.tap, false).await.unwrap();
    let unplugged = hypervisor.xml(guest.uuid).await.unwrap();
    assert!(unplugged.contains("<link state='down'/>"), "{unplugged}");
    hypervisor.set_link(guest.uuid, &guest.tap, true).await.unwrap();
    let back = hypervisor.xml(guest.uuid).await.unwrap();
    let but_link = |xml: &str| xml.lines().filter(|line| !line.contains("<link state=")).collect::<String>();
    assert!(!back.contains("<link state='down'/>") && but_link(&back) == but_link(&plugged), "{back}");
    assert!(matches!(
        hypervisor.set_link(guest.uuid, "no-such-tap", false).await,
        Err(HypervisorError::InvalidState { .. })
    ));

    // What the guest sees as its identity is the user's, not libvirt's.
    let command = std::fs::read(format!("/proc/{}/cmdline", info.pid.unwrap())).unwrap();
    let command = String::from_utf8_lossy(&command).into_owned();
    let (ours, users) =
        (command.find(&guest.uuid.to_string()), command.rfind("uuid=5d307ca9-b3ef-428c-8861-06e72d69f223"));
    assert!(ours.is_some() && users > ours, "{command}");

    assert!(matches!(
        hypervisor.agent_command(guest.uuid, &json!({"execute": "guest-ping"}), Duration::from_secs(1)).await,
        Err(HypervisorError::AgentUnavailable { .. })
    ));
    assert!(hypervisor.xml(guest.uuid).await.unwrap().contains("ferrovirt.io/domain"));
    assert_eq!(hypervisor.last_stop(guest.uuid).await.unwrap(), None);

    let begin = Instant::now();
    hypervisor.shutdown(guest.uuid).await.unwrap();
    await_kind(&mut events, guest.uuid, DomainEventKind::Stopped(StopReason::Shutdown)).await;
    println!("power button to stopped: {:?}", begin.elapsed());
    assert!(matches!(hypervisor.get(guest.uuid).await, Err(HypervisorError::NoDomain { .. })));
    assert_eq!(hypervisor.list().await.unwrap(), []);
    assert_eq!(hypervisor.last_stop(guest.uuid).await.unwrap(), Some(StopReason::Shutdown));
}

#[tokio::test]
async fn every_way_a_guest_ends_is_told_apart() {
    let (world, endpoint, hypervisor) = world().await;
    let facts = hypervisor.capabilities().await.unwrap();
    let mut events = hypervisor.events();
    // Of a QEMU that is killed libvirt's event says "failed", and its log "crashed".
    for (n, reason, recorded) in [
        (1, StopReason::Shutdown, StopReason::Shutdown),
        (2, StopReason::Crashed, StopReason::Crashed),
        (3, StopReason::Destroyed, StopReason::Destroyed),
        (4, StopReason::HostShutdown, StopReason::HostShutdown),
        (5, StopReason::Failed, StopReason::Crashed),
    ] {
        let guest = Guest::prepare(&world, &endpoint, &facts, n);
        let begin = Instant::now();
        let mut console = boot(&hypervisor, &guest).await;
        println!("guest {n}: create to greeting {:?}", begin.elapsed());
        let pid = hypervisor.get(guest.uuid).await.unwrap().pid.unwrap();
        let begin = Instant::now();
        match n {
            1 => console.send("p"),
            2 => {
                console.send("c");
                await_kind(&mut events, guest.uuid, DomainEventKind::Panicked).await;
            }
            3 => hypervisor.destroy(guest.uuid).await.unwrap(),
            4 => signal(pid, Signal::TERM),
            _ => signal(pid, Signal::KILL),
        }
        await_kind(&mut events, guest.uuid, DomainEventKind::Stopped(reason)).await;
        println!("guest {n}: to {reason:?} {:?}", begin.elapsed());
        assert_eq!(hypervisor.last_stop(guest.uuid).await.unwrap(), Some(recorded), "guest {n}");
        let log = endpoint.log_dir.join(format!("{}.log", fv_domain::domain_name(guest.uuid)));
        assert!(log.exists());
        hypervisor.forget(guest.uuid).await.unwrap();
        assert!(!log.exists());
        assert_eq!(hypervisor.last_stop(guest.uuid).await.unwrap(), None);
    }
    let unknown = Uuid::from_u128(7);
    assert_eq!(hypervisor.last_stop(unknown).await.unwrap(), None);
    assert!(matches!(hypervisor.destroy(unknown).await, Err(HypervisorError::NoDomain { .. })));
}

#[tokio::test]
async fn killed_libvirtd_keeps_the_guest_and_takes_it_over_again() {
    let (world, endpoint, hypervisor) = world().await;
    let facts = hypervisor.capabilities().await.unwrap();
    let guest = Guest::prepare(&world, &endpoint, &facts, 1);
    let mut events = hypervisor.events();
    let mut console = boot(&hypervisor, &guest).await;
    let pid = hypervisor.get(guest.uuid).await.unwrap().pid;

    // The supervisor starts a killed libvirtd again; whatever is asked meanwhile, the domain is never called absent.
    signal(endpoint.pid.unwrap(), Signal::KILL);
    await_event(&mut events, "disconnected", |event| matches!(event, HypervisorEvent::Disconnected { .. })).await;
    let begin = Instant::now();
    loop {
        match hypervisor.get(guest.uuid).await {
            Ok(info) => {
                assert_eq!((info.pid, info.state), (pid, DomainState::Running));
                break;
            }
            Err(HypervisorError::Disconnected { .. }) => assert!(begin.elapsed() < Duration::from_secs(180)),
            Err(error) => panic!("{error}"),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("libvirtd killed to domain known again: {:?}", begin.elapsed());
    console.send("x");
    console.expect("x");

    // Both gone: whoever needs the daemon starts a new one, which takes the domain over too.
    let record = std::fs::read_to_string(world.run().join("libvirt/daemon.json")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    let recorded = |name: &str| u32::try_from(record[name]["pid"].as_u64().unwrap()).unwrap();
    signal(recorded("supervisor"), Signal::KILL);
    signal(recorded("libvirtd"), Signal::KILL);
    wait_until("the daemon's end", || std::os::unix::net::UnixStream::connect(&endpoint.socket).is_err());
    console.send("y");
    console.expect("y");
    let again = world.ensure();
    assert!(again.started && again.pid != endpoint.pid);
    hypervisor.await_connected(Duration::from_secs(180)).await.unwrap();
    wait_until_known(&hypervisor, guest.uuid).await;
    assert_eq!(hypervisor.get(guest.uuid).await.unwrap().pid, pid);
    assert_eq!(hypervisor.list().await.unwrap().len(), 1);
    hypervisor.suspend(guest.uuid).await.unwrap();
    hypervisor.resume(guest.uuid).await.unwrap();
    console.send("z");
    console.expect("z");
    hypervisor.destroy(guest.uuid).await.unwrap();
}

async fn wait_until_known(hypervisor: &LibvirtHypervisor, uuid: Uuid) {
    let begin = Instant::now();
    while let Err(error) = hypervisor.get(uuid).await {
        assert!(error.is_transient(), "{error}");
        assert!(begin.elapsed() < Duration::from_secs(180), "{error}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_guest_that_powers_off_while_libvirtd_is_away_is_known_to_have_done_so() {
    let (world, endpoint, hypervisor) = world().await;
    let facts = hypervisor.capabilities().await.unwrap();
    let guest = Guest::prepare(&world, &endpoint, &facts, 1);
    let mut console = boot(&hypervisor, &guest).await;
    let record = std::fs::read_to_string(world.run().join("libvirt/daemon.json")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    for name in ["supervisor", "libvirtd"] {
        signal(u32::try_from(record[name]["pid"].as_u64().unwrap()).unwrap(), Signal::KILL);
    }
    wait_until("the daemon's end", || std::os::unix::net::UnixStream::connect(&endpoint.socket).is_err());
    console.send("xp");
    console.expect("x");
    // Without a listener QEMU stays, stopped, until libvirtd looks at it.
    tokio::time::sleep(Duration::from_millis(300)).await;
    world.ensure();
    let begin = Instant::now();
    loop {
        match hypervisor.get(guest.uuid).await {
            Err(HypervisorError::NoDomain { .. }) => break,
            Err(error) => assert!(error.is_transient(), "{error}"),
            Ok(_) => {}
        }
        assert!(begin.elapsed() < Duration::from_secs(180), "the domain never ended");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(hypervisor.last_stop(guest.uuid).await.unwrap(), Some(StopReason::Shutdown));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_libvirtd_that_hangs_is_replaced_and_the_guest_goes_on() {
    let (mut world, endpoint, hypervisor) = world().await;
    let facts = hypervisor.capabilities().await.unwrap();
    let guest = Guest::prepare(&world, &endpoint, &facts, 1);
    let mut console = boot(&hypervisor, &guest).await;
    let pid = hypervisor.get(guest.uuid).await.unwrap().pid;
    world.config.start_timeout = Duration::from_secs(3);
    signal(endpoint.pid.unwrap(), Signal::STOP);
    let (sender, mut changes) = tokio::sync::mpsc::unbounded_channel();
    let keeper = tokio::spawn(keep_libvirtd(world.config.clone(), endpoint.clone(), move |endpoint| {
        let _ = sender.send(endpoint.clone());
    }));
    let replaced = tokio::time::timeout(Duration::from_secs(300), changes.recv()).await.unwrap().unwrap();
    assert_ne!(replaced.pid, endpoint.pid);
    console.send("x");
    console.expect("x");
    wait_until_known(&hypervisor, guest.uuid).await;
    assert_eq!(hypervisor.get(guest.uuid).await.unwrap().pid, pid);
    keeper.abort();
    world.config.start_timeout = Duration::from_secs(30);
    hypervisor.destroy(guest.uuid).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statistics_of_a_guest_that_hangs_hold_up_nothing() {
    let (world, endpoint, hypervisor) = world().await;
    let facts = hypervisor.capabilities().await.unwrap();
    let (stuck, other) = (Guest::prepare(&world, &endpoint, &facts, 1), Guest::prepare(&world, &endpoint, &facts, 2));
    boot(&hypervisor, &stuck).await;
    boot(&hypervisor, &other).await;
    let stats = hypervisor.stats(stuck.uuid).await.unwrap();
    assert_eq!(stats.memory.maximum, Some(32 << 10));
    assert!(stats.vcpus.len() == 1 && stats.vcpus[0].time > Some(0), "{stats:?}");
    assert!(stats.disks.len() == 1 && stats.disks[0].target == "vda" && stats.disks[0].reads > Some(0), "{stats:?}");

    let pid = hypervisor.get(stuck.uuid).await.unwrap().pid.unwrap();
    signal(pid, Signal::STOP);
    let hung = hypervisor.stats(stuck.uuid).await;
    assert!(matches!(hung, Err(HypervisorError::Timeout { .. })), "{hung:?}");
    for _ in 0..10 {
        let busy = hypervisor.stats(stuck.uuid).await;
        assert!(matches!(busy, Err(HypervisorError::Busy { .. })), "{busy:?}");
        assert_eq!(hypervisor.list().await.unwrap().len(), 2);
        assert_eq!(hypervisor.get(stuck.uuid).await.unwrap().state, DomainState::Running);
        assert!(hypervisor.stats(other.uuid).await.unwrap().disks[0].reads > Some(0));
    }
    signal(pid, Signal::CONT);
    let begin = Instant::now();
    while let Err(error) = hypervisor.stats(stuck.uuid).await {
        assert!(begin.elapsed() < Duration::from_secs(180), "{error}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    hypervisor.destroy(stuck.uuid).await.unwrap();
    hypervisor.destroy(other.uuid).await.unwrap();
    let gone = hypervisor.stats(stuck.uuid).await;
    assert!(matches!(gone, Err(HypervisorError::NoDomain { .. })), "{gone:?}");
}

#[tokio::test]
async fn tenants_may_use_the_same_names_and_strangers_stay_invisible() {
    let (world, endpoint, hypervisor) = world().await;
    let facts = hypervisor.capabilities().await.unwrap();
    let guests = [1, 2].map(|n| Guest::prepare(&world, &endpoint, &facts, n));
    let mut consoles = Vec::new();
    for guest in &guests {
        consoles.push(boot(&hypervisor, guest).await);
    }
    assert_eq!(hypervisor.list().await.unwrap().len(), 2);

    // A domain somebody made by hand on the same daemon.
    let stranger = Uuid::from_u128(0x5742_0001);
    let xml = format!(
        "<domain type='qemu'><name>stranger</name><uuid>{stranger}</uuid><memory unit='MiB'>32</memory>\
         <os><type arch='{}' machine='q35'>hvm</type></os></domain>",
        facts.arch
    );
    let file = world.data().join("stranger.xml");
    std::fs::write(&file, &xml).unwrap();
    let output = Command::new("virsh").args(["-q", "-c", &endpoint.uri, "create"]).arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(hypervisor.list().await.unwrap().len(), 2);
    assert!(matches!(hypervisor.get(stranger).await, Err(HypervisorError::NoDomain { .. })));
    assert!(matches!(hypervisor.destroy(stranger).await, Err(HypervisorError::NoDomain { .. })));
    assert!(matches!(hypervisor.start(&xml, StartMode::Running).await, Err(HypervisorError::NotOurs { .. })));

    let output = Command::new("virsh").args(["-q", "-c", &endpoint.uri, "destroy", "stranger"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for (guest, console) in guests.iter().zip(&mut consoles) {
        console.send("x");
        console.expect("x");
        hypervisor.destroy(guest.uuid).await.unwrap();
    }
}

#[tokio::test]
async fn a_domain_that_cannot_start_says_why_and_leaves_nothing() {
    let (world, endpoint, hypervisor) = world().await;
    let facts = hypervisor.capabilities().await.unwrap();
    let guest = Guest::prepare(&world, &endpoint, &facts, 1);
    let broken = guest.xml.replace("disk1.img", "missing.img");
    match hypervisor.start(&broken, StartMode::Running).await {
        Err(HypervisorError::Libvirt { step, message, .. }) => {
            assert!(step.contains("starting") && message.contains("missing.img"), "{step}: {message}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(hypervisor.list().await.unwrap(), []);
    boot(&hypervisor, &guest).await;
    hypervisor.destroy(guest.uuid).await.unwrap();
}

/// What the schema accepts QEMU may still refuse: every option `fv_domain` writes is started once.
#[tokio::test]
async fn every_option_of_a_domain_is_accepted_by_qemu() {
    let (world, endpoint, hypervisor) = world().await;
    let facts = hypervisor.capabilities().await.unwrap();
    let root = |extra: serde_json::Value| json!({"devices": {"disks": [extra]}});
    let cases = [
        json!({"cpu": {"model": "host-passthrough", "sockets": 2, "cores": 2, "threads": 2, "maxSockets": 3}}),
        json!({"cpu": {"model": "Haswell-noTSX", "features": [{"name": "pcid"}, {"name": "vmx", "policy": "disable"}]}}),
        json!({"cpu": {"model": "qemu64"}, "clock": {"timezone": "Europe/Berlin"}, "features": {"acpi": {"enabled": false}}}),
        json!({"clock": {"utc": {"offsetSeconds": 3600}, "timer": {"rtc": {"tickPolicy": "catchup", "track": "guest"},
            "pit": {"tickPolicy": "delay"}, "hpet": {"present": false}}}, "features": {"apic": {}, "smm": {}}}),
        json!({"chassis": {"manufacturer": "Acme, Inc", "serial": "<1>", "sku": "a=b"}, "rebootPolicy": "Terminate",
            "firmware": {"bootloader": {"bios": {"useSerial": true}}}}),
        root(
            json!({"name": "root", "disk": {"bus": "virtio", "readonly": true}, "cache": "none", "io": "native", "bootOrder": 1,
            "serial": "DISK_1.a+b", "errorPolicy": "enospace", "blockSize": {"custom": {"logical": 4096, "physical": 4096}}}),
        ),
        root(
            json!({"name": "root", "disk": {"bus": "virtio"}, "cache": "writeback", "errorPolicy": "report", "shareable": true}),
        ),
        root(json!({"name": "root", "disk": {"bus": "sata"}, "errorPolicy": "ignore"})),
        root(json!({"name": "root", "cdrom": {"bus": "sata", "tray": "closed"}})),
        json!({"devices": {"blockMultiQueue": true, "useVirtioTransitional": true}, "cpu": {"cores": 2}}),
        json!({"devices": {"interfaces": [{"name": "default", "bridge": {}, "model": "e1000e", "bootOrder": 1, "acpiIndex": 7}]}}),
        json!({"devices": {"interfaces": [{"name": "default", "bridge": {}, "model": "e1000", "state": "down"}]}}),
        json!({"devices": {"autoattachGraphicsDevice": false, "autoattachSerialConsole": false, "autoattachMemBalloon": false}}),
        json!({"devices": {"autoattachInputDevice": true, "inputs": [{"name": "a", "type": "tablet"},
            {"name": "b", "type": "tablet", "bus": "virtio"}], "video": {"type": "bochs"},
            "watchdog": {"name": "dog", "i6300esb": {"action": "poweroff"}}, "panicDevices": [{"model": "isa"}]}}),
        json!({"devices": {"video": {"type": "virtio"}}}),
    ];
    for (n, case) in (1..).zip(cases) {
        let guest = Guest::with(&world, &endpoint, &facts, n, case.clone(), |_| {});
        match hypervisor.start(&guest.xml, StartMode::Paused).await {
            Ok(_) => hypervisor.destroy(guest.uuid).await.unwrap(),
            Err(error) => panic!("{case}: {error}"),
        }
    }
}

#[tokio::test]
async fn uefi_guests_start_with_variables_of_their_own() {
    let (world, endpoint, hypervisor) = world().await;
    let facts = hypervisor.capabilities().await.unwrap();
    for (n, secure) in [(1, false), (2, true)] {
        let firmware = facts.efi_firmware(secure).unwrap().clone();
        let vars = world.data().join(format!("vars{n}.fd"));
        std::fs::copy(&firmware.vars_template, &vars).unwrap();
        std::os::unix::fs::chown(&vars, Some(1_000_000_000 + n), Some(107)).unwrap();
        let change = json!({"memory": {"guest": "128Mi"}, "firmware": {"bootloader": {"efi": {"secureBoot": secure}}}});
        let guest = Guest::with(&world, &endpoint, &facts, n, change, |domain| {
            domain.efi = Some(fv_domain::EfiFiles {
                code: firmware.code,
                vars_template: firmware.vars_template,
                vars: vars.to_string_lossy().into_owned(),
                secure,
            });
        });
        hypervisor.start(&guest.xml, StartMode::Running).await.unwrap();
        assert_eq!(hypervisor.get(guest.uuid).await.unwrap().state, DomainState::Running);
        hypervisor.destroy(guest.uuid).await.unwrap();
    }
}
