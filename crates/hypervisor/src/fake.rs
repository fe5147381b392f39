//! A scripted hypervisor for tests: domains in memory, failures and events on demand, behind the same port.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fv_domain::DomainMetadata;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::broadcast;
use uuid::Uuid;

use crate::error::HypervisorError;
use crate::libvirt::{check_ours, link};
use crate::port::{
    Capabilities, CpuModel, DomainEvent, DomainEventKind, DomainInfo, EfiFirmware, Hypervisor, HypervisorEvent,
    MachineType, StartMode,
};
use crate::stats::DomainStats;
use crate::{DomainState, PauseReason, StopReason};

/// One method of the port, for scripting and for the record of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    Start,
    List,
    Get,
    Suspend,
    Resume,
    Shutdown,
    Reboot,
    Reset,
    Destroy,
    SetLink,
    Xml,
    Stats,
    AgentCommand,
    LastStop,
    Forget,
    Capabilities,
}

/// What a fake guest does when it is asked to shut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnShutdown {
    /// Powers itself off at once.
    Obey,
    /// Does nothing.
    Ignore,
}

/// A hypervisor in memory. Clones of the `Arc` are the handles of a test.
pub struct FakeHypervisor {
    instance_id: String,
    state: Mutex<State>,
    events: broadcast::Sender<HypervisorEvent>,
}

struct State {
    connected: bool,
    /// The connection has just been made; libvirt may not have found everything again yet.
    fresh: bool,
    domains: HashMap<Uuid, FakeDomain>,
    stops: HashMap<Uuid, StopReason>,
    failures: HashMap<Call, VecDeque<HypervisorError>>,
    agent: HashMap<String, Value>,
    on_shutdown: OnShutdown,
    calls: Vec<(Call, Uuid)>,
    links: Vec<(Uuid, String, bool)>,
    capabilities: Capabilities,
    next_pid: u32,
}

struct FakeDomain {
    info: DomainInfo,
    xml: String,
    stats: DomainStats,
}

impl FakeHypervisor {
    /// Connected, empty, with obedient guests and no guest agent.
    pub fn new(instance_id: impl Into<String>) -> Arc<Self> {
        let (events, _) = broadcast::channel(1024);
        Arc::new(Self {
            instance_id: instance_id.into(),
            state: Mutex::new(State {
                connected: true,
                fresh: false,
                domains: HashMap::new(),
                stops: HashMap::new(),
                failures: HashMap::new(),
                agent: HashMap::new(),
                on_shutdown: OnShutdown::Obey,
                calls: Vec::new(),
                links: Vec::new(),
                capabilities: default_capabilities(),
                next_pid: 1000,
            }),
            events,
        })
    }

    /// Makes the next call of this kind fail (further ones queue up); it then has no effect.
    pub fn fail_next(&self, call: Call, error: HypervisorError) {
        self.state.lock().failures.entry(call).or_default().push_back(error);
    }

    /// Cuts the connection: domains go on, calls fail with `Disconnected`.
    pub fn disconnect(&self, reason: &str) {
        self.state.lock().connected = false;
        self.send(HypervisorEvent::Disconnected { reason: reason.to_owned() });
    }

    pub fn reconnect(&self) {
        let mut state = self.state.lock();
        (state.connected, state.fresh) = (true, true);
        drop(state);
        self.send(HypervisorEvent::Connected);
    }

    /// The connection made last has been there for long.
    pub fn settle(&self) {
        self.state.lock().fresh = false;
    }

    pub fn on_shutdown(&self, answer: OnShutdown) {
        self.state.lock().on_shutdown = answer;
    }

    /// What the guest agent returns for a command; `None`: the agent is gone.
    pub fn agent_answers(&self, command: &str, answer: Option<Value>) {
        let mut state = self.state.lock();
        match answer {
            Some(answer) => state.agent.insert(command.to_owned(), answer),
            None => state.agent.remove(command),
        };
    }

    pub fn set_capabilities(&self, capabilities: Capabilities) {
        self.state.lock().capabilities = capabilities;
    }

    /// The domain ends by itself; its event is sent unless there is no connection.
    pub fn stop_domain(&self, uuid: Uuid, reason: StopReason) {
        let removed = {
            let mut state = self.state.lock();
            state.stops.insert(uuid, reason);
            state.domains.remove(&uuid).is_some()
        };
        if removed {
            if matches!(reason, StopReason::Shutdown | StopReason::HostShutdown) {
                self.tell(uuid, DomainEventKind::ShuttingDown { by_guest: reason == StopReason::Shutdown });
            }
            self.tell(uuid, DomainEventKind::Stopped(reason));
        }
    }

