//! What the programs of a cluster do alike: logs, addresses and the end.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// The version of what runs: that of the image it came in, which says so in its environment, or else of the sources.
pub fn version() -> String {
    let of_image = std::env::var("KUBEVIRT_VERSION").ok().filter(|version| !version.is_empty());
    of_image.unwrap_or_else(|| concat!("v", env!("CARGO_PKG_VERSION")).to_owned())
}

/// Begins a program: logs go as JSON to standard output (`info`; with `-v` `debug` of ours, with more of everything; `RUST_LOG` says
/// otherwise), and a panic anywhere ends the process, once it is reported. A task that is missing would be noticed by nobody; the
/// process that takes our place goes on from what the API says.
pub fn begin(verbose: u8) {
    let level = match verbose {
        0 => "info",
        1 => "info,fv_=debug",
        2 => "debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt().json().flatten_event(true).with_env_filter(filter).with_writer(io::stdout).init();
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
    tracing::info!(version = version(), "begins");
}

/// The port on all addresses, of both families where the machine has both.
pub fn everywhere(port: u16) -> SocketAddr {
    match UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)) {
        Ok(_) => (Ipv6Addr::UNSPECIFIED, port).into(),
        Err(_) => (Ipv4Addr::UNSPECIFIED, port).into(),
    }
}

/// A token that is cancelled by SIGTERM or SIGINT.
///
/// # Errors
/// Signals cannot be listened to.
pub fn until_terminated() -> io::Result<CancellationToken> {
    let shutdown = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let token = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("asked to stop");
        token.cancel();
    });
    Ok(shutdown)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    const VICTIM: &str = "FV_RUNTIME_PANIC_VICTIM";

    /// The victim of the next test: a task of it panics, which alone would go unnoticed.
    #[tokio::test]
    async fn panic_victim() {
        if std::env::var_os(VICTIM).is_none() {
            return;
        }
        super::begin(0);
        let _ = tokio::spawn(async { panic!("in a task") }).await;
    }

    #[test]
    fn panic_in_a_task_is_reported_and_ends_the_program() {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["program::tests::panic_victim", "--exact", "--nocapture"])
            .env(VICTIM, "yes")
            .output()
            .unwrap();
        assert_eq!(output.status.signal(), Some(6), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("in a task"), "{output:?}");
    }
}
