//! Reconcile: lists a bucket, compares it with the records, and repairs what differs, whatever callbacks were lost.
//!
//! A run reads the bucket page by page and looks each object up; then it reads the records and asks OSS about those that were
//! not listed. What it finds it gives to [`Worker::repair`], which asks OSS about that object anew, so that a listing that is
//! old by then does no harm. A run changes nothing where nothing is wrong, so the one after it writes nothing.
//!
//! It cannot feed on itself: what lies under the output prefix is passed over, thumbnails elsewhere are known by their mark,
//! and work on one version is begun [`MOST_ATTEMPTS`](crate::record::MOST_ATTEMPTS) times at most.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::media::Rules;
use crate::objects::{Listed, Listing, Objects, ObjectsError};
use crate::record::{Record, RecordKey, State};
use crate::records::{Page, Query, Records, RecordsError};
use crate::worker::Worker;

pub mod checkpoint;
mod compare;
mod meter;
#[cfg(feature = "server")]
pub mod runs;

use checkpoint::{Checkpoint, Position};
pub use compare::Finding;
use compare::{Cost, compare};
use meter::Meter;
pub use meter::Spent;

/// How many objects are looked at at a time. Most of that is waiting for the store; pictures are decoded a few at a time.
const AT_A_TIME: usize = 16;

/// Records on one page of the store's listing.
const RECORDS_PER_PAGE: usize = 500;

/// How often what may pass is tried: a page of a listing, a read, one object.
const TRIES: u32 = 3;

/// The pause before the second try; the next one is twice as long.
const PAUSE: Duration = Duration::from_millis(500);

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
        Self { max_objects: None, max_bytes: None, max_calls: None, ..self.clone() }
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
    /// OSS answers no more.
    #[error("OSS could not be asked about {FAILURES_IN_A_ROW} objects in a row: {0}")]
    Objects(String),
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
        let left = checkpoint.and_then(|file| file.read(request));
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
            stop,
            tell,
            checkpoint,
        };
        let mut progress = Progress::default();
        let ended = run.all(position, &mut progress).await;
        progress.measure(&meter, request);
        let stopped = ended?;
        if let Some(file) = checkpoint.filter(|_| stopped.is_none()) {
            file.remove();
        }
        Ok(Summary { request: request.clone(), complete: stopped.is_none(), stopped, tally: progress.tally })
    }
}

/// What a run carries along.
struct Run<'a> {
    request: &'a Request,
    rules: &'a Rules,
    objects: &'a dyn Objects,
    records: &'a dyn Records,
    worker: &'a Worker,
    meter: &'a Meter,
    /// Objects that were asked about because their records were not listed.
    heads: AtomicU64,
    stop: &'a AtomicBool,
    tell: &'a (dyn Fn(Event<'_>) + Sync),
    checkpoint: Option<&'a checkpoint::File>,
}

/// What a run has gathered.
#[derive(Default)]
struct Progress {
    tally: Tally,
    /// Hashes of the keys that this run has listed, in their order at the end; a key is too long to remember millions of.
    /// What an earlier run listed is not remembered: OSS is asked about those objects one by one.
    seen: Vec<u64>,
    /// What repairs were expected to cost so far.
    expected: Cost,
    /// Objects in a row about which OSS could not be asked.
    failures: u64,
}

/// What became of one object.
enum Done {
    /// Nothing is wrong with it.
    Agrees,
    /// Something was, and it is repaired, or would be.
    Found(Found),
    /// Not begun: the run stops here.
    NotBegun(Stopped),
}

