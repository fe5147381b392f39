//! The libvirt implementation of the port.
//!
//! - One thread keeps the connection ([`connection`]): opens it, hears of its end, opens it again, for ever.
//! - One thread runs libvirt's event loop for the whole process ([`callbacks`], with [`domain_stats`] the crate's only unsafe code).
//! - Questions that may hang in QEMU have connections of their own ([`pool`]).
//! - Every call runs on a thread of its own with a deadline ([`calls`]); a call that hangs keeps its thread and its domain's lane,
//!   and nothing else.

mod callbacks;
mod calls;
mod capabilities;
mod connection;
mod domain_stats;
pub(crate) mod link;
mod pool;
mod stop_log;
mod translate;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fv_domain::{DomainMetadata, METADATA_URI};
use fv_metrics::live;
use serde_json::Value;
use tokio::sync::broadcast;
use uuid::Uuid;
use virt::domain::Domain;
use virt::error::ErrorNumber;

use self::calls::{Calls, Lane};
use self::connection::{Connection, Session};
use self::pool::Pool;
use crate::StopReason;
use crate::daemon::LibvirtEndpoint;
use crate::error::HypervisorError;
use crate::port::{Capabilities, DomainInfo, Hypervisor, HypervisorEvent, StartMode};
use crate::stats::DomainStats;

/// How long calls may take. Generous where libvirt waits for QEMU, short where it only looks.
mod deadline {
    use std::time::Duration;

    /// libvirt probes QEMU before the first start, once per binary.
    pub(super) const START: Duration = Duration::from_secs(180);
    pub(super) const CONTROL: Duration = Duration::from_secs(30);
    pub(super) const DESTROY: Duration = Duration::from_secs(60);
    pub(super) const READ: Duration = Duration::from_secs(10);
    pub(super) const STATS: Duration = Duration::from_secs(3);
    pub(super) const LIST: Duration = Duration::from_secs(30);
    pub(super) const CAPABILITIES: Duration = Duration::from_secs(180);
    /// What libvirt needs on top of the guest agent's own deadline.
    pub(super) const AGENT_SLACK: Duration = Duration::from_secs(2);
}

/// Where libvirt is and whose domains count.
#[derive(Clone, Debug)]
pub struct LibvirtConfig {
    pub uri: String,
    /// Only domains with this id in their metadata exist for us.
    pub instance_id: String,
    /// Where libvirt keeps QEMU's pid files, if known.
    pub state_dir: Option<PathBuf>,
    /// Where libvirt keeps QEMU's logs, if known.
    pub log_dir: Option<PathBuf>,
}

impl LibvirtConfig {
    pub fn new(endpoint: &LibvirtEndpoint, instance_id: impl Into<String>) -> Self {
        Self {
            uri: endpoint.uri.clone(),
            instance_id: instance_id.into(),
            state_dir: Some(endpoint.state_dir.clone()),
            log_dir: Some(endpoint.log_dir.clone()),
        }
    }
}

/// Domains through libvirt. Dropping it closes the connection and touches no domain.
pub struct LibvirtHypervisor {
    config: LibvirtConfig,
    connection: Connection,
    /// For statistics.
    pool: Arc<Pool>,
    calls: Calls,
    events: broadcast::Sender<HypervisorEvent>,
}

impl LibvirtHypervisor {
    /// Begins to connect and goes on for ever: it need not be there yet. Needs no runtime.
    pub fn new(config: LibvirtConfig) -> Arc<Self> {
        let (events, _) = broadcast::channel(EVENT_BACKLOG);
        Arc::new(Self {
            connection: Connection::keep(&config.uri, events.clone()),
            pool: Pool::new(&config.uri),
            calls: Calls::new(),
            events,
            config,
        })
    }

    /// Waits for a connection.
    pub async fn await_connected(&self, patience: Duration) -> Result<(), HypervisorError> {
        let mut events = self.events.subscribe();
        let connected = async {
            while !self.is_connected() {
                // Lagging behind is as good a reason to look as an event.
                if let Err(broadcast::error::RecvError::Closed) = events.recv().await {
                    return;
                }
            }
        };
        match tokio::time::timeout(patience, connected).await {
            Ok(()) if self.is_connected() => Ok(()),
            _ => Err(HypervisorError::Disconnected { step: "connecting", uri: self.config.uri.clone() }),
        }
    }

