//! Reconcile: lists a bucket, compares it with the records, and repairs what differs, whatever callbacks were lost.
//!
//! A run reads the bucket page by page and looks each object up; then it reads the records and asks OSS about those that were
//! not listed. What it finds it gives to [`Worker::repair`], which asks OSS about that object anew, so that a listing that is
//! old by then does no harm. A run changes nothing where nothing is wrong, so the one after it writes nothing.
//!
//! It cannot feed on itself: what lies under the output prefix is passed over, thumbnails elsewhere are known by their mark,
//! and work on one version is begun [`MOST_ATTEMPTS`](crate::record::MOST_ATTEMPTS) times at most.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use serde::{Deserialize, Serialize};

use crate::media::Rules;
use crate::objects::{Objects, ObjectsError};
use crate::record::State;
use crate::records::{Records, RecordsError};
use crate::worker::Worker;

pub mod checkpoint;
mod compare;
mod meter;
mod run;
#[cfg(feature = "server")]
pub mod runs;

use checkpoint::{Checkpoint, Position};
pub use compare::Finding;
use meter::Meter;
pub use meter::Spent;
use run::{Progress, Run};

/// So many objects in a row about which OSS could not be asked: it is not the objects.
const FAILURES_IN_A_ROW: u64 = 32;

/// What is to be reconciled, and how far to go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The bucket.
    pub bucket: String,
    /// Only objects whose keys begin so.
    #[serde(default)]
    pub prefix: String,
    /// Only say what would be done, and what it would cost.
    #[serde(default)]
    pub dry_run: bool,
    /// Also begin again what has failed.
    #[serde(default)]
    pub failed: bool,
    /// Also make again what another rule than today's made.
    #[serde(default)]
    pub rules_changed: bool,
    /// Do not go on from where an earlier run stopped.
    #[serde(default)]
    pub from_start: bool,
    /// Look at no more objects than these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_objects: Option<u64>,
    /// Read no more bytes of objects than these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// Ask OSS no more often than so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_calls: Option<u64>,
}

impl Request {
    /// The same question, however far one goes in answering it at a time.
    #[must_use]
    pub fn without_caps(&self) -> Self {
        Self { from_start: false, max_objects: None, max_bytes: None, max_calls: None, ..self.clone() }
    }
}

/// Why a run ended before it had seen everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stopped {
    /// As many objects as were allowed.
    MaxObjects,
    /// As many bytes as were allowed.
    MaxBytes,
    /// As many requests to OSS as were allowed.
    MaxCalls,
    /// Somebody asked for it.
    Asked,
}

impl Stopped {
    /// The flag of the cap that was reached.
    const fn cap(self) -> Option<&'static str> {
        match self {
            Self::MaxObjects => Some("--max-objects"),
            Self::MaxBytes => Some("--max-bytes"),
            Self::MaxCalls => Some("--max-calls"),
            Self::Asked => None,
        }
    }
}

/// How far a run has come.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Objects in the listing, without our own output.
    pub listed: u64,
    /// Records compared with the listing.
    pub records: u64,
    /// Objects without a record.
    pub missing: u64,
    /// Records of another version than the one in OSS.
    pub stale: u64,
    /// Records that OSS had not confirmed.
    pub in_doubt: u64,
    /// Records with work that nobody did in time.
    pub unfinished: u64,
    /// Records without an object.
    pub orphaned: u64,
    /// Records that had failed, where those were asked for.
    pub failed: u64,
    /// Records made by other rules, where those were asked for.
    pub outdated: u64,
    /// Of what was found, how many records now say what OSS says.
    pub repaired: u64,
    /// Of these, those whose work somebody else does, or that wait for their next attempt.
    pub waiting: u64,
    /// Of what was found, how many could not be repaired; the lines and the log say why.
    pub not_repaired: u64,
    /// How many records were written. A run where nothing is wrong writes none.
    pub written: u64,
    /// What was asked of OSS and of the store.
    pub spent: Spent,
    /// What a run that repairs would ask of them, this one's listing and reading included; in a dry run only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimate: Option<Spent>,
}

impl Tally {
    fn count(&mut self, finding: Finding) {
        let counter = match finding {
            Finding::Missing => &mut self.missing,
            Finding::Stale => &mut self.stale,
            Finding::InDoubt => &mut self.in_doubt,
            Finding::Unfinished => &mut self.unfinished,
            Finding::Orphaned => &mut self.orphaned,
            Finding::Failed => &mut self.failed,
            Finding::Outdated => &mut self.outdated,
        };
        *counter = counter.saturating_add(1);
    }

