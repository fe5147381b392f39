//! vnc: a local port for a viewer, and the viewer.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, anyhow, bail};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use crate::address::resolve;
use crate::cli::{Viewer, Vnc};
use crate::connect::Session;
use crate::output::say;
use crate::socket::{self, AtEnd};
use crate::subresource::path;

pub(super) async fn run(session: &Session, options: &Vnc) -> anyhow::Result<()> {
    let query = if options.preserve_session { "vnc?preserveSession=true" } else { "vnc" };
    let path = path(&session.namespace, "virtualmachineinstances", &options.name, query);
    // Before anything listens: whether there is a VNC server to reach.
    let socket =
        socket::open(&session.client, &path).await.map_err(|e| anyhow!("Can't access VMI {}: {e:#}", options.name))?;
    let ip = resolve(&options.address).await?;
    let listener = TcpListener::bind((ip, options.port))
        .await
        .with_context(|| format!("listen on {}:{}", options.address, options.port))?;
    let address = listener.local_addr()?;
    if options.proxy_only {
        say(&format!("{{\"port\":{}}}", address.port()));
        let (stream, _) = listener.accept().await?;
        return serve(stream, socket).await;
    }
    let (program, args) = viewer(options, address)?;
    let mut child = Command::new(&program)
        .args(args)
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("start viewer {}", program.display()))?;
    tokio::select! {
        accepted = listener.accept() => serve(accepted?.0, socket).await?,
        status = child.wait() => bail!("viewer {} ended before it connected: {}", program.display(), status?),
    }
    child.wait().await?;
    Ok(())
}

async fn serve(stream: TcpStream, socket: socket::Socket) -> anyhow::Result<()> {
    let (reader, writer) = stream.into_split();
    socket::copy(socket, reader, writer, None, AtEnd::Close).await.map(drop)
}

/// The program to start and its arguments: the one asked for, else the first installed.
fn viewer(options: &Vnc, address: SocketAddr) -> anyhow::Result<(PathBuf, Vec<String>)> {
    let known = [
        (Viewer::RemoteViewer, "remote-viewer"),
        (Viewer::Tiger, "vncviewer"),
        (Viewer::Tiger, "xtigervncviewer"),
        (Viewer::Real, "realvncviewer"),
        (Viewer::Chicken, "chicken"),
    ];
    let (kind, program) = match (&options.vnc_path, options.vnc_type) {
        (Some(path), kind) => (kind.unwrap_or(Viewer::Tiger), path.clone()),
        (None, wanted) => known
            .iter()
            .filter(|(kind, _)| wanted.is_none_or(|w| w == *kind))
            .find_map(|(kind, name)| in_path(name).map(|path| (*kind, path)))
            .ok_or_else(|| {
                anyhow!("no VNC viewer is installed (remote-viewer, vncviewer): install one, or use --proxy-only")
            })?,
    };
    let args = match kind {
        Viewer::RemoteViewer => vec![format!("vnc://{address}")],
        Viewer::Tiger | Viewer::Real | Viewer::Chicken => vec![format!("{}::{}", address.ip(), address.port())],
    };
    Ok((program, args))
}

fn in_path(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(name)).find(|path| path.is_file())
}
