//! The one task of a VM. Changes of the object, events of the domain, requests of users and answers of the guest agent all come through its
//! queue; the worker's turns, one user request at a time and the question to the agent run beside it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use fv_hypervisor::{DomainEventKind, HypervisorError};
use fv_stream::agent::{AgentError, DomainVerb};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::engine::{Node, Round, Shared, VmiSlot, Worker, unwanted};
use crate::guest_agent;
use crate::liveness::Liveness;
use crate::readiness::{Readiness, Told};
use crate::vm::facts::ExitCause;
use crate::vm::gate::GateState;
use crate::vm::record::Record;
use crate::vm::status::AgentFacts;

/// A look at everything, without any cause.
const RESYNC: Duration = Duration::from_secs(60);
/// Every so many of those the network is gone through as well.
const NETWORK_EVERY: u32 = 5;
/// How long the answer to a request that was carried out waits for the status to say so.
const TELL_WITHIN: Duration = Duration::from_secs(7);
/// User requests waiting for their turn.
const MAX_REQUESTS: usize = 16;

/// What a task is told.
#[derive(Debug)]
pub(crate) enum Message {
    /// Something may have changed.
    Look,
    Domain(DomainEventKind),
    Act {
        verb: DomainVerb,
        reply: oneshot::Sender<Result<(), AgentError>>,
    },
}

type Reply = oneshot::Sender<Result<(), AgentError>>;
type Request = (DomainVerb, Reply);

pub(crate) struct Task {
    node: Arc<Node>,
    shared: Arc<Shared>,
    messages: mpsc::UnboundedReceiver<Message>,
    worker: Option<Box<Worker>>,
    turn: Option<BoxFuture<'static, (Box<Worker>, Round)>>,
    interrupt: CancellationToken,
    acting: Option<BoxFuture<'static, (Request, Result<(), HypervisorError>)>>,
    waiting: VecDeque<Request>,
    /// Requests that were carried out, to be answered after the next turn, which writes the status: who pauses and unpauses must not
    /// find the status that was before.
    done: Vec<Reply>,
    /// The same, for the turn under way.
    telling: Vec<Reply>,
    tell_by: Option<Instant>,
    asking: Option<BoxFuture<'static, Option<AgentFacts>>>,
    liveness: Liveness,
    probing: Option<BoxFuture<'static, Result<(), String>>>,
    readiness: Readiness,
    probing_readiness: Option<BoxFuture<'static, Told>>,
    dirty: bool,
    wake: Option<Instant>,
    resyncs: u32,
    distrust_network: bool,
    was_running: bool,
}

async fn maybe<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(running) => {
            let value = running.await;
            *future = None;
            value
        }
        None => std::future::pending().await,
    }
}

/// Tells everybody that it is done.
fn answer(replies: &mut Vec<Reply>) {
    for reply in replies.drain(..) {
        let _ = reply.send(Ok(()));
    }
}

impl Task {
    pub(crate) fn new(
        node: Arc<Node>,
        shared: Arc<Shared>,
        record: Option<Record>,
        messages: mpsc::UnboundedReceiver<Message>,
    ) -> Self {
        let worker = Worker::new(Arc::clone(&node), Arc::clone(&shared), record);
        let liveness = Liveness::new(Arc::clone(&node), Arc::clone(&shared));
        let readiness = Readiness::new(Arc::clone(&node), Arc::clone(&shared));
        Self {
            node,
            shared,
            messages,
            worker: Some(Box::new(worker)),
            turn: None,
            interrupt: CancellationToken::new(),
            acting: None,
            waiting: VecDeque::new(),
            done: Vec::new(),
            telling: Vec::new(),
            tell_by: None,
            asking: None,
            liveness,
            probing: None,
            readiness,
            probing_readiness: None,
            dirty: true,
            wake: None,
            resyncs: 0,
            distrust_network: false,
            was_running: false,
        }
    }

