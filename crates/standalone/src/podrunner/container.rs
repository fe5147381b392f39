//! One container: a process, its record on disk, and how it is started and found again.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fv_host::container::{ContainerMount, ContainerSpec};
use fv_host::process::{Exit, Process, ProcessId, Signal, spawn_detached};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container as ApiContainer, Pod};
use kube::ResourceExt;
use serde::{Deserialize, Serialize};

use super::programs::Program;
use super::sandbox::Paths;
use super::status::{Activity, ContainerView, Ended};
use super::volumes;

/// User of containers that name none: nobody.
const NOBODY: i64 = 65534;
/// A container that ran this long starts its back-off anew.
const STEADY: i64 = 600;
/// What opens the gate of a process that waits to become a container, on its standard input.
pub const GO: u8 = b'g';

/// What stands on disk of a container.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    process: Option<ProcessId>,
    since: Option<Timestamp>,
    /// Starts so far, less one.
    restarts: i32,
    /// Runs that ended soon, one after the other: what the back-off counts.
    #[serde(default)]
    short_runs: i32,
    /// How the current (if it ended) and the run before it ended.
    ended: Option<Ended>,
    last: Option<Ended>,
}

/// A container of a pod on this node.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) name: String,
    path: PathBuf,
    record: Record,
    process: Option<Process>,
    /// Why it does not run, while it waits.
    waiting: (String, Option<String>),
}

impl Container {
    /// Finds the container again, running or ended, or begins a new one.
    pub(super) fn load(paths: &Paths, name: &str) -> io::Result<Self> {
        let path = paths.dir.join(format!("{name}.json"));
        let record: Record = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!(
                        "{} is damaged ({error}); see which of the pod's processes runs, end \
                    it, and remove the file",
                        path.display()
                    ),
                )
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Record::default(),
            Err(error) => return Err(error),
        };
        let waiting = ("ContainerCreating".to_string(), None);
        let mut container = Self { name: name.to_string(), path, record, process: None, waiting };
        if let Some(id) = container.record.process {
            container.process = Process::open(id)?;
            if container.process.is_none() && container.record.ended.is_none() {
                container.note_end(None, Timestamp::now())?;
            }
        }
        Ok(container)
    }

    fn save(&self) -> io::Result<()> {
        let temporary = self.path.with_extension("tmp");
        let mut file = fs::File::create(&temporary)?;
        file.write_all(&serde_json::to_vec(&self.record)?)?;
        // A record that a power failure empties would leave nobody to know whether its process runs.
        file.sync_all()?;
        fs::rename(&temporary, &self.path)
    }

    pub(super) fn view(&self) -> ContainerView {
        let activity = match (&self.process, &self.record.ended, self.record.since) {
            (Some(_), _, Some(since)) => Activity::Running { since },
            (None, Some(ended), _) => Activity::Ended(ended.clone()),
            _ => Activity::Waiting { reason: self.waiting.0.clone(), message: self.waiting.1.clone() },
        };
        let restarts = self.record.restarts;
        let ready = matches!(activity, Activity::Running { .. });
        ContainerView { name: self.name.clone(), activity, ready, restarts, last: self.record.last.clone() }
    }

    pub(super) fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// How often in a row it ended soon after its start.
    pub(super) fn short_runs(&self) -> i32 {
        self.record.short_runs
    }

    /// How its latest run that is over ended.
    pub(super) fn latest_end(&self) -> Option<&Ended> {
        self.ended().or(self.record.last.as_ref())
    }

    /// How the container's latest run ended, while it does not run.
    pub(super) fn ended(&self) -> Option<&Ended> {
        self.record.ended.as_ref().filter(|_| self.process.is_none())
    }

    /// Between two runs: shows the back-off instead of the end.
    pub(super) fn begin_back_off(&mut self, message: String) -> io::Result<()> {
        self.waiting = ("CrashLoopBackOff".to_string(), Some(message));
        if let Some(ended) = self.record.ended.take() {
            self.record.last = Some(ended);
            self.save()?;
        }
        Ok(())
    }

    /// Starts the process. It waits at a gate until its record is on disk: if we die before, so does it, and no run is ever
    /// forgotten.
    pub(super) fn start(&mut self, init: &Path, spec: &ContainerSpec) -> io::Result<()> {
        let spec_path = self.path.with_extension("spec");
        fs::write(&spec_path, serde_json::to_vec(spec)?)?;
        fs::create_dir_all(&spec.root_dir)?;
        // From the moment the pod is shown as running there is a log to ask for.
        fs::OpenOptions::new().create(true).append(true).mode(0o640).open(&spec.log)?;
        let mut command = Command::new(init);
        command.arg("internal-container").arg(&spec_path);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let (mut child, id) = spawn_detached(&mut command)?;
        let process = Process::open(id)?;
        let before = self.record.clone();
        if let Some(ended) = self.record.ended.take() {
            self.record.last = Some(ended);
        }
        if before.since.is_some() {
            self.record.restarts = self.record.restarts.saturating_add(1);
        }
        self.record.process = Some(id);
        self.record.since = Some(Timestamp::now());
        let opened = self.save().and_then(|()| match child.stdin.take() {
            Some(mut gate) => gate.write_all(&[GO]),
            None => Ok(()),
        });
        if let Err(error) = opened {
            self.record = before;
            drop(child.stdin.take());
            // Nobody else will collect it.
            let _ = child.wait();
            return Err(error);
        }
        self.process = process;
        match self.process {
            Some(_) => Ok(()),
            None => self.note_end(None, Timestamp::now()),
        }
    }

    /// Resolves when the running process has ended; never, when none runs.
    pub(super) async fn exited(&self) {
        match &self.process {
            Some(process) if process.wait().await.is_ok() => {}
            _ => std::future::pending().await,
        }
    }

    /// Takes note of an end, if there was one.
    pub(super) fn collect(&mut self, now: Timestamp) -> io::Result<()> {
        let Some(process) = &self.process else { return Ok(()) };
        if process.is_alive()? {
            return Ok(());
        }
        // Not our child when an earlier run of ours started it: then nobody knows how it ended.
        let exit = process.reap().ok().flatten();
        self.process = None;
        self.note_end(exit, now)
    }

    fn note_end(&mut self, exit: Option<Exit>, now: Timestamp) -> io::Result<()> {
        let (exit_code, reason, message) = match exit {
            Some(Exit::Code(0)) => (0, "Completed", None),
            Some(Exit::Code(code)) => (code, "Error", None),
            Some(Exit::Signal(signal)) => (128 + signal, "Error", None),
            None => {
                (137, "ContainerStatusUnknown", Some("The container could not be located when the pod was terminated"))
            }
        };
        let steady = self.record.since.is_some_and(|since| now.duration_since(since).as_secs() >= STEADY);
        self.record.short_runs = if steady { 0 } else { self.record.short_runs.saturating_add(1) };
        self.record.ended = Some(Ended {
            exit_code,
            reason: reason.into(),
            message: message.map(Into::into),
            started_at: self.record.since,
            finished_at: now,
        });
        self.record.process = None;
        self.save()
    }

    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        match &self.process {
            Some(process) => process.signal(signal).map(drop),
            None => Ok(()),
        }
    }
}

