//! Our own, with the prefix `ferrovirt_`.

pub use component::*;
pub use node::*;

pub(super) const PARTS: [&[&crate::Definition]; 2] = [component::ALL, node::ALL];

mod node {
    use crate::Program;
    crate::definition::definitions! { &[Program::Handler];
        LIBVIRT_CALLS: Counter "ferrovirt_libvirt_calls_total" &["lane", "outcome"],
            "Calls of libvirt, by the lane in which those of one domain wait for each other, and by what came of them: ok or a reason.";
        LIBVIRT_DURATION: Histogram "ferrovirt_libvirt_call_duration_seconds" &["lane"],
            "Time calls of libvirt took, the wait for their turn included.";
        LIBVIRT_CONNECTED: Gauge "ferrovirt_libvirt_connected" &["node"], "1 while there is a connection to libvirt.";
        UNREADABLE: Counter "ferrovirt_vmi_stats_unreadable_total" &["node", "source", "reason"],
            "Statistics of guests that could not be read at a scrape (source libvirt, process or network); their series are left out.";
        STEP_FAILURES: Counter "ferrovirt_vmi_step_failures_total" &["step", "reason"],
            "Steps on the way of a machine that failed and are tried again.";
        TROUBLES: Gauge "ferrovirt_vmi_troubles" &["node", "reason"],
            "Machines with something an operator should know, such as guests whose VMI is gone.";
    }
}

mod component {
    use crate::Program;
    crate::definition::definitions! { &[Program::Controller];
        RECONCILES: Counter "ferrovirt_reconcile_total" &["name", "result"],
            "Turns of a queue's objects, by when they are looked at again: on_change, after (a time), soon (facts were behind) or backoff (failed).";
        EFFECT_FAILURES: Counter "ferrovirt_effect_failures_total" &["reason"],
            "Requests to the API that failed and were told to the user, by the reason of the event.";
    }
}

/// Buckets of the time of libvirt's calls.
pub const CALL_BUCKETS: &[f64] = &[0.001, 0.005, 0.025, 0.1, 0.5, 2.0, 10.0, 60.0];
