//! Blocking calls on threads, with deadlines and lanes.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore, oneshot};
use uuid::Uuid;

use crate::error::HypervisorError;

/// What calls wait for each other. Looking and destroying must never wait behind a call that hangs in QEMU or in the guest, so a
/// domain has a lane for each; within a lane one call is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Lane {
    kind: LaneKind,
    domain: Uuid,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum LaneKind {
    Control,
    Destroy,
    Agent,
    Read,
    Stats,
    List,
}

impl Lane {
    pub(crate) fn control(domain: Uuid) -> Self {
        Self { kind: LaneKind::Control, domain }
    }

    pub(crate) fn destroy(domain: Uuid) -> Self {
        Self { kind: LaneKind::Destroy, domain }
    }

    pub(crate) fn agent(domain: Uuid) -> Self {
        Self { kind: LaneKind::Agent, domain }
    }

    pub(crate) fn read(domain: Uuid) -> Self {
        Self { kind: LaneKind::Read, domain }
    }

    /// A call in this lane does not wait for another one: it fails.
    pub(crate) fn stats(domain: Uuid) -> Self {
        Self { kind: LaneKind::Stats, domain }
    }

    /// Calls about no domain in particular.
    pub(crate) fn list() -> Self {
        Self { kind: LaneKind::List, domain: Uuid::nil() }
    }

    pub(crate) fn domain(self) -> Uuid {
        self.domain
    }

    /// Label of metrics.
    pub(crate) fn word(self) -> &'static str {
        match self.kind {
            LaneKind::Control => "control",
            LaneKind::Destroy => "destroy",
            LaneKind::Agent => "agent",
            LaneKind::Read => "read",
            LaneKind::Stats => "stats",
            LaneKind::List => "list",
        }
    }
}

/// Runs calls.
pub(crate) struct Calls {
    lanes: Mutex<HashMap<Lane, Arc<tokio::sync::Mutex<()>>>>,
    threads: Arc<Semaphore>,
    stats: Arc<Semaphore>,
}

/// Threads that may hang at once before calls wait for a free one (within their deadlines).
const THREADS: usize = 256;
/// Of those, the ones that read statistics. Such a question hangs as long as the guest's QEMU does, and with it one of the threads with
/// which libvirtd serves everybody: twenty, unless it is told otherwise.
const STATS: usize = 4;
/// libvirt's client needs little stack.
const STACK: usize = 512 * 1024;

/// What a call holds until it returns, however long after its deadline.
struct Held {
    _lane: OwnedMutexGuard<()>,
    _thread: OwnedSemaphorePermit,
}

impl Calls {
    pub(crate) fn new() -> Self {
        Self {
            lanes: Mutex::default(),
            threads: Arc::new(Semaphore::new(THREADS)),
            stats: Arc::new(Semaphore::new(STATS)),
        }
    }

    /// Runs `call` on a thread once its lane is free; waiting counts against `patience`.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        step: &'static str,
        lane: Lane,
        patience: Duration,
        call: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, HypervisorError> {
        let timeout = || HypervisorError::Timeout { step, after: patience };
        let work = async {
            let held = self.hold(lane).await.ok_or(HypervisorError::Busy { step })?;
            let (sender, receiver) = oneshot::channel();
            let thread = std::thread::Builder::new().name("libvirt-call".into()).stack_size(STACK).spawn(move || {
                let result = call();
                // The lane is free before anybody can know the result and ask for the next thing.
                drop(held);
                let _ = sender.send(result);
            });
            if let Err(error) = thread {
                return Err(HypervisorError::Libvirt { step, code: 0, message: format!("starting a thread: {error}") });
            }
            receiver.await.map_err(|_| HypervisorError::Libvirt { step, code: 0, message: "the call panicked".into() })
        };
        tokio::time::timeout(patience, work).await.unwrap_or_else(|_| Err(timeout()))
    }

    /// `None`: the lane is taken, and this call does not wait for it.
    async fn hold(&self, lane: Lane) -> Option<Held> {
        let mutex = {
            let mut lanes = self.lanes.lock();
            // Lanes of domains long gone: nobody holds or awaits them.
            if lanes.len() > 64 {
                lanes.retain(|_, mutex| Arc::strong_count(mutex) > 1);
            }
            Arc::clone(lanes.entry(lane).or_default())
        };
        let (lane, threads) = match lane.kind {
            LaneKind::Stats => (mutex.try_lock_owned().ok()?, &self.stats),
            _ => (mutex.lock_owned().await, &self.threads),
        };
        let thread = Arc::clone(threads).acquire_owned().await.ok()?;
        Some(Held { _lane: lane, _thread: thread })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[tokio::test]
    async fn a_hanging_call_blocks_its_own_lane_and_no_other() {
        let calls = Calls::new();
        let (stuck, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let (release, hang) = mpsc::channel::<()>();
        let short = Duration::from_millis(100);
        let long = Duration::from_secs(20);
        let first = calls.run("a", Lane::control(stuck), short, move || hang.recv()).await;
        assert!(matches!(first, Err(HypervisorError::Timeout { step: "a", .. })));
        // The call still runs: its lane takes no second one.
        let second = calls.run("b", Lane::control(stuck), short, || ()).await;
        assert!(matches!(second, Err(HypervisorError::Timeout { step: "b", .. })));
        calls.run("c", Lane::destroy(stuck), long, || ()).await.unwrap();
        calls.run("d", Lane::read(stuck), long, || ()).await.unwrap();
        calls.run("e", Lane::control(other), long, || ()).await.unwrap();
        release.send(()).unwrap();
        calls.run("f", Lane::control(stuck), long, || ()).await.unwrap();
    }

    #[tokio::test]
    async fn questions_about_statistics_that_hang_hold_up_neither_each_other_nor_anything_else() {
        let calls = Calls::new();
        let (short, long) = (Duration::from_millis(100), Duration::from_secs(20));
        let mut release = Vec::new();
        for number in 0..STATS as u128 {
            let (sender, hang) = mpsc::channel::<()>();
            release.push(sender);
            let lane = Lane::stats(Uuid::from_u128(number));
            let first = calls.run("a", lane, short, move || hang.recv()).await;
            assert!(matches!(first, Err(HypervisorError::Timeout { .. })));
            let second = calls.run("a", lane, long, || ()).await;
            assert!(matches!(second, Err(HypervisorError::Busy { .. })), "at once");
        }
        let one_more = calls.run("a", Lane::stats(Uuid::from_u128(99)), short, || ()).await;
        assert!(matches!(one_more, Err(HypervisorError::Timeout { .. })));
        calls.run("b", Lane::read(Uuid::from_u128(0)), long, || ()).await.unwrap();
        drop(release.pop());
        calls.run("a", Lane::stats(Uuid::from_u128(99)), long, || ()).await.unwrap();
    }

    #[tokio::test]
    async fn lanes_of_gone_domains_are_forgotten() {
        let calls = Calls::new();
        for n in 0..200 {
            calls.run("x", Lane::read(Uuid::from_u128(n)), Duration::from_secs(20), || ()).await.unwrap();
        }
        assert!(calls.lanes.lock().len() <= 65);
    }

    #[tokio::test]
    async fn a_panic_in_a_call_is_an_error_and_frees_the_lane() {
        let calls = Calls::new();
        let lane = Lane::control(Uuid::from_u128(1));
        let patience = Duration::from_secs(20);
        let result: Result<(), _> = calls.run("x", lane, patience, || panic!("boom")).await;
        assert!(result.is_err());
        calls.run("y", lane, patience, || ()).await.unwrap();
    }
}
