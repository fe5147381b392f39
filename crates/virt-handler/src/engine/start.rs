//! The steps that bring a guest up.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fv_api::VirtualMachineInstance;
use fv_api::meta::phases::VmiPhase;
use fv_domain::{Accelerator, DomainFacts, InterfaceFacts, Owner, SocketPaths};
use fv_guestdata::{Secrets, needed_secrets};
use fv_hypervisor::{Capabilities, EfiFirmware, HypervisorError, StartMode};
use fv_netplan::{Binding, DnsFacts, NetPlan, PlanInput};

use super::observe::facts_of;
use super::publish::is_wanted_down;
use super::{StepError, Worker};
use crate::console::{Console, ConsoleConfig, LogSink};
use crate::disks::{PrepareError, QEMU_GID};
use crate::kubelet;
use crate::ports::{DiskRequest, QemuProcess};
use crate::process;
use crate::share::ShareDir;
use crate::store::StoreError;
use crate::vm::facts::GuestLink;
use crate::vm::record::{Defined, Record, Stage};
use fv_plan::EventKind;

/// The kernel's limit on paths of unix sockets, less the final zero.
const MAX_SOCKET_PATH: usize = 107;
pub(crate) const SERIAL_SOCKET: &str = "virt-serial0";
pub(crate) const VNC_SOCKET: &str = "virt-vnc";
const AGENT_SOCKET: &str = "virt-agent";

impl Worker {
    /// Writes the first record, after asking the API itself: a cache that lags must not start a guest that already ended.
    pub(super) async fn open_record(&mut self) -> Result<(), StepError> {
        let live = self.node.cluster.vmi(&self.shared.namespace, &self.shared.name).await?;
        let Some(vmi) = live.filter(|vmi| vmi.metadata.uid.as_deref() == Some(&self.shared.uid)) else {
            *self.shared.vmi.lock() = super::VmiSlot::Gone;
            return Err(StepError::Stale);
        };
        let facts = facts_of(&vmi, &self.node.config.node_name);
        self.shared.offer(vmi);
        if facts.phase != VmiPhase::Scheduled || facts.deleting || !facts.assigned_here {
            return Err(StepError::Stale);
        }
        self.new_record(Stage::Preparing, None).await
    }

    /// Writes a record for a domain of ours that has none: the node directory was lost, the guest was not.
    pub(super) async fn adopt(&mut self) -> Result<(), StepError> {
        let xml = self.node.hypervisor.xml(self.shared.uuid).await?;
        self.new_record(Stage::Running, owner_in(&xml)).await?;
        self.event(
            EventKind::Normal,
            "Adopted",
            "A running domain of this VirtualMachineInstance was found and adopted.",
        );
        Ok(())
    }

    async fn new_record(&mut self, stage: Stage, qemu_uid: Option<u32>) -> Result<(), StepError> {
        let (node, shared) = (Arc::clone(&self.node), Arc::clone(&self.shared));
        let record = tokio::task::spawn_blocking(move || {
            let qemu_uid = match qemu_uid {
                Some(uid) => {
                    node.store.claim_uid(uid);
                    uid
                }
                None => {
                    let users = process::users_with_processes().map_err(|source| StoreError::Io {
                        step: "look for the users of processes in",
                        path: "/proc".into(),
                        source,
                    })?;
                    node.store.allocate_uid(|uid| users.contains(&uid))?
                }
            };
            let record = Record { stage, ..Record::new(&shared.uid, &shared.namespace, &shared.name, qemu_uid) };
            node.store.write(&record).map(|()| record)
        })
        .await
        .map_err(StepError::Aborted)??;
        self.record = Some(record);
        Ok(())
    }

    pub(super) async fn prepare(&mut self) -> Result<(), StepError> {
        let vmi = self.shared.present().ok_or(StepError::Stale)?;
        let record = self.record.as_ref().ok_or(StepError::Stale)?;
        let efi = match efi_wanted(&vmi) {
            Some(secure_boot) => Some(firmware(&self.node.hypervisor.capabilities().await?, secure_boot)?),
            None => None,
        };
        let pod_uid = self.located.as_ref().map(|located| located.pod_uid.clone());
        let request = DiskRequest {
            uid: self.shared.uid.clone(),
            pod_uid,
            qemu_uid: record.qemu_uid,
            secrets: self.cloud_init_secrets(&vmi).await?,
            pull_secrets: self.pull_secrets(&vmi).await?,
            efi,
            vmi,
        };
        self.disks = Some(self.node.disks.prepare(&request).await?);
        self.session.prepared = true;
        Ok(())
    }

