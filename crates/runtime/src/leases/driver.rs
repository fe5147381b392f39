//! Carries an [`Election`] out against the API.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, PostParams};
use tokio::time::Instant;

use super::election::{Attempt, Claim, Election};
use super::{Candidate, Timing};
use crate::Clock;

/// What one attempt needs of the candidate, and what it knows.
pub(super) struct Driver {
    api: Api<Lease>,
    name: String,
    timing: Timing,
    clock: Clock,
    start: Instant,
    election: Election,
    /// The lease as it was read or written last; `None` when it must be read anew.
    known: Option<Lease>,
}

impl Driver {
    pub(super) fn new(candidate: Candidate) -> Self {
        let Candidate { client, namespace, name, identity, timing, clock } = candidate;
        Self {
            api: Api::namespaced(client, &namespace),
            name,
            timing,
            clock,
            start: Instant::now(),
            election: Election::new(identity, timing),
            known: None,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn leads(&self) -> bool {
        self.election.leads(self.start.elapsed())
    }

    /// Ends when this candidate leads no longer.
    pub(super) fn expiry(&self) -> impl Future<Output = ()> + use<> {
        let until = self.start + self.election.expiry().unwrap_or_default();
        tokio::time::sleep_until(until)
    }

    /// Waits until the next try, not quite as long as the others.
    pub(super) async fn pause(&self) {
        tokio::time::sleep(self.timing.retry.mul_f64(1.0 + 0.2 * rand::random::<f64>())).await;
    }

    /// Waits a moment and renews.
    pub(super) async fn renew(&mut self) {
        tokio::time::sleep(self.timing.retry).await;
        self.attempt().await;
    }

    /// One try to take or renew the lease. Failures are logged: the next try is near.
    pub(super) async fn attempt(&mut self) {
        let limit = self.timing.renew_deadline / 2;
        match tokio::time::timeout(limit, self.try_once()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                self.known = None;
                // Another was faster, or the API is away.
                let conflict = matches!(&error, kube::Error::Api(status) if status.code == 409);
                if !conflict {
                    tracing::warn!(
                        lease = self.name,
                        error = &error as &dyn std::error::Error,
                        "a lease is not reached"
                    );
                }
            }
            Err(_) => {
                self.known = None;
                tracing::warn!(lease = self.name, seconds = limit.as_secs(), "the API does not answer about a lease");
            }
        }
    }

    async fn try_once(&mut self) -> Result<(), kube::Error> {
        if self.known.is_none() || !self.leads() {
            self.known = self.api.get_opt(&self.name).await?;
            self.election.observe(self.known.as_ref().map(|lease| self.claim(lease)), self.start.elapsed());
        }
        let sent = self.start.elapsed();
        let Attempt::Write(claim) = self.election.attempt(sent, self.clock.now()) else { return Ok(()) };
        self.write(&claim).await?;
        self.election.won(claim, sent);
        Ok(())
    }

    async fn write(&mut self, claim: &Claim) -> Result<(), kube::Error> {
        let spec = Some(spec(claim));
        // Whatever becomes of the request: what is known now is old.
        let stored = match self.known.take() {
            Some(lease) => self.api.replace(&self.name, &PostParams::default(), &Lease { spec, ..lease }).await?,
            None => {
                let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
                self.api.create(&PostParams::default(), &Lease { metadata, spec }).await?
            }
        };
        self.known = Some(stored);
        Ok(())
    }

    /// Gives the lease back, when it is ours. Failing to only delays the next leader.
    pub(super) async fn release(&mut self) {
        let Some(claim) = self.election.release(self.clock.now()).filter(|_| self.known.is_some()) else { return };
        match tokio::time::timeout(self.timing.retry, self.write(&claim)).await {
            Ok(Ok(())) => tracing::info!(lease = self.name, "gave the lease back"),
            Ok(Err(error)) => {
                tracing::warn!(lease = self.name, error = &error as &dyn std::error::Error, "a lease is not given back")
            }
            Err(_) => tracing::warn!(lease = self.name, "a lease is not given back: the API does not answer"),
        }
    }

    fn claim(&self, lease: &Lease) -> Claim {
        let spec = lease.spec.clone().unwrap_or_default();
        let time = |time: Option<MicroTime>| time.map_or(jiff::Timestamp::UNIX_EPOCH, |time| time.0);
        let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
        Claim {
            holder: spec.holder_identity.unwrap_or_default(),
            lease: seconds.map_or(self.timing.lease, Duration::from_secs),
            acquired: time(spec.acquire_time),
            renewed: time(spec.renew_time),
            transitions: spec.lease_transitions.unwrap_or_default(),
        }
    }
}

fn spec(claim: &Claim) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(claim.holder.clone()),
        lease_duration_seconds: Some(i32::try_from(claim.lease.as_secs()).unwrap_or(i32::MAX)),
        acquire_time: Some(MicroTime(claim.acquired)),
        renew_time: Some(MicroTime(claim.renewed)),
        lease_transitions: Some(claim.transitions),
        ..LeaseSpec::default()
    }
}