    /// Runs `call` on a thread with the connection of this moment, and measures it.
    async fn call<T: Send + 'static>(
        &self,
        step: &'static str,
        lane: Lane,
        patience: Duration,
        call: impl FnOnce(&Session) -> Result<T, CallError> + Send + 'static,
    ) -> Result<T, HypervisorError> {
        let began = tokio::time::Instant::now();
        let result = self.call_unmeasured(step, lane, patience, call).await;
        live::LIBVIRT_DURATION.with_label_values(&[lane.word()]).observe(began.elapsed().as_secs_f64());
        let outcome = result.as_ref().map_or_else(HypervisorError::reason, |_| "ok");
        live::LIBVIRT_CALLS.with_label_values(&[lane.word(), outcome]).inc();
        result
    }

    async fn call_unmeasured<T: Send + 'static>(
        &self,
        step: &'static str,
        lane: Lane,
        patience: Duration,
        call: impl FnOnce(&Session) -> Result<T, CallError> + Send + 'static,
    ) -> Result<T, HypervisorError> {
        let disconnected = || HypervisorError::Disconnected { step, uri: self.config.uri.clone() };
        let session = self.connection.session().ok_or_else(disconnected)?;
        let result = self.calls.run(step, lane, patience, move || {
            call(&session).map_err(|error| match error {
                // What failed on a dead connection says nothing about what was asked.
                CallError::Libvirt(_) if !session.is_alive() => CallError::Disconnected,
                other => other,
            })
        });
        result.await?.map_err(|error| match error {
            CallError::Hypervisor(error) => error,
            CallError::Disconnected => disconnected(),
            CallError::Libvirt(error) if translate::is_connection_error(&error) => disconnected(),
            CallError::Libvirt(error) => translate::call_error(step, lane.domain(), &error),
        })
    }

    /// Runs `call` on one of our domains.
    async fn on_domain<T: Send + 'static>(
        &self,
        step: &'static str,
        lane: Lane,
        patience: Duration,
        call: impl FnOnce(&Domain) -> Result<T, virt::error::Error> + Send + 'static,
    ) -> Result<T, HypervisorError> {
        let instance = self.config.instance_id.clone();
        let uuid = lane.domain();
        self.call(step, lane, patience, move |session| {
            let domain = Domain::lookup_by_uuid(&session.connect, uuid)?;
            own_metadata(&domain, &instance)?.ok_or(HypervisorError::NoDomain { uuid })?;
            Ok(call(&domain)?)
        })
        .await
    }
}

/// Longest answer of a guest agent that is looked at. An honest one to our questions has some ten kilobytes; parsed JSON takes many
/// times its text.
const MAX_AGENT_ANSWER: usize = 1 << 20;
/// Events kept for a slow listener before it lags.
const EVENT_BACKLOG: usize = 4096;

/// How a call failed, before it is known what the connection did.
enum CallError {
    Libvirt(virt::error::Error),
    Hypervisor(HypervisorError),
    Disconnected,
}

impl From<virt::error::Error> for CallError {
    fn from(error: virt::error::Error) -> Self {
        Self::Libvirt(error)
    }
}

impl From<HypervisorError> for CallError {
    fn from(error: HypervisorError) -> Self {
        Self::Hypervisor(error)
    }
}

/// Our metadata of a domain; `None`: it is not this instance's.
fn own_metadata(domain: &Domain, instance: &str) -> Result<Option<DomainMetadata>, virt::error::Error> {
    let kind = i32::try_from(virt_sys::VIR_DOMAIN_METADATA_ELEMENT).unwrap_or_default();
    match domain.get_metadata(kind, Some(METADATA_URI), 0) {
        Ok(xml) => Ok(DomainMetadata::parse(&xml).filter(|metadata| metadata.instance_id == instance)),
        Err(error) if error.code() == ErrorNumber::NoDomainMetadata => Ok(None),
        Err(error) => Err(error),
    }
}

