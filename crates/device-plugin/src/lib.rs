//! Devices of a node offered to its kubelet, by the kubelet's device plugin API.
//!
//! What is offered is a place at a device (`devices.kubevirt.io/kvm`), so that the scheduler puts VMs only where they can run. A pod
//! that has one is given nothing: the device is opened by QEMU, which is no process of the pod.
//!
//! ```text
//! plugin ── Register(resource, socket) ──► kubelet.sock
//! kubelet ── ListAndWatch, Allocate ─────► our socket beside it
//! ```
//!
//! A kubelet that starts again forgets its plugins and makes its socket anew: that is noticed, and everything is registered again.

mod plugin;
mod server;

/// Generated from `proto/`.
#[allow(missing_docs, clippy::all, unreachable_pub, reason = "generated")]
pub mod v1beta1 {
    tonic::include_proto!("v1beta1");
}

pub use plugin::{Device, DevicePlugin, PluginError};
