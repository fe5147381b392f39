//! ssh and scp: the local programs, with port-forward as their way in.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use tokio::process::Command;

use super::target::Target;
use crate::cli::{Global, Scp, Ssh, SshOptions, TOKEN_VARIABLE};
use crate::connect::Session;

/// `[user@]vmi/name[/namespace]`.
struct Remote {
    user: Option<String>,
    target: Target,
}

impl Remote {
    fn parse(text: &str, options: &SshOptions) -> anyhow::Result<Self> {
        let (user, target) = match text.split_once('@') {
            Some((user, target)) => (Some(user.to_string()), target),
            None => (None, text),
        };
        if user.as_deref() == Some("") {
            bail!("'{text}' has an empty user name before the @");
        }
        Ok(Self { user: options.username.clone().or(user), target: Target::parse(target)? })
    }

    /// The host as ssh names it in known_hosts, with the user.
    fn host(&self, namespace: &str) -> String {
        let host = format!("{}.{}.{namespace}", self.target.kind.short(), self.target.name);
        match &self.user {
            Some(user) => format!("{user}@{host}"),
            None => host,
        }
    }
}

fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// The command line ssh runs to reach the guest: this program, same cluster.
fn proxy_command(remote: &Remote, namespace: &str, options: &SshOptions, global: &Global) -> anyhow::Result<String> {
    let program = std::env::current_exe().context("find this program")?;
    let mut words = vec![quote(&program.to_string_lossy()), "port-forward".into(), "--stdio=true".into()];
    words.extend(global.words().iter().map(|word| quote(word)));
    words.push(quote(&format!("{}/{}/{namespace}", remote.target.kind.short(), remote.target.name)));
    words.push(options.port.to_string());
    // To ssh a percent sign begins a word of its own.
    Ok(words.join(" ").replace('%', "%%"))
}

fn common(
    command: &mut Command,
    remote: &Remote,
    namespace: &str,
    options: &SshOptions,
    global: &Global,
) -> anyhow::Result<()> {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let known_hosts = options.known_hosts.clone().unwrap_or_else(|| home.join(".ssh/kubevirt_known_hosts"));
    // A command line can be read by everybody on the machine, an environment cannot.
    command.envs(global.token.iter().map(|token| (TOKEN_VARIABLE, token)));
    command.arg("-o").arg(format!("ProxyCommand={}", proxy_command(remote, namespace, options, global)?));
    command.arg("-o").arg(format!("UserKnownHostsFile={}", known_hosts.display()));
    if let Some(identity) = &options.identity_file {
        command.arg("-i").arg(identity);
    }
    // Each option may hold several words, as upstream splits them.
    command.args(options.local_ssh_opts.iter().flat_map(|o| o.split_ascii_whitespace()));
    Ok(())
}

async fn finish(mut command: Command, program: &str) -> anyhow::Result<ExitCode> {
    let status = command.status().await.with_context(|| format!("start {program}: is openssh-client installed?"))?;
    Ok(status.code().and_then(|c| u8::try_from(c).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

async fn namespace_of(remote: &Remote, global: &Global) -> anyhow::Result<String> {
    match &remote.target.namespace {
        Some(namespace) => Ok(namespace.clone()),
        None => Ok(Session::open(global).await?.namespace),
    }
}

pub(super) async fn ssh(options: &Ssh, global: &Global) -> anyhow::Result<ExitCode> {
    let remote = Remote::parse(&options.target, &options.options)?;
    let namespace = namespace_of(&remote, global).await?;
    let mut command = Command::new("ssh");
    common(&mut command, &remote, &namespace, &options.options, global)?;
    command.arg(remote.host(&namespace));
    command.args(&options.command);
    finish(command, "ssh").await
}

pub(super) async fn scp(options: &Scp, global: &Global) -> anyhow::Result<ExitCode> {
    // A colon after a target makes a side remote; local paths with a colon need ./ before them, as for scp itself.
    let split = |side: &str| side.split_once(':').map(|(target, path)| (target.to_string(), path.to_string()));
    let (remote_text, from_guest) = match (split(&options.source), split(&options.destination)) {
        (Some(remote), None) => (remote, true),
        (None, Some(remote)) => (remote, false),
        (Some(_), Some(_)) => bail!("copying from a remote location to another remote location is not supported"),
        (None, None) => bail!("none of the two sides is a virtual machine: write vmi/NAME:PATH"),
    };
    let remote = Remote::parse(&remote_text.0, &options.options)?;
    let namespace = namespace_of(&remote, global).await?;
    let mut command = Command::new("scp");
    common(&mut command, &remote, &namespace, &options.options, global)?;
    if options.recursive {
        command.arg("-r");
    }
    if options.preserve {
        command.arg("-p");
    }
    let guest_side = format!("{}:{}", remote.host(&namespace), remote_text.1);
    if from_guest {
        command.arg(guest_side).arg(&options.destination);
    } else {
        command.arg(&options.source).arg(guest_side);
    }
    finish(command, "scp").await
}
