//! The task that owns one pod: makes its sandbox, keeps its containers as the restart policy says, ends them when the pod goes.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::select_all;
use fv_host::process::Signal;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container as ApiContainer, Pod, PodSpec};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use super::container::{Container, recorded_names, spec};
use super::readiness::Readiness;
use super::sandbox::{self, Paths, SandboxFailure};
use super::status::{PodView, compute, phase};
use super::volumes;
use super::{COMPONENT, PodRunner, Wanted, restart_delay};
use crate::events::{Note, record};

/// How long a step that failed waits.
pub(super) const RETRY: Duration = Duration::from_secs(2);
/// A log that is found larger than this begins anew.
const LOG_BYTES: u64 = 10 * 1024 * 1024;
/// How often the files of ConfigMaps and Secrets are brought up to date, as by kubelet.
const VOLUME_REFRESH: Duration = Duration::from_secs(60);
/// How often the logs of running containers are looked at: what a guest prints ends up in one.
const LOG_CHECK: Duration = Duration::from_secs(5);

/// Why a pass over the pod stopped short; it is tried again.
#[derive(Debug, thiserror::Error)]
enum PassError {
    #[error(transparent)]
    Sandbox(#[from] SandboxFailure),
    #[error("container {container}: {step}")]
    Container {
        container: String,
        step: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("write the pod's status")]
    Status(#[source] Box<kube::Error>),
    #[error("delete the pod")]
    Delete(#[source] Box<kube::Error>),
}

/// What the worker waits for after a pass.
enum Next {
    /// A change, or this moment.
    At(Option<Timestamp>),
    /// Nothing more: the pod is gone.
    Done,
}

pub(super) struct Worker {
    runner: PodRunner,
    uid: String,
    wanted: watch::Receiver<Wanted>,
    paths: Paths,
    sidecars: Vec<Container>,
    containers: Vec<Container>,
    loaded: bool,
    view: PodView,
    readiness: Readiness,
    /// The pod's volumes, once they are there.
    volumes: Option<Made>,
    /// Attempts in a row to set them up that failed.
    volume_failures: u32,
}

/// Volumes that are there.
#[derive(Clone, Copy, Debug)]
struct Made {
    /// When to bring them up to date; never when nothing in them changes.
    refresh: Option<Timestamp>,
}

impl Worker {
    pub(super) fn new(runner: PodRunner, uid: String, wanted: watch::Receiver<Wanted>) -> Self {
        let paths = Paths::of(&runner.config.instance, &uid);
        Self {
            runner,
            uid,
            wanted,
            paths,
            sidecars: Vec::new(),
            containers: Vec::new(),
            loaded: false,
            view: PodView::default(),
            readiness: Readiness::default(),
            volumes: None,
            volume_failures: 0,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            let wanted = self.wanted.borrow_and_update().clone();
            let outcome = match &wanted {
                Wanted::Pod(pod) if pod.metadata.deletion_timestamp.is_some() => self.end(Some(pod)).await,
                Wanted::Pod(pod) => self.keep(pod).await,
                Wanted::Gone => self.end(None).await,
            };
            let wake = match outcome {
                Ok(Next::Done) => return,
                Ok(Next::At(at)) => {
                    at.map(|at| Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO))
                }
                Err(error) => {
                    tracing::warn!(pod = %self.uid, error = &error as &dyn std::error::Error, "a pass over a pod failed");
                    if let (Wanted::Pod(pod), PassError::Sandbox(_)) = (&wanted, &error) {
                        let message = format!("Failed to create pod sandbox: {}", chain(&error));
                        let note = Note::warning("FailedCreatePodSandBox", "Starting", &message);
                        record(&self.runner.client, COMPONENT, pod.as_ref(), note).await;
                    }
                    Some(RETRY)
                }
            };
            self.pause(wake).await;
        }
    }

    /// Waits for a change of the pod, the end of a process, or the time given; bounds the logs meanwhile.
    async fn pause(&mut self, wake: Option<Duration>) {
        let until = wake.map(|delay| Instant::now() + delay);
        loop {
            self.bound_logs();
            let runs = self.sidecars.iter().chain(&self.containers).any(Container::is_running);
            let check = runs.then(|| Instant::now() + LOG_CHECK);
            match (until, check) {
                (until, Some(check)) if until.is_none_or(|u| check < u) => {
                    if tokio::time::timeout_at(check, self.change(None)).await.is_ok() {
                        return;
                    }
                }
                (until, _) => return self.change(until).await,
            }
        }
    }

    async fn change(&mut self, until: Option<Instant>) {
        let exits = self.sidecars.iter().chain(&self.containers).map(|c| c.exited().boxed());
        let exits: Vec<_> = exits.chain([std::future::pending().boxed()]).collect();
        let timer = async {
            match until {
                Some(until) => tokio::time::sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = self.wanted.changed() => if changed.is_err() {
                // The runner ends; so does this task, by its token.
                std::future::pending::<()>().await;
            },
            _ = select_all(exits) => {}
            () = self.readiness.changed() => {}
            () = timer => {}
        }
    }

    fn load(&mut self, pod: &Pod) -> Result<(), PassError> {
        if self.loaded {
            return Ok(());
        }
        let spec = pod.spec.clone().unwrap_or_default();
        let load = |c: &ApiContainer| {
            Container::load(&self.paths, &c.name).map_err(|source| PassError::Container {
                container: c.name.clone(),
                step: "read its record",
                source,
            })
        };
        self.sidecars = spec.init_containers.iter().flatten().map(load).collect::<Result<_, _>>()?;
        self.containers = spec.containers.iter().map(load).collect::<Result<_, _>>()?;
        self.loaded = true;
        Ok(())
    }

    /// Loads whatever containers the directory records, for a pod whose object is gone.
    fn load_from_disk(&mut self) {
        if self.loaded {
            return;
        }
        let names = recorded_names(&self.paths);
        self.containers = names.iter().filter_map(|name| Container::load(&self.paths, name).ok()).collect();
        self.loaded = true;
    }

    fn collect(&mut self) -> Result<(), PassError> {
        let now = Timestamp::now();
        for container in self.sidecars.iter_mut().chain(&mut self.containers) {
            let name = container.name.clone();
            container.collect(now).map_err(|source| PassError::Container {
                container: name,
                step: "note its end",
                source,
            })?;
        }
        Ok(())
    }

    /// A pass over a pod that is to run.
    async fn keep(&mut self, pod: &Arc<Pod>) -> Result<Next, PassError> {
        if matches!(pod.status.as_ref().and_then(|s| s.phase.as_deref()), Some("Succeeded" | "Failed")) {
            return self.wind_up(pod).await;
        }
        if let Some(refusal) = self.refusal(pod) {
            let note = Note::warning("Failed", "Pulling", &refusal.1);
            record(&self.runner.client, COMPONENT, pod.as_ref(), note).await;
            self.view.refused = Some((refusal.0.into(), refusal.1));
            self.publish(pod).await?;
            return Ok(Next::At(None));
        }
        sandbox::make_dirs(&self.paths)?;
        self.load(pod)?;
        self.collect()?;
        let config = self.runner.config.clone();
        if sandbox::complete(&self.paths).is_none() && self.kill_running()? {
            // Their network namespace is not the pod's any more: they begin anew in the one made next.
            return Ok(Next::At(Some(soon(Timestamp::now()))));
        }
        self.view.host_address = config.network.gateway().to_string();
        self.view.started_at.get_or_insert_with(|| {
            pod.status.as_ref().and_then(|s| s.start_time.as_ref()).map_or_else(Timestamp::now, |t| t.0)
        });
        if let Some(attachment) = sandbox::complete(&self.paths) {
            self.view.addresses = attachment.addresses;
        }
        let refresh = match self.keep_volumes(pod).await {
            Ok(refresh) => refresh,
            Err(again) => {
                self.publish(pod).await?;
                return Ok(Next::At(Some(again)));
            }
        };
        let attachment = sandbox::ensure(&self.paths, &self.uid, &config.network).await?;
        self.view.addresses = attachment.addresses;
        let wake = if self.is_complete(pod) {
            // The sidecars served containers that have ended for good.
            self.signal(Signal::TERM, true)?;
            None
        } else {
            self.start_containers(pod).await?
        };
        self.publish(pod).await?;
        Ok(Next::At(wake.into_iter().chain(refresh).min()))
    }

    /// Makes the volumes, later brings them up to date; returns when to do so again. What cannot be brought up to date stays as it
    /// is, but without its volumes no container starts.
    ///
    /// # Errors
    /// When to try again.
    async fn keep_volumes(&mut self, pod: &Pod) -> Result<Option<Timestamp>, Timestamp> {
        let now = Timestamp::now();
        if let Some(made) = self.volumes
            && made.refresh.is_none_or(|due| due > now)
        {
            return Ok(made.refresh);
        }
        let config = &self.runner.config;
        let outcome = volumes::ensure(&self.runner.client, &self.paths, pod, &config.node_name).await;
        let delay = match &outcome {
            Ok(()) => {
                self.volume_failures = 0;
                VOLUME_REFRESH
            }
            Err(error) => {
                tracing::warn!(pod = %self.uid, error = error as &dyn std::error::Error, "a volume cannot be set up");
                let message = chain(error);
                let note = Note::warning(error.event_reason(), "Starting", &message);
                record(&self.runner.client, COMPONENT, pod, note).await;
                self.volume_failures += 1;
                volume_delay(self.volume_failures)
            }
        };
        let due = now.saturating_add(jiff::SignedDuration::try_from(delay).unwrap_or_default()).unwrap_or(now);
        if outcome.is_err() && self.volumes.is_none() {
            return Err(due);
        }
        let live = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()).any(volumes::is_live);
        let made = Made { refresh: live.then_some(due) };
        self.volumes = Some(made);
        Ok(made.refresh)
    }

    /// Whether no main container will ever run again.
    fn is_complete(&self, pod: &Pod) -> bool {
        let policy = pod.spec.as_ref().and_then(|s| s.restart_policy.as_deref()).unwrap_or("Always");
        let containers = self.containers.iter().map(Container::view).collect();
        matches!(phase(&PodView { containers, ..PodView::default() }, policy), "Succeeded" | "Failed")
    }

    /// A pass over a pod whose phase is final: what still runs of it (sidecars) ends, then the network is given back.
    async fn wind_up(&mut self, pod: &Arc<Pod>) -> Result<Next, PassError> {
        if self.paths.dir.exists() {
            self.load(pod)?;
            self.collect()?;
        }
        let now = Timestamp::now();
        if self.sidecars.iter().chain(&self.containers).any(Container::is_running) {
            let grace = pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds).unwrap_or(30);
            let ends =
                self.containers.iter().filter_map(|c| c.latest_end()).map(|e| e.finished_at).max().unwrap_or(now);
            let deadline = ends.saturating_add(jiff::SignedDuration::from_secs(grace.max(0))).unwrap_or(now);
            let overdue = deadline <= now;
            self.signal(if overdue { Signal::KILL } else { Signal::TERM }, true)?;
            self.signal(Signal::KILL, false)?;
            return Ok(Next::At(Some(if overdue { soon(now) } else { deadline })));
        }
        self.readiness = Readiness::default();
        sandbox::release_network(&self.paths, &self.uid, &self.runner.config.network).await?;
        volumes::unmount(&self.paths).map_err(SandboxFailure::from)?;
        Ok(Next::At(None))
    }

    /// Kills whatever of the pod runs; whether anything did.
    fn kill_running(&self) -> Result<bool, PassError> {
        let any = self.sidecars.iter().chain(&self.containers).any(Container::is_running);
        self.signal(Signal::KILL, false)?;
        self.signal(Signal::KILL, true)?;
        Ok(any)
    }

    /// Why this pod will never run here: a reason, and the text for the user.
    fn refusal(&self, pod: &Pod) -> Option<(&'static str, String)> {
        let spec = pod.spec.as_ref()?;
        let inits = spec.init_containers.iter().flatten();
        if let Some(text) = odd_name(spec) {
            return Some(("Invalid", text));
        }
        for container in inits.clone().chain(&spec.containers) {
            let image = container.image.as_deref().unwrap_or_default();
            let command = container.command.as_deref().unwrap_or_default();
            let args = container.args.as_deref().unwrap_or_default();
            if let Err(refusal) = self.runner.config.programs.resolve(image, command, args) {
                return Some(("ForeignImage", refusal));
            }
            let unsupported = |what: String| Some(("Unsupported", format!("container \"{}\": {what}", container.name)));
            if container.env.iter().flatten().any(|e| e.value_from.is_some()) || container.env_from.is_some() {
                return unsupported(
                    "env valueFrom and envFrom are not supported by the embedded pod runner; write the value".into(),
                );
            }
            let volumes = spec.volumes.as_deref().unwrap_or_default();
            for device in container.volume_devices.iter().flatten() {
                if !volumes.iter().any(|v| v.name == device.name) {
                    return unsupported(format!("volumeDevices: no volume is named \"{}\"", device.name));
                }
            }
            for mount in container.volume_mounts.iter().flatten() {
                if !volumes.iter().any(|v| v.name == mount.name) {
                    return unsupported(format!("volumeMounts: no volume is named \"{}\"", mount.name));
                }
                if mount.sub_path.is_some() || mount.sub_path_expr.is_some() {
                    return unsupported(format!(
                        "volumeMounts[{}].subPath is not supported by the embedded pod runner; mount the whole volume",
                        mount.name
                    ));
                }
            }
        }
        if let Some(text) = spec.volumes.iter().flatten().find_map(volumes::refusal) {
            return Some(("UnsupportedVolume", text));
        }
        if spec.host_network == Some(true) {
            return Some(("Unsupported", "hostNetwork is not supported by the embedded pod runner".into()));
        }
        inits.into_iter().find(|c| c.restart_policy.as_deref() != Some("Always")).map(|c| {
            let text = format!(
                "init container \"{}\" without restartPolicy Always is not supported by the embedded pod runner",
                c.name
            );
            ("Unsupported", text)
        })
    }

    /// Starts what should run and does not; returns when to look again.
    async fn start_containers(&mut self, pod: &Pod) -> Result<Option<Timestamp>, PassError> {
        let spec_of_pod = pod.spec.clone().unwrap_or_default();
        let policy = spec_of_pod.restart_policy.clone().unwrap_or_else(|| "Always".into());
        let now = Timestamp::now();
        let mut wake: Option<Timestamp> = None;
        let mut backing_off = Vec::new();
        let full_name = format!("{}_{}({})", pod.name_any(), pod.namespace().unwrap_or_default(), self.uid);
        let inits = spec_of_pod.init_containers.unwrap_or_default();
        let sidecars = self.sidecars.iter_mut().zip(&inits).map(|(c, api)| (c, api, "Always"));
        let mains = self.containers.iter_mut().zip(&spec_of_pod.containers).map(|(c, api)| (c, api, policy.as_str()));
        for (container, api, policy) in sidecars.chain(mains) {
            if container.is_running() {
                continue;
            }
            if let Some(ended) = container.ended() {
                let again = match policy {
                    "Never" => false,
                    "OnFailure" => ended.exit_code != 0,
                    _ => true,
                };
                if !again {
                    continue;
                }
            }
            let due = due(container);
            if due > now {
                let seconds = restart_delay(container.short_runs() - 1).as_secs();
                if container.ended().is_some() {
                    backing_off.push(format!("Back-off restarting failed container {} in pod {full_name}", api.name));
                }
                let message = format!("back-off {seconds}s restarting failed container={} pod={full_name}", api.name);
                container.begin_back_off(message).map_err(|source| PassError::Container {
                    container: api.name.clone(),
                    step: "record its back-off",
                    source,
                })?;
                wake = Some(wake.map_or(due, |w| w.min(due)));
                continue;
            }
            let image = api.image.as_deref().unwrap_or_default();
            let command = api.command.as_deref().unwrap_or_default();
            let args = api.args.as_deref().unwrap_or_default();
            let Ok(program) = self.runner.config.programs.resolve(image, command, args) else { continue };
            let spec = spec(pod, api, program, &self.paths);
            container.start(&self.runner.config.init, &spec).map_err(|source| PassError::Container {
                container: api.name.clone(),
                step: "start it",
                source,
            })?;
        }
        for message in backing_off {
            record(&self.runner.client, COMPONENT, pod, Note::warning("BackOff", "Restarting", &message)).await;
        }
        Ok(wake)
    }

    /// A pass over a pod that is to end. `pod` is `None` when its object is gone already.
    async fn end(&mut self, pod: Option<&Arc<Pod>>) -> Result<Next, PassError> {
        match pod {
            Some(pod) if self.paths.dir.exists() => self.load(pod)?,
            _ => self.load_from_disk(),
        }
        self.collect()?;
        let now = Timestamp::now();
        // The timestamp of a pod's deletion is when its grace period ends.
        let deadline = pod.and_then(|p| p.metadata.deletion_timestamp.as_ref()).map_or(now, |t| t.0);
        let overdue = deadline <= now;
        if self.containers.iter().any(Container::is_running) {
            self.signal(if overdue { Signal::KILL } else { Signal::TERM }, false)?;
            return Ok(Next::At(Some(if overdue { soon(now) } else { deadline })));
        }
        if self.sidecars.iter().any(Container::is_running) {
            self.signal(if overdue { Signal::KILL } else { Signal::TERM }, true)?;
            return Ok(Next::At(Some(if overdue { soon(now) } else { deadline })));
        }
        self.readiness = Readiness::default();
        sandbox::release_network(&self.paths, &self.uid, &self.runner.config.network).await?;
        volumes::unmount(&self.paths).map_err(SandboxFailure::from)?;
        if let Some(pod) = pod {
            self.delete_object(pod).await?;
        }
        sandbox::remove_dirs(&self.paths)?;
        Ok(Next::Done)
    }

    fn signal(&self, signal: Signal, sidecars: bool) -> Result<(), PassError> {
        let group = if sidecars { &self.sidecars } else { &self.containers };
        for container in group.iter().filter(|c| c.is_running()) {
            container.signal(signal).map_err(|source| PassError::Container {
                container: container.name.clone(),
                step: "signal it",
                source,
            })?;
        }
        Ok(())
    }

    async fn delete_object(&self, pod: &Pod) -> Result<(), PassError> {
        let api = Api::<Pod>::namespaced(self.runner.client.clone(), &pod.namespace().unwrap_or_default());
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid: Some(self.uid.clone()), resource_version: None }),
            ..DeleteParams::default()
        };
        match api.delete(&pod.name_any(), &params).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
            Err(error) => Err(PassError::Delete(Box::new(error))),
        }
    }

    /// Writes the status when it differs from what the API has.
    async fn publish(&mut self, pod: &Arc<Pod>) -> Result<(), PassError> {
        self.view.sidecars = self.sidecars.iter().map(Container::view).collect();
        self.view.containers = self.containers.iter().map(Container::view).collect();
        self.readiness.judge(&self.runner, &self.paths, pod, &mut self.view);
        let api = Api::<Pod>::namespaced(self.runner.client.clone(), &pod.namespace().unwrap_or_default());
        let mut current = Arc::clone(pod);
        // The controller writes a readiness gate into the same list: read again and merge anew when it came first.
        for _ in 0..5 {
            let status = compute(&current, &self.view, Timestamp::now());
            if current.status.as_ref() == Some(&status) {
                return Ok(());
            }
            let patch = json!({
                "metadata": {"uid": self.uid, "resourceVersion": current.resource_version()},
                "status": status,
            });
            match api.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await {
                Ok(_) => return Ok(()),
                Err(kube::Error::Api(answer)) if answer.code == 404 => return Ok(()),
                Err(kube::Error::Api(answer)) if answer.code == 409 => match api.get_opt(&pod.name_any()).await {
                    Ok(Some(fresh)) if fresh.uid().as_ref() == Some(&self.uid) => current = Arc::new(fresh),
                    Ok(_) => return Ok(()),
                    Err(error) => return Err(PassError::Status(Box::new(error))),
                },
                Err(error) => return Err(PassError::Status(Box::new(error))),
            }
        }
        Ok(())
    }

    /// Begins logs anew that grew over their bound; the process appends, so it goes on at the new end.
    fn bound_logs(&self) {
        for container in self.sidecars.iter().chain(&self.containers) {
            let path = self.paths.log(&container.name);
            let large = std::fs::metadata(&path).is_ok_and(|m| m.len() > LOG_BYTES);
            if large && let Err(error) = std::fs::OpenOptions::new().write(true).truncate(true).open(&path) {
                tracing::warn!(path = %path.display(), %error, "a container log could not be cut");
            }
        }
    }
}

