//! When a candidate may take a lease, and how long it leads: pure. `now` is the candidate's own monotonic clock, as time since any
//! fixed moment; wall clocks are only written down.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Timing;

/// What a lease says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Empty when it was given back.
    pub holder: String,
    pub lease: Duration,
    pub acquired: Timestamp,
    pub renewed: Timestamp,
    pub transitions: i32,
}

/// What to do about the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// Write this: in place of what was seen last, or as a new lease when there was none.
    Write(Claim),
    /// Somebody else has it.
    Standby,
}

/// One candidate's view.
#[derive(Clone, Debug)]
pub struct Election {
    me: String,
    timing: Timing,
    seen: Option<(Claim, Duration)>,
    /// When the last write that succeeded was sent.
    held: Option<Duration>,
}

impl Election {
    pub fn new(me: String, timing: Timing) -> Self {
        Self { me, timing, seen: None, held: None }
    }

    /// The lease was read at `now`; `None` when there is none.
    pub fn observe(&mut self, claim: Option<Claim>, now: Duration) {
        match claim {
            None => {
                self.seen = None;
                self.held = None;
            }
            Some(claim) => {
                if claim.holder != self.me {
                    self.held = None;
                }
                if self.seen.as_ref().is_none_or(|(known, _)| *known != claim) {
                    self.seen = Some((claim, now));
                }
            }
        }
    }

    /// What to try at `now`; `wall` is written down.
    pub fn attempt(&self, now: Duration, wall: Timestamp) -> Attempt {
        let Some((seen, since)) = &self.seen else {
            return Attempt::Write(self.claim(wall, wall, 0));
        };
        let mine = seen.holder == self.me;
        if !mine && !seen.holder.is_empty() && now < since.saturating_add(seen.lease) {
            return Attempt::Standby;
        }
        // Each renewal must differ from the one before, or others would take the holder for dead: clocks may stand or go back.
        let next = seen.renewed.checked_add(SignedDuration::from_micros(1)).unwrap_or(wall);
        let renewed = wall.max(next);
        Attempt::Write(match mine {
            true => self.claim(seen.acquired, renewed, seen.transitions),
            false => self.claim(renewed, renewed, seen.transitions.saturating_add(1)),
        })
    }

    /// A write of `claim` that was sent at `sent` succeeded.
    pub fn won(&mut self, claim: Claim, sent: Duration) {
        self.seen = Some((claim, sent));
        self.held = Some(sent);
    }

    /// When this candidate stops leading unless it renews; `None` when it does not lead.
    pub fn expiry(&self) -> Option<Duration> {
        self.held.map(|sent| sent.saturating_add(self.timing.renew_deadline))
    }

    /// Whether it may work at `now`.
    pub fn leads(&self, now: Duration) -> bool {
        self.expiry().is_some_and(|expiry| now < expiry)
    }

    /// What gives the lease back, when it is ours.
    pub fn release(&self, wall: Timestamp) -> Option<Claim> {
        let (seen, _) = self.seen.as_ref().filter(|(seen, _)| seen.holder == self.me)?;
        let lease = Duration::from_secs(1);
        Some(Claim { holder: String::new(), lease, acquired: wall, renewed: wall, transitions: seen.transitions })
    }

    fn claim(&self, acquired: Timestamp, renewed: Timestamp, transitions: i32) -> Claim {
        Claim { holder: self.me.clone(), lease: self.timing.lease, acquired, renewed, transitions }
    }
}

#[cfg(test)]
mod tests;
