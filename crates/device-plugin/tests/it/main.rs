//! Plugins against a registration server that stands for the kubelet.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "helpers of tests fail by panicking")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fv_device_plugin::v1beta1::device_plugin_client::DevicePluginClient;
use fv_device_plugin::v1beta1::registration_server::{Registration, RegistrationServer};
use fv_device_plugin::v1beta1::{AllocateRequest, ContainerAllocateRequest, Empty, RegisterRequest};
use fv_device_plugin::{Device, DevicePlugin};
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};

/// Only bounds failures.
const PATIENCE: Duration = Duration::from_secs(60);

struct Kubelet {
    seen: mpsc::UnboundedSender<RegisterRequest>,
}

#[tonic::async_trait]
impl Registration for Kubelet {
    async fn register(&self, request: Request<RegisterRequest>) -> Result<Response<Empty>, Status> {
        self.seen.send(request.into_inner()).unwrap();
        Ok(Response::new(Empty {}))
    }
}

/// A kubelet that starts: it removes the sockets of all plugins and makes its own anew. Returns what is registered, and its end.
fn start_kubelet(dir: &Path) -> (mpsc::UnboundedReceiver<RegisterRequest>, CancellationToken) {
    for entry in std::fs::read_dir(dir).unwrap() {
        std::fs::remove_file(entry.unwrap().path()).unwrap();
    }
    let (seen, registered) = mpsc::unbounded_channel();
    let listener = UnixListener::bind(dir.join("kubelet.sock")).unwrap();
    let stop = CancellationToken::new();
    let serving = Server::builder()
        .add_service(RegistrationServer::new(Kubelet { seen }))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop.clone().cancelled_owned());
    tokio::spawn(serving);
    (registered, stop)
}

async fn dial(path: PathBuf) -> DevicePluginClient<Channel> {
    let connect = move |_| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    };
    let endpoint = Endpoint::from_static("http://plugin");
    DevicePluginClient::new(endpoint.connect_with_connector(tower::service_fn(connect)).await.unwrap())
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("no {what}"))
}

#[tokio::test]
async fn device_is_registered_listed_allocated_and_registered_again_after_a_kubelet_restart() {
    let dir = tempfile::tempdir().unwrap();
    let works = Arc::new(AtomicBool::new(true));
    let probed = Arc::clone(&works);
    let device = Device {
        resource: "devices.kubevirt.io/kvm".into(),
        places: 3,
        probe: Arc::new(move || probed.load(Ordering::SeqCst)),
    };
    let plugin = DevicePlugin::new(device, dir.path());
    let mut known = plugin.registered();
    let shutdown = CancellationToken::new();
    // Before its kubelet: it waits.
    let running = tokio::spawn(plugin.run(shutdown.clone()));
    let (mut registered, kubelet) = start_kubelet(dir.path());
    let request = within("registration", registered.recv()).await.unwrap();
    assert_eq!((request.version.as_str(), request.resource_name.as_str()), ("v1beta1", "devices.kubevirt.io/kvm"));
    within("word of it", known.wait_for(|known| *known)).await.unwrap();

    let mut client = dial(dir.path().join(&request.endpoint)).await;
    let options = client.get_device_plugin_options(Empty {}).await.unwrap().into_inner();
    assert!(!options.pre_start_required && !options.get_preferred_allocation_available);
    let mut list = client.list_and_watch(Empty {}).await.unwrap().into_inner();
    let health = |devices: Vec<fv_device_plugin::v1beta1::Device>| -> Vec<String> {
        devices.into_iter().map(|device| format!("{} {}", device.id, device.health)).collect()
    };
    let first = within("list", list.message()).await.unwrap().unwrap();
    assert_eq!(health(first.devices), ["0 Healthy", "1 Healthy", "2 Healthy"]);
    works.store(false, Ordering::SeqCst);
    let second = within("change", list.message()).await.unwrap().unwrap();
    assert_eq!(health(second.devices), ["0 Unhealthy", "1 Unhealthy", "2 Unhealthy"]);
    let wanted =
        AllocateRequest { container_requests: vec![ContainerAllocateRequest { devices_ids: vec!["1".into()] }; 2] };
    let given = client.allocate(wanted).await.unwrap().into_inner();
    assert_eq!(given.container_responses.len(), 2, "one answer per container");

    kubelet.cancel();
    let (mut registered, _kubelet) = start_kubelet(dir.path());
    let again = within("second registration", registered.recv()).await.unwrap();
    assert_eq!(again, request);
    let mut client = dial(dir.path().join(&again.endpoint)).await;
    let mut list = client.list_and_watch(Empty {}).await.unwrap().into_inner();
    within("list", list.message()).await.unwrap().unwrap();

    // An open list does not keep it from ending.
    shutdown.cancel();
    within("end", running).await.unwrap();
    assert!(!dir.path().join(&again.endpoint).exists());
    assert!(!*known.borrow());
}

#[tokio::test]
async fn plugins_do_not_get_into_each_others_way() {
    let dir = tempfile::tempdir().unwrap();
    let (mut registered, _kubelet) = start_kubelet(dir.path());
    let shutdown = CancellationToken::new();
    let mut running = Vec::new();
    for name in ["kvm", "tun", "vhost-net"] {
        let resource = format!("devices.kubevirt.io/{name}");
        let device = Device { resource, places: 1, probe: Arc::new(|| true) };
        running.push(tokio::spawn(DevicePlugin::new(device, dir.path()).run(shutdown.clone())));
    }
    let mut seen = Vec::new();
    for _ in 0..3 {
        let request = within("registration", registered.recv()).await.unwrap();
        dial(dir.path().join(&request.endpoint)).await;
        seen.push((request.resource_name, request.endpoint));
    }
    seen.sort();
    seen.dedup_by_key(|(_, endpoint)| endpoint.clone());
    assert_eq!(seen.len(), 3, "{seen:?}");
    shutdown.cancel();
    for task in running {
        within("end", task).await.unwrap();
    }
}