    async fn cloud_init_secrets(&self, vmi: &VirtualMachineInstance) -> Result<Secrets, StepError> {
        if let Some(kubelet_dir) = &self.node.config.kubelet_dir {
            let pod_uid = self.located.as_ref().map(|located| located.pod_uid.clone());
            let pod_uid = pod_uid.ok_or(PrepareError::LauncherMissing)?;
            return Ok(kubelet::secrets::cloud_init(kubelet_dir.clone(), pod_uid, &vmi.spec.volumes).await?);
        }
        let mut secrets = Secrets::default();
        for need in needed_secrets(&vmi.spec.volumes) {
            if let Some(secret) = self.node.cluster.secret(&self.shared.namespace, &need.secret).await? {
                secrets.insert(need.secret, secret.data.unwrap_or_default());
            }
        }
        Ok(secrets)
    }

    async fn pull_secrets(&self, vmi: &VirtualMachineInstance) -> Result<BTreeMap<String, Vec<u8>>, StepError> {
        let mut found = BTreeMap::new();
        if self.node.config.kubelet_dir.is_some() {
            // The kubelet pulls, with what the pod names.
            return Ok(found);
        }
        for volume in &vmi.spec.volumes {
            let Some(name) = volume.container_disk.as_ref().and_then(|disk| disk.image_pull_secret.as_deref()) else {
                continue;
            };
            let failed = |problem| StepError::PullSecret {
                volume: volume.name.clone(),
                secret: name.to_owned(),
                namespace: self.shared.namespace.clone(),
                problem,
            };
            let secret = self
                .node
                .cluster
                .secret(&self.shared.namespace, name)
                .await?
                .ok_or_else(|| failed("does not exist"))?;
            let config = secret.data.unwrap_or_default().remove(".dockerconfigjson");
            found.insert(volume.name.clone(), config.ok_or_else(|| failed("has no key .dockerconfigjson"))?.0);
        }
        Ok(found)
    }

    /// Makes sure of both ends of the guest's network and of what its launcher answers to DHCP.
    pub(super) async fn connect(&mut self, sandbox: &str) -> Result<(), StepError> {
        let record = self.record.clone().ok_or(StepError::Stale)?;
        let stored = self.node.store.network(&self.shared.uid)?;
        let located = self.located.as_ref().filter(|located| located.id == sandbox).ok_or(StepError::Stale)?;
        let pod = located.sandbox.netns.as_fd();
        let plan = match self.shared.present() {
            Some(vmi) => {
                // Before its first instruction a guest has seen nothing that would have to stay as it was.
                let previous = stored.as_ref().filter(|_| record.stage >= Stage::Starting);
                let facts = self.node.network.pod_facts(&self.shared.uid, pod).await?;
                let dns = match &located.sandbox.resolv_conf {
                    Some(text) => dns_facts(text),
                    None => {
                        dns_facts(&tokio::fs::read_to_string(&self.node.config.resolv_conf).await.unwrap_or_default())
                    }
                };
                let mut plan = fv_netplan::plan(PlanInput {
                    vmi: &vmi,
                    pod: &facts,
                    dns: &dns,
                    vcpus: vcpus(&vmi),
                    owner_uid: record.qemu_uid,
                    owner_gid: QEMU_GID,
                    previous,
                })?;
                // What an earlier process found out and did not get done.
                plan.link_refresh_needed |= previous.is_some_and(|previous| previous.link_refresh_needed);
                plan.link_refresh_needed &= record.may_have_run();
                plan
            }
            None => stored.ok_or(StepError::Stale)?,
        };
        self.node.network.ensure(&plan, pod).await?;
        let pod_uid = located.pod_uid.clone();
        let dhcp = serde_json::to_vec_pretty(&plan.dhcp).unwrap_or_default();
        let directory = located.sandbox.share_dir.clone();
        let (node, copy) = (Arc::clone(&self.node), plan.clone());
        let share = tokio::task::spawn_blocking(move || {
            let share =
                ShareDir::open(&directory).map_err(|source| StepError::Share { name: "share directory", source })?;
            share.write("dhcp.json", &dhcp).map_err(|source| StepError::Share { name: "dhcp.json", source })?;
            node.store.write_network(&copy)?;
            Ok::<_, StepError>(share)
        })
        .await
        .map_err(StepError::Aborted)??;
        if record.pod_uid.as_ref() != Some(&pod_uid) {
            // Nothing of the guest is in the old pod any more.
            if let Some(old) = &record.pod_uid {
                self.release_pod(old).await?;
            }
            self.update_record(|record| record.pod_uid = Some(pod_uid)).await?;
        }
        let console = self.shared.console.lock().clone();
        if let Some(console) = console
            && self.logs_console()
        {
            console.log().share(share).await;
        }
        if plan.link_refresh_needed && self.session.link == GuestLink::Settled {
            self.session.link = GuestLink::Stale;
        }
        self.plan = Some(plan);
        self.session.network_of = Some(sandbox.to_owned());
        self.session.plugged = false;
        Ok(())
    }

