//! When somebody should look at a record, and who holds the right to work on it.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Record, State};

/// How often work on one generation is begun before it counts as failed. An attempt is counted before it is made, so that one
/// that kills the process counts too.
pub const MOST_ATTEMPTS: u32 = 5;

/// The pause after the first failure; each further one doubles it.
pub(super) const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// The right to work on a record, until it expires.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Who holds it; unique to one piece of work.
    pub owner: String,
    /// When it expires.
    pub until: Timestamp,
}

/// A lease for `owner` that runs out `after` from `now`.
pub fn lease_until(owner: &str, now: Timestamp, after: Duration) -> Lease {
    Lease { owner: owner.to_owned(), until: later(now, after) }
}

impl Record {
    /// From when on somebody should look at this record: work is to be done or taken over, or OSS is to be asked. `None`
    /// where nothing is due.
    pub fn due(&self) -> Option<Timestamp> {
        match self.state {
            State::Processing => Some(self.lease.as_ref().map_or(self.updated, |lease| lease.until)),
            State::Received | State::Unverified => Some(self.next_attempt.unwrap_or(self.updated)),
            _ if self.recheck => Some(self.next_attempt.unwrap_or(self.updated)),
            _ => None,
        }
    }

    /// Whether work is due that nobody does at `now`.
    pub fn is_due(&self, now: Timestamp) -> bool {
        match self.state {
            State::Received => self.next_attempt.is_none_or(|next| next <= now),
            State::Processing => self.lease.as_ref().is_none_or(|lease| lease.until <= now),
            _ => false,
        }
    }

    /// Whether OSS must be asked about it: nobody knows whether it is true, or still is.
    pub fn is_in_doubt(&self) -> bool {
        self.recheck || self.state == State::Unverified
    }

    /// Whether `owner` works on it.
    pub fn is_leased_by(&self, owner: &str) -> bool {
        self.state == State::Processing && self.lease.as_ref().is_some_and(|lease| lease.owner == owner)
    }

    /// When to look again after a failure: each pause is twice as long as the one before, up to an hour, and up to a quarter
    /// longer by `random`, so that what failed together does not come back together.
    pub fn next_try(&self, now: Timestamp, random: u32) -> Timestamp {
        let failures = self.attempts.saturating_add(self.deferrals).saturating_sub(1).min(16);
        let pause = FIRST_PAUSE.saturating_mul(1 << failures).min(LONGEST_PAUSE);
        let spread = pause.mul_f64(f64::from(random) / f64::from(u32::MAX) / 4.0);
        now.saturating_add(pause + spread).unwrap_or(Timestamp::MAX)
    }
}

pub(super) fn later(now: Timestamp, pause: Duration) -> Timestamp {
    now.saturating_add(pause).unwrap_or(Timestamp::MAX)
}