    /// The domain takes this state by itself (say, `Paused(IoError)`); the matching event is sent unless there is no connection.
    pub fn set_state(&self, uuid: Uuid, new: DomainState) {
        let changed = self.state.lock().domains.get_mut(&uuid).map(|domain| domain.info.state = new).is_some();
        if changed {
            match new {
                DomainState::Running => self.tell(uuid, DomainEventKind::Resumed),
                DomainState::Paused(reason) => self.tell(uuid, DomainEventKind::Paused(reason)),
                _ => {}
            }
        }
    }

    /// What a domain's statistics are from now on.
    pub fn set_stats(&self, uuid: Uuid, stats: DomainStats) {
        if let Some(domain) = self.state.lock().domains.get_mut(&uuid) {
            domain.stats = stats;
        }
    }

    /// Sends any event, unless there is no connection.
    pub fn tell(&self, uuid: Uuid, kind: DomainEventKind) {
        if self.state.lock().connected {
            self.send(HypervisorEvent::Domain(DomainEvent { uuid, kind }));
        }
    }

    /// All calls so far, in order; nil where a call is about no domain.
    pub fn calls(&self) -> Vec<(Call, Uuid)> {
        self.state.lock().calls.clone()
    }

    /// What was done to the cables of a domain, in order: tap and whether it was connected.
    pub fn links(&self, uuid: Uuid) -> Vec<(String, bool)> {
        let state = self.state.lock();
        state.links.iter().filter(|(of, ..)| *of == uuid).map(|(_, tap, up)| (tap.clone(), *up)).collect()
    }

    /// How often a method was called.
    pub fn count(&self, call: Call) -> usize {
        self.state.lock().calls.iter().filter(|(kind, _)| *kind == call).count()
    }

    fn send(&self, event: HypervisorEvent) {
        let _ = self.events.send(event);
    }

    /// Records a call and lets it fail as scripted.
    fn enter(&self, call: Call, uuid: Uuid) -> Result<parking_lot::MutexGuard<'_, State>, HypervisorError> {
        let mut state = self.state.lock();
        state.calls.push((call, uuid));
        if !state.connected {
            return Err(HypervisorError::Disconnected { step: "asking the fake hypervisor", uri: "fake:///".into() });
        }
        match state.failures.get_mut(&call).and_then(VecDeque::pop_front) {
            Some(error) => Err(error),
            None => Ok(state),
        }
    }

    /// Changes a domain's state on request.
    fn change(
        &self,
        call: Call,
        uuid: Uuid,
        change: impl FnOnce(DomainState) -> Result<(DomainState, Option<DomainEventKind>), String>,
    ) -> Result<(), HypervisorError> {
        let event = {
            let mut state = self.enter(call, uuid)?;
            let domain = state.domains.get_mut(&uuid).ok_or(HypervisorError::NoDomain { uuid })?;
            let (new, event) = change(domain.info.state)
                .map_err(|message| HypervisorError::InvalidState { step: "changing a fake domain's state", message })?;
            domain.info.state = new;
            event
        };
        if let Some(event) = event {
            self.tell(uuid, event);
        }
        Ok(())
    }
}

/// A small machine without KVM.
fn default_capabilities() -> Capabilities {
    let machine = |name: &str, canonical: Option<&str>| MachineType {
        name: name.into(),
        canonical: canonical.map(str::to_owned),
        max_vcpus: 288,
    };
    let firmware = |code: &str, vars: &str, secure_boot| EfiFirmware {
        code: format!("/usr/share/OVMF/{code}"),
        vars_template: format!("/usr/share/OVMF/{vars}"),
        secure_boot,
    };
    Capabilities {
        kvm_usable: false,
        arch: "x86_64".into(),
        emulator: "/usr/bin/qemu-system-x86_64".into(),
        libvirt_version: "9.0.0".into(),
        qemu_version: "7.2.22".into(),
        machines: vec![machine("q35", Some("pc-q35-7.2")), machine("pc-q35-7.2", None)],
        host_model: None,
        host_model_features: Vec::new(),
        cpu_features: Vec::new(),
        cpu_vendor: None,
        cpu_models: vec![CpuModel { name: "qemu64".into(), usable: true }],
        efi: vec![
            firmware("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd", false),
            firmware("OVMF_CODE_4M.secboot.fd", "OVMF_VARS_4M.ms.fd", true),
        ],
    }
}

