//! Times between phases of instances, from the timestamps in their status: whoever hears of a change late measures the same.

use fv_api::VirtualMachineInstance;
use fv_metrics::live;
use jiff::Timestamp;

/// What a change of phase took, in seconds.
#[derive(Debug, Default, PartialEq)]
struct Times {
    phase: String,
    last_phase: String,
    since_last: Option<f64>,
    since_creation: Option<f64>,
    since_deletion: Option<f64>,
}

/// Takes note of a change that was heard of.
pub(crate) fn observe(before: Option<&VirtualMachineInstance>, after: Option<&VirtualMachineInstance>) {
    // What is seen for the first time came into its phase at a time at which nobody, or another process, counted.
    let (Some(before), Some(after)) = (before, after) else { return };
    let Some(times) = times(before, after) else { return };
    if let Some(seconds) = times.since_last {
        live::PHASE_TRANSITION.with_label_values(&[&times.phase, &times.last_phase]).observe(seconds);
    }
    if let Some(seconds) = times.since_creation {
        live::PHASE_FROM_CREATION.with_label_values(&[&times.phase]).observe(seconds);
    }
    if let Some(seconds) = times.since_deletion {
        live::PHASE_FROM_DELETION.with_label_values(&[&times.phase]).observe(seconds);
    }
}

fn times(before: &VirtualMachineInstance, after: &VirtualMachineInstance) -> Option<Times> {
    let (last_phase, phase) = (phase_of(before), phase_of(after));
    if last_phase == phase || before.metadata.uid != after.metadata.uid {
        return None;
    }
    let came = entered(after, phase)?;
    let created = after.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let deleted = after.metadata.deletion_timestamp.as_ref().map(|time| time.0);
    let left = if last_phase.is_empty() { created } else { entered(after, last_phase) };
    // Timestamps have seconds, and clocks differ: what looks negative took no time.
    let since = |begin: Timestamp| came.duration_since(begin).as_secs_f64().max(0.0);
    Some(Times {
        phase: phase.to_owned(),
        last_phase: last_phase.to_owned(),
        since_last: left.map(since),
        since_creation: created.map(since),
        since_deletion: deleted.filter(|_| matches!(phase, "Succeeded" | "Failed")).map(since),
    })
}

fn phase_of(vmi: &VirtualMachineInstance) -> &str {
    vmi.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn entered(vmi: &VirtualMachineInstance, phase: &str) -> Option<Timestamp> {
    let timestamps = &vmi.status.as_ref()?.phase_transition_timestamps;
    let found = timestamps.iter().find(|entry| entry.phase.as_deref() == Some(phase))?;
    Some(found.phase_transition_timestamp.as_ref()?.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn vmi(phase: &str, deleted: Option<&str>) -> VirtualMachineInstance {
        let at = |phase: &str, second: u32| json!({"phase": phase, "phaseTransitionTimestamp": format!("2026-01-01T00:00:{second:02}Z")});
        serde_json::from_value(json!({
            "metadata": {
                "name": "a", "uid": "u", "creationTimestamp": "2026-01-01T00:00:10Z", "deletionTimestamp": deleted
            },
            "spec": {"domain": {"devices": {}}},
            "status": {
                "phase": phase,
                "phaseTransitionTimestamps": [at("Pending", 9), at("Scheduled", 12), at("Running", 15), at("Succeeded", 40)]
            }
        }))
        .unwrap()
    }

    #[test]
    fn times_are_those_of_the_status() {
        let expect = |before: &str, after: &str, since_last, since_creation| {
            let expected = Times {
                phase: after.to_owned(),
                last_phase: before.to_owned(),
                since_last,
                since_creation: Some(since_creation),
                since_deletion: None,
            };
            assert_eq!(times(&vmi(before, None), &vmi(after, None)), Some(expected));
        };
        expect("Scheduled", "Running", Some(3.0), 5.0);
        expect("", "Pending", Some(0.0), 0.0);
        expect("Scheduling", "Running", None, 5.0);
    }

    #[test]
    fn without_a_change_of_phase_or_its_time_nothing_is_measured() {
        assert_eq!(times(&vmi("Running", None), &vmi("Running", None)), None);
        assert_eq!(times(&vmi("Running", None), &vmi("Failed", None)), None);
        let mut other = vmi("Scheduled", None);
        other.metadata.uid = Some("another".into());
        assert_eq!(times(&other, &vmi("Running", None)), None);
    }

    #[test]
    fn a_deleted_instance_is_timed_from_its_deletion_to_its_last_phase() {
        let since = |before: &str, after: &str| {
            times(&vmi(before, None), &vmi(after, Some("2026-01-01T00:00:33Z"))).unwrap().since_deletion
        };
        assert_eq!(since("Running", "Succeeded"), Some(7.0));
        assert_eq!(since("Scheduled", "Running"), None);
    }
}
