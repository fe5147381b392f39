//! When to try a failed pull again: doubling from ten seconds to five minutes, as kubelet does.

use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(300);

/// The waiting state of one image reference.
#[derive(Clone, Debug, Default)]
pub struct PullBackoff {
    failures: u32,
    until: Option<Instant>,
}

impl PullBackoff {
    /// A pull failed at `now`. Returns the wait before the next one.
    pub fn failed(&mut self, now: Instant) -> Duration {
        let wait = FIRST.saturating_mul(1 << self.failures.min(5)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        self.until = Some(now + wait);
        wait
    }

    /// A pull worked: forget the failures.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// How long to wait still; `None` means pull now. While waiting, the reason to show is `ImagePullBackOff`.
    pub fn remaining(&self, now: Instant) -> Option<Duration> {
        let left = self.until?.checked_duration_since(now)?;
        (!left.is_zero()).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_five_minutes_and_reset_on_success() {
        let now = Instant::now();
        let mut backoff = PullBackoff::default();
        assert_eq!(backoff.remaining(now), None);
        let waits: Vec<u64> = (0..8).map(|_| backoff.failed(now).as_secs()).collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 300, 300, 300]);
        assert_eq!(backoff.remaining(now + Duration::from_secs(299)), Some(Duration::from_secs(1)));
        assert_eq!(backoff.remaining(now + Duration::from_secs(300)), None);
        backoff.succeeded();
        assert_eq!(backoff.remaining(now), None);
        assert_eq!(backoff.failed(now).as_secs(), 10);
    }
}
