//! `spec.running` and `spec.runStrategy`.

use fv_api::VirtualMachineSpec;

use crate::causes::{Causes, Field};

const STRATEGIES: [&str; 5] = ["Halted", "Manual", "Always", "RerunOnFailure", "Once"];

pub(super) fn run_strategy(spec: &VirtualMachineSpec, field: &Field, causes: &mut Causes) {
    match (&spec.running, &spec.run_strategy) {
        (Some(_), Some(_)) => causes.invalid(
            &field.child("running"),
            "Running and RunStrategy are mutually exclusive. Note that Running is deprecated, please use RunStrategy instead",
        ),
        (None, None) => causes.invalid(&field.child("running"), "RunStrategy must be specified"),
        _ => {}
    }
    let Some(strategy) = spec.run_strategy.as_deref() else { return };
    let at = field.child("runStrategy");
    if strategy == "WaitAsReceiver" {
        causes.unimplemented(&at, strategy, "use Halted, Manual, Always, RerunOnFailure or Once");
    } else if !STRATEGIES.contains(&strategy) {
        causes.invalid(&at, format!("Invalid RunStrategy ({strategy})"));
    }
}