    fn logs_console(&self) -> bool {
        let asked = self.last_vmi.as_deref().and_then(|vmi| vmi.spec.domain.devices.log_serial_console);
        asked.unwrap_or(!self.node.settings().disable_serial_console_log)
    }

    /// The network plan in force, also after a restart of the handler.
    pub(super) fn network_plan(&mut self) -> Result<&NetPlan, StepError> {
        if self.plan.is_none() {
            self.plan = self.node.store.network(&self.shared.uid)?;
        }
        self.plan.as_ref().ok_or(StepError::Stale)
    }

    pub(super) async fn define(&mut self) -> Result<(), StepError> {
        let vmi = self.shared.present().ok_or(StepError::Stale)?;
        let record = self.record.clone().ok_or(StepError::Stale)?;
        let pod_uid = record.pod_uid.clone().ok_or(StepError::Stale)?;
        let disks = self.disks.clone().ok_or(StepError::Stale)?;
        let plan = self.network_plan()?.clone();
        let capabilities = self.node.hypervisor.capabilities().await?;
        let settings = self.node.settings();
        let accelerator = accelerator(&capabilities, settings.use_emulation)?;
        let machine =
            vmi.spec.domain.machine.as_ref().and_then(|m| m.type_.as_deref()).unwrap_or(&settings.machine_type);
        let machine_type = capabilities
            .resolve_machine(machine)
            .ok_or_else(|| StepError::Machine { machine: machine.to_owned() })?
            .to_owned();
        let facts = DomainFacts {
            instance_id: self.node.config.instance_id.clone(),
            pod_uid,
            accelerator,
            arch: capabilities.arch.clone(),
            emulator: capabilities.emulator.clone(),
            machine_type: machine_type.clone(),
            disks: disks.sources,
            interfaces: interfaces(&plan),
            sockets: self.sockets(record.qemu_uid)?,
            owner: Owner { uid: record.qemu_uid, gid: QEMU_GID },
            efi: disks.efi,
            partition: self.node.config.partition.clone(),
        };
        let built = fv_domain::build(&vmi, &facts)?;
        let defined = Defined {
            machine: machine_type,
            emulation: (accelerator == Accelerator::Tcg).then(|| {
                "the node has no usable hardware virtualisation; the guest runs in software emulation".to_owned()
            }),
            volumes: built.disks.iter().map(|disk| (disk.name.clone(), disk.target.clone())).collect(),
        };
        self.update_record(|record| record.defined = Some(defined)).await?;
        self.node.network.create_taps(&plan).await?;
        *self.shared.exit.lock() = None;
        match self.node.hypervisor.start(&built.xml, StartMode::Paused).await {
            Ok(_) => {}
            // It came up after all, behind a call that was given up: what it is shows the next look.
            Err(HypervisorError::DomainExists { .. }) => return Err(StepError::Stale),
            Err(error) => return Err(error.into()),
        }
        self.event(EventKind::Normal, "Created", "VirtualMachineInstance defined.");
        for note in &built.notes {
            self.event(EventKind::Warning, note.reason(), &note.to_string());
        }
        Ok(())
    }

    fn sockets(&self, qemu_uid: u32) -> Result<SocketPaths, StepError> {
        let dir = self.node.socket_dir(&self.shared.uid);
        make_socket_dir(&dir, qemu_uid)
            .map_err(|source| StepError::SocketDir { path: dir.display().to_string(), source })?;
        let path = |name: &str| {
            let path = dir.join(name).to_string_lossy().into_owned();
            let length = path.len();
            if length > MAX_SOCKET_PATH { Err(StepError::SocketPath { path, length }) } else { Ok(path) }
        };
        Ok(SocketPaths { serial: path(SERIAL_SOCKET)?, vnc: path(VNC_SOCKET)?, agent: path(AGENT_SOCKET)? })
    }

