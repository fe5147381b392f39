//! The effects: gathers facts, asks [`decide`](crate::vm::decide::decide), carries out its steps. One [`Worker`] a VM, driven by the VM's task.

mod error;
mod observe;
mod publish;
mod release;
mod start;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fv_api::VirtualMachineInstance;
use fv_api::config::ClusterConfig;
use fv_hypervisor::Hypervisor;
use fv_metrics::live;
use fv_netplan::NetPlan;
use fv_plan::{EventKind, EventSpec, ObjectKey, ObjectRef};
use fv_runtime::Recorder;
use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) use error::StepError;
pub(crate) use observe::{Located, pods_here, unwanted};
pub(crate) use start::{SERIAL_SOCKET, VNC_SOCKET};

use crate::cluster::Cluster;
use crate::console::Console;
use crate::handler::HandlerConfig;
use crate::ports::{NodeCgroups, NodeDisks, NodeNetwork, PreparedDisks};
use crate::sandbox::PodSandboxes;
use crate::share::ShareDir;
use crate::store::RecordStore;
use crate::vm::decide::{Plan, Step, Trouble, UNKNOWN_INTERVAL, decide};
use crate::vm::facts::{DomainFact, ExitCause, Observed, Session, VmiFact};
use crate::vm::gate::Gate;
use crate::vm::record::{Outcome, Record, Stop};
use crate::vm::status::AgentFacts;

/// Rounds of observe, decide, execute in a row before others get a turn.
const MAX_ROUNDS: usize = 32;
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
const LAST_BACKOFF: Duration = Duration::from_secs(30);
/// Registries are asked as rarely as kubelet asks them.
const FIRST_PULL_BACKOFF: Duration = Duration::from_secs(10);
const LAST_PULL_BACKOFF: Duration = Duration::from_secs(300);

/// What all VMs of the node share.
pub(crate) struct Node {
    pub(crate) config: HandlerConfig,
    /// What the cluster's administrator wants now.
    pub(crate) settings: RwLock<Arc<ClusterConfig>>,
    pub(crate) cluster: Cluster,
    pub(crate) hypervisor: Arc<dyn Hypervisor>,
    pub(crate) network: Arc<dyn NodeNetwork>,
    pub(crate) disks: Arc<dyn NodeDisks>,
    pub(crate) sandboxes: Arc<dyn PodSandboxes>,
    pub(crate) cgroups: Option<Arc<dyn NodeCgroups>>,
    pub(crate) store: RecordStore,
    pub(crate) recorder: Recorder,
}

impl Node {
    pub(crate) fn settings(&self) -> Arc<ClusterConfig> {
        Arc::clone(&self.settings.read())
    }

    /// Writes a file into the share directory of a launcher pod, whole. False: there is no such pod, or it went meanwhile.
    pub(crate) async fn tell_launcher(
        &self,
        pod_uid: &str,
        name: &'static str,
        content: Vec<u8>,
    ) -> Result<bool, StepError> {
        let Some(sandbox) = self.sandboxes.locate(pod_uid).await? else { return Ok(false) };
        let written = tokio::task::spawn_blocking(move || ShareDir::open(&sandbox.share_dir)?.write(name, &content));
        match written.await.map_err(StepError::Aborted)? {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(StepError::Share { name, source }),
        }
    }

    /// Directory of a VM's sockets.
    pub(crate) fn socket_dir(&self, uid: &str) -> std::path::PathBuf {
        self.config.run_dir.join("vmis").join(uid)
    }
}

/// The VMI object, as last seen.
#[derive(Clone, Debug)]
pub(crate) enum VmiSlot {
    /// Never seen, and nobody to ask yet.
    Unknown,
    /// The watch says that it is gone (or another one has its name); to be confirmed by asking.
    Doubtful,
    /// Confirmed to be gone.
    Gone,
    Present(Arc<VirtualMachineInstance>),
}

/// What the task of a VM and its worker share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) uid: String,
    pub(crate) uuid: Uuid,
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) vmi: Mutex<VmiSlot>,
    /// How often the object was doubted: an answer that was asked for before the last doubt does not settle it.
    doubts: AtomicU64,
    pub(crate) gate: Mutex<Gate>,
    pub(crate) console: Mutex<Option<Arc<Console>>>,
    pub(crate) agent: Mutex<Option<AgentFacts>>,
    pub(crate) exit: Mutex<Option<ExitCause>>,
    /// The verdict of the liveness probe, once it is against the guest.
    pub(crate) unhealthy: Mutex<Option<String>>,
    pub(crate) trouble: Mutex<Option<Trouble>>,
    /// An operator asks to stop a guest whose VMI is gone, with this many seconds of grace.
    pub(crate) stop_request: Mutex<Option<i64>>,
}

