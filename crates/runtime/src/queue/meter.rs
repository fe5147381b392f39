//! What is measured of queues that have a name.

use std::collections::BTreeMap;
use std::sync::Weak;
use std::time::Duration;

use fv_metrics::catalogue::program::{QUEUE_DEPTH, QUEUE_LONGEST, QUEUE_UNFINISHED};
use fv_metrics::{Samples, live};
use parking_lot::Mutex;

/// Counts for the queue of a name; for one without it does nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Meter(pub(super) Option<&'static str>);

impl Meter {
    pub(super) fn added(self) {
        if let Some(name) = self.0 {
            live::QUEUE_ADDS.with_label_values(&[name]).inc();
        }
    }

    pub(super) fn failed(self) {
        if let Some(name) = self.0 {
            live::QUEUE_RETRIES.with_label_values(&[name]).inc();
        }
    }

    pub(super) fn taken(self, waited: Duration) {
        if let Some(name) = self.0 {
            live::QUEUE_WAIT.with_label_values(&[name]).observe(waited.as_secs_f64());
        }
    }

    pub(super) fn done(self, worked: Duration) {
        if let Some(name) = self.0 {
            live::QUEUE_WORK.with_label_values(&[name]).observe(worked.as_secs_f64());
        }
    }
}

/// How a queue is at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Load {
    pub(super) depth: usize,
    /// Seconds of the turns under way.
    pub(super) unfinished: f64,
    pub(super) longest: f64,
}

/// A queue with a name.
pub(super) trait Loaded: Send + Sync {
    fn load(&self) -> (&'static str, Load);
}

static QUEUES: Mutex<Vec<Weak<dyn Loaded>>> = Mutex::new(Vec::new());

pub(super) fn register(queue: Weak<dyn Loaded>) {
    QUEUES.lock().push(queue);
}

/// Adds how the queues of this process are now. Those of one name, an old one that is being left and its successor, count together.
pub(crate) fn sample(samples: &mut Samples) {
    let mut queues = QUEUES.lock();
    queues.retain(|queue| queue.strong_count() > 0);
    let mut by_name: BTreeMap<&str, Load> = BTreeMap::new();
    for (name, load) in queues.iter().filter_map(Weak::upgrade).map(|queue| queue.load()) {
        let all = by_name.entry(name).or_default();
        all.depth += load.depth;
        all.unfinished += load.unfinished;
        all.longest = all.longest.max(load.longest);
    }
    for (name, load) in by_name {
        samples.push(&QUEUE_DEPTH, &[name], load.depth as f64);
        samples.push(&QUEUE_UNFINISHED, &[name], load.unfinished);
        samples.push(&QUEUE_LONGEST, &[name], load.longest);
    }
}