    pub(super) async fn plug(&mut self) -> Result<(), StepError> {
        let plan = self.network_plan()?.clone();
        self.node.network.attach_taps(&plan).await?;
        self.confine().await?;
        self.session.plugged = true;
        Ok(())
    }

    async fn confine(&self) -> Result<(), StepError> {
        let Some(cgroups) = &self.node.cgroups else { return Ok(()) };
        let pod_uid = self.record.as_ref().and_then(|record| record.pod_uid.clone()).ok_or(StepError::Stale)?;
        let domain = self.node.hypervisor.get(self.shared.uuid).await?;
        let Some(pid) = domain.pid else { return Err(StepError::QemuProcess { domain: domain.name }) };
        let vmi_uid = self.shared.uid.clone();
        Ok(cgroups.confine(&QemuProcess { vmi_uid, domain: domain.name, pid, pod_uid }).await?)
    }

    pub(super) async fn link_down(&mut self) -> Result<(), StepError> {
        self.set_links(false).await?;
        self.session.link = GuestLink::Down { since: self.now() };
        self.event(
            EventKind::Normal,
            "AddressChanged",
            "The guest's address changed with its launcher pod; its link is taken down and up so that it asks for the new one.",
        );
        Ok(())
    }

    pub(super) async fn link_up(&mut self) -> Result<(), StepError> {
        self.set_links(true).await?;
        let mut plan = self.network_plan()?.clone();
        plan.link_refresh_needed = false;
        let (node, copy) = (Arc::clone(&self.node), plan.clone());
        let written = tokio::task::spawn_blocking(move || node.store.write_network(&copy));
        written.await.map_err(StepError::Aborted)??;
        self.plan = Some(plan);
        self.session.link = GuestLink::Settled;
        Ok(())
    }

    /// Cables of the interfaces that have the pod's address; one the user wants out stays out.
    async fn set_links(&mut self, up: bool) -> Result<(), StepError> {
        let vmi = self.last_vmi.clone();
        let stays_out = |name: &str| vmi.as_deref().is_some_and(|vmi| is_wanted_down(vmi, name));
        let bridged = |i: &&fv_netplan::InterfacePlan| i.binding == Binding::Bridge && !stays_out(&i.name);
        let taps: Vec<String> =
            self.network_plan()?.interfaces.iter().filter(bridged).map(|i| i.tap.name.clone()).collect();
        for tap in taps {
            match self.node.hypervisor.set_link(self.shared.uuid, &tap, up).await {
                Ok(()) => {}
                Err(HypervisorError::NoDomain { .. }) => return Err(StepError::Stale),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Holds the console from before the guest's first byte on; a console that does not come does not hold the guest up.
    pub(super) async fn attach_console(&mut self) -> Result<(), StepError> {
        let wanted = self.last_vmi.as_deref().and_then(|vmi| vmi.spec.domain.devices.autoattach_serial_console);
        if wanted == Some(false) {
            self.session.console_attached = true;
            return Ok(());
        }
        let own = self.node.store.dir(&self.shared.uid)?;
        let sockets = self.node.socket_dir(&self.shared.uid);
        let failed = |source| StepError::SocketDir { path: sockets.display().to_string(), source };
        let log = LogSink::start(ShareDir::open(&own).map_err(failed)?, self.node.config.console_log_bytes);
        if let Some(located) = &self.located
            && self.logs_console()
            && let Ok(share) = ShareDir::open(&located.sandbox.share_dir)
        {
            log.share(share).await;
        }
        let config = ConsoleConfig { socket: SERIAL_SOCKET.into(), ..ConsoleConfig::default() };
        let console = Arc::new(Console::start(ShareDir::open(&sockets).map_err(failed)?, config, log));
        *self.shared.console.lock() = Some(Arc::clone(&console));
        if !console.wait_connected(Duration::from_secs(2)).await {
            tracing::warn!("serial console is not there yet; trying on");
        }
        self.session.console_attached = true;
        Ok(())
    }

    pub(super) async fn resume(&mut self) -> Result<(), StepError> {
        self.node.hypervisor.resume(self.shared.uuid).await?;
        self.event(EventKind::Normal, "Started", "VirtualMachineInstance started.");
        Ok(())
    }
}

fn make_socket_dir(dir: &Path, qemu_uid: u32) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    // QEMU makes its sockets itself, as its own user; nobody else has business there.
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700))?;
    std::os::unix::fs::chown(dir, Some(qemu_uid), Some(QEMU_GID))
}