impl Shared {
    pub(crate) fn new(uid: &str, uuid: Uuid, namespace: &str, name: &str) -> Self {
        Self {
            uid: uid.to_owned(),
            uuid,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            vmi: Mutex::new(VmiSlot::Unknown),
            doubts: AtomicU64::new(0),
            gate: Mutex::new(Gate::default()),
            console: Mutex::new(None),
            agent: Mutex::new(None),
            exit: Mutex::new(None),
            unhealthy: Mutex::new(None),
            trouble: Mutex::new(None),
            stop_request: Mutex::new(None),
        }
    }

    /// Records an event about the VMI, also when its object is gone: its name still tells the reader what is meant.
    pub(crate) fn event(&self, recorder: &Recorder, kind: EventKind, reason: &'static str, message: &str) {
        let about = ObjectRef {
            api_version: "kubevirt.io/v1",
            kind: "VirtualMachineInstance",
            key: ObjectKey::new(&self.namespace, &self.name),
            uid: self.uid.clone(),
        };
        recorder.record(EventSpec { about, kind, reason, message: message.to_owned() });
    }

    pub(crate) fn present(&self) -> Option<Arc<VirtualMachineInstance>> {
        match &*self.vmi.lock() {
            VmiSlot::Present(vmi) => Some(Arc::clone(vmi)),
            VmiSlot::Unknown | VmiSlot::Doubtful | VmiSlot::Gone => None,
        }
    }

    /// Somebody says that the object is gone: that is to be confirmed.
    pub(crate) fn doubt(&self) {
        let mut slot = self.vmi.lock();
        self.doubts.fetch_add(1, Ordering::Relaxed);
        *slot = VmiSlot::Doubtful;
    }

    /// Marks the moment before the API is asked; goes into [`Shared::confirm`] with the answer.
    pub(crate) fn asking(&self) -> u64 {
        self.doubts.load(Ordering::Relaxed)
    }

    /// Takes over the API's answer to a question put at `asked`. `None`: the object is gone, or in doubt once more.
    pub(crate) fn confirm(
        &self,
        asked: u64,
        answer: Option<VirtualMachineInstance>,
    ) -> Option<Arc<VirtualMachineInstance>> {
        let answer = answer.filter(|vmi| vmi.metadata.uid.as_deref() == Some(&self.uid));
        let mut slot = self.vmi.lock();
        let Some(vmi) = answer else {
            // A uid does not come back.
            *slot = VmiSlot::Gone;
            return None;
        };
        if self.doubts.load(Ordering::Relaxed) != asked {
            return None;
        }
        if let VmiSlot::Present(newer) = &*slot
            && !is_newer(&vmi, newer)
        {
            return Some(Arc::clone(newer));
        }
        let vmi = Arc::new(vmi);
        *slot = VmiSlot::Present(Arc::clone(&vmi));
        Some(vmi)
    }

    /// Takes over an object, unless a newer version of it is here already. True when something changed.
    pub(crate) fn offer(&self, vmi: VirtualMachineInstance) -> bool {
        let mut slot = self.vmi.lock();
        if vmi.metadata.uid.as_deref() != Some(&self.uid) {
            self.doubts.fetch_add(1, Ordering::Relaxed);
            *slot = VmiSlot::Doubtful;
            return true;
        }
        if let VmiSlot::Present(old) = &*slot
            && !is_newer(&vmi, old)
        {
            return false;
        }
        *slot = VmiSlot::Present(Arc::new(vmi));
        true
    }
}

/// Whether `a` is a later version than `b`; versions that cannot be compared count as later.
fn is_newer(a: &VirtualMachineInstance, b: &VirtualMachineInstance) -> bool {
    let version = |vmi: &VirtualMachineInstance| vmi.metadata.resource_version.as_deref()?.parse::<u64>().ok();
    match (version(a), version(b)) {
        (Some(a), Some(b)) => a > b,
        _ => true,
    }
}

