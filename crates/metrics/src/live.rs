//! Counters, gauges and histograms that live as long as the process, kept up by whoever does what they count. One set a process: in
//! embedded mode all components share it.

use std::sync::LazyLock;

use prometheus::core::Collector;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};

use crate::catalogue::{machine, own, program};
use crate::{Definition, Kind};

pub use prometheus::{HistogramVec as Histograms, IntCounterVec as Counters, IntGaugeVec as Gauges};

static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::new);

macro_rules! live {
    ($($name:ident: $kind:ty = $make:expr;)+) => {
        $(
            #[doc = "See the definition of the same name in [`crate::catalogue`]."]
            pub static $name: LazyLock<$kind> = LazyLock::new(|| $make);
        )+
    };
}

live! {
    PHASE_TRANSITION: HistogramVec = histogram(&machine::PHASE_TRANSITION, machine::PHASE_BUCKETS);
    PHASE_FROM_CREATION: HistogramVec = histogram(&machine::PHASE_FROM_CREATION, machine::PHASE_BUCKETS);
    PHASE_FROM_DELETION: HistogramVec = histogram(&machine::PHASE_FROM_DELETION, machine::PHASE_BUCKETS);
    API_READY: IntGaugeVec = gauge(&program::API_READY);
    CONTROLLER_READY: IntGaugeVec = gauge(&program::CONTROLLER_READY);
    CONTROLLER_LEADING: IntGaugeVec = gauge(&program::CONTROLLER_LEADING);
    HANDLER_READY: IntGaugeVec = gauge(&program::HANDLER_READY);
    OPERATOR_READY: IntGaugeVec = gauge(&program::OPERATOR_READY);
    OPERATOR_LEADING: IntGaugeVec = gauge(&program::OPERATOR_LEADING);
    INFO: IntGaugeVec = gauge(&program::INFO);
    REST_REQUESTS: IntCounterVec = counter(&program::REST_REQUESTS);
    REST_LATENCY: HistogramVec = histogram(&program::REST_LATENCY, program::REST_BUCKETS);
    QUEUE_ADDS: IntCounterVec = counter(&program::QUEUE_ADDS);
    QUEUE_RETRIES: IntCounterVec = counter(&program::QUEUE_RETRIES);
    QUEUE_WAIT: HistogramVec = histogram(&program::QUEUE_WAIT, program::QUEUE_BUCKETS);
    QUEUE_WORK: HistogramVec = histogram(&program::QUEUE_WORK, program::QUEUE_BUCKETS);
    LIBVIRT_CALLS: IntCounterVec = counter(&own::LIBVIRT_CALLS);
    LIBVIRT_DURATION: HistogramVec = histogram(&own::LIBVIRT_DURATION, own::CALL_BUCKETS);
    UNREADABLE: IntCounterVec = counter(&own::UNREADABLE);
    STEP_FAILURES: IntCounterVec = counter(&own::STEP_FAILURES);
    RECONCILES: IntCounterVec = counter(&own::RECONCILES);
    EFFECT_FAILURES: IntCounterVec = counter(&own::EFFECT_FAILURES);
}

/// Says whether a program, whose status `gauge` is, is what the gauge says.
pub fn set(gauge: &IntGaugeVec, is: bool) {
    gauge.with_label_values::<&str>(&[]).set(is.into());
}

pub(crate) fn families() -> Vec<prometheus::proto::MetricFamily> {
    REGISTRY.gather()
}

fn counter(of: &Definition) -> IntCounterVec {
    debug_assert_eq!(of.kind, Kind::Counter);
    registered(IntCounterVec::new(Opts::new(of.name, of.help), of.labels))
}

fn gauge(of: &Definition) -> IntGaugeVec {
    debug_assert_eq!(of.kind, Kind::Gauge);
    registered(IntGaugeVec::new(Opts::new(of.name, of.help), of.labels))
}

fn histogram(of: &Definition, buckets: &[f64]) -> HistogramVec {
    debug_assert_eq!(of.kind, Kind::Histogram);
    registered(HistogramVec::new(HistogramOpts::new(of.name, of.help).buckets(buckets.to_vec()), of.labels))
}

#[expect(clippy::expect_used, reason = "definitions are constants, and a test makes every metric of them")]
fn registered<C: Collector + Clone + 'static>(made: prometheus::Result<C>) -> C {
    let made = made.expect("the definition is sound");
    REGISTRY.register(Box::new(made.clone())).expect("each definition is registered once");
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_live_metric_can_be_made_and_is_gathered_under_its_name() {
        set(&API_READY, true);
        set(&CONTROLLER_READY, true);
        set(&CONTROLLER_LEADING, false);
        set(&HANDLER_READY, true);
        set(&OPERATOR_READY, true);
        set(&OPERATOR_LEADING, true);
        INFO.with_label_values(&["", "v0"]).set(1);
        for histogram in [&PHASE_FROM_CREATION, &PHASE_FROM_DELETION, &QUEUE_WAIT, &QUEUE_WORK, &LIBVIRT_DURATION] {
            histogram.with_label_values(&["a"]).observe(0.3);
        }
        for histogram in [&PHASE_TRANSITION, &REST_LATENCY] {
            histogram.with_label_values(&["a", "b"]).observe(0.3);
        }
        REST_REQUESTS.with_label_values(&["200", "GET", "", "pods", "list"]).inc();
        for counter in [&QUEUE_ADDS, &QUEUE_RETRIES, &EFFECT_FAILURES] {
            counter.with_label_values(&["a"]).inc();
        }
        for counter in [&LIBVIRT_CALLS, &STEP_FAILURES, &RECONCILES] {
            counter.with_label_values(&["a", "b"]).inc();
        }
        UNREADABLE.with_label_values(&["n", "libvirt", "Busy"]).inc();
        let known: Vec<_> = crate::catalogue::all().iter().map(|definition| definition.name).collect();
        let gathered = families();
        assert_eq!(gathered.len(), 22);
        assert!(gathered.iter().all(|family| known.contains(&family.name())));
    }
}
