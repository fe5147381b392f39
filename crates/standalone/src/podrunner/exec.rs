//! A command in a container, for its probes: a process of its own that sees of the machine what the container sees.

use std::fs;
use std::io::{self, Read};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use fv_host::container::ContainerSpec;
use k8s_openapi::api::core::v1::{Container as ApiContainer, ExecAction, Pod};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::PodRunnerConfig;
use super::container::{GO, spec};
use super::sandbox::Paths;

/// What is read of a command's output, as by kubelet.
const MAX_OUTPUT: u64 = 10 * 1024;

/// The command, ready to be run again and again.
pub(super) struct Exec {
    init: PathBuf,
    spec_path: PathBuf,
    spec: ContainerSpec,
}

impl Exec {
    /// # Errors
    /// The container's image has no such program; in words for an event.
    pub(super) fn of(
        config: &PodRunnerConfig,
        pod: &Pod,
        container: &ApiContainer,
        action: &ExecAction,
        paths: &Paths,
    ) -> Result<Self, String> {
        let image = container.image.as_deref().unwrap_or_default();
        let program = config.programs.resolve(image, action.command.as_deref().unwrap_or_default(), &[])?;
        // No container has this name: a dot is not in any.
        let name = format!("{}.probe", container.name);
        let spec = ContainerSpec {
            root_dir: paths.roots.join(&name),
            log: paths.dir.join(format!("{name}.log")),
            ..spec(pod, container, program, paths)
        };
        Ok(Self { init: config.init.clone(), spec_path: paths.dir.join(format!("{name}.spec")), spec })
    }

    /// Runs it to its end, or kills it.
    ///
    /// # Errors
    /// What it printed, or why it did not get that far.
    pub(super) async fn run(&self, timeout: Duration) -> Result<(), String> {
        let work = async {
            let mut child = self.begin().await?;
            let status = child.wait().await?;
            if status.success() {
                return Ok(Ok(()));
            }
            let output = self.output()?;
            Ok::<_, io::Error>(Err(if output.is_empty() { format!("command ended with {status}") } else { output }))
        };
        match tokio::time::timeout(timeout, work).await {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(error)) => Err(self.failed(&error)),
            Err(_) => Err(format!("command did not end within {} s", timeout.as_secs())),
        }
    }

    async fn begin(&self) -> io::Result<tokio::process::Child> {
        fs::write(&self.spec_path, serde_json::to_vec(&self.spec)?)?;
        fs::write(&self.spec.log, "")?;
        let mut command = Command::new(&self.init);
        command.arg("internal-container").arg(&self.spec_path).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        if let Some(mut gate) = child.stdin.take() {
            gate.write_all(&[GO]).await?;
        }
        Ok(child)
    }

    fn output(&self) -> io::Result<String> {
        let mut output = Vec::new();
        fs::File::open(&self.spec.log)?.take(MAX_OUTPUT).read_to_end(&mut output)?;
        Ok(String::from_utf8_lossy(&output).trim().to_owned())
    }

    fn failed(&self, error: &io::Error) -> String {
        format!("command {} cannot be run: {error}", self.spec.executable.display())
    }
}
