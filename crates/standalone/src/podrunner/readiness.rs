//! Readiness probes of containers, over the pod network or by a command, as a kubelet makes them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use fv_virt_handler::probe::{Check, DirectDial, Timing, Tracker};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use kube::Client;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::exec::Exec;
use super::sandbox::Paths;
use super::status::{Activity, PodView};
use super::{COMPONENT, PodRunner};
use crate::events::{Note, record};

/// The probes of one pod's containers.
#[derive(Default)]
pub(super) struct Readiness {
    probes: HashMap<String, Running>,
    changed: Arc<Notify>,
}

/// A probe of one run of a container.
struct Running {
    since: Timestamp,
    ready: watch::Receiver<bool>,
    _task: AbortOnDropHandle<()>,
}

/// What a probe does.
enum Ask {
    Network(Check, IpAddr),
    Command(Box<Exec>),
    /// It fails, always, for this reason.
    Refused(String),
}

impl Ask {
    /// `None`: it is none of these, or cannot be made yet.
    fn of(
        runner: &PodRunner,
        paths: &Paths,
        pod: &Pod,
        container: &Container,
        probe: &Probe,
        address: Option<IpAddr>,
    ) -> Option<Self> {
        match &probe.exec {
            Some(action) => {
                let exec = Exec::of(&runner.config, pod, container, action, paths);
                Some(exec.map_or_else(Self::Refused, |exec| Self::Command(Box::new(exec))))
            }
            None => Check::of(probe).zip(address).map(|(check, address)| Self::Network(check, address)),
        }
    }

    async fn run(&self, timeout: Duration) -> Result<(), String> {
        match self {
            Self::Network(check, address) => check.run(&DirectDial, *address, timeout).await,
            Self::Command(exec) => exec.run(timeout).await,
            Self::Refused(reason) => Err(reason.clone()),
        }
    }
}

impl Readiness {
    /// Waits until a probe changes its mind.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Says of each container that runs and has a probe what that found; begins to probe those that have just been started.
    pub(super) fn judge(&mut self, runner: &PodRunner, paths: &Paths, pod: &Arc<Pod>, view: &mut PodView) {
        let address = view.addresses.first().and_then(|address| address.parse::<IpAddr>().ok());
        let specs = pod.spec.iter().flat_map(|spec| &spec.containers);
        let probes: HashMap<&str, (&Container, &Probe)> = specs
            .filter_map(|container| Some((container.name.as_str(), (container, container.readiness_probe.as_ref()?))))
            .collect();
        for container in &mut view.containers {
            let Activity::Running { since } = container.activity else {
                self.probes.remove(&container.name);
                continue;
            };
            let Some((of, probe)) = probes.get(container.name.as_str()) else { continue };
            let Some(ask) = Ask::of(runner, paths, pod, of, probe, address) else { continue };
            let known = self.probes.get(&container.name).is_some_and(|running| running.since == since);
            if !known {
                let (sender, ready) = watch::channel(false);
                let work = Work {
                    client: runner.client.clone(),
                    pod: Arc::clone(pod),
                    ask,
                    timing: Timing::of(probe),
                    changed: Arc::clone(&self.changed),
                };
                let task = AbortOnDropHandle::new(tokio::spawn(work.run(since, sender)));
                self.probes.insert(container.name.clone(), Running { since, ready, _task: task });
            }
            container.ready = self.probes.get(&container.name).is_some_and(|running| *running.ready.borrow());
        }
    }
}

struct Work {
    client: Client,
    pod: Arc<Pod>,
    ask: Ask,
    timing: Timing,
    changed: Arc<Notify>,
}

impl Work {
    async fn run(self, since: Timestamp, ready: watch::Sender<bool>) {
        let age = Duration::try_from(Timestamp::now().duration_since(since)).unwrap_or_default();
        tokio::time::sleep(self.timing.initial_delay.saturating_sub(age)).await;
        let mut tracker = Tracker::new(false);
        // The same failure again and again is one event.
        let mut told = None;
        loop {
            let begun = Instant::now();
            let result = self.ask.run(self.timing.timeout).await;
            let verdict = tracker.note(result.is_ok(), &self.timing);
            if ready.send_replace(verdict) != verdict {
                self.changed.notify_one();
            }
            let failure = result.err();
            if let Some(message) = &failure
                && failure != told
            {
                let text = format!("Readiness probe failed: {message}");
                record(&self.client, COMPONENT, &*self.pod, Note::warning("Unhealthy", "Probing", &text)).await;
            }
            told = failure;
            tokio::time::sleep_until(begun + self.timing.period).await;
        }
    }
}
