//! The embedded Kubernetes-compatible API server: an `axum::Router` over a small revisioned store.
//!
//! Objects are JSON values driven by schema, never typed structs. The layers, from below:
//!
//! - [`store`]: revisioned objects in SQLite, read from memory, watched from a bounded history;
//! - [`registry`]: which resources are served, built in and custom;
//! - [`schema`], [`table`], [`discovery`], [`openapi`]: what a resource looks like to clients;
//! - `handlers`: the verbs;
//! - [`auth`], [`tls`]: from a connection to a [`UserInfo`].
//!
//! The same router, in process and without a socket, is the fixture of the controllers' tests.

pub mod admission;
pub mod amounts;
pub mod auth;
mod codec;
pub mod discovery;
mod handlers;
mod identity;
mod kinds;
mod limits;
mod managed;
mod meta;
pub mod openapi;
mod patch;
pub mod pod_logs;
pub mod quota;
pub mod registry;
pub mod schema;
mod selectors;
mod server;
pub mod status;
pub mod store;
pub mod table;
pub mod tls;

pub use admission::{Admission, AdmissionRequest, AdmitAll, Operation, Rejection, Warnings};
pub use identity::UserInfo;
pub use limits::Limits;
pub use pod_logs::{LogOptions, LogStream, PodLogs};
pub use server::{AggregatedApi, ApiServer, ApiServerBuilder, StartError, VersionInfo};
pub use status::{Cause, Status};
pub use store::Store;
