//! Starts a host program as a "container": in a pod's network namespace, with a root of its own, without privileges.
//!
//! Used by the pod runner: it starts *our own* binary again with the path of a [`ContainerSpec`] (JSON), and that child's `main`,
//! before anything else, calls [`exec_in_sandbox`]. The child must have one thread only.
//!
//! The root is a small tmpfs: the host's `/usr` (`/bin`, `/lib` …) and `/etc` read-only, a `/dev` of harmless nodes, empty `/run`, `/tmp`,
//! `/var`, the volumes, and the program itself at `/ferrovirt/<name>`. Nothing else of the host is visible, so no mount point is
//! ever made on the host. The process leads its own session and survives whoever started it.

mod root;

use std::convert::Infallible;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{Mode, OFlags};
use rustix::process::{Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets, Gid, Uid, UnshareFlags};
use serde::{Deserialize, Serialize};

use crate::netns::NetNs;

/// Exit code of a child that could not become the program; the reason is the last line of its log.
pub const START_FAILED: i32 = 127;

/// A container to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ContainerSpec {
    /// The program on the host.
    pub executable: PathBuf,
    /// Its arguments, the program's own name not among them.
    #[serde(default)]
    pub args: Vec<String>,
    /// Its whole environment.
    #[serde(default)]
    pub env: Vec<(String, String)>,
    /// Its working directory, inside.
    #[serde(default = "slash")]
    pub cwd: PathBuf,
    /// The pod's network namespace (a bind mount or `/proc/<pid>/ns/net`); none = the caller's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<PathBuf>,
    /// Host name inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The volumes.
    #[serde(default)]
    pub mounts: Vec<ContainerMount>,
    /// An empty directory on the host to build the root on; needed only until the program runs.
    pub root_dir: PathBuf,
    /// The tmpfs at the root, `/run`, `/tmp` and `/var` are read-only too; volumes keep their own setting.
    #[serde(default)]
    pub read_only_root: bool,
    /// Whether `/proc` is there. It shows the host's processes.
    #[serde(default)]
    pub proc: bool,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups.
    #[serde(default)]
    pub groups: Vec<u32>,
    /// Limit of open files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_files: Option<u64>,
    /// Cgroup directories to enter (one per hierarchy).
    #[serde(default)]
    pub cgroups: Vec<PathBuf>,
    /// Receives standard output and error, appended.
    pub log: PathBuf,
}

/// A host directory, file or socket inside a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ContainerMount {
    /// Path on the host.
    pub source: PathBuf,
    /// Absolute path inside.
    pub target: PathBuf,
    /// Whether the container may not write to it.
    #[serde(default)]
    pub read_only: bool,
}

fn slash() -> PathBuf {
    "/".into()
}

/// The step that failed.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    #[error("read the container's specification {path}: {source}")]
    ReadSpec { path: PathBuf, source: io::Error },
    #[error("container {field} {value:?}: {allowed}")]
    Invalid { field: &'static str, value: String, allowed: &'static str },
    #[error("{step} {path}: {source}")]
    Step { step: &'static str, path: PathBuf, source: io::Error },
}

pub(crate) fn step<E: Into<io::Error>>(step: &'static str, path: impl AsRef<Path>) -> impl FnOnce(E) -> ContainerError {
    let path = path.as_ref().to_owned();
    move |source| ContainerError::Step { step, path, source: source.into() }
}

impl ContainerSpec {
    /// Reads a specification written as JSON.
    pub fn read(path: &Path) -> Result<Self, ContainerError> {
        let failed = |source| ContainerError::ReadSpec { path: path.to_owned(), source };
        serde_json::from_slice(&fs::read(path).map_err(failed)?).map_err(|e| failed(e.into()))
    }

    /// The name the program is started under: `/ferrovirt/<file name>`.
    fn inner_executable(&self) -> Result<PathBuf, ContainerError> {
        let name = self.executable.file_name().ok_or_else(|| ContainerError::Invalid {
            field: "executable",
            value: self.executable.display().to_string(),
            allowed: "must be the path of a file",
        })?;
        Ok(Path::new("/ferrovirt").join(name))
    }
}

