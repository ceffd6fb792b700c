//! The writer: puts that wait are applied in one transaction and share its sync.

use std::time::Duration;
use std::{iter, thread};

use jiff::Timestamp;
use redb::{Database, ReadableTable as _, Table};
use tokio::sync::{mpsc, oneshot};

use super::{RECORDS, Store, decode, due, listings};
use crate::record::{Record, Version};
use crate::records::{Put, RecordsError};

/// Puts in one transaction at most, so that the first of them is not kept waiting for a long queue.
const BATCH: usize = 256;

/// How long the writer waits for the company that the last transaction had. Puts that come one after the other, or all at once,
/// never wait.
const GATHERING: Duration = Duration::from_micros(500);

/// What the caller of a put is told.
pub(super) type Outcome = Result<Put, RecordsError>;

/// A put that waits for the writer.
pub(super) struct Job {
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
    /// When it is due, if it is.
    pub(super) due: Option<Timestamp>,
    /// Its entries in the listings.
    pub(super) entries: Vec<Vec<u8>>,
    pub(super) expected: Option<Version>,
    pub(super) answer: oneshot::Sender<Outcome>,
}

/// The writer: commits whatever is waiting, again and again, until nobody can send any more.
pub(super) fn write_until_closed(store: &Store, mut jobs: mpsc::Receiver<Job>) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut company = 0;
    while jobs.blocking_recv_many(&mut batch, BATCH) > 0 {
        // Without this those in flight fall into two halves that keep missing each other, and every sync serves but one half.
        if batch.len() < company {
            thread::sleep(GATHERING);
            batch.extend(iter::from_fn(|| jobs.try_recv().ok()).take(BATCH.saturating_sub(batch.len())));
        }
        company = batch.len();
        match store.with(|database| commit(database, &store.indexed, &batch)) {
            Ok(outcomes) => answer(batch.drain(..).zip(outcomes)),
            Err(error) => {
                let reason = error.to_string();
                answer(batch.drain(..).map(|job| (job, Err(RecordsError::Unavailable(reason.clone())))));
            }
        }
    }
}

fn answer(outcomes: impl Iterator<Item = (Job, Outcome)>) {
    for (job, outcome) in outcomes {
        // The caller may have given up waiting.
        let _ = job.answer.send(outcome);
    }
}

/// Applies the puts in one transaction; what it returns may be told once it has returned.
pub(super) fn commit(database: &Database, indexed: &[String], batch: &[Job]) -> Result<Vec<Outcome>, redb::Error> {
    let transaction = database.begin_write()?;
    let mut tables = Tables {
        records: transaction.open_table(RECORDS)?,
        due: transaction.open_table(due::DUE)?,
        listings: transaction.open_table(listings::LISTINGS)?,
        indexed,
    };
    let outcomes = batch.iter().map(|job| tables.apply(job)).collect::<Result<Vec<_>, _>>()?;
    drop(tables);
    if outcomes.iter().any(|outcome| matches!(outcome, Ok(Put::Stored))) {
        transaction.commit()?;
    } else {
        transaction.abort()?;
    }
    Ok(outcomes)
}

/// What a put changes.
struct Tables<'transaction, 'names> {
    records: Table<'transaction, &'static [u8], &'static [u8]>,
    due: Table<'transaction, &'static [u8], ()>,
    listings: Table<'transaction, &'static [u8], ()>,
    /// Names of the custom variables in the listings.
    indexed: &'names [String],
}

impl Tables<'_, '_> {
    /// Applies one put. An outer error ends the whole transaction, an inner one concerns this put alone.
    fn apply(&mut self, job: &Job) -> Result<Outcome, redb::Error> {
        let key = job.key.as_slice();
        let standing = self.records.get(key)?.map(|value| decode::<Record>(key, value.value()));
        let standing = match standing.transpose() {
            Ok(standing) => standing,
            Err(error) => return Ok(Err(error)),
        };
        if standing.as_ref().map(Record::version) != job.expected {
            return Ok(Ok(Put::Lost(standing.map(Box::new))));
        }
        self.records.insert(key, job.value.as_slice())?;
        due::change(&mut self.due, key, standing.as_ref().and_then(Record::due), job.due)?;
        let entries = standing.map(|record| listings::entries(&record, key, self.indexed)).unwrap_or_default();
        listings::change(&mut self.listings, &entries, &job.entries)?;
        Ok(Ok(Put::Stored))
    }
}