    /// Runs until the VM is over (`may_end` agrees that nobody needs the task any more), or `shutdown`, which touches nothing.
    pub(crate) async fn run(
        mut self,
        shutdown: CancellationToken,
        may_end: impl Fn(&mpsc::UnboundedReceiver<Message>) -> bool,
    ) {
        let mut resync = tokio::time::interval_at(Instant::now() + RESYNC, RESYNC);
        resync.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.begin_turn();
            self.begin_request();
            if self.probing.is_none() {
                self.probing = self.liveness.next_check();
            }
            if self.probing_readiness.is_none() {
                self.probing_readiness = self.readiness.next_check();
            }
            let (wake, tell_by) = (self.wake, self.tell_by);
            tokio::select! {
                () = shutdown.cancelled() => return,
                message = self.messages.recv() => match message {
                    Some(message) => self.take(message),
                    None => return,
                },
                (worker, round) = maybe(&mut self.turn) => {
                    self.worker = Some(worker);
                    answer(&mut self.telling);
                    if self.done.is_empty() {
                        self.tell_by = None;
                    }
                    self.wake = round.wake.map(|after| Instant::now() + after);
                    self.watch_agent();
                    if round.finished && !self.dirty && self.acting.is_none() && may_end(&self.messages) {
                        return;
                    }
                }
                (request, result) = maybe(&mut self.acting) => self.acted(request, result),
                facts = maybe(&mut self.asking) => {
                    let before = std::mem::replace(&mut *self.shared.agent.lock(), facts.clone());
                    self.dirty |= before != facts;
                }
                result = maybe(&mut self.probing) => self.dirty |= self.liveness.note(result),
                told = maybe(&mut self.probing_readiness) => self.readiness.note(told),
                () = tokio::time::sleep_until(wake.unwrap_or_else(|| Instant::now() + RESYNC)), if wake.is_some() => {
                    self.wake = None;
                    self.dirty = true;
                }
                () = tokio::time::sleep_until(tell_by.unwrap_or_else(Instant::now)), if tell_by.is_some() => {
                    self.tell_by = None;
                    answer(&mut self.telling);
                    answer(&mut self.done);
                }
                _ = resync.tick() => {
                    self.resyncs = self.resyncs.wrapping_add(1);
                    self.distrust_network |= self.resyncs.is_multiple_of(NETWORK_EVERY);
                    self.dirty = true;
                    self.ask_agent();
                }
            }
        }
    }

    fn begin_turn(&mut self) {
        if !self.dirty || self.turn.is_some() {
            return;
        }
        let Some(mut worker) = self.worker.take() else { return };
        self.dirty = false;
        self.telling.append(&mut self.done);
        if std::mem::take(&mut self.distrust_network) {
            worker.distrust_network();
        }
        self.interrupt = CancellationToken::new();
        let interrupt = self.interrupt.clone();
        self.turn = Some(Box::pin(async move {
            let round = worker.turn(&interrupt).await;
            (worker, round)
        }));
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Look => {
                self.dirty = true;
                // A long pull is of no use to a VMI that is to end.
                let unwanted = match &*self.shared.vmi.lock() {
                    VmiSlot::Present(vmi) => unwanted(vmi, &self.node.config.node_name),
                    VmiSlot::Doubtful | VmiSlot::Gone => true,
                    VmiSlot::Unknown => false,
                };
                if unwanted {
                    self.interrupt.cancel();
                }
            }
            Message::Domain(kind) => self.domain_event(kind),
            Message::Act { verb, reply } => {
                if self.waiting.len() >= MAX_REQUESTS {
                    let _ =
                        reply.send(Err(AgentError::Conflict("too many requests wait for this VMI; try again".into())));
                } else {
                    self.waiting.push_back((verb, reply));
                }
            }
        }
    }

    fn domain_event(&mut self, kind: DomainEventKind) {
        self.dirty = true;
        match kind {
            DomainEventKind::Started => *self.shared.exit.lock() = None,
            DomainEventKind::Stopped(reason) => {
                *self.shared.exit.lock() = ExitCause::of(reason);
                *self.shared.agent.lock() = None;
            }
            DomainEventKind::AgentConnected | DomainEventKind::Rebooted => self.ask_agent(),
            DomainEventKind::AgentDisconnected => *self.shared.agent.lock() = None,
            DomainEventKind::IoError { disk, reason } => {
                tracing::warn!(disk = %disk.escape_debug(), reason = %reason.escape_debug(), "disk error in the guest");
            }
            DomainEventKind::Paused(_)
            | DomainEventKind::Resumed
            | DomainEventKind::ShuttingDown { .. }
            | DomainEventKind::WatchdogFired
            | DomainEventKind::Panicked => {}
        }
    }

    fn watch_agent(&mut self) {
        let running = self.shared.gate.lock().state() == GateState::Running;
        if running && !std::mem::replace(&mut self.was_running, running) {
            self.ask_agent();
        }
        self.was_running = running;
    }

    fn ask_agent(&mut self) {
        let running = self.shared.gate.lock().state() == GateState::Running;
        if self.asking.is_none() && running {
            let (node, uuid) = (Arc::clone(&self.node), self.shared.uuid);
            self.asking = Some(Box::pin(async move { guest_agent::facts(&*node.hypervisor, uuid).await }));
        }
    }

    fn begin_request(&mut self) {
        while self.acting.is_none() {
            let Some((verb, reply)) = self.waiting.pop_front() else { return };
            let admitted = self.shared.gate.lock().admit(verb);
            if let Err(denied) = admitted {
                let _ = reply.send(Err(AgentError::Conflict(denied.to_string())));
                continue;
            }
            let (node, uuid) = (Arc::clone(&self.node), self.shared.uuid);
            self.acting = Some(Box::pin(async move {
                let result = match verb {
                    DomainVerb::Pause => node.hypervisor.suspend(uuid).await,
                    DomainVerb::Unpause => node.hypervisor.resume(uuid).await,
                    DomainVerb::SoftReboot => node.hypervisor.reboot(uuid).await,
                    DomainVerb::Reset => node.hypervisor.reset(uuid).await,
                };
                ((verb, reply), result)
            }));
        }
    }

    fn acted(&mut self, (verb, reply): Request, result: Result<(), HypervisorError>) {
        self.dirty = true;
        let answer = match result {
            Ok(()) => {
                self.shared.gate.lock().done(verb);
                self.done.push(reply);
                self.tell_by.get_or_insert_with(|| Instant::now() + TELL_WITHIN);
                return;
            }
            Err(HypervisorError::NoDomain { .. }) => Err(AgentError::Conflict("VMI is not running".into())),
            Err(error @ HypervisorError::InvalidState { .. }) => Err(AgentError::Conflict(error.to_string())),
            Err(error) => Err(AgentError::Internal(error.to_string())),
        };
        let _ = reply.send(answer);
    }
}
