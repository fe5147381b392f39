//! Sessions of a command line client, read from `sessions/*.yaml`, and how one goes against one server.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};

use crate::text::Text;
use fv_conformance::servers::Processes;

/// No command may take longer.
const DEADLINE: Duration = Duration::from_secs(90);
/// How long a command that runs beside goes on after its last expected line, in case there are more.
const LINGER: Duration = Duration::from_millis(300);

/// Commands, one after another, in a namespace and a directory of their own.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Session {
    /// `<file>/<name>`.
    pub(crate) name: String,
    /// Files in the directory.
    #[serde(default)]
    files: BTreeMap<String, String>,
    /// What is done.
    pub(crate) steps: Vec<Step>,
}

/// One step of a session.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum Step {
    /// A command of the shell.
    Run(String),
    /// A command that runs beside the steps that follow, one at a time.
    Beside {
        /// The command.
        beside: String,
    },
    /// Waits until the command beside has printed so many lines.
    Said {
        /// How many.
        said: usize,
    },
    /// Waits likewise, and for a little more; then the command beside is ended and its lines are compared.
    End {
        /// How many lines.
        end: usize,
    },
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Step::Run(command) => f.write_str(command),
            Step::Beside { beside } => write!(f, "{beside} &"),
            Step::Said { said } => write!(f, "(wait for {said} lines)"),
            Step::End { end } => write!(f, "(wait for {end} lines and end it)"),
        }
    }
}

/// Reads every session of a directory, in order.
pub(crate) fn read(dir: &Path) -> Result<Vec<Session>> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir)
        .with_context(|| format!("read {}", dir.display()))?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<_, _>>()?;
    files.retain(|path| path.extension().is_some_and(|e| e == "yaml"));
    files.sort();
    let mut all = Vec::new();
    for path in files {
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let sessions: Vec<Session> =
            serde_saphyr::from_str(&text).with_context(|| format!("parse {}", path.display()))?;
        let theme = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        all.extend(sessions.into_iter().map(|s| Session { name: format!("{theme}/{}", s.name), ..s }));
    }
    Ok(all)
}

/// Plays a session with the programs in `tools` before all others; one observation per step.
pub(crate) async fn play(server: &Processes, tools: &Path, number: usize, session: &Session) -> Result<Vec<Value>> {
    let namespace = format!("session-{number}");
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    let headers = [("content-type".to_owned(), "application/json".to_owned())];
    let body = Bytes::from(object.to_string());
    let made = server.client().send("POST", "/api/v1/namespaces", &headers, body).await?;
    ensure!(made.code == 201, "create namespace {namespace}: {}", made.body);

    let dir = tempfile::tempdir().context("make a directory for a session")?;
    for (name, content) in &session.files {
        std::fs::write(dir.path().join(name), content).with_context(|| format!("write {name}"))?;
    }
    let kubeconfig = std::fs::read_to_string(server.kubeconfig()).context("read the kubeconfig")?;
    let kubeconfig = kubeconfig.replace("namespace: default", &format!("namespace: {namespace}"));
    std::fs::write(dir.path().join(".kubeconfig"), kubeconfig).context("write the kubeconfig")?;
    let text = Text::new(dir.path(), server.address());
    let mut player = Player { dir, tools, text, beside: None };
    let mut observed = Vec::with_capacity(session.steps.len());
    for step in &session.steps {
        observed.push(player.step(step).await.with_context(|| format!("{}: {step}", session.name))?);
    }
    Ok(observed)
}

struct Player<'a> {
    dir: TempDir,
    tools: &'a Path,
    text: Text,
    beside: Option<Beside>,
}

impl Player<'_> {
    async fn step(&mut self, step: &Step) -> Result<Value> {
        match step {
            Step::Run(command) => {
                let child = self.shell(command).stderr(Stdio::piped()).spawn().context("start a shell")?;
                let output = tokio::time::timeout(DEADLINE, child.wait_with_output()).await;
                let output = output.with_context(|| format!("not done after {} s", DEADLINE.as_secs()))??;
                Ok(self.observed(&output))
            }
            Step::Beside { beside } => {
                self.beside = Some(Beside::new(self.shell(beside).stderr(Stdio::null()).spawn()?)?);
                Ok(Value::Null)
            }
            Step::Said { said } => {
                let beside = self.beside.as_mut().context("no command runs beside")?;
                beside.wait(*said).await?;
                Ok(Value::Null)
            }
            Step::End { end } => {
                let mut beside = self.beside.take().context("no command runs beside")?;
                beside.wait(*end).await?;
                let _ = tokio::time::timeout(LINGER, beside.wait(usize::MAX)).await;
                Ok(json!({"stdout": self.text.lines(&beside.lines.join("\n"))}))
            }
        }
    }

    fn observed(&mut self, output: &Output) -> Value {
        let mut lines = |bytes: &[u8]| self.text.lines(&String::from_utf8_lossy(bytes));
        json!({"exit": output.status.code(), "stdout": lines(&output.stdout), "stderr": lines(&output.stderr)})
    }

    /// A shell in which nothing of ours, or of the user's, shows.
    fn shell(&self, command: &str) -> Command {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::iter::once(self.tools.to_path_buf()).chain(std::env::split_paths(&path));
        let mut shell = Command::new("bash");
        shell
            .args(["-o", "pipefail", "-c", command])
            .current_dir(self.dir.path())
            .env_clear()
            .env("PATH", std::env::join_paths(path).unwrap_or_default())
            .env("HOME", self.dir.path())
            .env("TMPDIR", self.dir.path())
            .env("KUBECONFIG", self.dir.path().join(".kubeconfig"))
            .env("LC_ALL", "C.UTF-8")
            .env("TZ", "UTC")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        shell
    }
}

/// A running command and the lines it has printed; it is killed when this is dropped.
struct Beside {
    _child: Child,
    output: tokio::io::Lines<BufReader<ChildStdout>>,
    lines: Vec<String>,
}

impl Beside {
    fn new(mut child: Child) -> Result<Self> {
        let output = child.stdout.take().context("a command without output")?;
        Ok(Beside { _child: child, output: BufReader::new(output).lines(), lines: Vec::new() })
    }

    /// Until there are so many lines, or the output ends, or nothing more comes.
    async fn wait(&mut self, count: usize) -> Result<()> {
        while self.lines.len() < count {
            let Ok(line) = tokio::time::timeout(DEADLINE / 3, self.output.next_line()).await else { break };
            let Some(line) = line.context("read what a command prints")? else { break };
            self.lines.push(line);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_session_can_be_read() {
        let sessions = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("sessions")).unwrap();
        let mut names: Vec<&str> = sessions.iter().map(|s| s.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert!(!names.is_empty() && names.len() == sessions.len());
    }
}
