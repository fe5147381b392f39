//! A queue of keys to look at.
//!
//! A key is queued at most once, is never handed to two workers at a time, and is queued again when something happened to it
//! while a worker had it. Keys that fail wait longer each time.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

pub(crate) mod meter;

use meter::{Load, Loaded, Meter};

/// How long a key waits whose facts were behind: its watch event is on the way.
const SOON: Duration = Duration::from_millis(30);
/// How often a key waits that short before it does well. Facts that are behind for longer may stay so.
const MOST_SOON: u32 = 5;
/// First wait of a key that failed; doubled with each failure.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
/// Longest wait of a key that fails.
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// See the module's description.
#[derive(Debug)]
pub struct WorkQueue<K> {
    state: Mutex<State<K>>,
    changed: Notify,
    meter: Meter,
}

#[derive(Debug)]
struct State<K> {
    ready: VecDeque<K>,
    delayed: BTreeMap<(Instant, u64), K>,
    keys: HashMap<K, Entry>,
    sequence: u64,
    closed: bool,
}

#[derive(Debug, Default)]
struct Entry {
    /// Since when it waits to be taken.
    ready: Option<Instant>,
    /// Since when a worker has it.
    working: Option<Instant>,
    /// Asked for while a worker has it.
    again: bool,
    due: Option<(Instant, u64)>,
    failures: u32,
    /// How often its facts were behind since it did well.
    behind: u32,
}

impl Entry {
    fn is_idle(&self) -> bool {
        self.ready.is_none() && self.working.is_none() && self.due.is_none() && self.failures == 0 && self.behind == 0
    }
}

impl<K: Clone + Eq + Hash> Default for WorkQueue<K> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                ready: VecDeque::new(),
                delayed: BTreeMap::new(),
                keys: HashMap::new(),
                sequence: 0,
                closed: false,
            }),
            changed: Notify::new(),
            meter: Meter::default(),
        }
    }
}

impl<K: Clone + Eq + Hash + Send + Sync + 'static> WorkQueue<K> {
    /// A queue that is measured under this name.
    pub fn named(name: &'static str) -> Arc<Self> {
        let queue = Arc::new(Self { meter: Meter(Some(name)), ..Self::default() });
        let weak: Weak<Self> = Arc::downgrade(&queue);
        meter::register(weak);
        queue
    }
}

impl<K: Clone + Eq + Hash> WorkQueue<K> {
    /// The name under which it is measured.
    pub(crate) fn name(&self) -> Option<&'static str> {
        self.meter.0
    }

    /// Look at `key` now.
    pub fn add(&self, key: K) {
        if self.state.lock().make_ready(key, Instant::now()) {
            self.meter.added();
            self.changed.notify_one();
        }
    }

    /// Look at `key` after `delay`, or earlier if that was asked for.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        let due = Instant::now() + delay;
        if self.state.lock().make_due(key, due) {
            // Whoever sleeps may have to sleep less.
            self.changed.notify_one();
        }
    }

    /// Look at `key` again after its next back-off; returns the wait.
    pub fn add_failed(&self, key: K) -> Duration {
        let delay = {
            let mut state = self.state.lock();
            let entry = state.keys.entry(key.clone()).or_default();
            let delay = FIRST_BACKOFF.saturating_mul(1 << entry.failures.min(16)).min(MAX_BACKOFF);
            entry.failures = entry.failures.saturating_add(1);
            delay
        };
        self.meter.failed();
        self.add_after(key, delay);
        delay
    }

    /// Look at `key`, whose facts were behind, again very soon; when they stay behind, after its next back-off.
    pub(crate) fn add_behind(&self, key: K) {
        let stays = {
            let mut state = self.state.lock();
            let entry = state.keys.entry(key.clone()).or_default();
            entry.behind = entry.behind.saturating_add(1);
            entry.behind > MOST_SOON
        };
        if stays {
            self.add_failed(key);
        } else {
            self.add_after(key, SOON);
        }
    }

    /// `key` did well: its next failure waits short again, and so do facts that are behind.
    pub fn forget(&self, key: &K) {
        let mut state = self.state.lock();
        if let Some(entry) = state.keys.get_mut(key) {
            entry.failures = 0;
            entry.behind = 0;
            if entry.is_idle() {
                state.keys.remove(key);
            }
        }
    }

    /// The next key; `None` once the queue is closed. The worker gives it back with [`done`](Self::done).
    pub async fn next(&self) -> Option<K> {
        loop {
            let changed = self.changed.notified();
            let next_due = {
                let mut state = self.state.lock();
                if state.closed {
                    // One permit wakes one worker: pass it on.
                    self.changed.notify_one();
                    return None;
                }
                let now = Instant::now();
                state.promote(now);
                if let Some((key, since)) = state.take(now) {
                    self.meter.taken(now - since);
                    if !state.ready.is_empty() {
                        self.changed.notify_one();
                    }
                    return Some(key);
                }
                state.delayed.keys().next().map(|(due, _)| *due)
            };
            match next_due {
                Some(due) => tokio::select! {
                    () = changed => {}
                    () = tokio::time::sleep_until(due) => {}
                },
                None => changed.await,
            }
        }
    }

    /// A worker is through with `key`.
    pub fn done(&self, key: &K) {
        let mut state = self.state.lock();
        let Some(entry) = state.keys.get_mut(key) else { return };
        let now = Instant::now();
        if let Some(since) = entry.working.take() {
            self.meter.done(now - since);
        }
        let again = std::mem::take(&mut entry.again);
        if again {
            if state.make_ready(key.clone(), now) {
                self.changed.notify_one();
            }
        } else if entry.is_idle() {
            state.keys.remove(key);
        }
    }

    /// Ends [`next`](Self::next) for all workers.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_waiters();
        self.changed.notify_one();
    }

    /// Keys waiting to be looked at now.
    pub fn depth(&self) -> usize {
        self.state.lock().ready.len()
    }
}