/// What there is to know about a domain; `None`: it is not ours.
fn inspect(domain: &Domain, config: &LibvirtConfig) -> Result<Option<DomainInfo>, virt::error::Error> {
    let Some(metadata) = own_metadata(domain, &config.instance_id)? else { return Ok(None) };
    let name = domain.get_name()?;
    let (state, reason) = domain.get_state()?;
    Ok(Some(DomainInfo {
        uuid: domain.get_uuid()?,
        state: translate::domain_state(state, reason),
        pid: config.state_dir.as_ref().and_then(|dir| crate::daemon::domain_pid(&dir.join(format!("{name}.pid")))),
        name,
        metadata,
    }))
}

/// Checks that `xml` may be started by this instance, and returns its uuid.
pub(crate) fn check_ours(xml: &str, instance: &str) -> Result<Uuid, HypervisorError> {
    let refused = |problem| HypervisorError::NotOurs { problem };
    let document = roxmltree::Document::parse(xml).map_err(|_| refused("it is not well-formed XML"))?;
    let uuid = document
        .root_element()
        .children()
        .find(|node| node.has_tag_name("uuid"))
        .and_then(|node| node.text())
        .and_then(|text| Uuid::parse_str(text).ok())
        .ok_or(refused("it has no uuid"))?;
    let metadata = DomainMetadata::parse(xml).ok_or(refused("it lacks our metadata element"))?;
    if metadata.instance_id != instance {
        return Err(refused("its metadata names another instance"));
    }
    if metadata.vmi_uid != uuid {
        return Err(refused("its uuid is not the VMI's"));
    }
    Ok(uuid)
}

/// Opens a connection, asks one question, closes it. For finding a daemon.
pub(crate) fn probe(uri: &str) -> Result<(), String> {
    callbacks::start_event_loop();
    let mut connect = virt::connect::Connect::open(Some(uri)).map_err(|error| error.message().to_owned())?;
    let answer = connect.get_hyp_version().map_err(|error| error.message().to_owned());
    let _ = connect.close();
    answer.map(|_| ())
}

#[async_trait]
impl Hypervisor for LibvirtHypervisor {
    async fn start(&self, xml: &str, mode: StartMode) -> Result<DomainInfo, HypervisorError> {
        let uuid = check_ours(xml, &self.config.instance_id)?;
        let (xml, config) = (xml.to_owned(), self.config.clone());
        let flags = match mode {
            StartMode::Running => virt_sys::VIR_DOMAIN_NONE,
            StartMode::Paused => virt_sys::VIR_DOMAIN_START_PAUSED,
        };
        self.call("starting a domain", Lane::control(uuid), deadline::START, move |session| {
            // libvirt has several words for this; asking first has one.
            match Domain::lookup_by_uuid(&session.connect, uuid) {
                Ok(_) => return Err(HypervisorError::DomainExists { uuid }.into()),
                Err(error) if error.code() == ErrorNumber::NoDomain => {}
                Err(error) => return Err(error.into()),
            }
            let domain = Domain::create_xml(&session.connect, &xml, flags)?;
            Ok(inspect(&domain, &config)?.ok_or(HypervisorError::NoDomain { uuid })?)
        })
        .await
    }

