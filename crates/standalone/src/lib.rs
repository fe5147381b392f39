//! The embedded engine: one process that is API server, control plane and node of a cluster of one machine.

pub mod admission;
pub mod backup;
pub mod definitions;
pub mod disruption;
pub mod doctor;
pub mod down;
pub mod events;
pub mod gc;
pub mod instance;
mod late;
pub mod namespaces;
pub mod node;
pub mod podrunner;
pub mod quotas;
pub mod scheduler;
mod selector;
pub mod storage;
mod supervise;
pub mod up;
