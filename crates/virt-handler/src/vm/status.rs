//! What the status of a VMI has to say: the handler's fields are set, everybody else's are left as they are.

use fv_api::meta::conditions;
use fv_api::meta::phases::VmiPhase;
use fv_api::{
    Condition, MemoryStatus, Quantity, VirtualMachineInstanceGuestOSInfo, VirtualMachineInstanceNetworkInterface,
    VirtualMachineInstancePhaseTransitionTimestamp, VirtualMachineInstanceStatus, VolumeStatus,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::facts::PauseCause;
use super::record::Outcome;

/// Messages are cut to this many characters: conditions are for reading.
const MAX_MESSAGE: usize = 1024;

/// One change to the status.
#[derive(Clone, Debug, PartialEq)]
pub enum StatusGoal {
    /// The start (or the upkeep of a running guest) fails; it is tried again.
    Failing {
        reason: String,
        message: String,
    },
    Running(Box<RunningFacts>),
    Ended(Outcome),
    Deleted,
}

/// The node's knowledge of a running guest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunningFacts {
    pub paused: Option<PauseCause>,
    /// What does not work although the guest runs: reason and message.
    pub failing: Option<(String, String)>,
    /// The guest is emulated in software; says why.
    pub emulation: Option<String>,
    /// Facts of the guest agent; `None`: it is not connected.
    pub agent: Option<AgentFacts>,
    pub interfaces: Vec<InterfaceFact>,
    /// The machine type in use.
    pub machine: Option<String>,
    /// Memory the guest has.
    pub memory: Option<Quantity>,
    /// Guest device of each volume.
    pub volumes: Vec<(String, String)>,
    /// Why the guest cannot be migrated: reason and message.
    pub not_migratable: (String, String),
}

/// One guest interface.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InterfaceFact {
    pub name: String,
    pub mac: String,
    pub ips: Vec<String>,
    pub pod_interface_name: String,
    pub queue_count: u32,
    /// Whether its cable is plugged in.
    pub is_up: bool,
}

/// What the guest agent said, bounded and cleaned.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AgentFacts {
    pub os: VirtualMachineInstanceGuestOSInfo,
    /// The guest's name of an interface, by MAC.
    pub interface_names: std::collections::BTreeMap<String, String>,
}

/// The status after `goal`; equal to `old` when it says all already. A final phase is never left.
pub fn compose(old: &VirtualMachineInstanceStatus, goal: &StatusGoal, now: Timestamp) -> VirtualMachineInstanceStatus {
    let mut status = old.clone();
    let phase = VmiPhase::parse(old.phase.as_deref());
    match goal {
        StatusGoal::Failing { reason, message } if !phase.is_final() => {
            set_condition(&mut status, conditions::SYNCHRONIZED, "False", Some((reason, message)), now);
        }
        StatusGoal::Failing { .. } => {}
        StatusGoal::Running(facts) if !phase.is_final() => running(&mut status, facts, now),
        StatusGoal::Running(_) => {}
        StatusGoal::Ended(outcome) => ended(&mut status, outcome, now),
        StatusGoal::Deleted => {
            set_condition(
                &mut status,
                conditions::DOMAIN_DELETED,
                "True",
                Some(("DomainDeleted", "the domain is gone from its node and all it used is released")),
                now,
            );
        }
    }
    status
}

