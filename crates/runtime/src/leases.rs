//! One of several replicas works, the others stand by: leader election on a Lease of `coordination.k8s.io`, with the semantics of
//! client-go.
//!
//! No clock of another machine is trusted: a candidate takes a lease whose content did not change for its whole duration *on the
//! candidate's own clock*, and a leader stops at the renew deadline counted from when its last successful write was *sent*. So
//! there are never two, as long as clocks run at about the same speed. (Crates that compare the holder's `renewTime` with their own
//! wall clock cannot promise that.)

mod driver;
mod election;

use std::future::Future;
use std::time::Duration;

use kube::Client;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::Clock;
use driver::Driver;

pub use election::{Attempt, Claim, Election};

/// How long things take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long others leave an unchanged lease alone.
    pub lease: Duration,
    /// How long a leader works without a successful renewal; shorter than `lease`.
    pub renew_deadline: Duration,
    /// Between two tries.
    pub retry: Duration,
}

impl Default for Timing {
    /// KubeVirt's.
    fn default() -> Self {
        Self { lease: Duration::from_secs(15), renew_deadline: Duration::from_secs(10), retry: Duration::from_secs(2) }
    }
}

/// Who wants which lease.
#[derive(Clone)]
pub struct Candidate {
    pub client: Client,
    pub namespace: String,
    pub name: String,
    /// Unlike that of any other process, ever: see [`identity`].
    pub identity: String,
    pub timing: Timing,
    /// Where the times written into the lease come from; nothing is decided on them.
    pub clock: Clock,
}

/// How it ended.
#[derive(Debug)]
pub enum Led<T> {
    /// Asked to stop before it led.
    Never,
    /// The work ended, and the lease was given back.
    Finished(T),
    /// The lease was lost and the work was dropped where it stood. The process must end, too.
    Lost,
}

/// An identity for a process on `host`, made of its name and something random, as client-go's.
pub fn identity(host: &str) -> String {
    format!("{host}_{}", Uuid::new_v4())
}

/// Waits until `candidate` leads, then runs `work` as long as it leads.
///
/// The token given to `work` is cancelled with `shutdown`; the lease is renewed until the work has ended and is then given back, so
/// that another takes over at once. When the lease is lost the work is aborted.
///
/// # Errors
/// The work panicked.
pub async fn lead<T, F, W>(candidate: Candidate, shutdown: CancellationToken, work: F) -> Result<Led<T>, JoinError>
where
    T: Send + 'static,
    F: FnOnce(CancellationToken) -> W,
    W: Future<Output = T> + Send + 'static,
{
    let mut driver = Driver::new(candidate);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(Led::Never),
            () = driver.attempt() => {}
        }
        if driver.leads() {
            break;
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(Led::Never),
            () = driver.pause() => {}
        }
    }
    tracing::info!(lease = driver.name(), "became leader");
    let mut work = tokio::spawn(work(shutdown.child_token()));
    let result = loop {
        tokio::select! {
            biased;
            () = driver.expiry() => {
                tracing::error!(lease = driver.name(), "lost the lease: this process stops working");
                work.abort();
                return Ok(Led::Lost);
            }
            ended = &mut work => break ended,
            () = driver.renew() => {}
        }
    };
    driver.release().await;
    result.map(Led::Finished)
}
