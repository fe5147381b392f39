//! console: the serial console in this terminal.

use std::io::IsTerminal;
use std::time::Duration;

use anyhow::anyhow;
use fv_api::VirtualMachine;
use kube::Api;
use rustix::termios::{self, OptionalActions, Termios};
use tokio::time::Instant;

use crate::cli::Console;
use crate::connect::Session;
use crate::output::complain;
use crate::socket::{self, AtEnd, Ended};
use crate::subresource::path;

/// Ctrl+] (and Ctrl+5).
const ESCAPE: u8 = 29;
/// Pause between two tries while the VMI is not ready.
const RETRY: Duration = Duration::from_millis(500);

/// Puts the terminal into raw mode until dropped.
struct RawTerminal(Option<Termios>);

impl RawTerminal {
    fn enter() -> anyhow::Result<Self> {
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            return Ok(Self(None));
        }
        let before = termios::tcgetattr(&stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(&stdin, OptionalActions::Now, &raw)?;
        Ok(Self(Some(before)))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = termios::tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}

/// Whether the VMI may run soon: it does not run yet, or there is none yet but a VM of its name.
async fn may_come(session: &Session, name: &str, error: &anyhow::Error) -> bool {
    let vms = || Api::<VirtualMachine>::namespaced(session.client.clone(), &session.namespace);
    socket::is_not_ready(error) || (socket::is_missing(error) && matches!(vms().get_opt(name).await, Ok(Some(_))))
}

pub(super) async fn run(session: &Session, options: &Console) -> anyhow::Result<()> {
    let path = path(&session.namespace, "virtualmachineinstances", &options.name, "console");
    let deadline = Instant::now() + Duration::from_secs(options.timeout.saturating_mul(60));
    let socket = loop {
        match socket::open(&session.client, &path).await {
            Ok(socket) => break socket,
            Err(error) if Instant::now() < deadline && may_come(session, &options.name, &error).await => {
                tokio::time::sleep(RETRY).await;
            }
            Err(error) => return Err(anyhow!("Can't access VMI {}: {error:#}", options.name)),
        }
    };
    complain(&format!("Successfully connected to {} console. Press Ctrl+] or Ctrl+5 to exit console.", options.name));
    let raw = RawTerminal::enter()?;
    let ended = socket::copy(socket, tokio::io::stdin(), tokio::io::stdout(), Some(ESCAPE), AtEnd::Close).await;
    drop(raw);
    match ended? {
        Ended::Local | Ended::Closed => Ok(()),
        Ended::Broken => {
            complain("");
            Err(anyhow!(
                "You were disconnected from the console. This has one of the following reasons:\n \
                 - another user connected to the console of the target vm\n - network issues"
            ))
        }
    }
}