    async fn list(&self) -> Result<Vec<DomainInfo>, HypervisorError> {
        let config = self.config.clone();
        self.call("listing domains", Lane::list(), deadline::LIST, move |session| {
            let mut found = Vec::new();
            for domain in session.connect.list_all_domains(virt_sys::VIR_CONNECT_LIST_DOMAINS_ACTIVE)? {
                match inspect(&domain, &config) {
                    Ok(info) => found.extend(info),
                    // It ended while we looked.
                    Err(error) if error.code() == ErrorNumber::NoDomain => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(found)
        })
        .await
    }

    async fn get(&self, uuid: Uuid) -> Result<DomainInfo, HypervisorError> {
        let config = self.config.clone();
        self.call("reading a domain's state", Lane::read(uuid), deadline::READ, move |session| {
            let domain = Domain::lookup_by_uuid(&session.connect, uuid)?;
            Ok(inspect(&domain, &config)?.ok_or(HypervisorError::NoDomain { uuid })?)
        })
        .await
    }

    async fn suspend(&self, uuid: Uuid) -> Result<(), HypervisorError> {
        self.on_domain("pausing a domain", Lane::control(uuid), deadline::CONTROL, |domain| domain.suspend().map(drop))
            .await
    }

    async fn resume(&self, uuid: Uuid) -> Result<(), HypervisorError> {
        self.on_domain("resuming a domain", Lane::control(uuid), deadline::CONTROL, |domain| domain.resume().map(drop))
            .await
    }

    async fn shutdown(&self, uuid: Uuid) -> Result<(), HypervisorError> {
        self.on_domain("pressing the power button", Lane::control(uuid), deadline::CONTROL, |domain| {
            domain.shutdown_flags(virt_sys::VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN).map(drop)
        })
        .await
    }

    async fn reboot(&self, uuid: Uuid) -> Result<(), HypervisorError> {
        self.on_domain("rebooting a domain", Lane::control(uuid), deadline::CONTROL, |domain| {
            domain.reboot(virt_sys::VIR_DOMAIN_REBOOT_ACPI_POWER_BTN)
        })
        .await
    }

    async fn reset(&self, uuid: Uuid) -> Result<(), HypervisorError> {
        self.on_domain("resetting a domain", Lane::control(uuid), deadline::CONTROL, |domain| domain.reset().map(drop))
            .await
    }

    async fn destroy(&self, uuid: Uuid) -> Result<(), HypervisorError> {
        self.on_domain("destroying a domain", Lane::destroy(uuid), deadline::DESTROY, |domain| domain.destroy()).await
    }

    async fn set_link(&self, uuid: Uuid, tap: &str, up: bool) -> Result<(), HypervisorError> {
        let (tap, instance) = (tap.to_owned(), self.config.instance_id.clone());
        self.call(link::STEP, Lane::control(uuid), deadline::CONTROL, move |session| {
            let domain = Domain::lookup_by_uuid(&session.connect, uuid)?;
            own_metadata(&domain, &instance)?.ok_or(HypervisorError::NoDomain { uuid })?;
            let device = link::interface_with_link(&domain.get_xml_desc(0)?, &tap, up)?;
            domain.update_device_flags(&device, virt_sys::VIR_DOMAIN_AFFECT_LIVE)?;
            Ok(())
        })
        .await
    }

    async fn xml(&self, uuid: Uuid) -> Result<String, HypervisorError> {
        self.on_domain("reading a domain's document", Lane::read(uuid), deadline::READ, |domain| domain.get_xml_desc(0))
            .await
    }

    async fn stats(&self, uuid: Uuid) -> Result<DomainStats, HypervisorError> {
        let (pool, instance) = (Arc::clone(&self.pool), self.config.instance_id.clone());
        self.call("reading a domain's statistics", Lane::stats(uuid), deadline::STATS, move |_| {
            pool.ask(|connect| {
                let domain = Domain::lookup_by_uuid(connect, uuid)?;
                own_metadata(&domain, &instance)?.ok_or(HypervisorError::NoDomain { uuid })?;
                Ok(domain_stats::read(&domain)?)
            })
        })
        .await
    }

    async fn agent_command(&self, uuid: Uuid, command: &Value, timeout: Duration) -> Result<Value, HypervisorError> {
        let text = command.to_string();
        // libvirt counts whole seconds and takes 0 for "do not wait".
        let seconds = i32::try_from(timeout.as_secs().max(1)).unwrap_or(i32::MAX);
        let patience = timeout.max(Duration::from_secs(1)).saturating_add(deadline::AGENT_SLACK);
        let reply = self
            .on_domain("asking the guest agent", Lane::agent(uuid), patience, move |domain| {
                domain.qemu_agent_command(&text, seconds, 0)
            })
            .await;
        let reply = match reply {
            Err(HypervisorError::Libvirt { message, .. }) => return Err(HypervisorError::Agent { uuid, message }),
            other => other?,
        };
        if reply.len() > MAX_AGENT_ANSWER {
            let message = format!("its answer has {} bytes, more than {MAX_AGENT_ANSWER} are not read", reply.len());
            return Err(HypervisorError::Agent { uuid, message });
        }
        let mut value: Value = serde_json::from_str(&reply)
            .map_err(|error| HypervisorError::Agent { uuid, message: format!("its answer is no JSON: {error}") })?;
        match value.get_mut("return") {
            Some(value) => Ok(value.take()),
            None => Err(HypervisorError::Agent { uuid, message: "its answer has no return value".into() }),
        }
    }

    async fn last_stop(&self, uuid: Uuid) -> Result<Option<StopReason>, HypervisorError> {
        match self.get(uuid).await {
            Ok(_) => return Ok(None),
            Err(HypervisorError::NoDomain { .. }) => {}
            Err(error) => return Err(error),
        }
        let Some(dir) = self.config.log_dir.clone() else { return Ok(None) };
        let step = "reading a domain's log";
        self.calls
            .run(step, Lane::read(uuid), deadline::READ, move || {
                stop_log::last_stop(&stop_log::path(&dir, &fv_domain::domain_name(uuid)))
            })
            .await
    }

    async fn forget(&self, uuid: Uuid) -> Result<(), HypervisorError> {
        match self.get(uuid).await {
            Ok(_) => return Err(HypervisorError::DomainExists { uuid }),
            Err(HypervisorError::NoDomain { .. }) => {}
            Err(error) => return Err(error),
        }
        let Some(dir) = self.config.log_dir.clone() else { return Ok(()) };
        let remove = move || stop_log::remove(&dir, &fv_domain::domain_name(uuid));
        self.calls.run("removing a domain's logs", Lane::read(uuid), deadline::READ, remove).await
    }

    async fn capabilities(&self) -> Result<Capabilities, HypervisorError> {
        self.call("reading capabilities", Lane::list(), deadline::CAPABILITIES, |session| {
            Ok(capabilities::read_capabilities(&session.connect)?)
        })
        .await
    }

    fn connected_for(&self) -> Option<Duration> {
        self.connection.session().map(|session| session.since.elapsed())
    }

    fn events(&self) -> broadcast::Receiver<HypervisorEvent> {
        self.events.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(uuid: &str, metadata: &str) -> String {
        format!("<domain type='qemu'><uuid>{uuid}</uuid><metadata>{metadata}</metadata></domain>")
    }

    #[test]
    fn only_documents_of_this_instance_may_start() {
        let uid = "6f1a3f5e-0000-4000-8000-000000000001";
        let element = |uid: &str, instance: &str| {
            format!(
                "<f:vmi xmlns:f='{METADATA_URI}'><f:uid>{uid}</f:uid><f:namespace>a</f:namespace><f:name>b</f:name>\
                 <f:instance>{instance}</f:instance></f:vmi>"
            )
        };
        assert_eq!(check_ours(&document(uid, &element(uid, "0a")), "0a").unwrap().to_string(), uid);
        for (xml, problem) in [
            ("<domain>".to_owned(), "well-formed"),
            (document("x", &element(uid, "0a")), "no uuid"),
            (document(uid, ""), "lacks our metadata"),
            (document(uid, &element(uid, "0b")), "another instance"),
            (document(uid, &element("6f1a3f5e-0000-4000-8000-000000000002", "0a")), "not the VMI's"),
        ] {
            let error = check_ours(&xml, "0a").unwrap_err();
            assert!(error.to_string().contains(problem), "{error}");
        }
    }

    #[tokio::test]
    async fn without_a_daemon_every_call_says_disconnected_and_never_no_domain() {
        let hypervisor = LibvirtHypervisor::new(LibvirtConfig {
            uri: "qemu+unix:///system?socket=/nonexistent/libvirt-sock".into(),
            instance_id: "0a".into(),
            state_dir: None,
            log_dir: None,
        });
        let uuid = Uuid::from_u128(1);
        assert!(hypervisor.await_connected(Duration::from_millis(300)).await.is_err());
        assert!(matches!(hypervisor.list().await, Err(HypervisorError::Disconnected { .. })));
        assert!(matches!(hypervisor.get(uuid).await, Err(HypervisorError::Disconnected { .. })));
        assert!(matches!(hypervisor.destroy(uuid).await, Err(HypervisorError::Disconnected { .. })));
        assert!(matches!(hypervisor.last_stop(uuid).await, Err(HypervisorError::Disconnected { .. })));
    }
}