/// Carries out what has to be done for one VM.
pub(crate) struct Worker {
    pub(crate) node: Arc<Node>,
    pub(crate) shared: Arc<Shared>,
    record: Option<Record>,
    session: Session,
    disks: Option<PreparedDisks>,
    plan: Option<NetPlan>,
    located: Option<Located>,
    /// The pod in use is being deleted; the sandbox of its replacement comes without a message.
    awaits_pod: bool,
    last_vmi: Option<Arc<VirtualMachineInstance>>,
    failure: Option<Failure>,
}

/// A step that failed, and is not tried again before its time.
#[derive(Debug)]
struct Failure {
    /// [`Step::name`].
    step: &'static str,
    attempts: u32,
    until: Instant,
    reason: String,
    message: String,
}

/// How a turn of the worker ended.
#[derive(Debug, Default)]
pub(crate) struct Round {
    /// Look again after this long.
    pub(crate) wake: Option<Duration>,
    /// Nothing is left to care for.
    pub(crate) finished: bool,
}

impl Worker {
    pub(crate) fn new(node: Arc<Node>, shared: Arc<Shared>, record: Option<Record>) -> Self {
        Self {
            node,
            shared,
            record,
            session: Session::default(),
            disks: None,
            plan: None,
            located: None,
            awaits_pod: false,
            last_vmi: None,
            failure: None,
        }
    }

    /// Makes sure of the network anew at the next turn, whatever was made sure of before.
    pub(crate) fn distrust_network(&mut self) {
        self.session.network_of = None;
    }

    /// Works until nothing is left to do at the moment. `interrupt` ends long preparations.
    pub(crate) async fn turn(&mut self, interrupt: &CancellationToken) -> Round {
        for _ in 0..MAX_ROUNDS {
            let mut observed = self.observe().await;
            if let Err(error) = self.take_stop_request(&mut observed).await {
                tracing::warn!(error = %error.chain(), "stop request not recorded");
            }
            self.shared.gate.lock().observe(observed.domain, observed.record.as_ref());
            let plan = decide(&observed);
            tracing::trace!(?observed, ?plan, "decided");
            let Plan { steps, trouble, wake, finished } = plan;
            self.note_trouble(trouble);
            let wake = [wake, self.awaits_pod.then_some(UNKNOWN_INTERVAL)].into_iter().flatten().min();
            let wake = wake.map(|wake| Duration::try_from(wake).unwrap_or_default());
            if finished {
                return Round { wake: None, finished: true };
            }
            let mut changed = false;
            for step in &steps {
                if let Some(left) = self.held_back(step) {
                    return Round { wake: Some(wake.map_or(left, |wake| wake.min(left))), finished: false };
                }
                match self.execute(step, interrupt).await {
                    Ok(()) => {
                        self.worked(step);
                        changed |= !matches!(step, Step::Publish(crate::vm::decide::Goal::Running { .. }));
                    }
                    Err(StepError::Interrupted | StepError::Stale) => {
                        changed = true;
                        break;
                    }
                    Err(error) => {
                        let left = self.failed(step, &error).await;
                        return Round { wake: Some(wake.map_or(left, |wake| wake.min(left))), finished: false };
                    }
                }
            }
            if !changed {
                return Round { wake, finished: false };
            }
        }
        Round { wake: Some(Duration::from_secs(1)), finished: false }
    }

    async fn execute(&mut self, step: &Step, interrupt: &CancellationToken) -> Result<(), StepError> {
        tracing::debug!(?step, "step");
        match step {
            Step::Open => self.open_record().await,
            Step::Adopt => self.adopt().await,
            Step::RecordStop(stop) => {
                let stop = stop.clone();
                self.update_record(move |record| record.stop = Some(stop)).await
            }
            Step::RecordStage(stage) => {
                let stage = *stage;
                self.update_record(move |record| record.stage = stage).await
            }
            Step::RecordOutcome(outcome) => self.record_outcome(outcome.clone()).await,
            Step::Prepare => {
                tokio::select! {
                    () = interrupt.cancelled() => Err(StepError::Interrupted),
                    prepared = self.prepare() => prepared,
                }
            }
            Step::Connect { sandbox } => self.connect(sandbox).await,
            Step::Define => self.define().await,
            Step::Plug => self.plug().await,
            Step::LinkDown => self.link_down().await,
            Step::LinkUp => self.link_up().await,
            Step::AttachConsole => self.attach_console().await,
            Step::Resume => self.resume().await,
            Step::PowerButton => self.press_power_button().await,
            Step::Destroy => self.destroy().await,
            Step::Publish(goal) => self.publish(goal).await,
            Step::ReleaseNetwork => Ok(self.node.network.release(&self.shared.uid).await?),
            Step::ReleaseDisks => self.release_disks().await,
            Step::ReleaseLauncher => self.release_launcher().await,
            Step::Forget => self.forget().await,
        }
    }

