//! A guest of 129 bytes: a boot sector that greets on the serial port, echoes what it reads there, and obeys.
//!
//! `p` powers off, `r` resets, `c` panics (pvpanic), the ACPI power button powers off. It halts between timer ticks, so that even
//! under emulation it takes no CPU. Everything else of the machine is real: firmware, virtio disk, serial port, ACPI.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use fv_domain::{Accelerator, DiskFormat, DiskSource, DomainFacts, InterfaceFacts, Owner, SocketPaths, SourceKind};
use fv_hypervisor::Capabilities;
use fv_hypervisor::daemon::LibvirtEndpoint;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::World;

/// ```text
/// 7c00  ax, ds, ss = 0; sp = 7c00
/// 7c09  port 602 = 0100              power button enabled
/// 7c10  print the greeting
/// 7c1d  loop: sti; hlt
/// 7c1f  port 600 & 0100 → off        power button pressed
/// 7c28  port 3fd & 01 = 0 → loop     nothing to read
/// 7c30  read 3f8: p → off, r → reset, c → panic, else print it; → loop
/// 7c45  off: port 604 = 2000         7c4e  reset: port cf9 = 06        7c56  panic: port 505 = 01
/// 7c5e  print: wait for port 3fd & 20, port 3f8 = character
/// 7c6f  "ferrovirt guest\r\n"
/// ```
const BOOT_SECTOR: [u8; 129] = [
    0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xd0, 0xbc, 0x00, 0x7c, 0xba, 0x02, 0x06, 0xb8, 0x00, 0x01, 0xef, 0xbe, 0x6f, 0x7c,
    0xac, 0x84, 0xc0, 0x74, 0x05, 0xe8, 0x43, 0x00, 0xeb, 0xf6, 0xfb, 0xf4, 0xba, 0x00, 0x06, 0xed, 0xa9, 0x00, 0x01,
    0x75, 0x1d, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xed, 0xba, 0xf8, 0x03, 0xec, 0x3c, 0x70, 0x74, 0x0d, 0x3c,
    0x72, 0x74, 0x12, 0x3c, 0x63, 0x74, 0x16, 0xe8, 0x1b, 0x00, 0xeb, 0xd8, 0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef,
    0xeb, 0xcf, 0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee, 0xeb, 0xc7, 0xba, 0x05, 0x05, 0xb0, 0x01, 0xee, 0xeb, 0xbf, 0x88,
    0xc4, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x20, 0x74, 0xf8, 0x88, 0xe0, 0xba, 0xf8, 0x03, 0xee, 0xc3, 0x66, 0x65, 0x72,
    0x72, 0x6f, 0x76, 0x69, 0x72, 0x74, 0x20, 0x67, 0x75, 0x65, 0x73, 0x74, 0x0d, 0x0a, 0x00,
];

pub(crate) const GREETING: &str = "ferrovirt guest";

/// A guest ready to be started.
pub(crate) struct Guest {
    pub(crate) uuid: Uuid,
    pub(crate) xml: String,
    pub(crate) tap: String,
    serial: PathBuf,
}

impl Guest {
    /// Makes disk, tap and sockets' directory of guest number `n` of a world, and its domain. All guests have the same name, MAC and
    /// firmware uuid, as guests of different tenants may.
    pub(crate) fn prepare(world: &World, endpoint: &LibvirtEndpoint, facts: &Capabilities, n: u32) -> Self {
        Self::with(world, endpoint, facts, n, json!({}), |_| {})
    }

