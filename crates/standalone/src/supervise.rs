//! Keeps the parts of the embedded engine running: a part that panics or ends although nobody asked it to is an error in the log
//! and a new start, never silence.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The first pause before a part is started again; it doubles up to [`LONGEST`].
const PAUSE: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(30);

/// Runs `part` until `shutdown`. All parts are level-triggered: started anew they go on from what the API says.
pub(crate) async fn keep<F, Fut>(name: &'static str, shutdown: CancellationToken, mut part: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = ()>,
{
    let mut pause = PAUSE;
    loop {
        let begin = Instant::now();
        let outcome = AssertUnwindSafe(part()).catch_unwind().await;
        if shutdown.is_cancelled() {
            return;
        }
        if begin.elapsed() > LONGEST {
            pause = PAUSE;
        }
        match outcome {
            Ok(()) => tracing::error!(part = name, "ended although nobody asked it to; it is started again"),
            Err(panic) => tracing::error!(part = name, panic = text(panic.as_ref()), "panicked; it is started again"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST),
        }
    }
}

/// What a panic said.
pub(crate) fn text(panic: &(dyn std::any::Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or(panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test(start_paused = true)]
    async fn a_part_that_panics_or_returns_is_started_again() {
        let runs = Arc::new(AtomicUsize::new(0));
        let shutdown = CancellationToken::new();
        let (counter, stop) = (Arc::clone(&runs), shutdown.clone());
        let part = move || {
            let (run, stop) = (counter.fetch_add(1, Ordering::SeqCst), stop.clone());
            async move {
                match run {
                    0 => panic!("once"),
                    1 => {}
                    _ => stop.cancelled().await,
                }
            }
        };
        let kept = tokio::spawn(keep("part", shutdown.clone(), part));
        while runs.load(Ordering::SeqCst) < 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(!kept.is_finished());
        shutdown.cancel();
        kept.await.unwrap();
        assert_eq!(runs.load(Ordering::SeqCst), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_always_fails_is_not_started_in_a_loop() {
        let runs = Arc::new(AtomicUsize::new(0));
        let shutdown = CancellationToken::new();
        let counter = Arc::clone(&runs);
        let part = move || {
            counter.fetch_add(1, Ordering::SeqCst);
            async { panic!("always") }
        };
        let kept = tokio::spawn(keep("part", shutdown.clone(), part));
        tokio::time::sleep(Duration::from_secs(120)).await;
        shutdown.cancel();
        kept.await.unwrap();
        assert!((5..15).contains(&runs.load(Ordering::SeqCst)), "{runs:?}");
    }
}
