//! The engine under every controller: caches filled by watches, a queue of keys to look at, and the one place where a
//! [`fv_plan::Plan`] becomes requests to the API.
//!
//! ```text
//! watch ─► Cache ─► on_change ─► WorkQueue ─► worker: observe, decide ─► Executor ─► API
//!                                    ▲                                      │
//!                                    └──────── again: soon, later, at ◄─────┘
//! ```
//!
//! And what every program of a cluster needs: [`leases`] (one replica leads), [`certificates`] and [`tls`] (mounted, replaced while we
//! run), [`health`], [`metrics`].

pub mod cache;
pub mod certificates;
pub mod clock;
pub mod events;
pub mod execute;
pub mod health;
pub mod leases;
pub mod metrics;
pub mod program;
pub mod queue;
pub mod rest;
pub mod settings;
pub mod tls;
pub mod worker;

pub use cache::{Cache, Change, reflect, reflect_in};
pub use clock::Clock;
pub use events::Recorder;
pub use execute::{ExecuteError, Executor, Outcome, Retry};
pub use queue::WorkQueue;
pub use worker::{Again, run_workers};
