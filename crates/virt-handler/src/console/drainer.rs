//! The task that holds a serial console.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio_util::io::{CopyToBytes, SinkWriter, StreamReader};
use tokio_util::sync::{CancellationToken, PollSender};

use super::{LogSink, Ring};
use crate::share::ShareDir;

/// Chunks a client may be behind before output is left out for it.
const CLIENT_QUEUE: usize = 64;
const CHUNK: usize = 8 * 1024;
/// Input of a client waiting for the guest to read it.
const INPUT_QUEUE: usize = 16;
const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(2);

/// How a console is kept.
#[derive(Clone, Debug)]
pub struct ConsoleConfig {
    /// Name of the socket in its directory.
    pub socket: String,
    /// Bytes of recent output kept in memory.
    pub recent_bytes: usize,
}

impl Default for ConsoleConfig {
    fn default() -> Self {
        Self { socket: "virt-serial0".into(), recent_bytes: 16 * 1024 }
    }
}

/// A guest's console. Dropping it lets go of the socket.
#[derive(Debug)]
pub struct Console {
    commands: mpsc::Sender<Client>,
    connected: watch::Receiver<bool>,
    recent: Arc<Mutex<Ring>>,
    log: LogSink,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Client {
    output: mpsc::Sender<Bytes>,
    input: mpsc::Receiver<Bytes>,
    /// Bytes left out because the client was behind.
    skipped: u64,
}

impl Drop for Console {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Console {
    /// Starts draining the socket in `dir`; it need not be there yet.
    pub fn start(dir: ShareDir, config: ConsoleConfig, log: LogSink) -> Self {
        let (commands, receiver) = mpsc::channel(4);
        let (connected_sender, connected) = watch::channel(false);
        let recent = Arc::new(Mutex::new(Ring::new(config.recent_bytes)));
        let stop = CancellationToken::new();
        let drainer = Drainer {
            dir,
            config,
            commands: receiver,
            connected: connected_sender,
            recent: Arc::clone(&recent),
            log: log.clone(),
            client: None,
        };
        let token = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = token.cancelled() => {}
                () = drainer.run() => {}
            }
        });
        Self { commands, connected, recent, log, stop }
    }

    /// The log files of this console.
    pub fn log(&self) -> &LogSink {
        &self.log
    }

    /// The last output.
    pub fn recent(&self) -> Vec<u8> {
        self.recent.lock().contents()
    }

    /// Waits until the socket is held; false when it is not after `patience`.
    pub async fn wait_connected(&self, patience: Duration) -> bool {
        let mut connected = self.connected.clone();
        matches!(tokio::time::timeout(patience, connected.wait_for(|c| *c)).await, Ok(Ok(_)))
    }

    /// Attaches a client. The one before it sees the end of its stream.
    pub async fn attach(&self) -> io::Result<impl fv_stream::agent::DuplexStream + use<>> {
        let (output, from_guest) = mpsc::channel::<Bytes>(CLIENT_QUEUE);
        let (to_guest, input) = mpsc::channel::<Bytes>(INPUT_QUEUE);
        let client = Client { output, input, skipped: 0 };
        self.commands.send(client).await.map_err(|_| io::Error::from(io::ErrorKind::NotConnected))?;
        let reader = StreamReader::new(tokio_stream_of(from_guest));
        let sink = PollSender::new(to_guest).sink_map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe));
        let writer = SinkWriter::new(CopyToBytes::new(sink));
        Ok(tokio::io::join(reader, writer))
    }
}

fn tokio_stream_of(
    mut receiver: mpsc::Receiver<Bytes>,
) -> Pin<Box<dyn futures::Stream<Item = io::Result<Bytes>> + Send>> {
    futures::stream::poll_fn(move |context| receiver.poll_recv(context)).map(Ok).boxed()
}

struct Drainer {
    dir: ShareDir,
    config: ConsoleConfig,
    commands: mpsc::Receiver<Client>,
    connected: watch::Sender<bool>,
    recent: Arc<Mutex<Ring>>,
    log: LogSink,
    client: Option<Client>,
}

impl Drainer {
    async fn run(mut self) {
        let mut retry = FIRST_RETRY;
        loop {
            match self.dir.connect(&self.config.socket).await {
                Ok(stream) => {
                    retry = FIRST_RETRY;
                    self.connected.send_replace(true);
                    let end = self.relay(stream).await;
                    self.connected.send_replace(false);
                    tracing::debug!(error = ?end.err(), "console socket closed");
                }
                Err(error) => tracing::trace!(error = %error, "console socket cannot be opened yet"),
            }
            // A client may come (and be replaced) while there is no socket; it waits with us.
            let pause = tokio::time::sleep(retry);
            tokio::pin!(pause);
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    client = self.commands.recv() => match client {
                        Some(client) => self.client = Some(client),
                        None => return,
                    },
                }
            }
            retry = (retry * 2).min(LAST_RETRY);
        }
    }

    async fn relay(&mut self, stream: UnixStream) -> io::Result<()> {
        let (mut from_guest, mut to_guest) = stream.into_split();
        let mut buffer = vec![0u8; CHUNK];
        let mut pending = Bytes::new();
        loop {
            let input = async {
                match &mut self.client {
                    Some(client) if pending.is_empty() => client.input.recv().await,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                read = from_guest.read(&mut buffer) => {
                    let length = read?;
                    if length == 0 {
                        return Ok(());
                    }
                    self.spread(Bytes::copy_from_slice(&buffer[..length]));
                }
                // A guest that does not read its console must not keep us from reading what it writes.
                written = to_guest.write(&pending), if !pending.is_empty() => {
                    let written = written?;
                    pending = pending.slice(written..);
                }
                bytes = input => match bytes {
                    Some(bytes) => pending = bytes,
                    None => self.client = None,
                },
                client = self.commands.recv() => match client {
                    Some(client) => {
                        pending = Bytes::new();
                        self.client = Some(client);
                    }
                    None => return Err(io::ErrorKind::ConnectionAborted.into()),
                },
            }
        }
    }

    fn spread(&mut self, bytes: Bytes) {
        self.recent.lock().push(&bytes);
        self.log.push(bytes.clone());
        if let Some(client) = &mut self.client
            && !client.offer(bytes)
        {
            self.client = None;
        }
    }
}

impl Client {
    /// Passes `bytes` on if there is room, else counts them. False when the client is gone.
    fn offer(&mut self, bytes: Bytes) -> bool {
        if self.skipped > 0 {
            // One slot for the marker, one for the output behind it.
            if self.output.capacity() < 2 {
                self.skipped += bytes.len() as u64;
                return !self.output.is_closed();
            }
            let marker = format!("\r\n[{} bytes of console output skipped]\r\n", self.skipped);
            self.skipped = 0;
            if self.output.try_send(Bytes::from(marker)).is_err() {
                return false;
            }
        }
        let length = bytes.len() as u64;
        match self.output.try_send(bytes) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.skipped = length;
                true
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }
}

#[cfg(test)]
mod tests;