impl<K: Clone + Eq + Hash> State<K> {
    /// Whether a worker should wake up.
    fn make_ready(&mut self, key: K, now: Instant) -> bool {
        let entry = self.keys.entry(key.clone()).or_default();
        if let Some(due) = entry.due.take() {
            self.delayed.remove(&due);
        }
        if entry.working.is_some() {
            entry.again = true;
            return false;
        }
        if entry.ready.is_some() {
            return false;
        }
        entry.ready = Some(now);
        self.ready.push_back(key);
        true
    }

    fn make_due(&mut self, key: K, due: Instant) -> bool {
        self.sequence += 1;
        let slot = (due, self.sequence);
        let entry = self.keys.entry(key.clone()).or_default();
        if entry.ready.is_some() || entry.again || entry.due.is_some_and(|(earlier, _)| earlier <= due) {
            return false;
        }
        if let Some(later) = entry.due.replace(slot) {
            self.delayed.remove(&later);
        }
        self.delayed.insert(slot, key);
        true
    }

    fn promote(&mut self, now: Instant) {
        while let Some(first) = self.delayed.first_entry() {
            if first.key().0 > now {
                return;
            }
            let key = first.remove();
            if let Some(entry) = self.keys.get_mut(&key) {
                entry.due = None;
            }
            self.make_ready(key, now);
        }
    }

    /// The next key and since when it waited.
    fn take(&mut self, now: Instant) -> Option<(K, Instant)> {
        let key = self.ready.pop_front()?;
        let entry = self.keys.entry(key.clone()).or_default();
        entry.working = Some(now);
        let since = entry.ready.take().unwrap_or(now);
        Some((key, since))
    }

    fn load(&self, now: Instant) -> Load {
        let mut load = Load { depth: self.ready.len(), ..Load::default() };
        for since in self.keys.values().filter_map(|entry| entry.working) {
            let seconds = (now - since).as_secs_f64();
            load.unfinished += seconds;
            load.longest = load.longest.max(seconds);
        }
        load
    }
}

