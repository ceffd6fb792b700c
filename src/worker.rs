//! Work on one record: the bytes from OSS, the thumbnails to OSS, the ledger to the store.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::Semaphore;

use crate::media::{Action, Rules, Variant};
use crate::objects::{Objects, ObjectsError};
use crate::record::{End, Lease, Reason, Record, RecordKey, Thumbnail, ThumbnailState, lease_until};
use crate::records::{Put, Records, RecordsError};
use crate::thumbnail::{self, Made, SourceFormat, ThumbnailError};

/// How long a piece of work belongs to whoever began it.
const LEASE: Duration = Duration::from_secs(60);

/// How often a write is tried.
const ROUNDS: u32 = 5;

/// The first pause after the store did not answer; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(50);

/// Makes the thumbnails of leased records.
pub struct Worker {
    objects: Arc<dyn Objects>,
    records: Arc<dyn Records>,
    rules: Arc<Rules>,
    decoding: Arc<Semaphore>,
}

impl fmt::Debug for Worker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Worker").field("objects", &self.objects).finish_non_exhaustive()
    }
}

/// What came of trying to make the thumbnails.
enum Outcome {
    /// For good: commit it.
    Ended(End),
    /// Not now: give the lease back.
    Later(Reason),
    /// The object is gone.
    Gone,
}

impl Worker {
    /// A worker that decodes at most one picture more than there are processors at the same time.
    pub fn new(objects: Arc<dyn Objects>, records: Arc<dyn Records>, rules: Arc<Rules>) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self { objects, records, rules, decoding: Arc::new(Semaphore::new(processors.saturating_add(1))) }
    }

    /// A lease for a new piece of work, from now.
    pub fn lease() -> Lease {
        let mut owner = [0; 16];
        // Without randomness the time still tells pieces of work apart.
        if getrandom::fill(&mut owner).is_err() {
            owner = Timestamp::now().as_nanosecond().to_be_bytes();
        }
        let owner: String = owner.iter().map(|byte| format!("{byte:02x}")).collect();
        lease_until(&owner, Timestamp::now(), LEASE)
    }

    /// Does the work on a record whose lease `owner` holds, and returns the record as it then stands.
    ///
    /// # Errors
    /// If the store does not answer; the lease then runs out by itself.
    pub async fn work(&self, record: Record, owner: &str) -> Result<Record, RecordsError> {
        let outcome = self.make(&record).await;
        if let Outcome::Later(reason) = &outcome {
            tracing::warn!(bucket = record.bucket, object = record.object, reason = reason.as_str(), "work put off");
        }
        self.write(record, |current| {
            let now = Timestamp::now();
            match &outcome {
                Outcome::Ended(end) => current.commit(owner, end.clone(), now),
                Outcome::Later(reason) => current.release(owner, *reason, now),
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
        self.write(record, |current| current.release(owner, Reason::OutOfTime, Timestamp::now())).await
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
        let Some(etag) = record.etag.as_deref() else { return Outcome::Later(Reason::ObjectChanged) };
        let limits = self.rules.limits();
        if size > limits.max_bytes {
            return Outcome::Ended(End::Failed(Reason::TooManyBytes));
        }
        let Ok(permit) = Arc::clone(&self.decoding).acquire_owned().await else {
            return Outcome::Later(Reason::OutOfTime);
        };
        let bytes = match self.objects.get(&key, etag, limits.max_bytes).await {
            Ok(bytes) => bytes,
            Err(ObjectsError::NotFound) => return Outcome::Gone,
            Err(error) => return not_read(&key, &error),
        };
        let (wanted, limits) = (variants.to_vec(), *limits);
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
        let mut thumbnails = Vec::with_capacity(made.made.len());
        for (variant, (_, result)) in variants.iter().zip(made.made) {
            match self.store(&key, etag, variant, result).await {
                Ok(thumbnail) => thumbnails.push(thumbnail),
                Err(error) => return not_read(&key, &error),
            }
        }
        Outcome::Ended(End::Made { thumbnails, remark })
    }

    /// Stores one variant under a key made of content and parameters alone, so that storing it again is harmless.
    async fn store(
        &self,
        source: &RecordKey,
        etag: &str,
        variant: &Variant,
        result: Result<Made, ThumbnailError>,
    ) -> Result<Thumbnail, ObjectsError> {
        let output = self.rules.output();
        let bucket = output.bucket(&source.bucket).to_owned();
        let key = output.key(&source.bucket, &source.object, etag, variant);
        let ledger = Thumbnail {
            name: variant.name.clone(),
            state: ThumbnailState::Failed,
            bucket,
            key,
            width: None,
            height: None,
            mime: None,
            size: None,
            reason: None,
        };
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

fn not_read(key: &RecordKey, error: &ObjectsError) -> Outcome {
    tracing::error!(bucket = key.bucket, object = key.object, %error, "OSS failed");
    match error {
        ObjectsError::TooLarge { .. } => Outcome::Ended(End::Failed(Reason::TooManyBytes)),
        ObjectsError::Changed | ObjectsError::NotFound => Outcome::Later(Reason::ObjectChanged),
        ObjectsError::Forbidden(_) => Outcome::Later(Reason::OssForbidden),
        ObjectsError::Unavailable(_) => Outcome::Later(Reason::OssUnavailable),
    }
}
