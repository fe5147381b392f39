//! How many checks in a row count, and when the next is due.

use std::time::Duration;

use k8s_openapi::api::core::v1::Probe;

/// The numbers of a probe, with Kubernetes' defaults where none are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    pub initial_delay: Duration,
    pub period: Duration,
    pub timeout: Duration,
    pub success_threshold: u32,
    pub failure_threshold: u32,
}

impl Timing {
    /// From a probe's fields, in seconds and counts; nothing and zero mean the default.
    pub fn of(probe: &Probe) -> Self {
        let number = |given: Option<i32>, default: u32| {
            given.and_then(|given| u32::try_from(given).ok()).filter(|given| *given > 0).unwrap_or(default)
        };
        let seconds = |given, default| Duration::from_secs(u64::from(number(given, default)));
        Self {
            initial_delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10),
            timeout: seconds(probe.timeout_seconds, 1),
            success_threshold: number(probe.success_threshold, 1),
            failure_threshold: number(probe.failure_threshold, 3),
        }
    }
}

/// The verdict of a probe: changes when enough checks in a row say otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracker {
    healthy: bool,
    /// Checks in a row that said otherwise.
    against: u32,
}

impl Tracker {
    /// What counts until enough checks were made: a guest is alive, and not ready.
    pub fn new(healthy: bool) -> Self {
        Self { healthy, against: 0 }
    }

    /// Takes one check into account; the verdict after it.
    pub fn note(&mut self, passed: bool, timing: &Timing) -> bool {
        if passed == self.healthy {
            self.against = 0;
            return self.healthy;
        }
        self.against += 1;
        let enough = if passed { timing.success_threshold } else { timing.failure_threshold };
        if self.against >= enough {
            *self = Self::new(passed);
        }
        self.healthy
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn timing(fields: serde_json::Value) -> Timing {
        Timing::of(&serde_json::from_value(fields).unwrap())
    }

    #[test]
    fn nothing_and_zero_mean_the_defaults() {
        let defaults = timing(json!({}));
        for nothing in [0, -1] {
            let all = json!({"initialDelaySeconds": nothing, "periodSeconds": nothing, "timeoutSeconds": nothing,
                "successThreshold": nothing, "failureThreshold": nothing});
            assert_eq!(timing(all), defaults);
        }
        assert_eq!((defaults.period, defaults.timeout), (Duration::from_secs(10), Duration::from_secs(1)));
        assert_eq!((defaults.success_threshold, defaults.failure_threshold), (1, 3));
        assert_eq!(timing(json!({"initialDelaySeconds": 7})).initial_delay, Duration::from_secs(7));
    }

    #[test]
    fn verdict_changes_after_enough_checks_in_a_row() {
        let timing = timing(json!({"successThreshold": 2, "failureThreshold": 3}));
        let mut tracker = Tracker::new(true);
        let verdicts: Vec<bool> = [false, false, true, false, false, false, true, false, true, true]
            .into_iter()
            .map(|passed| tracker.note(passed, &timing))
            .collect();
        assert_eq!(verdicts, [true, true, true, true, true, false, false, false, false, true]);
    }
}