impl<K: Clone + Eq + Hash + Send + Sync> Loaded for WorkQueue<K> {
    fn load(&self) -> (&'static str, Load) {
        (self.name().unwrap_or_default(), self.state.lock().load(Instant::now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    async fn next_now(queue: &WorkQueue<&'static str>) -> Option<&'static str> {
        tokio::time::timeout(Duration::from_millis(1), queue.next()).await.ok().flatten()
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_queued_once_and_worked_on_by_one() {
        let queue = WorkQueue::default();
        queue.add("a");
        queue.add("a");
        assert_eq!(next_now(&queue).await, Some("a"));
        queue.add("a");
        assert_eq!(next_now(&queue).await, None, "it is being worked on");
        queue.done(&"a");
        assert_eq!(next_now(&queue).await, Some("a"), "what happened meanwhile is not lost");
        queue.done(&"a");
        assert_eq!(next_now(&queue).await, None);
        assert!(queue.state.lock().keys.is_empty(), "nothing is kept about idle keys");
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_named_queue_does_is_measured() {
        let queue = WorkQueue::named("measured");
        queue.add("a");
        queue.add("b");
        assert_eq!(queue.next().await, Some("a"));
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(Loaded::load(&*queue).1, Load { depth: 1, unfinished: 3.0, longest: 3.0 });
        queue.done(&"a");
        queue.add_failed("a");
        assert_eq!(queue.next().await, Some("b"));
        use fv_metrics::live;
        assert_eq!(live::QUEUE_ADDS.with_label_values(&["measured"]).get(), 2);
        assert_eq!(live::QUEUE_RETRIES.with_label_values(&["measured"]).get(), 1);
        assert_eq!(live::QUEUE_WORK.with_label_values(&["measured"]).get_sample_sum(), 3.0);
        assert_eq!(live::QUEUE_WAIT.with_label_values(&["measured"]).get_sample_sum(), 3.0);
        let mut samples = fv_metrics::Samples::default();
        meter::sample(&mut samples);
        assert!(samples.lines().contains(&"kubevirt_workqueue_depth{name=\"measured\"} 0".to_owned()));
        drop(queue);
        let mut samples = fv_metrics::Samples::default();
        meter::sample(&mut samples);
        assert!(!samples.lines().iter().any(|line| line.contains("measured")));
    }

    #[tokio::test(start_paused = true)]
    async fn the_earlier_of_two_delays_counts() {
        let queue = WorkQueue::default();
        queue.add_after("a", Duration::from_secs(50));
        queue.add_after("a", Duration::from_secs(5));
        queue.add_after("a", Duration::from_secs(20));
        let before = Instant::now();
        assert_eq!(queue.next().await, Some("a"));
        assert_eq!(before.elapsed().as_secs(), 5);
        queue.done(&"a");
        assert_eq!(next_now(&queue).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_delay_set_while_working_survives_done() {
        let queue = WorkQueue::default();
        queue.add("a");
        assert_eq!(queue.next().await, Some("a"));
        queue.add_after("a", Duration::from_secs(3));
        queue.done(&"a");
        let before = Instant::now();
        assert_eq!(queue.next().await, Some("a"));
        assert_eq!(before.elapsed().as_secs(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_wait_longer_up_to_a_minute() {
        let queue = WorkQueue::default();
        let mut waits = Vec::new();
        for _ in 0..12 {
            waits.push(queue.add_failed("a"));
            assert_eq!(queue.next().await, Some("a"));
            queue.done(&"a");
        }
        assert_eq!(waits[0], FIRST_BACKOFF);
        assert_eq!(waits[3], FIRST_BACKOFF * 8);
        assert_eq!(waits[11], MAX_BACKOFF);
        queue.forget(&"a");
        assert_eq!(queue.add_failed("a"), FIRST_BACKOFF);
    }

    #[tokio::test]
    async fn closing_ends_every_worker() {
        let queue = Arc::new(WorkQueue::<u32>::default());
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let queue = queue.clone();
                tokio::spawn(async move { queue.next().await })
            })
            .collect();
        tokio::task::yield_now().await;
        queue.close();
        for worker in workers {
            assert_eq!(worker.await.expect("no panic"), None);
        }
    }

    #[tokio::test]
    async fn every_key_is_seen_under_load() {
        let queue = Arc::new(WorkQueue::<u32>::default());
        let seen = Arc::new(Mutex::new(std::collections::HashSet::new()));
        let workers: Vec<_> = (0..3)
            .map(|_| {
                let (queue, seen) = (queue.clone(), seen.clone());
                tokio::spawn(async move {
                    while let Some(key) = queue.next().await {
                        seen.lock().insert(key);
                        tokio::task::yield_now().await;
                        queue.done(&key);
                    }
                })
            })
            .collect();
        for key in 0..1000 {
            queue.add(key);
        }
        while seen.lock().len() < 1000 {
            tokio::task::yield_now().await;
        }
        queue.close();
        for worker in workers {
            worker.await.expect("no panic");
        }
    }
}
