//! `<vcpu>` and `<cpu>`: topology, model, features.

use fv_api::VirtualMachineInstance;

use crate::build::{Context, invalid};
use crate::error::DomainError;
use crate::facts::Note;
use crate::xml::{Element, element, user_text};

/// The guest's CPU topology.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Topology {
    sockets: u32,
    cores: u32,
    threads: u32,
    /// Sockets the guest could have later.
    max_sockets: u32,
}

/// More than any machine type takes; keeps products far from overflow.
const MAX_VCPUS: u64 = 4096;

impl Topology {
    pub(crate) fn of(vmi: &VirtualMachineInstance) -> Result<Self, DomainError> {
        let domain = &vmi.spec.domain;
        let cpu = domain.cpu.as_ref();
        let number = |name: &str, value: Option<i64>| match value {
            None | Some(0) => Ok(None),
            Some(value) => match u32::try_from(value) {
                Ok(value) => Ok(Some(value)),
                Err(_) => Err(invalid(&format!("spec.domain.cpu.{name}"), value, "it must be a small positive number")),
            },
        };
        let mut sockets = number("sockets", cpu.and_then(|cpu| cpu.sockets))?;
        let cores = number("cores", cpu.and_then(|cpu| cpu.cores))?;
        let threads = number("threads", cpu.and_then(|cpu| cpu.threads))?;
        if sockets.is_none() && cores.is_none() && threads.is_none() {
            // Admission writes the topology down; an object that came around it gets the same.
            let resources = domain.resources.as_ref();
            let amount = resources.and_then(|all| all.limits.get("cpu").or_else(|| all.requests.get("cpu")));
            sockets = amount.and_then(|amount| u32::try_from(amount.value()).ok()).filter(|count| *count > 0);
        }
        let sockets = sockets.unwrap_or(1);
        let topology = Self {
            sockets,
            cores: cores.unwrap_or(1),
            threads: threads.unwrap_or(1),
            max_sockets: number("maxSockets", cpu.and_then(|cpu| cpu.max_sockets))?.unwrap_or(sockets),
        };
        if topology.max_sockets < topology.sockets {
            return Err(invalid("spec.domain.cpu.maxSockets", topology.max_sockets, "it is less than sockets"));
        }
        match topology.count(topology.max_sockets) {
            Some(count) if count <= MAX_VCPUS => Ok(topology),
            _ => {
                let value = format!("{}x{}x{}", topology.max_sockets, topology.cores, topology.threads);
                Err(invalid("spec.domain.cpu", value, format!("sockets x cores x threads is more than {MAX_VCPUS}")))
            }
        }
    }

    fn count(self, sockets: u32) -> Option<u64> {
        u64::from(sockets).checked_mul(u64::from(self.cores))?.checked_mul(u64::from(self.threads))
    }

    /// vCPUs the guest has now.
    pub(crate) fn vcpus(self) -> u64 {
        self.count(self.sockets).unwrap_or(1)
    }

    pub(crate) fn vcpu(self) -> Element {
        let most = self.count(self.max_sockets).unwrap_or(1);
        let current = Some(self.vcpus()).filter(|now| *now != most);
        element("vcpu").attr("placement", "static").attr_opt("current", current).text(most)
    }

    fn element(self) -> Element {
        element("topology")
            .attr("sockets", self.max_sockets)
            .attr("dies", 1)
            .attr("cores", self.cores)
            .attr("threads", self.threads)
    }
}

/// What a CPU mode becomes.
enum Mode {
    HostModel,
    HostPassthrough,
    /// Whatever the emulator can do: the counterpart of `host-passthrough` in software.
    Maximum,
    Named(String),
}

pub(crate) fn cpu(context: &mut Context<'_>, topology: Topology) -> Result<Element, DomainError> {
    let spec = context.vmi.spec.domain.cpu.as_ref();
    let asked = spec.and_then(|cpu| cpu.model.as_deref()).unwrap_or("host-model");
    let mode = match (asked, context.has_kvm()) {
        ("", _) => return Err(invalid("spec.domain.cpu.model", "", "it is empty")),
        ("host-model", true) => Mode::HostModel,
        ("host-passthrough", true) => Mode::HostPassthrough,
        ("host-model" | "host-passthrough", false) => {
            context.notes.push(Note::CpuModelFallback { requested: asked.to_owned(), used: "max".into() });
            Mode::Maximum
        }
        (name, _) => Mode::Named(user_text("spec.domain.cpu.model", name)?),
    };
    let mut cpu = match &mode {
        Mode::HostModel => element("cpu").attr("mode", "host-model"),
        Mode::HostPassthrough => element("cpu").attr("mode", "host-passthrough").attr("check", "none"),
        Mode::Maximum => element("cpu").attr("mode", "maximum").attr("check", "none"),
        // In software a model is a list of wishes: what the emulator lacks is missing, the guest still starts.
        Mode::Named(_) if !context.has_kvm() => {
            element("cpu").attr("mode", "custom").attr("match", "exact").attr("check", "none")
        }
        Mode::Named(_) => element("cpu").attr("mode", "custom").attr("match", "exact"),
    };
    if let Mode::Named(name) = &mode {
        cpu = cpu.child(element("model").attr("fallback", "forbid").text(name));
    }
    cpu = cpu.child(topology.element());
    for (index, feature) in spec.iter().flat_map(|cpu| &cpu.features).enumerate() {
        let field = format!("spec.domain.cpu.features[{index}]");
        let name = user_text(&format!("{field}.name"), &feature.name)?;
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte)) {
            return Err(invalid(&format!("{field}.name"), name, "it is not the name of a CPU feature"));
        }
        let policy = feature.policy.as_deref().unwrap_or("require");
        if !matches!(policy, "force" | "require" | "optional" | "disable" | "forbid") {
            let problem = "it must be force, require, optional, disable or forbid";
            return Err(invalid(&format!("{field}.policy"), policy, problem));
        }
        let policy = match (policy, context.has_kvm()) {
            (policy, true) => policy,
            ("optional", false) => continue,
            ("disable" | "forbid", false) => "disable",
            (_, false) => {
                context.notes.push(Note::CpuFeatureIgnored { feature: name.clone() });
                "require"
            }
        };
        cpu = cpu.child(element("feature").attr("name", name).attr("policy", policy));
    }
    Ok(cpu)
}
