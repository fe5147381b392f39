//! Workers: take a key, look at it, decide when to look again.

use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use fv_metrics::live;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::queue::WorkQueue;

/// How long a key waits whose facts were behind: its watch event is on the way.
const SOON: Duration = Duration::from_millis(30);

/// When to look at a key again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// When something changes.
    OnChange,
    /// After this long at the latest.
    After(Duration),
    /// Very soon: somebody else wrote in between.
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

/// Runs `count` workers until `shutdown`, then lets each finish what it has begun.
pub async fn run_workers<K, F, Fut>(queue: Arc<WorkQueue<K>>, count: usize, shutdown: CancellationToken, reconcile: F)
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    F: Fn(K) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Again> + Send,
{
    let mut workers = JoinSet::new();
    for _ in 0..count.max(1) {
        let (queue, reconcile) = (queue.clone(), reconcile.clone());
        workers.spawn(async move {
            while let Some(key) = queue.next().await {
                let again = reconcile(key.clone()).await;
                if let Some(name) = queue.name() {
                    live::RECONCILES.with_label_values(&[name, again.word()]).inc();
                }
                match again {
                    Again::OnChange => queue.forget(&key),
                    Again::After(delay) => {
                        queue.forget(&key);
                        queue.add_after(key.clone(), delay);
                    }
                    Again::Soon => queue.add_after(key.clone(), SOON),
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
