//! virt-handler: the node agent. One per node; reconciles every VMI assigned to the node with its libvirt domain.

pub mod cluster;
pub mod console;
pub mod disks;
mod engine;
pub mod guest_agent;
pub mod handler;
pub mod images;
pub mod kubelet;
mod liveness;
mod metrics;
pub mod node;
pub mod ports;
pub mod probe;
pub mod process;
mod readiness;
pub mod sandbox;
pub mod share;
pub mod store;
mod task;
pub mod vm;
pub mod vnc;
pub mod volumes;

pub use handler::{Handler, HandlerConfig, Ports, StartError, VOLUMES_DIR, start, start_with};
