//! Byte streams between users and guests: the port to the node agent, WebSocket relays (console, VNC, port forward), and the
//! port spoken over the network.
//!
//! On a cluster virt-api and virt-handler are different programs. Between them is HTTPS with certificates on both sides, on port
//! 8186 of the handler's pod:
//!
//! ```text
//! virt-api ─► RemoteNodes (a NodeAgent) ─► mTLS ─► node_server ─► Handler (a NodeAgent)
//! ```
//!
//! | request below `/v1/namespaces/{ns}/virtualmachineinstances/{name}`, with `?uid=` | |
//! |---|---|
//! | `PUT pause`, `unpause`, `softreboot`, `reset` | [`agent::NodeAgent::act`] |
//! | `GET guestosinfo`, `userlist`, `filesystemlist` | [`agent::NodeAgent::query`] |
//! | `GET domainxml` | [`agent::NodeAgent::domain_xml`] |
//! | WebSocket `console`, `vnc` (`&preserveSession=true`) | [`agent::NodeAgent::open`] |
//!
//! A refusal has the code users would see and a body that says which [`agent::AgentError`] it is.

pub mod agent;
pub mod handler_pods;
pub mod node_server;
pub mod relay;
pub mod remote_nodes;
mod socket_bytes;
pub mod upgrade;
mod wire;

pub use handler_pods::HandlerPods;
pub use remote_nodes::RemoteNodes;

/// The WebSocket sub-protocol of all of KubeVirt's streams: binary frames carry the bytes, nothing else.
pub const SUBPROTOCOL: &str = "plain.kubevirt.io";
