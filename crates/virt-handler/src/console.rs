//! The guest's serial console: drained from the first byte to the last, whoever listens.
//!
//! One task a guest holds the socket. What the guest writes goes, in this order and never waiting for any of them, to a ring of
//! the last output in memory, to size-capped log files, and to at most one client. A guest can so never be slowed down by a reader, nor
//! a reader make us keep more than a fixed amount.

mod drainer;
mod log_file;
mod ring;

pub use drainer::{Console, ConsoleConfig};
pub use log_file::{LOG_NAME, LogSink};
pub use ring::Ring;
