//! Lines on standard error, where the pod's log is.

use std::fmt::Arguments;
use std::io::Write;
use std::time::{Duration, Instant};

/// Writes one line. A full or closed log stops nothing.
pub(crate) fn line(text: Arguments<'_>) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Bounds what a guest can make us write: a few lines at once, then one a minute.
#[derive(Debug)]
pub(crate) struct Limit {
    left: u32,
    refilled: Instant,
}

impl Limit {
    const BURST: u32 = 10;
    const REFILL: Duration = Duration::from_secs(60);

    pub(crate) fn new(now: Instant) -> Self {
        Self { left: Self::BURST, refilled: now }
    }

    /// Whether one more line may be written.
    pub(crate) fn allow(&mut self, now: Instant) -> bool {
        let periods = now.saturating_duration_since(self.refilled).as_secs() / Self::REFILL.as_secs();
        if periods > 0 {
            self.left = self.left.saturating_add(u32::try_from(periods).unwrap_or(u32::MAX)).min(Self::BURST);
            self.refilled = now;
        }
        let allowed = self.left > 0;
        self.left = self.left.saturating_sub(1);
        allowed
    }
}
