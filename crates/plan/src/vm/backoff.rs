//! How long to wait before the next start after starts that failed.

use std::time::Duration;

use fv_api::VirtualMachineStartFailure;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use sha2::{Digest, Sha256};

use super::observe::{Instance, Observed, RunStrategy};

const MAX_SECONDS: u64 = 300;
const BASE_SECONDS: u64 = 10;

/// The wait after the `count`-th failure: 10·n² seconds plus up to half of it again, at most five minutes. The share is
/// drawn from a hash of `uid` and `count`: VMs that fail together come back apart, and the same facts give the same answer.
pub(super) fn delay(uid: &str, count: u32) -> Duration {
    let n = u64::from(count).min(100);
    let base = (BASE_SECONDS * n * n).min(MAX_SECONDS);
    let digest = Sha256::digest(format!("{uid}/{count}").as_bytes());
    let draw = digest.iter().take(4).fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
    Duration::from_secs((base + draw % (base / 2 + 1)).min(MAX_SECONDS))
}

/// `status.startFailure` as it should stand now.
pub(super) fn start_failure(
    observed: &Observed,
    strategy: RunStrategy,
    instance: Option<&Instance<'_>>,
    now: Timestamp,
) -> Option<VirtualMachineStartFailure> {
    let current = observed.vm.status.as_ref().and_then(|status| status.start_failure.clone());
    if !strategy.backs_off() {
        return None;
    }
    let Some(instance) = instance else { return current };
    if instance.was_running() {
        return None;
    }
    let counted = current.as_ref().is_some_and(|failure| failure.last_failed_vmiuid.as_deref() == Some(instance.uid));
    if !instance.phase.is_final() || counted {
        return current;
    }
    let count = current.and_then(|failure| failure.consecutive_fail_count).unwrap_or(0).max(0).saturating_add(1);
    let wait = delay(instance.uid, count.unsigned_abs());
    let retry = now.saturating_add(SignedDuration::try_from(wait).unwrap_or_default()).unwrap_or(now);
    Some(VirtualMachineStartFailure {
        consecutive_fail_count: Some(count),
        last_failed_vmiuid: Some(instance.uid.to_owned()),
        retry_after_timestamp: Some(Time(retry)),
    })
}

/// What is left of the wait.
pub(super) fn time_left(failure: Option<&VirtualMachineStartFailure>, now: Timestamp) -> Option<Duration> {
    let retry = failure?.retry_after_timestamp.as_ref()?.0;
    Duration::try_from(retry.duration_since(now)).ok().filter(|left| !left.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_with_the_square_and_stop_at_five_minutes() {
        for (count, least, most) in
            [(1, 10, 15), (2, 40, 60), (3, 90, 135), (5, 250, 300), (6, 300, 300), (u32::MAX, 300, 300)]
        {
            for uid in ["a", "b", "c", "d"] {
                let seconds = delay(uid, count).as_secs();
                assert!((least..=most).contains(&seconds), "failure {count} of {uid}: {seconds} s");
            }
        }
        assert_ne!(delay("a", 4), delay("b", 4));
    }
}
