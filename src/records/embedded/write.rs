//! The writer: puts that wait are applied in one transaction and share its sync.

use jiff::Timestamp;
use redb::{Database, ReadableTable as _, Table};
use tokio::sync::{mpsc, oneshot};

use super::{RECORDS, Store, decode, due};
use crate::record::{Record, Version};
use crate::records::{Put, RecordsError};

/// Puts in one transaction at most, so that the first of them is not kept waiting for a long queue.
const BATCH: usize = 256;

/// What the caller of a put is told.
pub(super) type Outcome = Result<Put, RecordsError>;

/// A put that waits for the writer.
pub(super) struct Job {
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
    /// When it is due, if it is.
    pub(super) due: Option<Timestamp>,
    pub(super) expected: Option<Version>,
    pub(super) answer: oneshot::Sender<Outcome>,
}

/// The writer: commits whatever is waiting, again and again, until nobody can send any more.
pub(super) fn write_until_closed(store: &Store, mut jobs: mpsc::Receiver<Job>) {
    let mut batch = Vec::with_capacity(BATCH);
    while jobs.blocking_recv_many(&mut batch, BATCH) > 0 {
        match store.with(|database| commit(database, &batch)) {
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
pub(super) fn commit(database: &Database, batch: &[Job]) -> Result<Vec<Outcome>, redb::Error> {
    let transaction = database.begin_write()?;
    let mut records = transaction.open_table(RECORDS)?;
    let mut due = transaction.open_table(due::DUE)?;
    let outcomes = batch.iter().map(|job| apply(&mut records, &mut due, job)).collect::<Result<Vec<_>, _>>()?;
    drop((records, due));
    if outcomes.iter().any(|outcome| matches!(outcome, Ok(Put::Stored))) {
        transaction.commit()?;
    } else {
        transaction.abort()?;
    }
    Ok(outcomes)
}

/// Applies one put. An outer error ends the whole transaction, an inner one concerns this put alone.
fn apply(
    records: &mut Table<'_, &[u8], &[u8]>,
    due: &mut Table<'_, &[u8], ()>,
    job: &Job,
) -> Result<Outcome, redb::Error> {
    let standing = records.get(job.key.as_slice())?.map(|value| decode::<Record>(&job.key, value.value()));
    let standing = match standing.transpose() {
        Ok(standing) => standing,
        Err(error) => return Ok(Err(error)),
    };
    if standing.as_ref().map(Record::version) != job.expected {
        return Ok(Ok(Put::Lost(standing.map(Box::new))));
    }
    records.insert(job.key.as_slice(), job.value.as_slice())?;
    due::change(due, &job.key, standing.and_then(|record| record.due()), job.due)?;
    Ok(Ok(Put::Stored))
}