    /// The same with `change` merged into the VMI's domain, and other facts.
    pub(crate) fn with(
        world: &World,
        endpoint: &LibvirtEndpoint,
        facts: &Capabilities,
        n: u32,
        change: Value,
        adjust: impl FnOnce(&mut DomainFacts),
    ) -> Self {
        let uid = 1_000_000_000 + n;
        let uuid = Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{}/{n}", world.id()).as_bytes());
        let run = world.run().join(n.to_string());
        std::fs::create_dir_all(&run).unwrap();
        std::os::unix::fs::chown(&run, Some(uid), Some(107)).unwrap();
        let disk = world.data().join(format!("disk{n}.img"));
        let mut image = BOOT_SECTOR.to_vec();
        image.resize(1 << 20, 0);
        image[510..512].copy_from_slice(&[0x55, 0xaa]);
        std::fs::write(&disk, image).unwrap();
        std::os::unix::fs::chown(&disk, Some(uid), Some(107)).unwrap();
        let tap = format!("fi{}{n}", world.id());
        ip(&["tuntap", "add", "dev", &tap, "mode", "tap", "user", &uid.to_string(), "vnet_hdr"]);

        let path = |name: &str| run.join(name).to_string_lossy().into_owned();
        let mut domain_facts = DomainFacts {
            instance_id: world.id().into(),
            pod_uid: Uuid::nil().to_string(),
            accelerator: if facts.kvm_usable { Accelerator::Kvm } else { Accelerator::Tcg },
            arch: facts.arch.clone(),
            emulator: facts.emulator.clone(),
            machine_type: facts.resolve_machine("q35").unwrap().into(),
            disks: BTreeMap::from([(
                "root".into(),
                DiskSource {
                    kind: SourceKind::File,
                    path: disk.to_string_lossy().into_owned(),
                    format: DiskFormat::Raw,
                    read_only: false,
                    direct_io: false,
                    preallocated: true,
                },
            )]),
            interfaces: BTreeMap::from([(
                "default".into(),
                InterfaceFacts { tap: tap.clone(), mac: "02:00:5e:00:00:01".into(), mtu: Some(1450), queues: 1 },
            )]),
            sockets: SocketPaths { serial: path("serial"), vnc: path("vnc"), agent: path("agent") },
            owner: Owner { uid, gid: 107 },
            efi: None,
            partition: endpoint.partition.clone(),
        };
        adjust(&mut domain_facts);
        let mut vmi = json!({
            "apiVersion": "kubevirt.io/v1", "kind": "VirtualMachineInstance",
            "metadata": {"name": "same", "namespace": format!("tenant-{n}"), "uid": uuid.to_string()},
            "spec": {
                "domain": {
                    "memory": {"guest": "32Mi"},
                    "firmware": {"uuid": "5d307ca9-b3ef-428c-8861-06e72d69f223", "serial": "a,b=c"},
                    "devices": {
                        "disks": [{"name": "root", "disk": {"bus": "virtio"}}],
                        "interfaces": [{"name": "default", "masquerade": {}}],
                        "rng": {},
                    },
                },
                "networks": [{"name": "default", "pod": {}}],
            },
        });
        merge(&mut vmi["spec"]["domain"], change);
        let built = fv_domain::build(&serde_json::from_value(vmi).unwrap(), &domain_facts).unwrap();
        assert_eq!(built.uuid, uuid);
        Self { uuid, xml: built.xml, serial: run.join("serial"), tap }
    }

    /// Connects to the serial port.
    pub(crate) fn console(&self) -> Console {
        let stream = UnixStream::connect(&self.serial).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        Console { stream, seen: String::new() }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "del", &self.tap]).output();
    }
}

fn merge(base: &mut Value, change: Value) {
    match (base, change) {
        (Value::Object(base), Value::Object(change)) => {
            for (key, value) in change {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, change) => *base = change,
    }
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().unwrap();
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The guest's serial port.
pub(crate) struct Console {
    stream: UnixStream,
    seen: String,
}

impl Console {
    pub(crate) fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    /// Reads until `text` comes, and forgets everything up to it.
    pub(crate) fn expect(&mut self, text: &str) {
        let begin = Instant::now();
        while !self.poll(text) {
            assert!(begin.elapsed() < Duration::from_secs(300), "the guest never said {text:?}, but {:?}", self.seen);
        }
    }

    /// That nothing like `text` comes for a while.
    pub(crate) fn expect_silence(&mut self, text: &str, patience: Duration) {
        let begin = Instant::now();
        while begin.elapsed() < patience {
            assert!(!self.poll(text), "the guest said {text:?}");
        }
    }

    fn poll(&mut self, text: &str) -> bool {
        if let Some(at) = self.seen.find(text) {
            self.seen.drain(..at + text.len());
            return true;
        }
        let mut bytes = [0; 1024];
        match self.stream.read(&mut bytes) {
            Ok(0) => panic!("the console closed after {:?}", self.seen),
            Ok(count) => self.seen.push_str(&String::from_utf8_lossy(&bytes[..count])),
            Err(error) => assert!(
                matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
                "{error}"
            ),
        }
        false
    }
}
