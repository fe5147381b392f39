//! Workers: take a key, look at it, decide when to look again.

use std::any::Any;
use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use fv_metrics::live;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::queue::WorkQueue;

/// When to look at a key again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// When something changes.
    OnChange,
    /// After this long at the latest.
    After(Duration),
    /// Very soon: somebody else wrote in between. With the key's back-off when that goes on.
    Soon,
    /// It failed: with the key's back-off.
    Backoff,
}

impl Again {
    /// Label of metrics.
    fn word(self) -> &'static str {
        match self {
            Self::OnChange => "on_change",
            Self::After(_) => "after",
            Self::Soon => "soon",
            Self::Backoff => "backoff",
        }
    }
}

/// Runs `count` workers until `shutdown`, then lets each finish what it has begun. A panic fails the key it was about, nothing else.
pub async fn run_workers<K, F, Fut>(queue: Arc<WorkQueue<K>>, count: usize, shutdown: CancellationToken, reconcile: F)
where
    K: Clone + Debug + Eq + Hash + Send + Sync + 'static,
    F: Fn(K) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Again> + Send,
{
    let mut workers = JoinSet::new();
    for _ in 0..count.max(1) {
        let (queue, reconcile) = (queue.clone(), reconcile.clone());
        workers.spawn(async move {
            while let Some(key) = queue.next().await {
                let attempt = {
                    let (reconcile, key) = (reconcile.clone(), key.clone());
                    async move { reconcile(key).await }
                };
                let again = AssertUnwindSafe(attempt).catch_unwind().await.unwrap_or_else(|panic| {
                    tracing::error!(?key, panic = text(panic.as_ref()), "panicked; it is tried again");
                    Again::Backoff
                });
                if let Some(name) = queue.name() {
                    live::RECONCILES.with_label_values(&[name, again.word()]).inc();
                }
                match again {
                    Again::OnChange => queue.forget(&key),
                    Again::After(delay) => {
                        queue.forget(&key);
                        queue.add_after(key.clone(), delay);
                    }
                    Again::Soon => queue.add_behind(key.clone()),
                    Again::Backoff => {
                        queue.add_failed(key.clone());
                    }
                }
                queue.done(&key);
            }
        });
    }
    shutdown.cancelled().await;
    queue.close();
    while workers.join_next().await.is_some() {}
}

/// What a panic said.
fn text(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or(panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use tokio::time::Instant;

    use super::*;

    /// What one worker was asked, and when, in a minute; `answer` is told the key and how often it was asked about it before.
    async fn asked(
        keys: &[&'static str],
        answer: impl Fn(&str, usize) -> Again + Send + Sync + 'static,
    ) -> Vec<(&'static str, Duration)> {
        let (queue, stop) = (Arc::new(WorkQueue::default()), CancellationToken::new());
        keys.iter().for_each(|key| queue.add(*key));
        let (begin, asked) = (Instant::now(), Arc::new(Mutex::new(Vec::new())));
        let (answer, log) = (Arc::new(answer), asked.clone());
        let workers = tokio::spawn(run_workers(queue, 1, stop.clone(), move |key: &'static str| {
            let (answer, log) = (answer.clone(), log.clone());
            async move {
                let before = {
                    let mut log = log.lock();
                    let before = log.iter().filter(|(known, _)| *known == key).count();
                    log.push((key, begin.elapsed()));
                    before
                };
                answer(key, before)
            }
        }));
        tokio::time::sleep(Duration::from_secs(60)).await;
        stop.cancel();
        workers.await.unwrap();
        asked.lock().clone()
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_that_panics_is_tried_again_and_others_go_on() {
        let asked = asked(&["bad", "good"], |key, before| {
            assert!(key != "bad" || before > 1, "of {key}");
            Again::OnChange
        })
        .await;
        let keys: Vec<_> = asked.iter().map(|(key, _)| *key).collect();
        assert_eq!(keys, ["bad", "good", "bad", "bad"]);
        let waits: Vec<_> = [(0, 2), (2, 3)].map(|(from, to)| (asked[to].1 - asked[from].1).as_millis()).into();
        assert!((100..110).contains(&waits[0]) && (200..210).contains(&waits[1]), "{waits:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn facts_that_stay_behind_wait_longer_and_longer() {
        const MOMENT: Duration = Duration::from_secs(10);
        let asked = asked(&["vm"], |_, before| if before == 8 { Again::After(MOMENT) } else { Again::Soon }).await;
        let waits: Vec<_> = asked.windows(2).map(|pair| (pair[1].1 - pair[0].1).as_millis()).collect();
        let expected = [30, 30, 30, 30, 30, 100, 200, 400, MOMENT.as_millis(), 30, 30, 30, 30, 30, 100, 200];
        // Timers are exact to the millisecond.
        let agree = waits.iter().zip(expected).all(|(wait, expected)| wait.abs_diff(expected) <= 2);
        assert!(waits.len() >= expected.len() && agree, "{waits:?}");
    }

    #[test]
    fn what_a_panic_said_is_read_from_both_kinds_of_text() {
        let (fixed, made) = ("fixed", "made".to_owned());
        let panics: [(Box<dyn Any + Send>, &str); 3] =
            [(Box::new(fixed), "fixed"), (Box::new(made), "made"), (Box::new(7), "without a message")];
        for (panic, expected) in panics {
            assert_eq!(text(panic.as_ref()), expected);
        }
    }
}