fn running(status: &mut VirtualMachineInstanceStatus, facts: &RunningFacts, now: Timestamp) {
    set_phase(status, VmiPhase::Running, now);
    match &facts.failing {
        Some((reason, message)) => {
            set_condition(status, conditions::SYNCHRONIZED, "False", Some((reason, message)), now)
        }
        None => remove_condition(status, conditions::SYNCHRONIZED),
    }
    match facts.paused {
        Some(PauseCause::User) => {
            set_condition(status, conditions::PAUSED, "True", Some(("PausedByUser", "VMI was paused by user")), now);
        }
        Some(PauseCause::IoError) => {
            set_condition(status, conditions::PAUSED, "True", Some(("PausedIOError", "VMI was paused, IO error")), now);
        }
        Some(PauseCause::Watchdog) => {
            set_condition(
                status,
                conditions::PAUSED,
                "True",
                Some(("PausedByWatchdog", "VMI was paused by its watchdog")),
                now,
            );
        }
        // An operation of libvirt's own ends by itself and is nobody's pause.
        Some(PauseCause::Operation) | None => remove_condition(status, conditions::PAUSED),
    }
    match &facts.emulation {
        Some(why) => {
            set_condition(status, conditions::SOFTWARE_EMULATION, "True", Some(("SoftwareEmulation", why)), now)
        }
        None => remove_condition(status, conditions::SOFTWARE_EMULATION),
    }
    match &facts.agent {
        Some(_) => set_condition(status, conditions::AGENT_CONNECTED, "True", None, now),
        None => remove_condition(status, conditions::AGENT_CONNECTED),
    }
    let (reason, message) = &facts.not_migratable;
    set_condition(status, conditions::LIVE_MIGRATABLE, "False", Some((reason, message)), now);
    status.guest_os_info = facts.agent.as_ref().map(|agent| agent.os.clone());
    if !facts.interfaces.is_empty() {
        status.interfaces = facts.interfaces.iter().map(|i| interface(i, facts.agent.as_ref())).collect();
    }
    if let Some(machine) = &facts.machine {
        status.machine = Some(fv_api::Machine { type_: Some(machine.clone()) });
    }
    if let Some(memory) = &facts.memory {
        let seen = status.memory.get_or_insert_with(MemoryStatus::default);
        seen.guest_at_boot.get_or_insert(*memory);
        seen.guest_current = Some(*memory);
        seen.guest_requested.get_or_insert(*memory);
    }
    for (name, target) in &facts.volumes {
        match status.volume_status.iter_mut().find(|v| v.name == *name) {
            Some(volume) => volume.target.clone_from(target),
            None => status.volume_status.push(VolumeStatus {
                name: name.clone(),
                target: target.clone(),
                ..VolumeStatus::default()
            }),
        }
    }
}

fn interface(fact: &InterfaceFact, agent: Option<&AgentFacts>) -> VirtualMachineInstanceNetworkInterface {
    let guest_name = agent.and_then(|agent| agent.interface_names.get(&fact.mac));
    VirtualMachineInstanceNetworkInterface {
        info_source: Some(if guest_name.is_some() { "domain, guest-agent" } else { "domain" }.into()),
        interface_name: guest_name.cloned(),
        ip_address: fact.ips.first().cloned(),
        ip_addresses: fact.ips.clone(),
        link_state: Some(if fact.is_up { "up" } else { "down" }.into()),
        mac: Some(fact.mac.clone()),
        name: Some(fact.name.clone()),
        pod_interface_name: Some(fact.pod_interface_name.clone()),
        queue_count: i32::try_from(fact.queue_count).ok(),
    }
}

fn ended(status: &mut VirtualMachineInstanceStatus, outcome: &Outcome, now: Timestamp) {
    if VmiPhase::parse(status.phase.as_deref()).is_final() {
        return;
    }
    set_phase(status, if outcome.succeeded { VmiPhase::Succeeded } else { VmiPhase::Failed }, now);
    status.reason = (!outcome.succeeded).then(|| outcome.reason.clone());
    for condition in [conditions::PAUSED, conditions::AGENT_CONNECTED, conditions::SYNCHRONIZED] {
        remove_condition(status, condition);
    }
}

fn set_phase(status: &mut VirtualMachineInstanceStatus, phase: VmiPhase, now: Timestamp) {
    let word = phase.as_str().to_owned();
    if status.phase.as_deref() == Some(&word) {
        return;
    }
    if !status.phase_transition_timestamps.iter().any(|t| t.phase.as_deref() == Some(&word)) {
        status.phase_transition_timestamps.push(VirtualMachineInstancePhaseTransitionTimestamp {
            phase: Some(word.clone()),
            phase_transition_timestamp: Some(Time(now)),
        });
    }
    status.phase = Some(word);
}

fn set_condition(
    status: &mut VirtualMachineInstanceStatus,
    type_: &str,
    value: &str,
    why: Option<(&str, &str)>,
    now: Timestamp,
) {
    let reason = why.map(|(reason, _)| reason.to_owned());
    let message = why.map(|(_, message)| message.chars().take(MAX_MESSAGE).collect::<String>());
    let old = status.conditions.iter_mut().find(|c| c.type_ == type_);
    match old {
        Some(old) if old.status == value && old.reason == reason && old.message == message => {}
        Some(old) => {
            if old.status != value {
                old.last_transition_time = Some(Time(now));
            }
            old.status = value.to_owned();
            old.reason = reason;
            old.message = message;
        }
        None => status.conditions.push(Condition {
            type_: type_.to_owned(),
            status: value.to_owned(),
            reason,
            message,
            last_probe_time: None,
            last_transition_time: Some(Time(now)),
        }),
    }
}

