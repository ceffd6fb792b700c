//! The transitions between the states of a record, as pure functions.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::due::{FIRST_PAUSE, later};
use super::{Facts, Lease, MOST_ATTEMPTS, Reason, Record, RecordKey, SCHEMA, State, Thumbnail, Upload};

/// What is to be done with a newly seen version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Nothing to make.
    Record,
    /// Not to be processed.
    Skip(Reason),
    /// Thumbnails are due, and this lease is taken on them at once.
    Make(Lease),
    /// Thumbnails are due; somebody else makes them.
    Leave,
    /// OSS could not be asked; somebody must look later.
    Verify(Reason),
}

/// How work on a record ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The source was decoded; each variant was made, or failed for good.
    Made {
        /// The ledger.
        thumbnails: Vec<Thumbnail>,
        /// Something to be said although every variant was made, such as a declared type that the content belies.
        remark: Option<Reason>,
    },
    /// No variant can ever be made.
    Failed(Reason),
    /// The content is not something to be processed.
    Skipped(Reason),
    /// The rules no longer ask for anything.
    Nothing,
}

/// What becomes of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transition {
    /// Nothing to write.
    Unchanged,
    /// Write this, under the version that was read.
    Write(Box<Record>),
}

impl Record {
    /// Transition A: an object was seen, by its callback or in a listing.
    ///
    /// A version that the record already describes changes nothing, except that a first confirmation, or the upload's own
    /// callback after something else made the record, fills in what was missing. Any other version is a new generation.
    pub fn observe(
        previous: Option<&Self>,
        key: &RecordKey,
        facts: &Facts,
        upload: Option<&Upload>,
        plan: &Plan,
        now: Timestamp,
    ) -> Transition {
        let Some(previous) = previous else {
            return Transition::Write(Box::new(Self::first(key, facts, upload, plan, now)));
        };
        if !previous.describes(facts) {
            if matches!(plan, Plan::Verify(_)) {
                return previous.doubt(now);
            }
            let mut next = Self::first(key, facts, upload, plan, now);
            next.generation = previous.generation.saturating_add(1);
            next.revision = previous.revision.saturating_add(1);
            next.first_seen = previous.first_seen;
            return Transition::Write(Box::new(next));
        }
        let confirms = facts.confirmed && !previous.confirmed;
        let settles = facts.confirmed && previous.recheck;
        let describes_upload =
            previous.request_id.is_none() && upload.is_some_and(|upload| upload.request_id.is_some());
        if !confirms && !settles && !describes_upload {
            return Transition::Unchanged;
        }
        let mut next = previous.clone();
        next.revision = previous.revision.saturating_add(1);
        next.updated = now;
        if settles {
            next.recheck = false;
            next.next_attempt = next.next_attempt.filter(|_| next.state == State::Received);
        }
        if confirms {
            next.set_facts(facts);
            next.begin(plan, now);
        }
        if describes_upload && let Some(upload) = upload {
            next.set_upload(upload);
        }
        Transition::Write(Box::new(next))
    }

    /// A claim of another version that cannot be checked now never replaces what is known, but is not forgotten either.
    fn doubt(&self, now: Timestamp) -> Transition {
        if self.recheck || self.state == State::Unverified {
            return Transition::Unchanged;
        }
        let next_attempt = self.next_attempt.unwrap_or_else(|| later(now, FIRST_PAUSE));
        Transition::Write(Box::new(Self { recheck: true, next_attempt: Some(next_attempt), ..self.rewritten(now) }))
    }

    /// Transition B: takes the lease on due work, counting the attempt before it is made. `None` where nothing is due. Work
    /// that was begun too often already is not begun again: it has failed.
    pub fn lease(&self, lease: Lease, now: Timestamp) -> Option<Self> {
        if !self.is_due(now) {
            return None;
        }
        if self.attempts >= MOST_ATTEMPTS {
            return Some(self.rewritten(now).exhausted());
        }
        Some(Self {
            state: State::Processing,
            reason: None,
            attempts: self.attempts.saturating_add(1),
            next_attempt: None,
            lease: Some(lease),
            ..self.rewritten(now)
        })
    }

    /// Transition B for whoever has just heard from OSS: a pause that OSS or the time was to blame for is over.
    pub fn lease_early(&self, lease: Lease, now: Timestamp) -> Option<Self> {
        let paused = self.state == State::Received && self.reason.is_some_and(Reason::is_of_others);
        let unpaused = paused.then(|| Self { next_attempt: None, ..self.clone() });
        unpaused.as_ref().unwrap_or(self).lease(lease, now)
    }

    /// Work on this version is due again from the beginning, such as after the rules changed; what the ledger has stays made.
    /// `None` where work is due anyway, and for what is no object that we know of.
    pub fn again(&self, now: Timestamp) -> Option<Self> {
        let at_rest = matches!(self.state, State::Ready | State::Failed | State::Recorded | State::Skipped);
        (at_rest && self.confirmed).then(|| Self {
            state: State::Received,
            reason: None,
            attempts: 0,
            deferrals: 0,
            next_attempt: Some(now),
            ..self.rewritten(now)
        })
    }