/// Names become names of files, so whatever the API let through, here they are DNS labels, each once.
fn odd_name(spec: &PodSpec) -> Option<String> {
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers).map(|c| &c.name).collect();
    let volumes = spec.volumes.iter().flatten().map(|v| &v.name).collect();
    let groups: [(&str, Vec<&String>); 2] = [("container", containers), ("volume", volumes)];
    groups.into_iter().find_map(|(what, names)| {
        let mut seen = HashSet::new();
        names.into_iter().find_map(|name| {
            if !is_label(name) {
                let rule =
                    "lower-case letters, digits and '-', at most 63, beginning and ending with a letter or digit";
                return Some(format!("{what} name {name:?} must consist of {rule}"));
            }
            (!seen.insert(name)).then(|| format!("{what} name {name:?} is used twice: give each its own"))
        })
    })
}

fn is_label(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    !name.is_empty() && name.len() <= 63 && name.bytes().all(inner) && !name.starts_with('-') && !name.ends_with('-')
}

/// How long a volume that failed so often in a row waits: half a second, doubling up to half a minute.
fn volume_delay(failures: u32) -> Duration {
    Duration::from_millis(500 << failures.saturating_sub(1).min(6)).min(Duration::from_secs(30))
}

fn soon(now: Timestamp) -> Timestamp {
    now.saturating_add(jiff::SignedDuration::from_millis(500)).unwrap_or(now)
}

/// When a container that does not run may be started (again).
fn due(container: &Container) -> Timestamp {
    let Some(ended) = container.latest_end() else { return Timestamp::MIN };
    let delay = jiff::SignedDuration::try_from(restart_delay(container.short_runs() - 1)).unwrap_or_default();
    ended.finished_at.saturating_add(delay).unwrap_or(Timestamp::MIN)
}

/// An error with its causes, for the user.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