/// Kills every container a pod's directory records, and waits for their end.
pub(super) async fn kill_all(paths: &Paths) -> io::Result<()> {
    for name in recorded_names(paths) {
        let container = Container::load(paths, &name)?;
        if container.is_running() {
            container.signal(Signal::KILL)?;
            container.exited().await;
        }
    }
    Ok(())
}

/// Names of the containers that have a record.
pub(super) fn recorded_names(paths: &Paths) -> Vec<String> {
    let entries = fs::read_dir(&paths.dir).into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().to_str()?.strip_suffix(".json").map(str::to_string)).collect()
}

/// What the container's process is to be.
pub(super) fn spec(pod: &Pod, container: &ApiContainer, program: Program, paths: &Paths) -> ContainerSpec {
    let pod_spec = pod.spec.clone().unwrap_or_default();
    let pod_context = pod_spec.security_context.unwrap_or_default();
    let context = container.security_context.clone().unwrap_or_default();
    let id = |own: Option<i64>, of_pod: Option<i64>| u32::try_from(own.or(of_pod).unwrap_or(NOBODY)).unwrap_or(65534);
    let fixed = |name: &str| pod_spec.volumes.iter().flatten().any(|v| v.name == name && volumes::is_read_only(v));
    let mounts = container
        .volume_mounts
        .iter()
        .flatten()
        .map(|mount| ContainerMount {
            source: paths.volume(&mount.name),
            target: PathBuf::from(&mount.mount_path),
            read_only: mount.read_only == Some(true) || fixed(&mount.name),
        })
        .collect();
    let env = container
        .env
        .iter()
        .flatten()
        .map(|variable| (variable.name.clone(), variable.value.clone().unwrap_or_default()))
        .collect();
    ContainerSpec {
        executable: program.path,
        args: program.args,
        env,
        cwd: "/".into(),
        netns: Some(paths.netns.clone()),
        hostname: Some(pod_spec.hostname.unwrap_or_else(|| pod.name_any())),
        mounts,
        root_dir: paths.roots.join(&container.name),
        read_only_root: context.read_only_root_filesystem == Some(true),
        proc: false,
        uid: id(context.run_as_user, pod_context.run_as_user),
        gid: id(context.run_as_group, pod_context.run_as_group),
        groups: pod_context.fs_group.and_then(|g| u32::try_from(g).ok()).into_iter().collect(),
        open_files: Some(1024),
        cgroups: Vec::new(),
        log: paths.log(&container.name),
    }
}
