//! The node's libvirt: found at the start, watched afterwards.

use std::sync::Arc;
use std::time::Duration;

use fv_hypervisor::daemon::{LibvirtEndpoint, SystemPlaces, find_system_daemon};
use fv_hypervisor::{Capabilities, Hypervisor};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::task::JoinError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::contract;
use super::node::Virtualization;
use super::program::ProgramError;
use super::replacement::{AWAY, Daemon, Replaced, Sight, judge};

/// How often a libvirt that is missing is looked for.
const LOOK: Duration = Duration::from_secs(5);
/// How long a daemon may take to answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for a libvirt of the node, and says what is missing meanwhile. `None`: asked to end.
pub(super) async fn find_libvirt(
    facts: &watch::Sender<Virtualization>,
    os_image: &str,
    shutdown: &CancellationToken,
) -> Result<Option<LibvirtEndpoint>, ProgramError> {
    loop {
        match tokio::task::spawn_blocking(|| find_system_daemon(&SystemPlaces::default(), PATIENCE)).await? {
            Ok(endpoint) => return Ok(Some(endpoint)),
            Err(error) => learn(facts, Virtualization::Lacking(contract::without_daemon(&error, os_image))),
        }
        if SystemPlaces::default().is_removed() {
            return Err(Replaced::Directory { used: "libvirt's sockets".into() }.into());
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(None),
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

fn learn(facts: &watch::Sender<Virtualization>, now: Virtualization) {
    facts.send_if_modified(|known| std::mem::replace(known, now.clone()) != now);
}

/// Says whether guests can be started. Those that run do not depend on it.
pub(super) struct Watcher {
    hypervisor: Arc<dyn Hypervisor>,
    /// What the hypervisor was made for.
    used: Daemon,
    facts: watch::Sender<Virtualization>,
    os_image: String,
    /// Whether the driver of taps is there.
    tun: fn() -> Result<(), String>,
}

impl Watcher {
    pub(super) fn new(
        hypervisor: Arc<dyn Hypervisor>,
        used: LibvirtEndpoint,
        facts: watch::Sender<Virtualization>,
        os_image: String,
    ) -> Self {
        Self { hypervisor, used: used.into(), facts, os_image, tun: open_tun }
    }

    /// Until `shutdown`, or until the daemon was replaced.
    pub(super) async fn run(self, shutdown: CancellationToken) -> Result<(), Replaced> {
        let look = || async {
            let looked = tokio::task::spawn_blocking(|| look(&SystemPlaces::default())).await;
            looked.inspect_err(|error: &JoinError| tracing::warn!(%error, "looking for libvirt was aborted")).ok()
        };
        self.watch(look, shutdown).await
    }

    /// `look` says what the node has now.
    async fn watch<F: Future<Output = Option<Sight>>>(
        self,
        look: impl Fn() -> F,
        shutdown: CancellationToken,
    ) -> Result<(), Replaced> {
        let mut events = self.hypervisor.events();
        let (mut known, mut since) = (None, None);
        loop {
            if self.hypervisor.is_connected() {
                since = None;
                self.tell_connected(&mut known).await;
            } else {
                known = None;
                let since = *since.get_or_insert_with(Instant::now);
                let sight = if since.elapsed() >= AWAY { look().await } else { None };
                // It may have come back while it was looked for.
                if !self.hypervisor.is_connected() {
                    let problem = judge(&self.used, sight.as_ref(), since.elapsed(), &self.os_image)?;
                    learn(&self.facts, Virtualization::Lacking(problem));
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                event = events.recv() => if let Err(RecvError::Closed) = event { return Ok(()) },
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Asks each connection once what it can do, and looks again and again at what may change meanwhile.
    async fn tell_connected(&self, known: &mut Option<Arc<Capabilities>>) {
        if known.is_none() {
            match self.hypervisor.capabilities().await {
                Ok(capabilities) => *known = Some(Arc::new(capabilities)),
                Err(error) => tracing::warn!(%error, "the libvirt daemon does not tell what it can do; asking again"),
            }
        }
        let Some(capabilities) = known else { return };
        let now = match contract::check(capabilities, &(self.tun)(), &self.os_image) {
            Ok(()) => Virtualization::Ready(Arc::clone(capabilities)),
            Err(problem) => Virtualization::Lacking(problem),
        };
        learn(&self.facts, now);
    }
}

/// Opening it loads the driver where the node has it; nothing is made by that.
fn open_tun() -> Result<(), String> {
    let opened = std::fs::OpenOptions::new().read(true).write(true).open("/dev/net/tun");
    opened.map(drop).map_err(|error| error.to_string())
}

/// What the node has. Blocking.
fn look(places: &SystemPlaces) -> Sight {
    match find_system_daemon(places, PATIENCE) {
        Ok(endpoint) => Sight::Daemon(endpoint.into()),
        Err(_) if places.is_removed() => Sight::Removed,
        Err(error) => Sight::None(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fv_hypervisor::daemon::{DaemonKind, SystemDaemonError};
    use fv_hypervisor::fake::FakeHypervisor;
    use tokio::sync::watch::Receiver;

    fn daemon(socket: &str, kind: DaemonKind) -> Daemon {
        Daemon { socket: socket.into(), kind }
    }

    fn watcher(tun: fn() -> Result<(), String>) -> (Arc<FakeHypervisor>, Watcher, Receiver<Virtualization>) {
        let hypervisor = FakeHypervisor::new("1a2b3c4d");
        let (facts, told) = watch::channel(Virtualization::default());
        let used = daemon("/run/libvirt/libvirt-sock", DaemonKind::SystemLibvirtd);
        let watcher = Watcher { hypervisor: Arc::clone(&hypervisor) as _, used, facts, os_image: String::new(), tun };
        (hypervisor, watcher, told)
    }

    /// Waits until this is told: a reason, or `ready`.
    async fn hear(told: &mut Receiver<Virtualization>, expected: &str) {
        let word = |now: &Virtualization| match now {
            Virtualization::Unknown => "unknown",
            Virtualization::Lacking(problem) => problem.reason,
            Virtualization::Ready(_) => "ready",
        };
        let heard = tokio::time::timeout(Duration::from_secs(600), told.wait_for(|now| word(now) == expected)).await;
        assert!(heard.is_ok_and(|heard| heard.is_ok()), "{expected} is not told");
    }

    #[tokio::test(start_paused = true)]
    async fn daemon_that_is_removed_is_told_and_used_again_when_it_is_back() {
        let (hypervisor, watcher, mut told) = watcher(|| Ok(()));
        let shutdown = CancellationToken::new();
        let absent = || async { Some(Sight::None(SystemDaemonError::Absent { sockets: Default::default() })) };
        let watching = tokio::spawn(watcher.watch(absent, shutdown.clone()));
        hear(&mut told, "ready").await;
        hypervisor.disconnect("removed");
        let began = Instant::now();
        hear(&mut told, "LibvirtDisconnected").await;
        hear(&mut told, "LibvirtMissing").await;
        assert!(began.elapsed() >= AWAY, "it was looked for after {:?}", began.elapsed());
        hypervisor.reconnect();
        hear(&mut told, "ready").await;
        // The next loss is one of its own.
        hypervisor.disconnect("restarted");
        let began = Instant::now();
        hear(&mut told, "LibvirtMissing").await;
        assert!(began.elapsed() >= AWAY, "it was looked for after {:?}", began.elapsed());
        shutdown.cancel();
        assert_eq!(watching.await.unwrap(), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn another_daemon_ends_the_watch() {
        let (hypervisor, watcher, mut told) = watcher(|| Ok(()));
        let other =
            || async { Some(Sight::Daemon(daemon("/run/libvirt/virtqemud-sock", DaemonKind::SystemVirtqemud))) };
        let watching = tokio::spawn(watcher.watch(other, CancellationToken::new()));
        hear(&mut told, "ready").await;
        tokio::time::sleep(AWAY * 10).await;
        assert!(!watching.is_finished(), "a connection that holds is no reason");
        hypervisor.disconnect("replaced");
        let error = watching.await.unwrap().unwrap_err();
        assert!(error.to_string().contains("virtqemud at /run/libvirt/virtqemud-sock answers"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn missing_driver_of_taps_is_told_while_libvirt_is_there() {
        let (_hypervisor, watcher, mut told) = watcher(|| Err("no such device".into()));
        let shutdown = CancellationToken::new();
        let watching = tokio::spawn(watcher.watch(|| async { None }, shutdown.clone()));
        hear(&mut told, "TunMissing").await;
        shutdown.cancel();
        assert_eq!(watching.await.unwrap(), Ok(()));
    }
}