fn remove_condition(status: &mut VirtualMachineInstanceStatus, type_: &str) {
    status.conditions.retain(|c| c.type_ != type_);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition<'a>(status: &'a VirtualMachineInstanceStatus, type_: &str) -> Option<&'a Condition> {
        status.conditions.iter().find(|c| c.type_ == type_)
    }

    fn facts() -> RunningFacts {
        RunningFacts {
            interfaces: vec![InterfaceFact {
                name: "default".into(),
                mac: "02:00:00:00:00:01".into(),
                ips: vec!["10.244.0.7".into()],
                pod_interface_name: "eth0".into(),
                queue_count: 1,
                is_up: true,
            }],
            machine: Some("pc-q35-7.2".into()),
            memory: Some("64Mi".parse().unwrap()),
            volumes: vec![("root".into(), "vda".into())],
            not_migratable: ("LiveMigrationNotSupported".into(), "not yet".into()),
            ..RunningFacts::default()
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_cable_that_is_out_is_told() {
        let mut running = facts();
        running.interfaces[0].is_up = false;
        let status = compose(&VirtualMachineInstanceStatus::default(), &StatusGoal::Running(Box::new(running)), at(1));
        assert_eq!(status.interfaces[0].link_state.as_deref(), Some("down"));
    }

    #[test]
    fn running_says_all_and_repeating_it_says_nothing_new() {
        let old = VirtualMachineInstanceStatus { phase: Some("Scheduled".into()), ..Default::default() };
        let goal = StatusGoal::Running(Box::new(facts()));
        let status = compose(&old, &goal, at(1));
        insta::assert_json_snapshot!(status);
        assert_eq!(compose(&status, &goal, at(2)), status);
    }

    #[test]
    fn foreign_conditions_are_kept() {
        let mut old = VirtualMachineInstanceStatus { phase: Some("Scheduled".into()), ..Default::default() };
        old.conditions.push(Condition { type_: "Ready".into(), status: "False".into(), ..Condition::default() });
        let status = compose(&old, &StatusGoal::Running(Box::new(facts())), at(1));
        assert!(condition(&status, "Ready").is_some());
    }

    #[test]
    fn pause_comes_and_goes() {
        let mut running = facts();
        running.paused = Some(PauseCause::IoError);
        let old = VirtualMachineInstanceStatus { phase: Some("Running".into()), ..Default::default() };
        let paused = compose(&old, &StatusGoal::Running(Box::new(running)), at(1));
        assert_eq!(condition(&paused, "Paused").unwrap().reason.as_deref(), Some("PausedIOError"));
        let resumed = compose(&paused, &StatusGoal::Running(Box::new(facts())), at(2));
        assert!(condition(&resumed, "Paused").is_none());
    }

    #[test]
    fn failure_is_told_and_taken_back() {
        let old = VirtualMachineInstanceStatus { phase: Some("Scheduled".into()), ..Default::default() };
        let goal = StatusGoal::Failing { reason: "ErrImagePull".into(), message: "x".repeat(5000) };
        let failing = compose(&old, &goal, at(1));
        let told = condition(&failing, "Synchronized").unwrap();
        assert_eq!((told.status.as_str(), told.reason.as_deref()), ("False", Some("ErrImagePull")));
        assert_eq!(told.message.as_ref().unwrap().len(), MAX_MESSAGE);
        assert_eq!(failing.phase.as_deref(), Some("Scheduled"));
        let running = compose(&failing, &StatusGoal::Running(Box::new(facts())), at(2));
        assert!(condition(&running, "Synchronized").is_none());
    }

    #[test]
    fn final_phase_is_never_left() {
        let outcome = |succeeded| Outcome { succeeded, reason: "R".into(), message: String::new() };
        let old = VirtualMachineInstanceStatus { phase: Some("Running".into()), ..Default::default() };
        let failed = compose(&old, &StatusGoal::Ended(outcome(false)), at(1));
        assert_eq!((failed.phase.as_deref(), failed.reason.as_deref()), (Some("Failed"), Some("R")));
        for goal in [
            StatusGoal::Running(Box::new(facts())),
            StatusGoal::Ended(outcome(true)),
            StatusGoal::Failing { reason: String::new(), message: String::new() },
        ] {
            assert_eq!(compose(&failed, &goal, at(2)), failed);
        }
        assert!(condition(&compose(&failed, &StatusGoal::Deleted, at(3)), "DomainDeleted").is_some());
    }
}
