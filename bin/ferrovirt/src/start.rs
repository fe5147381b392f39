//! `ferrovirt up`, in the foreground and in the background.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, bail};
use fv_standalone::instance::Instance;
use fv_standalone::up::{HOST_DISK, Ready, UpOptions, up};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::cli::Up;
use crate::log;
use crate::output::{complain, say};

/// What the background process tells the one that started it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Notice {
    Ready { server: String, kubeconfig: PathBuf, libvirt: String, emulation: bool, node: String },
    Failed { error: String },
}

fn options(cli: &Up) -> anyhow::Result<UpOptions> {
    let program = std::env::current_exe().context("find this program")?;
    let launcher = match &cli.launcher {
        Some(path) => path.clone(),
        None => program.parent().unwrap_or(Path::new("/")).join("virt-launcher"),
    };
    Ok(UpOptions {
        data_dir: cli.at.data_dir.clone(),
        listen: cli.listen,
        kubeconfig: cli.write_kubeconfig.clone().map(|p| std::path::absolute(&p).unwrap_or(p)),
        insecure_registries: cli.insecure_registry.clone(),
        host_disk: cli.feature_gate.iter().any(|gate| gate == HOST_DISK),
        launcher,
        program,
        system_libvirt: !cli.private_libvirt,
    })
}

pub(crate) fn in_foreground(cli: Up) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("ferrovirt up manages the machine's network, cgroups and libvirt: run it as root or with sudo");
    }
    if cli.notify {
        let instance = Instance::open(&cli.at.data_dir)
            .with_context(|| format!("use the data directory {}", cli.at.data_dir.display()))?;
        let path = instance.log_file();
        log::to_file(&path).with_context(|| format!("open {}", path.display()))?;
    } else {
        log::to_stderr();
    }
    // Two threads serve everything; what blocks has threads of its own.
    let runtime = crate::runtime(2)?;
    // On a worker: the main thread's stack is not ours to size.
    let outcome = runtime.block_on(async {
        let words = cli.clone();
        tokio::spawn(async move { serve(&words).await }).await.unwrap_or_else(|error| Err(error.into()))
    });
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    if let (true, Err(error)) = (cli.notify, &outcome) {
        notify(&Notice::Failed { error: format!("{error:#}") });
    }
    outcome
}

async fn serve(cli: &Up) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let stop = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stop.cancel();
    });
    let tell_parent = cli.notify;
    up(options(cli)?, shutdown, |ready| {
        if tell_parent {
            notify(&Notice::of(ready));
            // The parent goes away now; nothing more is ever written there.
            if let Ok(null) = OpenOptions::new().write(true).open("/dev/null") {
                let _ = rustix::stdio::dup2_stdout(&null);
            }
        } else {
            announce(&Notice::of(ready));
        }
    })
    .await
}

impl Notice {
    fn of(ready: &Ready) -> Self {
        Self::Ready {
            server: ready.server.clone(),
            kubeconfig: ready.kubeconfig.clone(),
            libvirt: ready.libvirt.clone(),
            emulation: ready.emulation,
            node: ready.node.clone(),
        }
    }
}

fn notify(notice: &Notice) {
    if let Ok(line) = serde_json::to_string(notice) {
        say(&line);
    }
}

/// The arguments of the background process; relative paths were the caller's, so all are absolute.
fn background_args(cli: &Up, instance: &Instance) -> anyhow::Result<Vec<OsString>> {
    let mut args: Vec<OsString> = ["up", "--foreground", "--notify", "--data-dir"].map(OsString::from).into();
    args.push(instance.data_dir.clone().into());
    args.extend(["--listen".into(), cli.listen.to_string().into()]);
    if let Some(path) = &cli.write_kubeconfig {
        args.extend(["--write-kubeconfig".into(), std::path::absolute(path)?.into()]);
    }
    if let Some(path) = &cli.launcher {
        args.extend(["--launcher".into(), std::path::absolute(path)?.into()]);
    }
    for registry in &cli.insecure_registry {
        args.extend(["--insecure-registry".into(), registry.into()]);
    }
    for gate in &cli.feature_gate {
        args.extend(["--feature-gate".into(), gate.into()]);
    }
    if cli.private_libvirt {
        args.push("--private-libvirt".into());
    }
    Ok(args)
}

/// Starts the same program in the background and waits until it is ready.
pub(crate) fn in_background(cli: &Up) -> anyhow::Result<ExitCode> {
    let instance = Instance::open(&cli.at.data_dir)
        .with_context(|| format!("use the data directory {}", cli.at.data_dir.display()))?;
    let log_path = instance.log_file();
    let log = log::open(&log_path).with_context(|| format!("open {}", log_path.display()))?;
    let mut command = Command::new(std::env::current_exe().context("find this program")?);
    command.args(background_args(cli, &instance)?);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).current_dir("/");
    let (mut child, _) = fv_host::process::spawn_detached(&mut command).context("start in the background")?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut line).context("wait for the background process")?;
    }
    match serde_json::from_str(&line) {
        Ok(notice @ Notice::Ready { .. }) => {
            announce(&notice);
            Ok(ExitCode::SUCCESS)
        }
        Ok(Notice::Failed { error }) => {
            let _ = child.wait();
            complain(&format!("error: {error}"));
            Ok(ExitCode::FAILURE)
        }
        Err(_) => {
            let status = child.wait().context("wait for the background process")?;
            bail!("the background process ended ({status}) before it was ready; see {}", log_path.display())
        }
    }
}

fn announce(notice: &Notice) {
    let Notice::Ready { server, kubeconfig, libvirt, emulation, node } = notice else { return };
    say(&format!("Ferrovirt is up: API server {server}, node {node}, libvirt {libvirt}"));
    if *emulation {
        say("No usable KVM here: guests run in software emulation (`ferrovirt doctor` says why).");
    }
    say(&format!("export KUBECONFIG={}", kubeconfig.display()));
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn parse(words: impl IntoIterator<Item = OsString>) -> Up {
        let all = std::iter::once(OsString::from("ferrovirt")).chain(words);
        let Command::Up(up) = Cli::try_parse_from(all).unwrap().command else { panic!("not `up`") };
        up
    }

    #[test]
    fn the_background_process_is_told_every_option() {
        let dir = tempfile::tempdir_in("/var/tmp").unwrap();
        let data = dir.path().to_str().unwrap();
        let words = [
            ["up", "--private-libvirt"],
            ["--data-dir", data],
            ["--listen", "127.0.0.1:1234"],
            ["--write-kubeconfig", "/k"],
            ["--insecure-registry", "localhost:5000"],
            ["--insecure-registry", "localhost:5001"],
            ["--feature-gate", HOST_DISK],
            ["--launcher", "/launcher"],
        ];
        let asked = parse(words.concat().into_iter().map(OsString::from));
        let instance = Instance::find(dir.path()).unwrap();
        let told = parse(background_args(&asked, &instance).unwrap());
        let expected = Up { foreground: true, notify: true, ..asked };
        assert_eq!(format!("{told:?}"), format!("{expected:?}"));
    }

    #[test]
    fn every_option_of_up_is_in_the_test_above() {
        use clap::CommandFactory;
        let program = Cli::command();
        let up = program.find_subcommand("up").unwrap();
        let known = up.get_arguments().filter_map(|arg| arg.get_long()).filter(|long| *long != "help").count();
        // Those of the test, and --foreground and --notify, which the background process has anyway.
        assert_eq!(known, 9);
    }
}
