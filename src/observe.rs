//! Read, HEAD, compare and set: brings the record of one object up to what OSS says now, whoever asks: a callback, the worker,
//! or the reconciler.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::media::{Action, Rules};
use crate::objects::Objects;
use crate::record::{Facts, Lease, Plan, Reason, Record, RecordKey, Transition, Upload};
use crate::records::{Put, Records, RecordsError};
use crate::thumbnail;
use crate::trust::{Admitted, Confirmation, Confirmed, confirm};

/// How often an object is judged anew when another writer was faster.
const ROUNDS: u32 = 16;

/// What becomes of work that turns out to be due.
#[derive(Debug, Clone)]
pub enum Work {
    /// It is begun at once under this lease, if it can be expected to end within that time.
    Begin(Lease, Duration),
    /// It is left to somebody else.
    Leave,
}

/// How an object and its record stand once OSS was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// OSS has no such object. A record of it is a tombstone now.
    Gone,
    /// The record says what OSS says; without OSS settings, what the callback claims.
    Known(Record),
    /// OSS could not be asked, but the callback says nothing beyond what OSS confirmed earlier: a duplicate.
    Repeated(Record),
    /// OSS could not be asked: the record with the callback's claims.
    Claimed(Record, Reason),
    /// OSS could not be asked, and nobody claims anything.
    Unasked(Reason),
}

/// Why no record could be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// The store failed.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// Other writers were faster, again and again.
    #[error("too many writers are at the same object")]
    Contended,
}

/// Brings records up to what OSS says.
#[derive(Debug, Clone)]
pub struct Observer {
    records: Arc<dyn Records>,
    objects: Option<Arc<dyn Objects>>,
    rules: Arc<Rules>,
}

impl Observer {
    /// Without `objects` claims are taken as they are, unconfirmed, and nothing is made.
    pub fn new(records: Arc<dyn Records>, objects: Option<Arc<dyn Objects>>, rules: Arc<Rules>) -> Self {
        Self { records, objects, rules }
    }

    /// Asks OSS about an object and writes down what is new; true beside it if something was. Reading the record before
    /// asking is what makes the last upload win: what was read is older than the answer, and only it is replaced.
    ///
    /// Where there is no OSS to ask, nothing lies between reading and writing, so the write itself reads: it takes it that there
    /// is no record, which is so for most callbacks, and is refused with the record that there is.
    ///
    /// # Errors
    /// If the store fails, or other writers are faster for too long.
    pub async fn observe(
        &self,
        key: &RecordKey,
        claim: Option<&Admitted>,
        work: &Work,
    ) -> Result<(Observed, bool), ObserveError> {
        let mut read = self.objects.is_none().then_some(None);
        for round in 0..ROUNDS {
            let previous = match read.take() {
                Some(previous) => previous,
                None => self.records.get(key).await?,
            };
            let confirmation = confirm(key, claim, self.objects.as_deref()).await;
            let next = self.transition(previous.as_ref(), key, &confirmation, work);
            let written = next.is_some();
            let standing = match next {
                None => previous,
                Some(next) => match self.records.put(&next, previous.as_ref().map(Record::version)).await? {
                    Put::Stored => Some(next),
                    Put::Lost(current) if round == 0 => {
                        read = Some(current.map(|record| *record));
                        continue;
                    }
                    Put::Lost(_) => {
                        tokio::time::sleep(jitter(round)).await;
                        continue;
                    }
                },
            };
            let observed = match (confirmation, standing) {
                (Confirmation::Unasked(reason), _) => Observed::Unasked(reason),
                (Confirmation::Gone, _) | (_, None) => Observed::Gone,
                (Confirmation::Known(_), Some(record)) => Observed::Known(record),
                // What OSS confirmed earlier it need not confirm again for a duplicate.
                (Confirmation::Unverified(claimed, _), Some(record)) if record.is_known_from(&claimed.facts) => {
                    Observed::Repeated(record)
                }
                (Confirmation::Unverified(claimed, reason), Some(record)) => {
                    Observed::Claimed(record.claimed(&claimed.facts), reason)
                }
            };
            return Ok((observed, written));
        }
        Err(ObserveError::Contended)
    }

    /// What to write, if anything, now that this is known.
    fn transition(
        &self,
        previous: Option<&Record>,
        key: &RecordKey,
        confirmation: &Confirmation,
        work: &Work,
    ) -> Option<Record> {
        let now = Timestamp::now();
        let (Confirmed { facts, upload, .. }, plan) = match confirmation {
            Confirmation::Gone => return previous.and_then(|record| record.delete(now)),
            Confirmation::Unasked(_) => {
                return previous.and_then(|record| record.postpone(record.next_try(now, random()), now));
            }
            Confirmation::Known(confirmed) => {
                (confirmed, self.plan(key, &confirmed.facts, confirmed.upload.as_ref(), work))
            }
            Confirmation::Unverified(confirmed, reason) => (confirmed, Plan::Verify(*reason)),
        };
        match Record::observe(previous, key, facts, upload.as_ref(), &plan, now) {
            Transition::Write(next) => Some(*next),
            Transition::Unchanged => None,
        }
    }

    /// What is to be done with an object of which this is known.
    fn plan(&self, key: &RecordKey, facts: &Facts, upload: Option<&Upload>, work: &Work) -> Plan {
        if facts.own_output {
            return Plan::Skip(Reason::OwnOutput);
        }
        let size = facts.size.unwrap_or_default();
        match self.rules.action(&key.bucket, &key.object, facts.mime.as_deref(), size) {
            Action::Skip(reason) => Plan::Skip(reason),
            Action::Thumbnails(_) if facts.confirmed && self.objects.is_some() => match work {
                Work::Begin(lease, time) => {
                    let pixels = upload.and_then(|upload| pixels(upload.width, upload.height));
                    if thumbnail::expected_time(size, pixels, self.rules.limits()) <= *time {
                        Plan::Make(lease.clone())
                    } else {
                        Plan::Leave
                    }
                }
                Work::Leave => Plan::Leave,
            },
            Action::Thumbnails(_) | Action::Record => Plan::Record,
        }
    }
}

/// The pixels of a picture whose sides are known.
pub fn pixels(width: Option<u32>, height: Option<u32>) -> Option<u64> {
    Some(u64::from(width?).saturating_mul(u64::from(height?)))
}

/// A short pause before the next round, longer each time, so that many writers of one key do not keep in step.
fn jitter(round: u32) -> Duration {
    Duration::from_millis(1 + u64::from(random()) % (4 << round.min(4)))
}

/// Randomness for pauses. Without any the time still tells writers apart.
pub fn random() -> u32 {
    getrandom::u32().unwrap_or_else(|_| Timestamp::now().subsec_nanosecond().unsigned_abs())
}