    /// OSS could not be asked about a record in doubt: somebody is to try again at `next`. `None` where there is no doubt.
    pub fn postpone(&self, next: Timestamp, now: Timestamp) -> Option<Self> {
        self.is_in_doubt().then(|| Self {
            deferrals: self.deferrals.saturating_add(1),
            next_attempt: Some(next),
            ..self.rewritten(now)
        })
    }

    /// Transitions C and D: the work ended so. `None` if `owner` no longer holds the lease: the result belongs to nobody
    /// and is dropped.
    pub fn commit(&self, owner: &str, end: End, now: Timestamp) -> Option<Self> {
        let (state, reason, thumbnails) = match end {
            End::Made { thumbnails, remark } => {
                let failed = thumbnails.iter().find_map(Thumbnail::failure);
                let state = if failed.is_some() { State::Failed } else { State::Ready };
                (state, failed.or(remark), thumbnails)
            }
            End::Failed(reason) => (State::Failed, Some(reason), Vec::new()),
            End::Skipped(reason) => (State::Skipped, Some(reason), Vec::new()),
            End::Nothing => (State::Recorded, None, Vec::new()),
        };
        let next_attempt = self.recheck.then_some(now);
        self.is_leased_by(owner).then(|| Self {
            state,
            reason,
            thumbnails,
            lease: None,
            next_attempt,
            ..self.rewritten(now)
        })
    }

    /// Transition D, transient: the lease is given back and the work is due again at `next`, unless it was begun too often.
    /// `made` is what was done of it, which nobody has to do again.
    pub fn release(
        &self,
        owner: &str,
        reason: Reason,
        made: Vec<Thumbnail>,
        next: Timestamp,
        now: Timestamp,
    ) -> Option<Self> {
        if !self.is_leased_by(owner) {
            return None;
        }
        let mut released = Self {
            state: State::Received,
            reason: Some(reason),
            thumbnails: made,
            next_attempt: Some(next),
            lease: None,
            ..self.rewritten(now)
        };
        match reason {
            // Not even a failure, so that who has more time may begin at once.
            Reason::OutOfTime => released.attempts = released.attempts.saturating_sub(1),
            reason if reason.is_of_others() => {
                released.attempts = released.attempts.saturating_sub(1);
                released.deferrals = released.deferrals.saturating_add(1);
            }
            _ if released.attempts >= MOST_ATTEMPTS => return Some(released.exhausted()),
            _ => {}
        }
        Some(released)
    }

    fn exhausted(self) -> Self {
        let next_attempt = self.recheck.then_some(self.updated);
        Self { state: State::Failed, reason: Some(Reason::Exhausted), lease: None, next_attempt, ..self }
    }

    /// Transition E: OSS, asked about the object as it is now, says that it is gone. `None` where the tombstone stands
    /// already.
    pub fn delete(&self, now: Timestamp) -> Option<Self> {
        (self.state != State::Deleted || self.recheck).then(|| Self {
            state: State::Deleted,
            reason: Some(Reason::ObjectNotFound),
            recheck: false,
            next_attempt: None,
            lease: None,
            ..self.rewritten(now)
        })
    }

    /// Transition E, found while working: the version that `owner` works on is gone. `None` if `owner` no longer holds the
    /// lease, for then the record may be about a newer version, which is none of its business.
    pub fn gone(&self, owner: &str, now: Timestamp) -> Option<Self> {
        self.is_leased_by(owner).then(|| self.delete(now)).flatten()
    }

    fn first(key: &RecordKey, facts: &Facts, upload: Option<&Upload>, plan: &Plan, now: Timestamp) -> Self {
        let mut record = Self {
            bucket: key.bucket.clone(),
            object: key.object.clone(),
            etag: None,
            size: None,
            mime: None,
            last_modified: None,
            version_id: None,
            crc64: None,
            width: None,
            height: None,
            generation: 1,
            revision: 1,
            state: State::Recorded,
            reason: None,
            confirmed: false,
            recheck: false,
            thumbnails: Vec::new(),
            custom: BTreeMap::new(),
            attempts: 0,
            deferrals: 0,
            next_attempt: None,
            lease: None,
            first_seen: now,
            updated: now,
            request_id: None,
            schema: SCHEMA,
        };
        record.set_facts(facts);
        if let Some(upload) = upload {
            record.set_upload(upload);
        }
        record.begin(plan, now);
        record
    }

    fn begin(&mut self, plan: &Plan, now: Timestamp) {
        self.thumbnails.clear();
        (self.reason, self.lease, self.attempts, self.deferrals, self.next_attempt) = (None, None, 0, 0, None);
        match plan {
            Plan::Record => self.state = State::Recorded,
            Plan::Skip(reason) => (self.state, self.reason) = (State::Skipped, Some(*reason)),
            Plan::Make(lease) => {
                (self.state, self.lease, self.attempts) = (State::Processing, Some(lease.clone()), 1);
            }
            Plan::Leave => (self.state, self.next_attempt) = (State::Received, Some(now)),
            Plan::Verify(reason) => {
                (self.state, self.reason) = (State::Unverified, Some(*reason));
                self.next_attempt = Some(later(now, FIRST_PAUSE));
            }
        }
    }

    fn rewritten(&self, now: Timestamp) -> Self {
        Self { revision: self.revision.saturating_add(1), updated: now, ..self.clone() }
    }
}
