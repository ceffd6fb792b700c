//! Work on records: what is due is taken up under a lease, the bytes come from OSS, the thumbnails go to OSS, the ledger to
//! the store.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::num::NonZeroUsize;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use jiff::Timestamp;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::media::{Action, Rules, Variant};
use crate::objects::{Objects, ObjectsError};
use crate::observe::{ObserveError, Observed, Observer, Work, pixels, random};
use crate::record::{End, Lease, Reason, Record, RecordKey, State, Thumbnail, ThumbnailState, lease_until};
use crate::records::{Put, Records, RecordsError};
use crate::thumbnail::{self, Made, SourceFormat, ThumbnailError};

/// How long a piece of work belongs to whoever began it.
const LEASE: Duration = Duration::from_secs(60);

/// How often a write is tried.
const ROUNDS: u32 = 5;

/// The first pause after the store did not answer; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(50);

/// How many records are worked on at a time, beyond those of requests. Most of the time they wait for OSS.
const AT_A_TIME: usize = 8;

/// How many due records are asked for at a time: to ask costs the more, the fewer come of it.
const BATCH: usize = 64;

/// How long nobody looks for due records unless woken.
const POLL: Duration = Duration::from_secs(2);

/// How long the work in progress may take once the pool is asked to stop; what is left goes on when its lease has run out.
const STOP_TIMEOUT: Duration = Duration::from_secs(6);

/// Makes the thumbnails of records.
pub struct Worker {
    objects: Arc<dyn Objects>,
    records: Arc<dyn Records>,
    rules: Arc<Rules>,
    observer: Observer,
    decoding: Arc<Semaphore>,
    woken: Notify,
}

impl fmt::Debug for Worker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Worker").field("objects", &self.objects).finish_non_exhaustive()
    }
}

/// The due records that the pool knows of.
#[derive(Default)]
struct Queue {
    waiting: VecDeque<RecordKey>,
    /// Those in hand, and until when those stay out of it that just were: an index may not know yet.
    in_hand: HashMap<RecordKey, Option<Instant>>,
    /// Whether the store may know of more.
    look: bool,
    /// What the store said instead of naming any, so that it is logged once only.
    failure: Option<String>,
}

impl Queue {
    fn wants_more(&mut self) -> bool {
        self.in_hand.retain(|_, until| until.is_none_or(|until| until > Instant::now()));
        self.look && self.waiting.is_empty()
    }

    /// Takes in what the store answered when asked for `limit` records.
    fn fill(&mut self, due: Result<Vec<RecordKey>, RecordsError>, limit: usize) {
        match due {
            Ok(due) => {
                self.look = due.len() >= limit;
                self.waiting.extend(due.into_iter().filter(|key| !self.in_hand.contains_key(key)));
                self.failure = None;
            }
            Err(error) => {
                self.look = false;
                let failure = error.to_string();
                if self.failure.as_ref() != Some(&failure) {
                    tracing::error!(%error, "the store does not say what is due; nobody does what was left over");
                    self.failure = Some(failure);
                }
            }
        }
    }

    fn next(&mut self) -> Option<RecordKey> {
        let key = self.waiting.pop_front()?;
        self.in_hand.insert(key.clone(), None);
        Some(key)
    }

    fn done(&mut self, key: RecordKey) {
        self.in_hand.insert(key, Instant::now().checked_add(POLL));
    }
}

/// What came of trying to make the thumbnails.
enum Outcome {
    /// For good: commit it.
    Ended(End),
    /// Not now: give the lease back, with what was made so far.
    Later(Reason, Vec<Thumbnail>),
    /// The object is gone.
    Gone,
}

/// Why a due record could not be looked after: not because of the record. It is still due.
#[derive(Debug, thiserror::Error)]
pub enum AttendError {
    /// The store failed.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// OSS does not answer, or refuses our credentials.
    #[error("OSS cannot be asked ({0})")]
    Oss(&'static str),
}

impl AttendError {
    /// Whether OSS answers, but refuses this object to our credentials.
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Oss(reason) if *reason == Reason::OssForbidden.as_str())
    }
}

impl From<ObserveError> for AttendError {
    fn from(error: ObserveError) -> Self {
        match error {
            ObserveError::Records(error) => Self::Records(error),
            ObserveError::Contended => Self::Records(RecordsError::Unavailable(error.to_string())),
        }
    }
}