    /// How many things were found in all.
    pub fn found(&self) -> u64 {
        [self.missing, self.stale, self.in_doubt, self.unfinished, self.orphaned, self.failed, self.outdated]
            .iter()
            .fold(0, |sum, count| sum.saturating_add(*count))
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// What was asked for.
    pub request: Request,
    /// Whether everything was seen, in this run and those that it went on from.
    pub complete: bool,
    /// Why not.
    pub stopped: Option<Stopped>,
    /// What came of it.
    #[serde(flatten)]
    pub tally: Tally,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found {
    /// The bucket.
    pub bucket: String,
    /// The object.
    pub object: String,
    /// What is wrong.
    pub finding: Finding,
    /// How its record stands now; absent in a dry run, and where it could not be repaired.
    pub state: Option<State>,
    /// Why it could not be repaired.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Whether that was not about this object.
    #[serde(skip)]
    is_outage: bool,
}

/// What a run has to say while it goes on.
#[derive(Debug)]
pub enum Event<'a> {
    /// It goes on from where an earlier one stopped.
    Resumed(&'a Checkpoint),
    /// Something was found, and repaired if it could be.
    Found(&'a Found),
    /// It came so far.
    Progress(&'a Tally),
}

/// Why a run could not go on. What it had repaired stays repaired, and the next run goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The bucket cannot be listed.
    #[error("the bucket {bucket} cannot be listed: {error}")]
    Listing {
        /// The bucket.
        bucket: String,
        /// Why.
        error: ObjectsError,
    },
    /// The store failed.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// Neither OSS nor the store answers any more.
    #[error("{FAILURES_IN_A_ROW} objects in a row could not be looked after: {0}")]
    Objects(String),
    /// A run that goes on from here with the same caps would come no further either.
    #[error("nothing at all could be done within {0}; raise it")]
    CapTooSmall(&'static str),
}

/// Compares buckets with their records.
#[derive(Debug, Clone)]
pub struct Reconciler {
    objects: Arc<dyn Objects>,
    records: Arc<dyn Records>,
    rules: Arc<Rules>,
    worker: Arc<Worker>,
}

impl Reconciler {
    /// Decoding shares the worker's limits.
    pub fn new(objects: Arc<dyn Objects>, records: Arc<dyn Records>, rules: Arc<Rules>, worker: Arc<Worker>) -> Self {
        Self { objects, records, rules, worker }
    }

    /// Reconciles, from `checkpoint` if an earlier run left one there, until everything was seen, a cap is reached or `stop`
    /// becomes true; what is in hand then is finished. `tell` hears of everything on the way.
    ///
    /// # Errors
    /// If OSS or the store does not answer, again and again.
    pub async fn run(
        &self,
        request: &Request,
        checkpoint: Option<&checkpoint::File>,
        stop: &AtomicBool,
        tell: &(dyn Fn(Event<'_>) + Sync),
    ) -> Result<Summary, ReconcileError> {
        let meter = Arc::new(Meter::default());
        let objects: Arc<dyn Objects> = Arc::new(meter.of_objects(Arc::clone(&self.objects)));
        let records: Arc<dyn Records> = Arc::new(meter.of_records(Arc::clone(&self.records)));
        let worker = self.worker.over(Arc::clone(&objects), Arc::clone(&records));
        let checkpoint = checkpoint.filter(|_| !request.dry_run);
        let rules = checkpoint::File::name_of(&self.rules);
        let left = checkpoint.filter(|_| !request.from_start).and_then(|file| file.read(request, &rules));
        if let Some(left) = &left {
            tell(Event::Resumed(left));
        }
        let position = left.map_or(Position::Listing(None), |left| left.position);
        let run = Run {
            request,
            rules: &self.rules,
            objects: objects.as_ref(),
            records: records.as_ref(),
            worker: &worker,
            meter: &meter,
            heads: AtomicU64::new(0),
            rules_name: &rules,
            stop,
            tell,
            checkpoint,
        };
        let mut progress = Progress::default();
        let ended = run.all(position, &mut progress).await;
        progress.measure(&meter, request);
        let stopped = ended?;
        if let Some(cap) = stopped.and_then(Stopped::cap)
            && progress.looked == 0
        {
            return Err(ReconcileError::CapTooSmall(cap));
        }
        if let Some(file) = checkpoint.filter(|_| stopped.is_none()) {
            file.remove();
        }
        Ok(Summary { request: request.clone(), complete: stopped.is_none(), stopped, tally: progress.tally })
    }
}