#[async_trait]
impl Hypervisor for FakeHypervisor {
    async fn start(&self, xml: &str, mode: StartMode) -> Result<DomainInfo, HypervisorError> {
        let uuid = check_ours(xml, &self.instance_id)?;
        let info = {
            let mut state = self.enter(Call::Start, uuid)?;
            if state.domains.contains_key(&uuid) {
                return Err(HypervisorError::DomainExists { uuid });
            }
            let metadata = DomainMetadata::parse(xml)
                .ok_or(HypervisorError::NotOurs { problem: "it lacks our metadata element" })?;
            state.next_pid += 1;
            let info = DomainInfo {
                uuid,
                name: fv_domain::domain_name(uuid),
                state: match mode {
                    StartMode::Running => DomainState::Running,
                    StartMode::Paused => DomainState::Paused(PauseReason::User),
                },
                pid: Some(state.next_pid),
                metadata,
            };
            state.stops.remove(&uuid);
            state
                .domains
                .insert(uuid, FakeDomain { info: info.clone(), xml: xml.to_owned(), stats: DomainStats::default() });
            info
        };
        self.tell(uuid, DomainEventKind::Started);
        if mode == StartMode::Paused {
            self.tell(uuid, DomainEventKind::Paused(PauseReason::User));
        }
        Ok(info)
    }

    async fn list(&self) -> Result<Vec<DomainInfo>, HypervisorError> {
        Ok(self.enter(Call::List, Uuid::nil())?.domains.values().map(|domain| domain.info.clone()).collect())
    }

    async fn get(&self, uuid: Uuid) -> Result<DomainInfo, HypervisorError> {
        let state = self.enter(Call::Get, uuid)?;
        state.domains.get(&uuid).map(|domain| domain.info.clone()).ok_or(HypervisorError::NoDomain { uuid })
    }

    async fn suspend(&self, uuid: Uuid) -> Result<(), HypervisorError> {
        // libvirt takes a second pause for done.
        self.change(Call::Suspend, uuid, |state| match state {
            DomainState::Paused(_) => Ok((state, None)),
            _ => Ok((DomainState::Paused(PauseReason::User), Some(DomainEventKind::Paused(PauseReason::User)))),
        })
    }

    async fn resume(&self, uuid: Uuid) -> Result<(), HypervisorError> {
        self.change(Call::Resume, uuid, |state| match state {
            DomainState::Running => Ok((state, None)),
            DomainState::PmSuspended => Err("domain is pmsuspended".into()),
            _ => Ok((DomainState::Running, Some(DomainEventKind::Resumed))),
        })
    }

    async fn shutdown(&self, uuid: Uuid) -> Result<(), HypervisorError> {
        let obeys = {
            let state = self.enter(Call::Shutdown, uuid)?;
            let domain = state.domains.get(&uuid).ok_or(HypervisorError::NoDomain { uuid })?;
            // A guest whose CPUs are stopped sees no button.
            state.on_shutdown == OnShutdown::Obey && domain.info.state == DomainState::Running
        };
        if obeys {
            self.stop_domain(uuid, StopReason::Shutdown);
        }
        Ok(())
    }

    async fn reboot(&self, uuid: Uuid) -> Result<(), HypervisorError> {
        self.change(Call::Reboot, uuid, |state| Ok((state, Some(DomainEventKind::Rebooted))))
    }

    async fn reset(&self, uuid: Uuid) -> Result<(), HypervisorError> {
        self.change(Call::Reset, uuid, |state| Ok((state, Some(DomainEventKind::Rebooted))))
    }

    async fn destroy(&self, uuid: Uuid) -> Result<(), HypervisorError> {
        if !self.enter(Call::Destroy, uuid)?.domains.contains_key(&uuid) {
            return Err(HypervisorError::NoDomain { uuid });
        }
        self.stop_domain(uuid, StopReason::Destroyed);
        Ok(())
    }

    async fn set_link(&self, uuid: Uuid, tap: &str, up: bool) -> Result<(), HypervisorError> {
        let mut state = self.enter(Call::SetLink, uuid)?;
        let domain = state.domains.get(&uuid).ok_or(HypervisorError::NoDomain { uuid })?;
        link::interface_with_link(&domain.xml, tap, up)?;
        state.links.push((uuid, tap.to_owned(), up));
        Ok(())
    }

    async fn xml(&self, uuid: Uuid) -> Result<String, HypervisorError> {
        let state = self.enter(Call::Xml, uuid)?;
        state.domains.get(&uuid).map(|domain| domain.xml.clone()).ok_or(HypervisorError::NoDomain { uuid })
    }

