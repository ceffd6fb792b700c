//! The records in a DynamoDB table: one item per object, under the partition key `pk`, which is the record's joined key.
//! Objects are spread over the partitions by their whole key, so many uploads into one bucket meet no hot one.
//!
//! # Indexes
//!
//! [`indexes`] names the global secondary indexes that a table should have. All of them hold keys alone (`KEYS_ONLY`): an entry
//! is then written when a record comes in or goes out, not at every write of the record, and a write costs five times what a
//! read does. The first sign of each partition key is one of 16 shards, named by a hash of the record's key: a partition takes
//! 1,000 writes a second, so 16,000 records a second may come into one bucket, one state or one owner before one runs hot.
//!
//! | index | partition key | sort key | holds | serves |
//! | --- | --- | --- | --- | --- |
//! | `due` | `due_shard`: shard | `due_at`: milliseconds since 1970 | what is due | [`Records::due`] |
//! | `bucket` | `bucket_shard`: shard, `/`, bucket | `object` | all | bucket, prefix |
//! | `state` | `state_shard`: shard, `/`, state | `sort_key`: bucket, `/`, object | neither `ready` nor `recorded` | state, with bucket and prefix |
//! | `custom.NAME` | `custom.NAME`: shard, `/`, value | `sort_key` | values of 1 to 1,024 bytes | a custom variable, with bucket and prefix |
//!
//! The attributes exist only on records that the index holds. None is ever empty or longer than DynamoDB takes, for it refuses
//! the whole item then: a `sort_key` beyond 1,024 bytes keeps the first 960 and ends in a hash. A listing that no index serves
//! reads the whole table: by `ready` or `recorded` in all buckets, as most records are in one of them; by a custom variable
//! that is not named in the rules, or whose value is empty or longer than 1,024 bytes; and without a filter. So does one whose
//! index the table lacks, which is told of once in the log. Names of variables that cannot be an index's (letters, digits,
//! `_`, `-` and `.` can) are not indexed.
//!
//! Indexes follow the table within about a second. Items that were written before they had the attributes of an index, or before
//! a variable was named in the rules, come in when they are written again; a listing without a filter finds them.
//!
//! # Cost
//!
//! In request units, as DynamoDB bills them on demand. A record takes about 1 KB, with two thumbnails up to 2 KB; an entry of an
//! index is below 1 KB unless keys are longer than some 300 bytes.
//!
//! | operation | read units | write units |
//! | --- | --- | --- |
//! | `get` | 1 per 4 KB | |
//! | `put` | | 1 per KB; a lost condition too |
//! | and, for a new object | | 1 (`bucket`), 1 per indexed variable it has |
//! | and, if something becomes due or no longer is | | 1; 2 where only the time changes |
//! | and, if it comes into a state of the index or leaves one | | 1; 2 from one of them to another |
//! | and, if an indexed variable gets another value | | 2; 1 to or from none |
//! | `list` by an index | 16 times 0.5 per 4 KB of keys (some 16 entries), so 8 for little, and 1 per 4 KB of each record that the index names | |
//! | `list` without | 1 per 4 KB examined, up to 1,000 items a page, matching or not | |
//! | `due` | 16 times 0.5 per 4 KB named, so 8 where there is little | |
//! | a tombstone that expires | | none |
//!
//! An object that is only recorded costs one put and one change of an index, in its whole life. A picture whose thumbnails are
//! made in the request costs two puts, and five changes: `bucket`, and `due` and `state` twice each. A page of 100 records of one
//! bucket comes to some 108 read units. Looking for due work every two seconds, as the pool does, comes to 4 read units a second.
//!
//! Where the index does not decide alone, as for `ready` in one bucket, records are read in vain: up to some 1,000 a page.
//!
//! # Tombstones
//!
//! A record whose object is gone has the attribute `expires`, 30 days after it was written, in seconds since 1970; with
//! time to live on it, DynamoDB removes the item within some days of then. One that comes back is written without it. When a
//! tombstone is gone, so is the count of generations: an object uploaded again afterwards begins at generation 1, as one that
//! was never seen. Within the table that is safe, as every write is conditional on what stands there, and a writer that read the
//! tombstone loses to its absence and reads again; leases and retries are over within hours. Whoever keeps
//! generations elsewhere must not take the lower one for an older version if there were 30 days without the object.
//!
//! The client is made by the first request, so that a function that starts for a request that is refused at once pays nothing
//! for it. Everything it needs comes in as a value; nothing here reads the environment.

use std::fmt;
use std::sync::OnceLock;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::query::QueryOutput;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::future::try_join_all;
use jiff::Timestamp;

use super::{Page, Put, Query, Records, RecordsError};
use crate::record::{Record, RecordKey, Version};

mod client;
mod failure;
mod index;
mod item;
mod list;

pub use client::{Credentials, DynamoDbSettings};
pub use index::Index;

use client::make_client;
use failure::IndexFailure;
use index::SHARDS;
use item::{Item, KEY, MILLISECOND, item_of, record_key_of, record_of};
use list::Missing;

/// A random word that each put writes along: how a put that was repeated recognises its own first attempt.
const WRITE: &str = "write";

