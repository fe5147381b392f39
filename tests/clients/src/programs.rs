//! Test programs of other client libraries: they are built or set up once, and run against each server.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use fv_conformance::servers::Processes;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;

/// A whole program, with everything it waits for.
const DEADLINE: Duration = Duration::from_secs(600);
/// What a program prints when the server is to be killed and started again; it goes on when it reads a line.
const RESTART: &str = "restart";

/// A program that is ready to run; what was made for it goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Client {
    /// What it is called in the report.
    pub(crate) name: &'static str,
    command: Vec<PathBuf>,
    _made: TempDir,
}

impl Client {
    /// client-go's informers and a controller-runtime manager.
    pub(crate) async fn go(source: &Path) -> Result<Client> {
        let made = tempfile::tempdir().context("make a directory for the Go program")?;
        let program = made.path().join("clients");
        let mut build = Command::new("go");
        // As tests/cluster/build.sh does, so that what was compiled there is not compiled again.
        build.args(["build", "-trimpath", "-o"]).arg(&program).current_dir(source).env("CGO_ENABLED", "0");
        run(&mut build, "go is missing: install it (1.25 or later)").await.context("build the Go clients")?;
        Ok(Client { name: "go", command: vec![program, "--kubeconfig".into()], _made: made })
    }

    /// The Python client.
    pub(crate) async fn python(source: &Path) -> Result<Client> {
        let made = tempfile::tempdir().context("make a directory for Python packages")?;
        let mut venv = Command::new("python3");
        venv.args(["-m", "venv"]).arg(made.path());
        run(&mut venv, "python3 is missing: install it with its venv module")
            .await
            .context("make a Python environment")?;
        let mut install = Command::new(made.path().join("bin/pip"));
        install.args(["install", "--quiet", "--disable-pip-version-check", "--requirement"]);
        install.arg(source.join("requirements.txt"));
        run(&mut install, "pip is missing: install it").await.context("install the Python client")?;
        let command = vec![made.path().join("bin/python"), source.join("client.py")];
        Ok(Client { name: "python", command, _made: made })
    }

    /// Runs it against a server; `line` is told what it prints. The kubeconfig is its last argument.
    pub(crate) async fn against(&self, server: &mut Processes, line: impl Fn(&str)) -> Result<()> {
        tokio::time::timeout(DEADLINE, self.talk(server, line))
            .await
            .with_context(|| format!("{}: not done after {} s", self.name, DEADLINE.as_secs()))?
    }

    async fn talk(&self, server: &mut Processes, line: impl Fn(&str)) -> Result<()> {
        let (program, arguments) = self.command.split_first().context("no program")?;
        let mut child = Command::new(program)
            .args(arguments)
            .arg(server.kubeconfig())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("run {}", program.display()))?;
        let mut answers = child.stdin.take().context("a program without input")?;
        let mut lines = BufReader::new(child.stdout.take().context("a program without output")?).lines();
        while let Some(said) = lines.next_line().await? {
            if said != RESTART {
                line(&said);
                continue;
            }
            server.kill().await?;
            server.start()?;
            server.ready().await?;
            answers.write_all(b"\n").await.with_context(|| format!("answer {}", self.name))?;
        }
        let status = child.wait().await?;
        ensure!(status.success(), "{} ended with {status}", self.name);
        Ok(())
    }
}

/// Runs a program to its end; `missing` is what to say when it is not there.
async fn run(command: &mut Command, missing: &str) -> Result<()> {
    let output = match command.stdin(Stdio::null()).kill_on_drop(true).output().await {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => bail!("{missing}"),
        Err(error) => return Err(error).with_context(|| format!("run {command:?}")),
    };
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} ended with {}: {}", output.status, words.trim());
    Ok(())
}
