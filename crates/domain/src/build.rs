//! The domain as a whole, in the order of libvirt's documentation; its parts are in the modules beside this one.

use fv_api::VirtualMachineInstance;
use uuid::Uuid;

use crate::error::DomainError;
use crate::facts::{Accelerator, BuiltDomain, DomainFacts, Note};
use crate::xml::{Element, element, node_path, node_text, user_text};
use crate::{cpu, devices, disks, features, firmware, interfaces, metadata, unsupported};

/// What the parts share.
pub(crate) struct Context<'a> {
    pub(crate) vmi: &'a VirtualMachineInstance,
    pub(crate) facts: &'a DomainFacts,
    pub(crate) notes: Vec<Note>,
}

impl Context<'_> {
    pub(crate) fn is_x86(&self) -> bool {
        matches!(self.facts.arch.as_str(), "x86_64" | "i686")
    }

    pub(crate) fn has_kvm(&self) -> bool {
        self.facts.accelerator == Accelerator::Kvm
    }

    /// Notes that something only hardware virtualisation has is left out; returns whether it may be used.
    pub(crate) fn kvm_only(&mut self, field: &str) -> bool {
        if !self.has_kvm() {
            self.notes.push(Note::NeedsKvm { field: field.to_owned() });
        }
        self.has_kvm()
    }

    /// Model name of a virtio device (the transitional kind only where the user wants it).
    pub(crate) fn virtio_model(&self) -> &'static str {
        match self.vmi.spec.domain.devices.use_virtio_transitional {
            Some(true) => "virtio-transitional",
            _ => "virtio-non-transitional",
        }
    }
}

pub(crate) fn build(vmi: &VirtualMachineInstance, facts: &DomainFacts) -> Result<BuiltDomain, DomainError> {
    let uid = vmi.metadata.uid.as_deref().ok_or(DomainError::MissingUid)?;
    let uuid = Uuid::parse_str(uid).map_err(|_| DomainError::InvalidUid { value: uid.to_owned() })?;
    unsupported::check(&vmi.spec)?;
    let name = crate::domain_name(uuid);
    let mut context = Context { vmi, facts, notes: Vec::new() };

    let memory = memory_bytes(vmi)?;
    let mut devices = element("devices").child(element("emulator").text(node_path("emulator", &facts.emulator)?));
    let disks = disks::disks(&context)?;
    devices = devices.children(disks.elements).children(interfaces::interfaces(&context)?);
    devices = devices.children(devices::devices(&context)?);

    let topology = cpu::Topology::of(vmi)?;
    let domain = element("domain")
        .attr("type", if context.has_kvm() { "kvm" } else { "qemu" })
        .attr("xmlns:qemu", "http://libvirt.org/schemas/domain/qemu/1.0")
        .child(element("name").text(&name))
        .child(element("uuid").text(uuid))
        .child(element("metadata").child(own_metadata(vmi, facts, uuid)?))
        .child(element("memory").attr("unit", "b").text(memory))
        .child(element("currentMemory").attr("unit", "b").text(memory))
        .child(topology.vcpu())
        .children(partition(facts)?)
        .child(firmware::sysinfo(vmi)?)
        .child(firmware::os(&context)?)
        .child(features::features(&mut context)?)
        .child(cpu::cpu(&mut context, topology)?)
        .child(features::clock(&mut context)?)
        .child(element("on_poweroff").text("destroy"))
        .child(element("on_reboot").text(match vmi.spec.domain.reboot_policy.as_deref() {
            None | Some("Reboot") => "restart",
            Some("Terminate") => "destroy",
            Some(other) => return Err(invalid("spec.domain.rebootPolicy", other, "it must be Reboot or Terminate")),
        }))
        .child(element("on_crash").text("destroy"))
        .child(devices)
        .child(
            element("seclabel")
                .attr("type", "static")
                .attr("model", "dac")
                .attr("relabel", "no")
                .child(element("label").text(format!("+{}:+{}", facts.owner.uid, facts.owner.gid))),
        )
        .children(firmware::commandline(vmi)?);
    Ok(BuiltDomain { uuid, name, xml: domain.render(), notes: context.notes, disks: disks.targets })
}

pub(crate) fn invalid(field: &str, value: impl ToString, problem: impl Into<String>) -> DomainError {
    let value = value.to_string().chars().take(64).collect();
    DomainError::InvalidValue { field: field.to_owned(), value, problem: problem.into() }
}

fn own_metadata(vmi: &VirtualMachineInstance, facts: &DomainFacts, uuid: Uuid) -> Result<Element, DomainError> {
    let name = vmi.metadata.name.as_deref().unwrap_or_default();
    let namespace = vmi.metadata.namespace.as_deref().unwrap_or_default();
    Ok(element("ferrovirt:vmi")
        .attr("xmlns:ferrovirt", metadata::METADATA_URI)
        .child(element("ferrovirt:uid").text(uuid))
        .child(element("ferrovirt:namespace").text(user_text("metadata.namespace", namespace)?))
        .child(element("ferrovirt:name").text(user_text("metadata.name", name)?))
        .child(element("ferrovirt:podUID").text(node_text("pod uid", &facts.pod_uid)?))
        .child(element("ferrovirt:instance").text(node_text("instance id", &facts.instance_id)?)))
}

fn partition(facts: &DomainFacts) -> Result<Option<Element>, DomainError> {
    let Some(partition) = &facts.partition else { return Ok(None) };
    let partition = node_path("resource partition", partition)?;
    Ok(Some(element("resource").child(element("partition").text(partition))))
}

/// What the guest sees as its memory.
fn memory_bytes(vmi: &VirtualMachineInstance) -> Result<i128, DomainError> {
    let domain = &vmi.spec.domain;
    let guest = domain.memory.as_ref().and_then(|memory| memory.guest.as_ref());
    let resources = domain.resources.as_ref();
    let (field, quantity) = guest
        .map(|quantity| ("spec.domain.memory.guest", quantity))
        .or_else(|| Some(("spec.domain.resources.requests.memory", resources?.requests.get("memory")?)))
        .or_else(|| Some(("spec.domain.resources.limits.memory", resources?.limits.get("memory")?)))
        .ok_or_else(|| invalid("spec.domain.memory.guest", "", "no amount of memory is given"))?;
    let bytes = quantity.value();
    // The upper end is what libvirt can count; what the machine has is the scheduler's business.
    if !(1 << 20..=1 << 50).contains(&bytes) {
        return Err(invalid(field, bytes, "guest memory must be between 1Mi and 1Pi"));
    }
    Ok(bytes)
}
