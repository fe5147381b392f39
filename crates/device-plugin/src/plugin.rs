//! One plugin: its socket, its registration, and both again when they are lost.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Endpoint, Server};

use crate::server::DeviceServer;
use crate::v1beta1::device_plugin_server::DevicePluginServer;
use crate::v1beta1::registration_client::RegistrationClient;
use crate::v1beta1::{DevicePluginOptions, RegisterRequest};

/// The API's version, as the kubelet compares it.
const VERSION: &str = "v1beta1";
/// The kubelet's socket in the directory of plugins.
const KUBELET_SOCKET: &str = "kubelet.sock";
/// How often the kubelet's socket and ours are looked at.
const WATCH: Duration = Duration::from_secs(1);
/// How often the device is probed.
const PROBE: Duration = Duration::from_secs(5);
/// How long the kubelet may take to answer a registration.
const DEADLINE: Duration = Duration::from_secs(5);

/// A device many can use at once.
#[derive(Clone)]
pub struct Device {
    /// `devices.kubevirt.io/kvm`.
    pub resource: String,
    /// How many pods may have it.
    pub places: usize,
    /// Whether it works; asked now and then. May block.
    pub probe: Arc<dyn Fn() -> bool + Send + Sync>,
}

impl Device {
    /// The part of the resource's name behind the slash: unique among our plugins.
    fn short_name(&self) -> &str {
        self.resource.rsplit('/').next().unwrap_or(&self.resource)
    }
}

/// Why a device could not be offered; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    #[error("{step} {}", path.display())]
    Socket {
        step: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("connect to the kubelet at {}", path.display())]
    Connect {
        path: PathBuf,
        #[source]
        source: tonic::transport::Error,
    },
    #[error("the kubelet refused {resource}: {message}")]
    Refused { resource: String, message: String },
}

/// Offers one device.
pub struct DevicePlugin {
    device: Device,
    directory: PathBuf,
    registered: watch::Sender<bool>,
}

impl DevicePlugin {
    /// `directory` is the kubelet's directory of plugins: `/var/lib/kubelet/device-plugins`.
    pub fn new(device: Device, directory: impl Into<PathBuf>) -> Self {
        Self { device, directory: directory.into(), registered: watch::Sender::new(false) }
    }

    /// Whether the kubelet knows of the device at the moment.
    pub fn registered(&self) -> watch::Receiver<bool> {
        self.registered.subscribe()
    }

    /// Offers the device until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let probe = self.spawn_probe(shutdown.clone()).await;
        while !shutdown.is_cancelled() {
            if let Err(error) = self.offer(&probe, &shutdown).await {
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                tracing::debug!(resource = self.device.resource, %error, cause, "device is not offered yet");
            }
            self.registered.send_replace(false);
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = tokio::time::sleep(WATCH) => {}
            }
        }
    }

    /// Keeps probing the device; the first answer is there on return.
    async fn spawn_probe(&self, shutdown: CancellationToken) -> watch::Receiver<bool> {
        let ask = |probe: Arc<dyn Fn() -> bool + Send + Sync>| async move {
            tokio::task::spawn_blocking(move || probe()).await.unwrap_or(false)
        };
        let probe = Arc::clone(&self.device.probe);
        let (sender, receiver) = watch::channel(ask(Arc::clone(&probe)).await);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep(PROBE) => {}
                }
                let works = ask(Arc::clone(&probe)).await;
                sender.send_if_modified(|known| std::mem::replace(known, works) != works);
            }
        });
        receiver
    }

    /// Serves and registers once; returns when either end was lost.
    async fn offer(&self, works: &watch::Receiver<bool>, shutdown: &CancellationToken) -> Result<(), PluginError> {
        let name = format!("kubevirt-{}.sock", self.device.short_name());
        let (own, kubelets) = (self.directory.join(&name), self.directory.join(KUBELET_SOCKET));
        // A kubelet that is about to start would remove what we make before it did.
        let kubelet = identity(&kubelets).map_err(socket_error("find", &kubelets))?;
        match std::fs::remove_file(&own) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(socket_error("remove", &own)(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&own).map_err(socket_error("listen on", &own))?;
        let ours = identity(&own).map_err(socket_error("find", &own))?;
        let stop = shutdown.child_token();
        let _stopping = stop.clone().drop_guard();
        let service = DeviceServer::new(self.device.places, works.clone(), stop.clone());
        let serving = Server::builder()
            .add_service(DevicePluginServer::new(service))
            .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop.clone().cancelled_owned());
        let mut serving = tokio::spawn(serving);
        self.register(&kubelets, &name).await?;
        tracing::info!(resource = self.device.resource, "device offered to the kubelet");
        self.registered.send_replace(true);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                _ = &mut serving => break,
                () = tokio::time::sleep(WATCH) => {}
            }
            let same = |path: &Path, known| identity(path).is_ok_and(|now| now == known);
            if !same(&kubelets, kubelet) || !same(&own, ours) {
                tracing::info!(resource = self.device.resource, "the kubelet has started again");
                break;
            }
        }
        if shutdown.is_cancelled() {
            let _ = std::fs::remove_file(&own);
        }
        Ok(())
    }

    async fn register(&self, kubelet: &Path, endpoint: &str) -> Result<(), PluginError> {
        let path = kubelet.to_owned();
        let connect = move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        };
        // The address is not used: the connector knows the way.
        let channel = Endpoint::from_static("http://kubelet")
            .connect_timeout(DEADLINE)
            .timeout(DEADLINE)
            .connect_with_connector(tower::service_fn(connect))
            .await
            .map_err(|source| PluginError::Connect { path: kubelet.to_owned(), source })?;
        let request = RegisterRequest {
            version: VERSION.to_owned(),
            endpoint: endpoint.to_owned(),
            resource_name: self.device.resource.clone(),
            options: Some(DevicePluginOptions::default()),
        };
        let refused = |status: tonic::Status| PluginError::Refused {
            resource: self.device.resource.clone(),
            message: status.message().to_owned(),
        };
        RegistrationClient::new(channel).register(request).await.map(drop).map_err(refused)
    }
}

/// Tells a socket from another one at the same path.
type Identity = (u64, u64, i64, i64);

fn identity(path: &Path) -> io::Result<Identity> {
    let meta = std::fs::symlink_metadata(path)?;
    Ok((meta.dev(), meta.ino(), meta.ctime(), meta.ctime_nsec()))
}

fn socket_error(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PluginError {
    let path = path.to_owned();
    move |source| PluginError::Socket { step, path, source }
}
