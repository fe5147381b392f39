//! The connection: kept by one thread, lost and made again.

use std::collections::HashSet;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use tokio::sync::broadcast;
use uuid::Uuid;
use virt::connect::Connect;

use super::callbacks::{self, Registration, Report, Sink};
use super::translate;
use crate::port::{DomainEvent, DomainEventKind, HypervisorEvent};

/// libvirtd counts as gone after this many unanswered questions at this interval.
pub(super) const KEEPALIVE_SECONDS: i32 = 5;
pub(super) const KEEPALIVE_COUNT: u32 = 3;
/// Between two attempts to connect: the first, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// One open connection; closed when its last user is done.
pub(super) struct Session {
    pub(super) connect: Connect,
    pub(super) since: Instant,
    registration: Option<Registration>,
}

impl Session {
    pub(super) fn is_alive(&self) -> bool {
        self.connect.is_alive().unwrap_or(false)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(registration) = self.registration.take() {
            callbacks::close(&self.connect, registration);
        }
    }
}

/// The current session, if any, and the thread that sees to it.
pub(super) struct Connection {
    shared: Arc<Shared>,
}

struct Shared {
    uri: String,
    session: RwLock<Option<Arc<Session>>>,
    events: broadcast::Sender<HypervisorEvent>,
    /// Domains whose QEMU the host told to end: their `Stopped` does not mean that the guest wanted it.
    host_ends: Mutex<HashSet<Uuid>>,
    /// Wakes the thread.
    wake: mpsc::Sender<Wake>,
}

enum Wake {
    Closed { generation: u64, reason: &'static str },
    Stop,
}

impl Connection {
    /// Begins to keep a connection to `uri`.
    pub(super) fn keep(uri: &str, events: broadcast::Sender<HypervisorEvent>) -> Self {
        let (wake, woken) = mpsc::channel();
        let shared = Arc::new(Shared {
            uri: uri.to_owned(),
            session: RwLock::new(None),
            events,
            host_ends: Mutex::default(),
            wake,
        });
        let keeper = Arc::clone(&shared);
        let spawned =
            std::thread::Builder::new().name("libvirt-connection".into()).spawn(move || keep(&keeper, &woken));
        if let Err(error) = spawned {
            tracing::error!(%error, "no thread for the libvirt connection");
        }
        Self { shared }
    }

    pub(super) fn session(&self) -> Option<Arc<Session>> {
        self.shared.session.read().clone()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let _ = self.shared.wake.send(Wake::Stop);
    }
}

/// The keeper's thread: open, wait for the end, again.
fn keep(shared: &Arc<Shared>, woken: &mpsc::Receiver<Wake>) {
    callbacks::start_event_loop();
    let mut pause = FIRST_PAUSE;
    let mut complained = false;
    for generation in 0.. {
        let session = match open(shared, generation) {
            Ok(session) => session,
            Err(error) => {
                if !complained {
                    tracing::warn!(uri = %shared.uri, %error, "cannot connect to libvirtd, trying again");
                    complained = true;
                }
                match woken.recv_timeout(pause) {
                    Ok(Wake::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                    // Of a connection that never was.
                    Ok(Wake::Closed { .. }) | Err(RecvTimeoutError::Timeout) => {}
                }
                pause = (pause * 2).min(LAST_PAUSE);
                continue;
            }
        };
        (pause, complained) = (FIRST_PAUSE, false);
        tracing::info!(uri = %shared.uri, "connected to libvirtd");
        *shared.session.write() = Some(session);
        let _ = shared.events.send(HypervisorEvent::Connected);
        let reason = loop {
            match woken.recv() {
                Ok(Wake::Closed { generation: ended, reason }) if ended == generation => break Some(reason),
                Ok(Wake::Closed { .. }) => {}
                Ok(Wake::Stop) | Err(_) => break None,
            }
        };
        *shared.session.write() = None;
        shared.host_ends.lock().clear();
        let Some(reason) = reason else { return };
        tracing::warn!(uri = %shared.uri, reason, "lost the connection to libvirtd");
        let _ = shared.events.send(HypervisorEvent::Disconnected { reason: reason.to_owned() });
    }
}

fn open(shared: &Arc<Shared>, generation: u64) -> Result<Arc<Session>, virt::error::Error> {
    let connect = Connect::open(Some(&shared.uri))?;
    let mut session = Session { connect, since: Instant::now(), registration: Some(Registration::default()) };
    // Weak: libvirt holds the sink for as long as it likes.
    let weak = Arc::downgrade(shared);
    let sink: Sink = Arc::new(move |report| hear(&weak, generation, report));
    session.registration = Some(callbacks::register(&session.connect, &sink)?);
    session.connect.set_keep_alive(KEEPALIVE_SECONDS, KEEPALIVE_COUNT)?;
    Ok(Arc::new(session))
}

/// On the event-loop thread: must not block and must not call libvirt.
fn hear(shared: &Weak<Shared>, generation: u64, report: Report) {
    let Some(shared) = shared.upgrade() else { return };
    match report {
        Report::Closed { reason } => {
            let _ = shared.wake.send(Wake::Closed { generation, reason });
        }
        Report::Domain { uuid, event } => {
            let host_ends = shared.host_ends.lock().contains(&uuid);
            let Some(kind) = translate::event_kind(&event, host_ends) else { return };
            match kind {
                DomainEventKind::ShuttingDown { by_guest: false } => {
                    shared.host_ends.lock().insert(uuid);
                }
                DomainEventKind::Stopped(_) | DomainEventKind::Started => {
                    shared.host_ends.lock().remove(&uuid);
                }
                _ => {}
            }
            tracing::debug!(%uuid, ?event, "domain event");
            let _ = shared.events.send(HypervisorEvent::Domain(DomainEvent { uuid, kind }));
        }
    }
}
