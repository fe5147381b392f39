//! The oracle: the same requests are played against our API server and a real kube-apiserver, and every answer is compared.
//!
//! Nothing is recorded. What is expected is what the real server says in the same run.
//!
//! - [`corpus`]: request sequences, read from `corpus/*.yaml`;
//! - [`play`]: one sequence against one server, as a list of observations;
//! - [`normalise`]: what must differ between two servers (uids, times, revisions) becomes symbols;
//! - [`mod@diff`], [`known`]: where two observations differ, and which differences are meant;
//! - [`generate`]: random objects and patches, shrunk when the servers disagree;
//! - [`mutation`]: faults put before our server, to show that the comparison notices them;
//! - [`servers`]: ours in process behind TLS, the real one with its etcd; either in processes of its own.

pub mod client;
pub mod corpus;
pub mod diff;
pub mod generate;
pub mod known;
pub mod mutation;
pub mod normalise;
pub mod play;
pub mod run;
pub mod servers;

pub use client::Client;