    async fn stats(&self, uuid: Uuid) -> Result<DomainStats, HypervisorError> {
        let state = self.enter(Call::Stats, uuid)?;
        state.domains.get(&uuid).map(|domain| domain.stats.clone()).ok_or(HypervisorError::NoDomain { uuid })
    }

    async fn agent_command(&self, uuid: Uuid, command: &Value, _: Duration) -> Result<Value, HypervisorError> {
        let state = self.enter(Call::AgentCommand, uuid)?;
        if !state.domains.contains_key(&uuid) {
            return Err(HypervisorError::NoDomain { uuid });
        }
        let name = command.get("execute").and_then(Value::as_str).unwrap_or_default();
        state.agent.get(name).cloned().ok_or_else(|| HypervisorError::AgentUnavailable {
            uuid,
            message: "QEMU guest agent is not connected".into(),
        })
    }

    async fn last_stop(&self, uuid: Uuid) -> Result<Option<StopReason>, HypervisorError> {
        let state = self.enter(Call::LastStop, uuid)?;
        Ok(if state.domains.contains_key(&uuid) { None } else { state.stops.get(&uuid).copied() })
    }

    async fn forget(&self, uuid: Uuid) -> Result<(), HypervisorError> {
        let mut state = self.enter(Call::Forget, uuid)?;
        if state.domains.contains_key(&uuid) {
            return Err(HypervisorError::DomainExists { uuid });
        }
        state.stops.remove(&uuid);
        Ok(())
    }

    async fn capabilities(&self) -> Result<Capabilities, HypervisorError> {
        Ok(self.enter(Call::Capabilities, Uuid::nil())?.capabilities.clone())
    }

    fn connected_for(&self) -> Option<Duration> {
        let state = self.state.lock();
        state.connected.then_some(if state.fresh { Duration::ZERO } else { Duration::MAX })
    }

    fn events(&self) -> broadcast::Receiver<HypervisorEvent> {
        self.events.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "6f1a3f5e-0000-4000-8000-000000000001";

    fn xml() -> String {
        format!(
            "<domain><uuid>{UID}</uuid><metadata><f:vmi xmlns:f='{}'><f:uid>{UID}</f:uid><f:namespace>a</f:namespace>\
             <f:name>b</f:name><f:instance>0a</f:instance></f:vmi></metadata></domain>",
            fv_domain::METADATA_URI
        )
    }

    #[tokio::test]
    async fn a_domain_lives_and_dies_with_the_events_libvirt_sends() {
        let fake = FakeHypervisor::new("0a");
        let mut events = fake.events();
        let uuid = fake.start(&xml(), StartMode::Paused).await.unwrap().uuid;
        assert!(matches!(fake.start(&xml(), StartMode::Paused).await, Err(HypervisorError::DomainExists { .. })));
        fake.resume(uuid).await.unwrap();
        fake.shutdown(uuid).await.unwrap();
        assert!(matches!(fake.get(uuid).await, Err(HypervisorError::NoDomain { .. })));
        assert_eq!(fake.last_stop(uuid).await.unwrap(), Some(StopReason::Shutdown));
        let mut kinds = Vec::new();
        while let Ok(HypervisorEvent::Domain(event)) = events.try_recv() {
            kinds.push(event.kind);
        }
        assert_eq!(
            kinds,
            [
                DomainEventKind::Started,
                DomainEventKind::Paused(PauseReason::User),
                DomainEventKind::Resumed,
                DomainEventKind::ShuttingDown { by_guest: true },
                DomainEventKind::Stopped(StopReason::Shutdown),
            ]
        );
    }

    #[tokio::test]
    async fn failures_and_disconnection_are_scripted() {
        let fake = FakeHypervisor::new("0a");
        let uuid = fake.start(&xml(), StartMode::Running).await.unwrap().uuid;
        fake.fail_next(Call::Suspend, HypervisorError::Timeout { step: "pausing", after: Duration::from_secs(1) });
        assert!(fake.suspend(uuid).await.is_err());
        assert_eq!(fake.get(uuid).await.unwrap().state, DomainState::Running);
        fake.disconnect("killed");
        assert!(matches!(fake.list().await, Err(HypervisorError::Disconnected { .. })));
        fake.reconnect();
        assert_eq!(fake.list().await.unwrap().len(), 1);
        assert_eq!(fake.count(Call::List), 2);
        fake.on_shutdown(OnShutdown::Ignore);
        fake.shutdown(uuid).await.unwrap();
        assert!(fake.get(uuid).await.is_ok());
    }
}