/// The global secondary indexes that a table should have whose records are indexed by these custom variables. Names that
/// cannot be an index's are left out.
pub fn indexes(indexed: &[String]) -> Vec<Index> {
    let custom = indexed.iter().filter_map(|name| Index::custom(name));
    [Index::due(), Index::bucket(), Index::state()].into_iter().chain(custom).collect()
}

/// The store of records in a DynamoDB table, which has the partition key `pk`, a string, no sort key, and [`indexes`].
pub struct DynamoDb {
    table: String,
    settings: DynamoDbSettings,
    client: OnceLock<Result<Client, String>>,
    missing: Missing,
}

impl DynamoDb {
    /// Names the table. Nothing is connected, or even looked at, before the first request.
    pub fn new(table: impl Into<String>, mut settings: DynamoDbSettings) -> Self {
        settings.indexed.retain(|name| {
            let fits = Index::custom(name).is_some();
            if !fits {
                tracing::warn!(name, "no index of DynamoDB can have this name: listings by it read the whole table");
            }
            fits
        });
        Self { table: table.into(), settings, client: OnceLock::new(), missing: Missing::default() }
    }

    fn client(&self) -> Result<&Client, RecordsError> {
        self.client
            .get_or_init(|| make_client(&self.settings))
            .as_ref()
            .map_err(|reason| RecordsError::Unavailable(format!("no client for DynamoDB can be made: {reason}")))
    }

    /// What a put whose condition was lost comes to, given the item that stands there.
    fn lost(standing: Option<&Item>, write: &AttributeValue) -> Result<Put, RecordsError> {
        match standing {
            None => Ok(Put::Lost(None)),
            Some(item) if item.get(WRITE) == Some(write) => Ok(Put::Stored),
            Some(item) => Ok(Put::Lost(Some(Box::new(record_of(item.clone())?)))),
        }
    }

    /// What is due in one shard of the index.
    async fn due_in(&self, index: &Index, shard: char, now: i128, limit: usize) -> Result<QueryOutput, IndexFailure> {
        self.client()?
            .query()
            .table_name(&self.table)
            .index_name(&index.name)
            .key_condition_expression("#shard = :shard AND #at <= :now")
            .expression_attribute_names("#shard", &index.partition)
            .expression_attribute_names("#at", index.sort)
            .expression_attribute_values(":shard", AttributeValue::S(shard.to_string()))
            .expression_attribute_values(":now", AttributeValue::N(now.to_string()))
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .send()
            .await
            .map_err(|error| self.index_failure(&error))
    }
}

impl fmt::Debug for DynamoDb {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("DynamoDb")
            .field("table", &self.table)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Records for DynamoDb {
    async fn get(&self, key: &RecordKey) -> Result<Option<Record>, RecordsError> {
        let answer = self
            .client()?
            .get_item()
            .table_name(&self.table)
            .key(KEY, AttributeValue::S(key.joined()))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| self.unavailable(&error))?;
        answer.item.map(record_of).transpose()
    }

    async fn put(&self, record: &Record, expected: Option<Version>) -> Result<Put, RecordsError> {
        let write = AttributeValue::S(random_word()?);
        let request = self
            .client()?
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item_of(record, &self.settings.indexed)?))
            .item(WRITE, write.clone())
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let request = match expected {
            None => request.condition_expression("attribute_not_exists(#key)").expression_attribute_names("#key", KEY),
            Some(version) => request
                .condition_expression("#generation = :generation AND #revision = :revision")
                .expression_attribute_names("#generation", "generation")
                .expression_attribute_names("#revision", "revision")
                .expression_attribute_values(":generation", AttributeValue::N(version.generation.to_string()))
                .expression_attribute_values(":revision", AttributeValue::N(version.revision.to_string())),
        };
        match request.send().await {
            Ok(_) => Ok(Put::Stored),
            Err(error) => match error.as_service_error() {
                Some(PutItemError::ConditionalCheckFailedException(lost)) => Self::lost(lost.item(), &write),
                _ => Err(self.unavailable(&error)),
            },
        }
    }

    async fn list(&self, query: &Query) -> Result<Page, RecordsError> {
        self.page(query).await
    }

    async fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<RecordKey>, RecordsError> {
        // Rounded down, as what is due is rounded up: nothing comes before its time.
        let now = now.as_nanosecond().div_euclid(MILLISECOND);
        let index = Index::due();
        let shards = SHARDS.chars().map(|shard| self.due_in(&index, shard, now, limit.max(1)));
        let answers = try_join_all(shards).await.map_err(|failure| self.no_index(&index, failure))?;
        let mut due = Vec::new();
        for item in answers.into_iter().filter_map(|answer| answer.items).flatten() {
            due.push(due_of(&index, &item)?);
        }
        due.sort_unstable();
        Ok(due.into_iter().take(limit).map(|(_, key)| key).collect())
    }
}

/// When an item of the index is due, and the key of its record.
fn due_of(index: &Index, item: &Item) -> Result<(i64, RecordKey), RecordsError> {
    let key = record_key_of(item)?;
    let at = item.get(index.sort).and_then(|at| at.as_n().ok()?.parse().ok());
    at.map(|at| (at, key.clone())).ok_or_else(|| {
        RecordsError::Unreadable(format!("the time of {:?} in the index {:?}", key.joined(), index.name))
    })
}

fn random_word() -> Result<String, RecordsError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| RecordsError::Unavailable(format!("the system gives no random bytes: {error}")))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}
