//! The launcher proper: serve DHCP, stay until released.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use fv_netplan::{DhcpConfig, dhcp::FILE_NAME};

use crate::args::RunArgs;
use crate::dhcp::Server;
use crate::log;
use crate::watch::{Also, Watch};

/// Made by the handler when the pod may go.
pub(crate) const RELEASED: &str = "released";

/// What the handler gets beyond the grace period before we go without its word.
const SLACK: Duration = Duration::from_secs(30);
/// A look around even if no event came.
const IDLE: Duration = Duration::from_secs(60);
/// The same while something that should be served is not.
const EAGER: Duration = Duration::from_secs(1);
/// A configuration is a few hundred bytes.
const MAX_CONFIG: u64 = 256 * 1024;

/// Runs until the handler releases the pod, or the grace period after a termination signal is over.
pub(crate) fn run(args: &RunArgs) -> io::Result<()> {
    let watch = Watch::new(&args.share_dir, Also::Links)?;
    let mut state = State { server: Server::new(), text: Vec::new(), complained: false };
    let mut deadline: Option<Instant> = None;
    let RunArgs { share_dir, name, namespace, uid, grace_period } = args;
    log::line(format_args!("holding the pod of VirtualMachineInstance {namespace}/{name} ({uid})"));
    loop {
        if share_dir.join(RELEASED).exists() {
            log::line(format_args!("released"));
            return Ok(());
        }
        let now = Instant::now();
        if deadline.is_some_and(|d| d <= now) {
            log::line(format_args!("not released within the grace period and {} s; leaving", SLACK.as_secs()));
            return Ok(());
        }
        state.reload(share_dir);
        let complete = state.server.bind();
        let mut timeout = if complete { IDLE } else { EAGER };
        if let Some(deadline) = deadline {
            timeout = timeout.min(deadline.saturating_duration_since(now));
        }
        let sockets: Vec<BorrowedFd<'_>> = state.server.sockets();
        let terminated = watch.wait(&sockets, Some(timeout))?;
        state.server.serve();
        if terminated && deadline.is_none() {
            log::line(format_args!("asked to stop; waiting for the guest to be released"));
            deadline = Instant::now().checked_add(grace_period.saturating_add(SLACK));
        }
    }
}

struct State {
    server: Server,
    text: Vec<u8>,
    complained: bool,
}

impl State {
    /// Takes over a changed configuration. An unreadable one changes nothing: the guest keeps its lease.
    fn reload(&mut self, share_dir: &Path) {
        let path = share_dir.join(FILE_NAME);
        let text = match read(&path) {
            Ok(text) => text,
            // Not written yet: the handler has not planned the network.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => return self.complain(&path, &error),
        };
        if text == self.text && !text.is_empty() {
            return;
        }
        match serde_json::from_slice::<DhcpConfig>(&text) {
            Ok(config) => {
                self.text = text;
                self.complained = false;
                self.server.configure(config);
            }
            Err(error) => self.complain(&path, &error),
        }
    }

    fn complain(&mut self, path: &Path, error: &dyn std::error::Error) {
        if !std::mem::replace(&mut self.complained, true) {
            log::line(format_args!("{} is unusable, keeping the former configuration: {error}", path.display()));
        }
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(MAX_CONFIG).read_to_end(&mut text)?;
    Ok(text)
}