    /// Records what an operator asked for: from then on it is carried out like a deletion. A guest whose VMI is there is stopped
    /// through its VMI, so the request is only taken for orphans.
    async fn take_stop_request(&mut self, observed: &mut Observed) -> Result<(), StepError> {
        let Some(grace_seconds) = *self.shared.stop_request.lock() else { return Ok(()) };
        let there = !matches!(observed.domain, DomainFact::Unknown | DomainFact::Absent);
        if observed.vmi == VmiFact::Gone && there {
            if self.record.is_none() {
                self.adopt().await?;
            }
            let stop = Stop { since: self.now(), grace_seconds, unhealthy: None };
            self.update_record(move |record| record.stop = Some(stop)).await?;
            observed.record = self.record.clone();
        }
        *self.shared.stop_request.lock() = None;
        Ok(())
    }

    /// Changes the record, on disk first.
    async fn update_record(&mut self, change: impl FnOnce(&mut Record)) -> Result<(), StepError> {
        let mut record = self.record.clone().ok_or(StepError::Stale)?;
        change(&mut record);
        self.write_record(record).await
    }

    async fn write_record(&mut self, record: Record) -> Result<(), StepError> {
        let (node, copy) = (Arc::clone(&self.node), record.clone());
        tokio::task::spawn_blocking(move || node.store.write(&copy)).await.map_err(StepError::Aborted)??;
        self.record = Some(record);
        Ok(())
    }

    async fn record_outcome(&mut self, outcome: Outcome) -> Result<(), StepError> {
        self.update_record(|record| record.outcome = Some(outcome.clone())).await?;
        if outcome.succeeded {
            self.event(EventKind::Normal, "Stopped", "The VirtualMachineInstance was shut down.");
        } else {
            let message = format!("The VirtualMachineInstance crashed. {}: {}", outcome.reason, outcome.message);
            self.event(EventKind::Warning, "Stopped", &message);
        }
        Ok(())
    }

    fn held_back(&self, step: &Step) -> Option<Duration> {
        let failure = self.failure.as_ref().filter(|failure| failure.step == step.name())?;
        let left = failure.until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    fn worked(&mut self, step: &Step) {
        if self.failure.as_ref().is_some_and(|failure| failure.step == step.name()) {
            self.failure = None;
        }
    }

    /// Takes note of a failure, tells the user, and says when to try again.
    async fn failed(&mut self, step: &Step, error: &StepError) -> Duration {
        let attempts = match &self.failure {
            Some(failure) if failure.step == step.name() => failure.attempts + 1,
            _ => 1,
        };
        let (first, last) =
            if error.is_pull() { (FIRST_PULL_BACKOFF, LAST_PULL_BACKOFF) } else { (FIRST_BACKOFF, LAST_BACKOFF) };
        let wait = first.saturating_mul(1u32 << (attempts - 1).min(16)).min(last);
        let reason = if error.is_pull() && attempts > 1 { "ImagePullBackOff" } else { error.reason() };
        let message = error.chain();
        tracing::warn!(step = step.name(), attempts, reason, error = %message, "step failed");
        live::STEP_FAILURES.with_label_values(&[step.name(), error.reason()]).inc();
        let quiet = error.is_only_the_api();
        self.failure = Some(Failure {
            step: step.name(),
            attempts,
            until: Instant::now() + wait,
            reason: reason.into(),
            message: message.clone(),
        });
        if !quiet {
            self.event(EventKind::Warning, if error.is_pull() { reason } else { "SyncFailed" }, &message);
            self.publish_failure(reason, &message).await;
        }
        wait
    }

    fn note_trouble(&mut self, trouble: Option<Trouble>) {
        let before = std::mem::replace(&mut *self.shared.trouble.lock(), trouble);
        if let Some(trouble) = trouble
            && before != Some(trouble)
        {
            tracing::warn!(reason = trouble.reason(), "{}", trouble.message());
            self.event(EventKind::Warning, trouble.reason(), trouble.message());
        }
    }

    fn event(&self, kind: EventKind, reason: &'static str, message: &str) {
        self.shared.event(&self.node.recorder, kind, reason, message);
    }

    fn now(&self) -> Timestamp {
        self.node.config.clock.now()
    }
}
