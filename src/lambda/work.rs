//! Work on Lambda, where nothing runs after an answer: one function is fed by the stream of the table, another looks on a
//! schedule for what is due and was left.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lambda_runtime::{Error, LambdaEvent, service_fn};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::record::RecordKey;
use crate::worker::{AttendError, Worker};

/// Of the time that an invocation has, so much is left for what was begun last.
const MARGIN: Duration = Duration::from_secs(20);

/// A batch of the table's stream, as far as it is looked at.
#[derive(Deserialize)]
struct Batch {
    #[serde(rename = "Records")]
    records: Vec<Change>,
}

#[derive(Deserialize)]
struct Change {
    dynamodb: Image,
}

#[derive(Deserialize)]
struct Image {
    #[serde(rename = "Keys")]
    keys: BTreeMap<String, Value>,
    #[serde(rename = "SequenceNumber")]
    sequence_number: String,
}

impl Image {
    /// The record that was changed.
    fn key(&self) -> Option<RecordKey> {
        let (bucket, object) = self.keys.get("pk")?.get("S")?.as_str()?.split_once('/')?;
        Some(RecordKey::new(bucket, object))
    }
}

/// Does what is due for the records of a batch, and names those changes that are to be sent again: only where the store or
/// OSS could not be asked. A record that is itself at fault never holds up the stream, nor does one that no time is left for:
/// it stays due, and the next sweep finds it.
///
/// # Errors
/// If this is no batch of a DynamoDB stream.
pub async fn attend_batch(worker: &Arc<Worker>, event: &str, until: Instant) -> Result<Value, serde_json::Error> {
    let batch: Batch = serde_json::from_str(event)?;
    let mut changes: BTreeMap<RecordKey, Vec<String>> = BTreeMap::new();
    for Change { dynamodb } in batch.records {
        match dynamodb.key() {
            Some(key) => changes.entry(key).or_default().push(dynamodb.sequence_number),
            None => tracing::error!(sequence_number = dynamodb.sequence_number, "a change of no record of ours"),
        }
    }
    let failed = worker.attend_all(changes.keys().cloned(), until).await;
    let failures: Vec<Value> = failed
        .iter()
        .filter_map(|(key, _)| changes.get(key))
        .flatten()
        .map(|number| json!({"itemIdentifier": number}))
        .collect();
    Ok(json!({"batchItemFailures": failures}))
}

/// Looks after all that is due, as long as there is time.
///
/// # Errors
/// If the store does not say what is due.
pub async fn sweep(worker: &Arc<Worker>, until: Instant) -> Result<Value, AttendError> {
    let attended = worker.sweep(until).await?;
    Ok(json!({"attended": attended}))
}

/// Serves batches of the stream until Lambda ends the process.
///
/// # Errors
/// If the Runtime API cannot be reached.
pub async fn run_stream(worker: Arc<Worker>) -> Result<(), Error> {
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Box<RawValue>>| {
        let worker = Arc::clone(&worker);
        async move { attend_batch(&worker, event.payload.get(), end_of(&event)).await.map_err(Error::from) }
    }))
    .await
}

/// Serves the schedule's invocations until Lambda ends the process.
///
/// # Errors
/// If the Runtime API cannot be reached.
pub async fn run_sweep(worker: Arc<Worker>) -> Result<(), Error> {
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Box<RawValue>>| {
        let worker = Arc::clone(&worker);
        async move { sweep(&worker, end_of(&event)).await.map_err(Error::from) }
    }))
    .await
}

/// Until when work is begun.
fn end_of<T>(event: &LambdaEvent<T>) -> Instant {
    let deadline = UNIX_EPOCH.checked_add(Duration::from_millis(event.context.deadline)).unwrap_or(UNIX_EPOCH);
    let left = deadline.duration_since(SystemTime::now()).unwrap_or_default();
    Instant::now() + left.saturating_sub(MARGIN)
}