impl Worker {
    /// A worker that decodes at most one picture more than there are processors at the same time.
    pub fn new(objects: Arc<dyn Objects>, records: Arc<dyn Records>, rules: Arc<Rules>) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let observer = Observer::new(Arc::clone(&records), Some(Arc::clone(&objects)), Arc::clone(&rules));
        let decoding = Arc::new(Semaphore::new(processors.saturating_add(1)));
        Self { objects, records, rules, observer, decoding, woken: Notify::new() }
    }

    /// The same worker over other ports: it decodes within the same limit.
    #[must_use]
    pub fn over(&self, objects: Arc<dyn Objects>, records: Arc<dyn Records>) -> Self {
        let rules = Arc::clone(&self.rules);
        let observer = Observer::new(Arc::clone(&records), Some(Arc::clone(&objects)), Arc::clone(&rules));
        Self { objects, records, rules, observer, decoding: Arc::clone(&self.decoding), woken: Notify::new() }
    }

    /// A lease for a new piece of work, from now.
    pub fn lease() -> Lease {
        let mut owner = [0; 16];
        // Without randomness the time still tells pieces of work apart.
        if getrandom::fill(&mut owner).is_err() {
            owner = Timestamp::now().as_nanosecond().to_be_bytes();
        }
        let owner = format!("{:032x}", u128::from_be_bytes(owner));
        lease_until(&owner, Timestamp::now(), LEASE)
    }

    /// Something has become due: whoever runs the pool should look.
    pub fn wake(&self) {
        self.woken.notify_one();
    }

    /// Whether the work on a record can be expected to end within this time.
    pub fn fits(&self, record: &Record, time: Duration) -> bool {
        let pixels = pixels(record.width, record.height);
        thumbnail::expected_time(record.size.unwrap_or_default(), pixels, self.rules.limits()) <= time
    }

    /// Looks after whatever is due, a bounded number of records at a time, until `stop` is done; then finishes what was begun.
    pub async fn run(self: &Arc<Self>, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut clock = tokio::time::interval(POLL);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut tasks = JoinSet::new();
        let mut queue = Queue::default();
        loop {
            if tasks.len() < AT_A_TIME && queue.wants_more() {
                let limit = queue.in_hand.len().saturating_add(BATCH);
                queue.fill(self.records.due(Timestamp::now(), limit).await, limit);
            }
            while tasks.len() < AT_A_TIME
                && let Some(key) = queue.next()
            {
                let worker = Arc::clone(self);
                tasks.spawn(async move { worker.attend_logged(key).await });
            }
            tokio::select! {
                () = &mut stop => break,
                Some(done) = tasks.join_next() => match done {
                    Ok(key) => queue.done(key),
                    Err(error) => tracing::error!(%error, "the work on a record broke off"),
                },
                () = self.woken.notified() => queue.look = true,
                _ = clock.tick() => queue.look = true,
            }
        }
        let finish = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_TIMEOUT, finish).await.is_err() {
            tracing::warn!("stopped with work in progress; it is taken up again when its leases have run out");
        }
    }

    /// Does what is due for each of these, some at a time, as long as there is time to begin; those for which the store or OSS
    /// could not be asked.
    pub async fn attend_all(
        self: &Arc<Self>,
        keys: impl IntoIterator<Item = RecordKey>,
        until: tokio::time::Instant,
    ) -> Vec<(RecordKey, AttendError)> {
        let attended = stream::iter(keys)
            .map(|key| async move {
                if tokio::time::Instant::now() >= until {
                    return None;
                }
                self.attend(&key).await.err().map(|error| (key, error))
            })
            .buffer_unordered(AT_A_TIME)
            .filter_map(std::future::ready);
        attended
            .inspect(|(key, error)| tracing::warn!(bucket = key.bucket, object = key.object, %error, "still due"))
            .collect()
            .await
    }

    /// Looks once after each record that is due, as long as there is time to begin; how many those were.
    ///
    /// # Errors
    /// If the store does not say what is due.
    pub async fn sweep(self: &Arc<Self>, until: tokio::time::Instant) -> Result<usize, AttendError> {
        let mut seen = HashSet::new();
        while tokio::time::Instant::now() < until {
            let limit = seen.len().saturating_add(BATCH);
            let due = self.records.due(Timestamp::now(), limit).await?;
            // An index that follows later names some again.
            let fresh: Vec<_> = due.into_iter().filter(|key| seen.insert(key.clone())).collect();
            if fresh.is_empty() {
                break;
            }
            self.attend_all(fresh, until).await;
        }
        Ok(seen.len())
    }

    /// Returns the key whatever happens, so that its record is not taken for one in hand for ever.
    async fn attend_logged(&self, key: RecordKey) -> RecordKey {
        let (bucket, object) = (key.bucket.as_str(), key.object.as_str());
        match AssertUnwindSafe(self.attend(&key)).catch_unwind().await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(bucket, object, %error, "still due"),
            Err(_) => tracing::error!(bucket, object, "the work broke off"),
        }
        key
    }

    /// Does what is due for one record, if anything is: asks OSS about what is in doubt, and does the work that nobody does.
    ///
    /// # Errors
    /// If the store or OSS cannot be asked. What is wrong with the object itself is written into its record.
    pub async fn attend(&self, key: &RecordKey) -> Result<(), AttendError> {
        for _ in 0..ROUNDS {
            let Some(record) = self.records.get(key).await? else { return Ok(()) };
            let now = Timestamp::now();
            if record.due().is_none_or(|due| due > now) {
                return Ok(());
            }
            let lease = Self::lease();
            let owner = lease.owner.clone();
            let standing = match record.lease(lease.clone(), now) {
                Some(next) => match self.records.put(&next, Some(record.version())).await? {
                    Put::Stored => next,
                    Put::Lost(_) => continue,
                },
                None => match self.observer.observe(key, None, &Work::Begin(lease, Duration::MAX)).await? {
                    (Observed::Known(record), _) => record,
                    (Observed::Unasked(reason), _) => return Err(AttendError::Oss(reason.as_str())),
                    _ => return Ok(()),
                },
            };
            if !standing.is_leased_by(&owner) || !self.work_again(standing, &owner).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Does the work on a record whose lease `owner` holds; true if there is another version to look after now.
    async fn work_again(&self, record: Record, owner: &str) -> Result<bool, AttendError> {
        let key = record.key();
        let done = self.work(record, owner).await?;
        match done.reason {
            Some(Reason::ObjectChanged) if done.state == State::Received => {
                // The question is new: which version is there now?
                self.observer.observe(&key, None, &Work::Leave).await?;
                Ok(true)
            }
            Some(reason @ (Reason::OssUnavailable | Reason::OssForbidden)) if done.state == State::Received => {
                Err(AttendError::Oss(reason.as_str()))
            }
            _ => Ok(false),
        }
    }

    /// Brings a record up to what OSS says now, due or not, and does the work that is due on it. `again`: work that had ended
    /// is begun anew. The record as it then stands; nothing where there is neither object nor record.
    ///
    /// # Errors
    /// If the store or OSS cannot be asked. What is wrong with the object itself is written into its record.
    pub async fn repair(&self, key: &RecordKey, again: bool) -> Result<Option<Record>, AttendError> {
        let lease = Self::lease();
        let owner = lease.owner.clone();
        match self.observer.observe(key, None, &Work::Begin(lease, Duration::MAX)).await?.0 {
            Observed::Unasked(reason) => return Err(AttendError::Oss(reason.as_str())),
            Observed::Known(record) if record.is_leased_by(&owner) => {
                self.work_again(record, &owner).await?;
            }
            Observed::Known(record) if again => {
                if let Some(next) = record.again(Timestamp::now()) {
                    // Whoever was faster knew better.
                    self.records.put(&next, Some(record.version())).await?;
                }
            }
            _ => {}
        }
        self.attend(key).await?;
        let standing = self.records.get(key).await?;
        match standing.as_ref().filter(|record| record.state == State::Received).and_then(|record| record.reason) {
            Some(reason @ (Reason::OssUnavailable | Reason::OssForbidden)) => Err(AttendError::Oss(reason.as_str())),
            _ => Ok(standing),
        }
    }

    /// Does the work on a record whose lease `owner` holds, and returns the record as it then stands.
    ///
    /// # Errors
    /// If the store does not answer; the lease then runs out by itself.
    pub async fn work(&self, record: Record, owner: &str) -> Result<Record, RecordsError> {
        let outcome = self.make(&record).await;
        if let Outcome::Later(reason, _) = &outcome {
            tracing::warn!(bucket = record.bucket, object = record.object, reason = reason.as_str(), "work put off");
        }
        let random = random();
        self.write(record, |current| {
            let now = Timestamp::now();
            match &outcome {
                Outcome::Ended(end) => current.commit(owner, end.clone(), now),
                // What is there now is another question than what is wrong with it.
                Outcome::Later(Reason::ObjectChanged, _) => {
                    current.release(owner, Reason::ObjectChanged, Vec::new(), now, now)
                }
                Outcome::Later(reason, made) => {
                    current.release(owner, *reason, made.clone(), current.next_try(now, random), now)
                }
                Outcome::Gone => current.gone(owner, now),
            }
        })
        .await
    }

    /// Gives the lease back because the time is up.
    ///
    /// # Errors
    /// If the store does not answer; the lease then runs out by itself.
    pub async fn release(&self, record: Record, owner: &str) -> Result<Record, RecordsError> {
        self.write(record, |current| {
            let now = Timestamp::now();
            current.release(owner, Reason::OutOfTime, current.thumbnails.clone(), now, now)
        })
        .await
    }

    /// Applies a transition to the record: again on what stands there when another writer was faster, and again after a
    /// pause when the store did not answer, so that a passing fault does not throw finished work away.
    async fn write(
        &self,
        mut record: Record,
        transition: impl Fn(&Record) -> Option<Record>,
    ) -> Result<Record, RecordsError> {
        let mut failed = RecordsError::Unavailable("other writers were faster, again and again".to_owned());
        for round in 0..ROUNDS {
            let Some(next) = transition(&record) else { return Ok(record) };
            match self.records.put(&next, Some(record.version())).await {
                Ok(Put::Stored) => return Ok(next),
                // It took effect after all, though the store did not say so in time.
                Ok(Put::Lost(Some(current))) if *current == next => return Ok(next),
                Ok(Put::Lost(Some(current))) => record = *current,
                Ok(Put::Lost(None)) => return Ok(record),
                Err(error) => {
                    failed = error;
                    tokio::time::sleep(PAUSE.saturating_mul(1 << round)).await;
                }
            }
        }
        Err(failed)
    }

    async fn make(&self, record: &Record) -> Outcome {
        let key = record.key();
        let (mime, size) = (record.mime.as_deref(), record.size.unwrap_or_default());
        let variants = match self.rules.action(&key.bucket, &key.object, mime, size) {
            Action::Thumbnails(variants) => variants,
            Action::Skip(reason) => return Outcome::Ended(End::Skipped(reason)),
            Action::Record => return Outcome::Ended(End::Nothing),
        };
        let Some(etag) = record.etag.as_deref() else { return Outcome::Later(Reason::ObjectChanged, Vec::new()) };
        let limits = self.rules.limits();
        if size > limits.max_bytes {
            return Outcome::Ended(End::Failed(Reason::TooManyBytes));
        }
        // What an earlier attempt made is not made again: its key says of which content and how.
        let mut ledger: Vec<Option<Thumbnail>> =
            variants.iter().map(|variant| kept(record, &self.line(&key, etag, variant))).collect();
        let made_so_far = |ledger: &[Option<Thumbnail>]| ledger.iter().flatten().cloned().collect::<Vec<_>>();
        let missing: Vec<Variant> = variants
            .iter()
            .zip(&ledger)
            .filter(|(_, line)| line.is_none())
            .map(|(variant, _)| variant.clone())
            .collect();
        if missing.is_empty() {
            return Outcome::Ended(End::Made { thumbnails: made_so_far(&ledger), remark: None });
        }
        let Ok(permit) = Arc::clone(&self.decoding).acquire_owned().await else {
            return Outcome::Later(Reason::OutOfTime, made_so_far(&ledger));
        };
        let bytes = match self.objects.get(&key, etag, limits.max_bytes).await {
            Ok(bytes) => bytes,
            Err(ObjectsError::NotFound) => return Outcome::Gone,
            Err(error) => return not_read(&key, &error, made_so_far(&ledger)),
        };
        let (wanted, limits) = (missing.clone(), *limits);
        let decoded = tokio::task::spawn_blocking(move || {
            // Decoding cannot be broken off, so the permit goes with it even if nobody waits any longer.
            let _permit = permit;
            thumbnail::make(&bytes, &wanted, &limits)
        })
        .await;
        let made = match decoded {
            Ok(Ok(made)) => made,
            Ok(Err(error)) => return Outcome::Ended(undecoded(&key, &error)),
            Err(_) => return Outcome::Ended(End::Failed(Reason::Undecodable)),
        };
        let remark = mime.filter(|mime| belies(made.format, mime)).map(|_| Reason::TypeMismatch);
        let open = ledger.iter_mut().filter(|line| line.is_none());
        let mut failed = None;
        for ((line, variant), (_, result)) in open.zip(&missing).zip(made.made) {
            match self.store(&key, etag, variant, result).await {
                Ok(thumbnail) => *line = Some(thumbnail),
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        match failed {
            None => Outcome::Ended(End::Made { thumbnails: made_so_far(&ledger), remark }),
            Some(error) => not_read(&key, &error, made_so_far(&ledger)),
        }
    }

    /// The line of a variant in the ledger before it is made.
    fn line(&self, source: &RecordKey, etag: &str, variant: &Variant) -> Thumbnail {
        let output = self.rules.output();
        Thumbnail {
            name: variant.name.clone(),
            state: ThumbnailState::Failed,
            bucket: output.bucket(&source.bucket).to_owned(),
            key: output.key(&source.bucket, &source.object, etag, variant),
            width: None,
            height: None,
            mime: None,
            size: None,
            reason: None,
        }
    }

    /// Stores one variant under a key made of content and parameters alone, so that storing it again is harmless.
    async fn store(
        &self,
        source: &RecordKey,
        etag: &str,
        variant: &Variant,
        result: Result<Made, ThumbnailError>,
    ) -> Result<Thumbnail, ObjectsError> {
        let ledger = self.line(source, etag, variant);
        let made = match result {
            Ok(made) => made,
            Err(error) => return Ok(Thumbnail { reason: Some(error.reason()), ..ledger }),
        };
        let size = u64::try_from(made.bytes.len()).ok();
        let target = RecordKey::new(ledger.bucket.clone(), ledger.key.clone());
        self.objects.put(&target, made.mime, Bytes::from(made.bytes)).await.map_err(|error| match error {
            ObjectsError::NotFound => {
                ObjectsError::Unavailable(format!("the output bucket {} does not exist", target.bucket))
            }
            error => error,
        })?;
        Ok(Thumbnail {
            state: ThumbnailState::Ready,
            width: Some(made.width),
            height: Some(made.height),
            mime: Some(made.mime.to_owned()),
            size,
            ..ledger
        })
    }
}

/// Whether the content is of another type than was declared. A type that says nothing cannot be wrong.
fn belies(format: SourceFormat, declared: &str) -> bool {
    let essence = declared.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let same = match format {
        SourceFormat::Jpeg => ["image/jpeg", "image/jpg", "image/pjpeg"].contains(&essence.as_str()),
        SourceFormat::Png => ["image/png", "image/x-png", "image/apng"].contains(&essence.as_str()),
        SourceFormat::Gif | SourceFormat::Webp => essence == format.mime(),
    };
    !same && !essence.is_empty() && essence != "application/octet-stream"
}

fn undecoded(key: &RecordKey, error: &ThumbnailError) -> End {
    tracing::warn!(bucket = key.bucket, object = key.object, %error, "no thumbnails");
    match error.reason() {
        reason @ Reason::UnsupportedFormat => End::Skipped(reason),
        reason => End::Failed(reason),
    }
}

/// What the ledger has of a variant, if it was made.
fn kept(record: &Record, wanted: &Thumbnail) -> Option<Thumbnail> {
    let same = |line: &&Thumbnail| {
        line.state == ThumbnailState::Ready && (&line.bucket, &line.key) == (&wanted.bucket, &wanted.key)
    };
    // The name is not part of what was made.
    record.thumbnails.iter().find(same).map(|line| Thumbnail { name: wanted.name.clone(), ..line.clone() })
}

fn not_read(key: &RecordKey, error: &ObjectsError, made: Vec<Thumbnail>) -> Outcome {
    tracing::error!(bucket = key.bucket, object = key.object, %error, "OSS failed");
    match error {
        ObjectsError::TooLarge { .. } => Outcome::Ended(End::Failed(Reason::TooManyBytes)),
        ObjectsError::Changed | ObjectsError::NotFound => Outcome::Later(Reason::ObjectChanged, made),
        ObjectsError::Forbidden(_) => Outcome::Later(Reason::OssForbidden, made),
        ObjectsError::Unavailable(_) => Outcome::Later(Reason::OssUnavailable, made),
    }
}