/// Becomes the container's program. On failure writes the reason to the log (else to standard error) and exits with
/// [`START_FAILED`].
pub fn exec_in_sandbox(spec: &ContainerSpec) -> ! {
    let Err(error) = become_program(spec);
    let line = format!("container start failed: {error}\n");
    let logged = fs::OpenOptions::new().append(true).open(&spec.log).and_then(|mut f| f.write_all(line.as_bytes()));
    if logged.is_err() {
        drop(io::stderr().write_all(line.as_bytes()));
    }
    std::process::exit(START_FAILED)
}

fn become_program(spec: &ContainerSpec) -> Result<Infallible, ContainerError> {
    let program = spec.inner_executable()?;
    redirect_output(&spec.log)?;
    // Already a group leader? Then the starter has done it.
    let _ = rustix::process::setsid();
    for cgroup in &spec.cgroups {
        let procs = cgroup.join("cgroup.procs");
        fs::write(&procs, "0").map_err(step("enter cgroup", &procs))?;
    }
    if let Some(path) = &spec.netns {
        let netns = NetNs::open(path).map_err(step("open network namespace", path))?;
        netns.enter().map_err(step("enter network namespace", path))?;
    }
    let mut flags = UnshareFlags::NEWNS | UnshareFlags::NEWIPC;
    if spec.hostname.is_some() {
        flags |= UnshareFlags::NEWUTS;
    }
    // SAFETY: FILES is not among the flags, and the child has one thread.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(step("unshare namespaces for", &program))?;
    if let Some(hostname) = &spec.hostname {
        rustix::system::sethostname(hostname.as_bytes()).map_err(step("set host name", hostname))?;
    }
    root::build(spec, &program)?;
    limit(spec)?;
    drop_privileges(spec)?;
    std::env::set_current_dir(&spec.cwd).map_err(step("change to directory", &spec.cwd))?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let mut arguments: Vec<OsString> = Vec::with_capacity(spec.args.len());
    arguments.extend(spec.args.iter().map(OsString::from));
    let error = Command::new(&program).args(arguments).env_clear().envs(spec.env.iter().cloned()).exec();
    Err(step("execute", &program)(error))
}

fn redirect_output(log: &Path) -> Result<(), ContainerError> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC;
    let file = rustix::fs::open(log, flags, Mode::from_raw_mode(0o640)).map_err(step("open log", log))?;
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(step("open", "/dev/null"))?;
    rustix::stdio::dup2_stdin(null).map_err(step("redirect standard input from", "/dev/null"))?;
    rustix::stdio::dup2_stdout(&file).map_err(step("redirect standard output to", log))?;
    rustix::stdio::dup2_stderr(&file).map_err(step("redirect standard error to", log))
}

fn limit(spec: &ContainerSpec) -> Result<(), ContainerError> {
    let set = |resource, value| {
        rustix::process::setrlimit(resource, Rlimit { current: Some(value), maximum: Some(value) })
            .map_err(step("limit the resources of", &spec.executable))
    };
    // A core dump would hold whatever secrets the volumes brought.
    set(Resource::Core, 0)?;
    match spec.open_files {
        Some(files) => set(Resource::Nofile, files),
        None => Ok(()),
    }
}

fn drop_privileges(spec: &ContainerSpec) -> Result<(), ContainerError> {
    let who = format!("{}:{}", spec.uid, spec.gid);
    let (uid, gid) = (Uid::from_raw(spec.uid), Gid::from_raw(spec.gid));
    let groups: Vec<Gid> = spec.groups.iter().copied().map(Gid::from_raw).collect();
    rustix::thread::set_thread_groups(&groups).map_err(step("set the groups of", &who))?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(step("become group", &who))?;
    rustix::thread::clear_ambient_capability_set().map_err(step("clear ambient capabilities of", &who))?;
    drop_bounding_set().map_err(step("drop bounding capabilities of", &who))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(step("become user", &who))?;
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, sets).map_err(step("drop the capabilities of", &who))?;
    rustix::thread::set_no_new_privs(true).map_err(step("forbid new privileges to", &who))
}

fn drop_bounding_set() -> io::Result<()> {
    // By number: the running kernel may know more capabilities than any library.
    for capability in 0..64 {
        // SAFETY: PR_CAPBSET_DROP takes one number and touches no memory.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability as libc::c_ulong, 0, 0, 0) } != 0 {
            let error = io::Error::last_os_error();
            if error.raw_os_error() == Some(libc::EINVAL) {
                return Ok(());
            }
            return Err(error);
        }
    }
    Ok(())
}