fn efi_wanted(vmi: &VirtualMachineInstance) -> Option<bool> {
    let efi = vmi.spec.domain.firmware.as_ref()?.bootloader.as_ref()?.efi.as_ref()?;
    Some(efi.secure_boot.unwrap_or(true))
}

fn firmware(capabilities: &Capabilities, secure_boot: bool) -> Result<EfiFirmware, StepError> {
    capabilities.efi_firmware(secure_boot).cloned().ok_or(StepError::NoFirmware { secure_boot })
}

fn accelerator(capabilities: &Capabilities, use_emulation: bool) -> Result<Accelerator, StepError> {
    match (capabilities.kvm_usable, use_emulation) {
        (true, _) => Ok(Accelerator::Kvm),
        (false, true) => Ok(Accelerator::Tcg),
        (false, false) => Err(StepError::NoAcceleration),
    }
}

fn vcpus(vmi: &VirtualMachineInstance) -> u32 {
    let cpu = vmi.spec.domain.cpu.as_ref();
    let factor = |value: Option<i64>| u32::try_from(value.unwrap_or(1).max(1)).unwrap_or(1);
    let part = |get: fn(&fv_api::CPU) -> Option<i64>| factor(cpu.and_then(get));
    part(|c| c.cores).saturating_mul(part(|c| c.sockets)).saturating_mul(part(|c| c.threads))
}

fn interfaces(plan: &NetPlan) -> BTreeMap<String, InterfaceFacts> {
    let facts = plan.interfaces.iter().map(|interface| {
        let facts = InterfaceFacts {
            tap: interface.tap.name.clone(),
            mac: interface.guest_mac.to_string(),
            mtu: Some(interface.mtu),
            queues: interface.tap.queues,
        };
        (interface.name.clone(), facts)
    });
    facts.collect()
}

/// The resolver the guest is told about. A resolver on the node's loopback cannot be reached from a guest.
fn dns_facts(resolv_conf: &str) -> DnsFacts {
    let mut dns = DnsFacts::parse(resolv_conf);
    dns.nameservers.retain(|address| !address.is_loopback());
    dns
}

/// The user a domain's QEMU runs as, from its document: `<label>+1000000000:+107</label>`.
fn owner_in(xml: &str) -> Option<u32> {
    xml.split("<label>").skip(1).find_map(|rest| {
        let (user, _) = rest.split_once('<')?.0.split_once(':')?;
        user.trim().trim_start_matches('+').parse().ok().filter(|uid| *uid != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use fv_hypervisor::Hypervisor;
    use fv_hypervisor::fake::FakeHypervisor;

    #[tokio::test]
    async fn guests_are_emulated_only_where_kvm_is_unusable_and_emulation_is_allowed() {
        let node = FakeHypervisor::new("0000002a").capabilities().await.unwrap();
        for (kvm_usable, use_emulation, expected) in [
            (true, false, Some(Accelerator::Kvm)),
            // Permission to emulate is no wish to.
            (true, true, Some(Accelerator::Kvm)),
            (false, true, Some(Accelerator::Tcg)),
            (false, false, None),
        ] {
            let found = accelerator(&Capabilities { kvm_usable, ..node.clone() }, use_emulation);
            assert_eq!(found.ok(), expected, "KVM usable: {kvm_usable}, useEmulation: {use_emulation}");
        }
    }

    #[tokio::test]
    async fn refused_emulation_names_its_reason_and_the_way_out() {
        let node = FakeHypervisor::new("0000002a").capabilities().await.unwrap();
        let error = accelerator(&Capabilities { kvm_usable: false, ..node }, false).unwrap_err();
        assert_eq!(error.reason(), "NoHardwareVirtualization");
        assert_eq!(
            error.chain(),
            "this node has no usable hardware virtualisation, and software emulation is not allowed; allow it with \
             useEmulation"
        );
    }

    #[test]
    fn owner_is_read_from_the_document() {
        let xml = "<seclabel type='static' model='dac' relabel='no'><label>+1000000007:+107</label></seclabel>";
        assert_eq!(owner_in(xml), Some(1_000_000_007));
        assert_eq!(owner_in("<label>+0:+0</label>"), None);
        assert_eq!(owner_in("<domain/>"), None);
    }
}
