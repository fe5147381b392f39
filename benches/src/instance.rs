//! An instance of Ferrovirt of our own, and everything it needs gone afterwards.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value;

/// What `fv-bench run` is told.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Directory of ferrovirt, virtctl and virt-launcher.
    #[arg(long, value_name = "DIR")]
    pub(crate) programs: PathBuf,
    /// The demo guest.
    #[arg(long, value_name = "FILE")]
    pub(crate) image: PathBuf,
    /// Where to work; must be on the disk that is to be measured, and its parents passable for everyone.
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    pub(crate) under: PathBuf,
    /// Repetitions of what is timed one by one.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) rounds: usize,
    /// Objects in the API server.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(crate) objects: usize,
    /// Virtual machines at once.
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) vms: usize,
    /// Seconds over which idle processor time is taken.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) idle: u64,
}

/// A running instance; it and all its traces go when this is dropped.
pub(crate) struct Instance {
    program: PathBuf,
    pub(crate) work: PathBuf,
    pub(crate) data: PathBuf,
    pub(crate) run_dir: PathBuf,
    pub(crate) pid: u32,
    pub(crate) config: kube::Config,
    pub(crate) client: kube::Client,
}

/// Removes the work directory, after the instance in it.
#[derive(Debug)]
struct Cleaner {
    program: PathBuf,
    work: PathBuf,
    armed: bool,
}

impl Drop for Cleaner {
    fn drop(&mut self) {
        if self.armed {
            let _ = clean(&self.program, &self.work);
        }
    }
}

fn clean(program: &Path, work: &Path) -> Result<()> {
    let data = work.join("d");
    if data.exists() {
        run(Command::new(program).args(["down", "--purge", "--data-dir"]).arg(&data))?;
    }
    std::fs::remove_dir_all(work).with_context(|| format!("remove {}", work.display()))
}

/// Runs a program to its end and returns what it printed.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("run {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?} failed ({}): {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

impl Instance {
    /// Starts it with an empty data directory, a private libvirtd and a port of the kernel's choice.
    pub(crate) async fn start(options: &Options) -> Result<Self> {
        let program = options.programs.join("ferrovirt");
        let work = options.under.join(format!("fv-bench.{}", std::process::id()));
        std::fs::create_dir(&work).with_context(|| format!("make {}", work.display()))?;
        let mut cleaner = Cleaner { program: program.clone(), work: work.clone(), armed: true };
        // Users of QEMU pass through it.
        std::os::unix::fs::chown(&work, Some(0), Some(0)).context("run as root")?;
        set_mode(&work, 0o755)?;
        let data = work.join("d");
        let kubeconfig = work.join("kubeconfig");
        run(Command::new(&program)
            .args(["up", "--private-libvirt", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(&data)
            .arg("--write-kubeconfig")
            .arg(&kubeconfig))
        .with_context(|| {
            let log = std::fs::read_to_string(data.join("ferrovirt.log")).unwrap_or_default();
            format!("start ferrovirt; its log ends with\n{}", log.lines().rev().take(5).collect::<Vec<_>>().join("\n"))
        })?;
        let run_dir = run_dir_of(&data)?;
        let state: Value = serde_json::from_slice(&std::fs::read(run_dir.join("running.json"))?)?;
        let Some(pid) = state["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()) else {
            bail!("running.json names no process: {state}");
        };
        let file = Kubeconfig::read_from(&kubeconfig)?;
        let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
        let client = kube::Client::try_from(config.clone())?;
        cleaner.armed = false;
        Ok(Self { program, work, data, run_dir, pid, config, client })
    }

    /// Ends it and removes every trace.
    pub(crate) fn purge(self) -> Result<()> {
        // `drop` would do the same, but could not say that it failed.
        clean(&self.program, &self.work)
    }

    /// Brings a disk image into the image store.
    pub(crate) fn import(&self, name: &str, file: &Path) -> Result<()> {
        run(Command::new(&self.program)
            .args(["image", "--data-dir"])
            .arg(&self.data)
            .args(["import", name])
            .arg(file))?;
        Ok(())
    }

    /// The end of its log, for the error that ends a run.
    pub(crate) fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.data.join("ferrovirt.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        format!("its log ends with\n{}", lines[lines.len().saturating_sub(30)..].join("\n"))
    }

    /// For `virsh -c`.
    pub(crate) fn libvirt_uri(&self) -> String {
        format!("qemu+unix:///system?socket={}", self.run_dir.join("libvirt/libvirt-sock").display())
    }

    /// The processes of the private libvirt daemon: its supervisor (our program) and libvirtd.
    pub(crate) fn libvirt_pids(&self) -> Result<(u32, u32)> {
        let path = self.run_dir.join("libvirt/daemon.json");
        let record: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
        let pid = |name: &str| record[name]["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
        match (pid("supervisor"), pid("libvirtd")) {
            (Some(supervisor), Some(libvirtd)) => Ok((supervisor, libvirtd)),
            _ => bail!("{} does not name both processes: {record}", path.display()),
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if self.work.exists() {
            let _ = clean(&self.program, &self.work);
        }
    }
}

pub(crate) fn set_mode(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .with_context(|| format!("set the mode of {}", path.display()))
}

/// The run directory that names this data directory.
fn run_dir_of(data: &Path) -> Result<PathBuf> {
    let data = data.canonicalize()?;
    for entry in std::fs::read_dir("/run/ferrovirt").context("read /run/ferrovirt")?.flatten() {
        let named = std::fs::read_to_string(entry.path().join("data-dir")).unwrap_or_default();
        if Path::new(&named) == data {
            return Ok(entry.path());
        }
    }
    bail!("no run directory names {}", data.display())
}
