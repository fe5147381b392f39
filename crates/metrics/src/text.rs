//! The text format of Prometheus.

use prometheus::proto::MetricFamily;
use prometheus::{Encoder, TEXT_FORMAT, TextEncoder};

use crate::{Samples, live};

/// Its media type.
pub const MEDIA_TYPE: &str = TEXT_FORMAT;

/// Everything that is known: what lives in this process, and `samples`.
pub fn render(samples: &Samples) -> String {
    let mut families = live::families();
    families.extend(samples.families());
    families.sort_by(|a, b| a.name().cmp(b.name()));
    encode(&families)
}

pub(crate) fn encode(families: &[MetricFamily]) -> String {
    let mut text = Vec::new();
    // It fails for a family without a sample alone, and there is none.
    if let Err(error) = TextEncoder::new().encode(families, &mut text) {
        debug_assert!(false, "{error}");
    }
    String::from_utf8(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::{domain, machine};

    #[test]
    fn samples_become_text_with_help_and_type() {
        let mut samples = Samples::default();
        samples.push(&machine::VM_RUNNING, &["a\"b", "ns"], 1.7e9);
        samples.push(&machine::VM_RUNNING, &["a\"b", "ns"], 3.0);
        samples.push_with(&domain::CPU_USAGE, &["", "ns", "x"], &[("kubernetes_vmi_label_l".into(), "v".into())], 1.5);
        let mut more = Samples::default();
        more.push(&machine::VMI_NON_EVICTABLE, &["n", "ns", "x"], 0.0);
        samples.extend(more);
        let text = encode(&samples.families());
        let expected = format!(
            "# HELP kubevirt_vm_running_status_last_transition_timestamp_seconds {}\n\
             # TYPE kubevirt_vm_running_status_last_transition_timestamp_seconds counter\n\
             kubevirt_vm_running_status_last_transition_timestamp_seconds{{name=\"a\\\"b\",namespace=\"ns\"}} 1700000000\n\
             # HELP kubevirt_vmi_cpu_usage_seconds_total {}\n\
             # TYPE kubevirt_vmi_cpu_usage_seconds_total counter\n\
             kubevirt_vmi_cpu_usage_seconds_total{{namespace=\"ns\",name=\"x\",kubernetes_vmi_label_l=\"v\"}} 1.5\n\
             # HELP kubevirt_vmi_non_evictable {}\n\
             # TYPE kubevirt_vmi_non_evictable gauge\n\
             kubevirt_vmi_non_evictable{{node=\"n\",namespace=\"ns\",name=\"x\"}} 0\n",
            machine::VM_RUNNING.help,
            domain::CPU_USAGE.help,
            machine::VMI_NON_EVICTABLE.help
        );
        assert_eq!(text, expected);
    }
}