impl Run<'_> {
    async fn all(&self, position: Position, progress: &mut Progress) -> Result<Option<Stopped>, ReconcileError> {
        let cursor = match position {
            Position::Listing(after) => {
                if let Some(stopped) = self.list(after, progress).await? {
                    return Ok(Some(stopped));
                }
                self.save(Position::Records(None));
                None
            }
            Position::Records(cursor) => cursor,
        };
        progress.seen.sort_unstable();
        self.compare_records(cursor, progress).await
    }

    /// Goes through the objects of the bucket.
    async fn list(
        &self,
        mut after: Option<String>,
        progress: &mut Progress,
    ) -> Result<Option<Stopped>, ReconcileError> {
        loop {
            if let Some(stopped) = self.no_more(progress, Cost { calls: 1, ..Cost::default() }) {
                return Ok(Some(stopped));
            }
            let Listing { objects, more } = self.page(after.as_deref()).await?;
            let end = objects.last().map(|last| self.behind(&last.object));
            let mut sources: Vec<Listed> =
                objects.into_iter().filter(|listed| !self.is_own_output(&listed.object)).collect();
            let room = self.room(progress);
            let cut = sources.len() > room;
            sources.truncate(room);
            let stopped = self.look_at(sources, &mut after, progress).await?;
            let stopped = stopped.or_else(|| cut.then_some(Stopped::MaxObjects));
            if stopped.is_none() {
                after = end;
            }
            self.save(Position::Listing(after.clone()));
            progress.measure(self.meter, self.request);
            (self.tell)(Event::Progress(&progress.tally));
            if stopped.is_some() || !more {
                return Ok(stopped);
            }
        }
    }

    fn is_own_output(&self, object: &str) -> bool {
        self.rules.output().owns(&self.request.bucket, object)
    }

    /// Where the listing goes on behind a key: if that is our own output, behind all of it, which is most of many a bucket.
    fn behind(&self, object: &str) -> String {
        if self.is_own_output(object) {
            format!("{}{}", self.rules.output().prefix(), char::MAX)
        } else {
            object.to_owned()
        }
    }

    async fn page(&self, after: Option<&str>) -> Result<Listing, ReconcileError> {
        let Request { bucket, prefix, .. } = self.request;
        let mut tries = 1;
        loop {
            match self.objects.list(bucket, prefix, after).await {
                Ok(page) => return Ok(page),
                Err(ObjectsError::Unavailable(_)) if tries < TRIES => pause(tries).await,
                Err(error) => return Err(ReconcileError::Listing { bucket: bucket.clone(), error }),
            }
            tries += 1;
        }
    }

    /// Looks at some objects, in their order; `after` ends up at the last one behind which nothing was left out.
    async fn look_at(
        &self,
        objects: Vec<Listed>,
        after: &mut Option<String>,
        progress: &mut Progress,
    ) -> Result<Option<Stopped>, ReconcileError> {
        let expected = std::sync::Mutex::new(std::mem::take(&mut progress.expected));
        let mut looked = stream::iter(objects)
            .map(|listed| {
                let expected = &expected;
                async move {
                    let done = self.look(&listed, expected).await;
                    (listed.object, done)
                }
            })
            .buffered(AT_A_TIME);
        let mut stopped = None;
        while let Some((object, done)) = looked.next().await {
            let done = done?;
            if let (Done::NotBegun(reason), None) = (&done, stopped) {
                stopped = Some(*reason);
            }
            if stopped.is_none() {
                progress.tally.listed += 1;
                progress.seen.push(hash(&object));
                *after = Some(object);
            }
            self.note(done, progress)?;
        }
        drop(looked);
        progress.expected = expected.into_inner().unwrap_or_default();
        Ok(stopped)
    }

    /// Looks at one object of the listing.
    async fn look(&self, listed: &Listed, expected: &std::sync::Mutex<Cost>) -> Result<Done, ReconcileError> {
        if self.stop.load(Ordering::Relaxed) {
            return Ok(Done::NotBegun(Stopped::Asked));
        }
        let key = RecordKey::new(&self.request.bucket, &listed.object);
        let record = match self.read(&key).await {
            Ok(record) => record,
            Err(RecordsError::Unreadable(problem)) => return Ok(unreadable(&key, problem)),
            Err(error) => return Err(error.into()),
        };
        match compare(listed, record.as_ref(), self.request, self.rules, Timestamp::now()) {
            None => Ok(Done::Agrees),
            Some(finding) => {
                let mime = record.as_ref().and_then(|record| record.mime.as_deref());
                let cost = Cost::of_repair(&key, mime, Some(listed.size), self.rules);
                Ok(self.repair_within(key, finding, cost, expected).await)
            }
        }
    }

    async fn read(&self, key: &RecordKey) -> Result<Option<Record>, RecordsError> {
        let mut tries = 1;
        loop {
            match self.records.get(key).await {
                Err(RecordsError::Unavailable(_)) if tries < TRIES => pause(tries).await,
                read => return read,
            }
            tries += 1;
        }
    }

    /// Goes through the records: what was not listed may be gone.
    async fn compare_records(
        &self,
        mut cursor: Option<String>,
        progress: &mut Progress,
    ) -> Result<Option<Stopped>, ReconcileError> {
        loop {
            let page = self.records_page(cursor.clone()).await?;
            progress.tally.records += u64::try_from(page.records.len()).unwrap_or_default();
            let unlisted: Vec<Record> = page
                .records
                .into_iter()
                .filter(|record| record.state != State::Deleted || record.recheck)
                .filter(|record| !self.is_own_output(&record.object))
                .filter(|record| !progress.was_listed(&record.object))
                .collect();
            let expected = std::sync::Mutex::new(std::mem::take(&mut progress.expected));
            let looked: Vec<_> = stream::iter(unlisted)
                .map(|record| self.look_for(record, &expected))
                .buffered(AT_A_TIME)
                .collect()
                .await;
            progress.expected = expected.into_inner().unwrap_or_default();
            let mut stopped = None;
            for done in looked {
                if let Done::NotBegun(reason) = &done {
                    stopped = stopped.or(Some(*reason));
                }
                self.note(done, progress)?;
            }
            if stopped.is_none() {
                cursor = page.cursor;
            }
            progress.measure(self.meter, self.request);
            (self.tell)(Event::Progress(&progress.tally));
            if stopped.is_some() || cursor.is_none() {
                return Ok(stopped);
            }
            self.save(Position::Records(cursor.clone()));
        }
    }

    async fn records_page(&self, cursor: Option<String>) -> Result<Page, RecordsError> {
        let Request { bucket, prefix, .. } = self.request;
        let mut query = Query {
            bucket: Some(bucket.clone()),
            prefix: Some(prefix.clone()).filter(|prefix| !prefix.is_empty()),
            limit: RECORDS_PER_PAGE,
            cursor,
            ..Query::default()
        };
        let mut tries = 1;
        loop {
            match self.records.list(&query).await {
                Err(RecordsError::Unavailable(_)) if tries < TRIES => pause(tries).await,
                // A store that was made anew since then: from the beginning.
                Err(RecordsError::BadCursor) if query.cursor.is_some() => query.cursor = None,
                page => return page,
            }
            tries += 1;
        }
    }

    /// Looks for the object of a record that was not listed.
    async fn look_for(&self, record: Record, expected: &std::sync::Mutex<Cost>) -> Done {
        if self.stop.load(Ordering::Relaxed) {
            return Done::NotBegun(Stopped::Asked);
        }
        let so_far = expected.lock().map(|expected| *expected).unwrap_or_default();
        self.heads.fetch_add(1, Ordering::Relaxed);
        if let Some(stopped) = self.too_much(&so_far) {
            return Done::NotBegun(stopped);
        }
        let key = record.key();
        let finding = match self.objects.head(&key).await {
            // The listing of this run began behind it, or it has come since.
            Ok(facts) if record.describes(&facts) && !record.is_in_doubt() => return Done::Agrees,
            Ok(facts) if !record.describes(&facts) => Finding::Stale,
            Err(ObjectsError::NotFound) => Finding::Orphaned,
            Ok(_) | Err(_) => Finding::InDoubt,
        };
        let cost = match finding {
            Finding::Orphaned => Cost { calls: 1, reads: 3, writes: 1, ..Cost::default() },
            _ => Cost::of_repair(&key, record.mime.as_deref(), record.size, self.rules),
        };
        self.repair_within(key, finding, cost, expected).await
    }

    /// Repairs a record, unless that could go beyond what is allowed.
    async fn repair_within(
        &self,
        key: RecordKey,
        finding: Finding,
        cost: Cost,
        expected: &std::sync::Mutex<Cost>,
    ) -> Done {
        if let Ok(mut expected) = expected.lock() {
            if let Some(stopped) = self.too_much(&expected.plus(cost)) {
                return Done::NotBegun(stopped);
            }
            *expected = expected.plus(cost);
        }
        let mut found =
            Found { bucket: key.bucket.clone(), object: key.object.clone(), finding, state: None, problem: None };
        if self.request.dry_run {
            return Done::Found(found);
        }
        let again = matches!(finding, Finding::Failed | Finding::Outdated);
        let mut tries = 1;
        loop {
            match self.worker.repair(&key, again).await {
                Ok(record) => found.state = record.map(|record| record.state),
                Err(_) if tries < TRIES => {
                    pause(tries).await;
                    tries += 1;
                    continue;
                }
                Err(error) => found.problem = Some(error.to_string()),
            }
            return Done::Found(found);
        }
    }

    /// Counts what was found, and tells of it.
    fn note(&self, done: Done, progress: &mut Progress) -> Result<(), ReconcileError> {
        let Done::Found(found) = done else { return Ok(()) };
        progress.tally.count(found.finding);
        match &found.problem {
            Some(problem) => {
                let (bucket, object) = (found.bucket.as_str(), found.object.as_str());
                tracing::warn!(bucket, object, finding = found.finding.as_str(), problem, "not repaired");
                progress.tally.not_repaired += 1;
                progress.failures += 1;
            }
            None if self.request.dry_run => {}
            None => {
                progress.failures = 0;
                progress.tally.repaired += 1;
                let waits = matches!(found.state, Some(State::Received | State::Processing));
                progress.tally.waiting += u64::from(waits);
            }
        }
        (self.tell)(Event::Found(&found));
        match found.problem {
            Some(problem) if progress.failures >= FAILURES_IN_A_ROW => Err(ReconcileError::Objects(problem)),
            _ => Ok(()),
        }
    }

    /// How many more objects may be looked at.
    fn room(&self, progress: &Progress) -> usize {
        let room = self.request.max_objects.map(|most| most.saturating_sub(progress.tally.listed));
        room.and_then(|room| usize::try_from(room).ok()).unwrap_or(usize::MAX)
    }

    /// Why something of this cost may not be begun.
    fn no_more(&self, progress: &Progress, cost: Cost) -> Option<Stopped> {
        if self.stop.load(Ordering::Relaxed) {
            return Some(Stopped::Asked);
        }
        if self.room(progress) == 0 {
            return Some(Stopped::MaxObjects);
        }
        self.too_much(&progress.expected.plus(cost))
    }

    /// Which cap is exceeded once repairs have cost so much, beside what was spent on looking.
    fn too_much(&self, repairs: &Cost) -> Option<Stopped> {
        let spent = self.meter.spent();
        // In a dry run nothing of it is spent; otherwise some of it is spent already, and must not count twice.
        let looking = spent.lists.saturating_add(self.heads.load(Ordering::Relaxed));
        let calls = looking.saturating_add(repairs.calls).max(spent.calls());
        let bytes = repairs.bytes.max(spent.bytes_read);
        let over = |cap: Option<u64>, amount: u64| cap.is_some_and(|most| amount > most);
        if over(self.request.max_calls, calls) {
            return Some(Stopped::MaxCalls);
        }
        over(self.request.max_bytes, bytes).then_some(Stopped::MaxBytes)
    }

    fn save(&self, position: Position) {
        if let Some(file) = self.checkpoint {
            file.write(self.request, position);
        }
    }
}

impl Progress {
    /// Whether the listing of this run named it.
    fn was_listed(&self, object: &str) -> bool {
        self.seen.binary_search(&hash(object)).is_ok()
    }

    fn measure(&mut self, meter: &Meter, request: &Request) {
        self.tally.spent = meter.spent();
        self.tally.written = self.tally.spent.store_writes;
        self.tally.estimate = request.dry_run.then(|| self.tally.spent.plus(&self.expected));
    }
}

fn hash(object: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    object.hash(&mut hasher);
    hasher.finish()
}

fn unreadable(key: &RecordKey, problem: String) -> Done {
    Done::Found(Found {
        bucket: key.bucket.clone(),
        object: key.object.clone(),
        finding: Finding::InDoubt,
        state: None,
        problem: Some(problem),
    })
}

async fn pause(tries: u32) {
    tokio::time::sleep(PAUSE.saturating_mul(1 << tries.saturating_sub(1))).await;
}
