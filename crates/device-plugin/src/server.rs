//! What the kubelet asks of a plugin.

use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::v1beta1::device_plugin_server::DevicePlugin;
use crate::v1beta1::{
    AllocateRequest, AllocateResponse, ContainerAllocateResponse, Device, DevicePluginOptions, Empty,
    ListAndWatchResponse, PreStartContainerRequest, PreStartContainerResponse, PreferredAllocationRequest,
    PreferredAllocationResponse,
};

/// Answers for one device with many places.
pub(crate) struct DeviceServer {
    places: usize,
    works: watch::Receiver<bool>,
    stop: CancellationToken,
}

impl DeviceServer {
    pub(crate) fn new(places: usize, works: watch::Receiver<bool>, stop: CancellationToken) -> Self {
        Self { places, works, stop }
    }
}

/// All places of a device, all as healthy as it is.
fn list(places: usize, works: bool) -> ListAndWatchResponse {
    let health = if works { "Healthy" } else { "Unhealthy" };
    let device = |number: usize| Device { id: number.to_string(), health: health.to_owned() };
    ListAndWatchResponse { devices: (0..places).map(device).collect() }
}

#[tonic::async_trait]
impl DevicePlugin for DeviceServer {
    type ListAndWatchStream = BoxStream<'static, Result<ListAndWatchResponse, Status>>;

    async fn get_device_plugin_options(&self, _: Request<Empty>) -> Result<Response<DevicePluginOptions>, Status> {
        Ok(Response::new(DevicePluginOptions::default()))
    }

    async fn list_and_watch(&self, _: Request<Empty>) -> Result<Response<Self::ListAndWatchStream>, Status> {
        let places = self.places;
        let changes = WatchStream::new(self.works.clone()).map(move |works| Ok(list(places, works)));
        // The server waits for its streams when it stops.
        Ok(Response::new(changes.take_until(self.stop.clone().cancelled_owned()).boxed()))
    }

    async fn get_preferred_allocation(
        &self,
        _: Request<PreferredAllocationRequest>,
    ) -> Result<Response<PreferredAllocationResponse>, Status> {
        Err(Status::unimplemented("one place is as good as another"))
    }

    async fn allocate(&self, request: Request<AllocateRequest>) -> Result<Response<AllocateResponse>, Status> {
        let containers = request.into_inner().container_requests;
        let nothing = containers.iter().map(|_| ContainerAllocateResponse {}).collect();
        Ok(Response::new(AllocateResponse { container_responses: nothing }))
    }

    async fn pre_start_container(
        &self,
        _: Request<PreStartContainerRequest>,
    ) -> Result<Response<PreStartContainerResponse>, Status> {
        Err(Status::unimplemented("nothing is to be done before a container starts"))
    }
}
