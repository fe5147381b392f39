//! The time that decisions are given.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// Where `now` comes from.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    /// The machine's clock.
    System,
    /// Follows tokio's clock from a fixed start, so that paused time pauses decisions too.
    Runtime { start: Timestamp, since: Instant },
}

impl Clock {
    /// A clock for tests in virtual time.
    pub fn runtime(start: Timestamp) -> Self {
        Self::Runtime { start, since: Instant::now() }
    }

    /// The time now.
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => Timestamp::now(),
            Self::Runtime { start, since } => {
                let elapsed: Duration = since.elapsed();
                start.saturating_add(elapsed).unwrap_or(*start)
            }
        }
    }
}
