//! The port to the store of records, its contract, and what every backend shares.

use std::fmt;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::record::{Record, RecordKey, State, Version};

#[cfg(any(feature = "dynamodb", feature = "embedded"))]
mod cursor;
#[cfg(feature = "dynamodb")]
pub mod dynamodb;
#[cfg(feature = "embedded")]
pub mod embedded;
#[cfg(any(feature = "dynamodb", feature = "embedded"))]
mod way;

/// What came of a conditional write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Put {
    /// The record is stored, durably.
    Stored,
    /// The condition was lost and nothing was written; this is what stands there now (nothing, if the item is gone).
    Lost(Option<Box<Record>>),
}

/// Which records a listing wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Only this bucket.
    pub bucket: Option<String>,
    /// Only object keys that begin so, in every bucket asked for.
    pub prefix: Option<String>,
    /// Only this state.
    pub state: Option<State>,
    /// Only records whose custom variable of this name has this value.
    pub custom: Vec<(String, String)>,
    /// At most so many records on one page; 0 is taken as 1.
    pub limit: usize,
    /// Where the page before ended; opaque, and of use only with the same filters.
    pub cursor: Option<String>,
}

impl Query {
    /// Whether a record belongs to the answer.
    pub fn matches(&self, record: &Record) -> bool {
        self.bucket.as_ref().is_none_or(|bucket| *bucket == record.bucket)
            && self.prefix.as_ref().is_none_or(|prefix| record.object.starts_with(prefix.as_str()))
            && self.state.is_none_or(|state| state == record.state)
            && self.custom.iter().all(|(name, value)| record.custom.get(name) == Some(value))
    }
}

/// One page of a listing.
///
/// A page may hold fewer records than asked for, even none, while a cursor is given: a store looks at a bounded number of
/// items per page, whether they match or not. Only a missing cursor means that the listing has ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Page {
    /// The records, in an order that the backend chooses but keeps.
    pub records: Vec<Record>,
    /// Where the next page begins; `None` at the end.
    pub cursor: Option<String>,
}

/// Why a store did not answer.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// Out of reach, throttled or too slow. Whether a write took effect is unknown: read before writing again.
    #[error("the record store is unavailable: {0}")]
    Unavailable(String),
    /// What is stored, or a cursor, cannot be read.
    #[error("the record store holds something unreadable: {0}")]
    Unreadable(String),
    /// The cursor is none that this store gave out.
    #[error("the cursor is not one that this store gave out")]
    BadCursor,
}

/// The store of records.
///
/// # Contract
///
/// * **Atomic**: a write happens wholly or not at all, and only if the stored version still equals `expected` (`None`: there
///   is no record yet). Of any number of writers with the same expectation exactly one gets [`Put::Stored`].
/// * **Durable**: once [`Put::Stored`] is returned, the record survives the death of this process and, for the embedded store,
///   the loss of power.
/// * **Read your writes**: `get` sees every write that returned before it began. So does `list`, but where the query names a
///   bucket, a state or a custom variable, the index behind it may follow later (DynamoDB, usually within a second): until then
///   a record may be missing that has just come to match. What is listed always matches as it was read, and no record is lost
///   from a listing without a filter. Whoever acts on a record reads it first.
/// * **Cost**: `list` by bucket and prefix, by state, or by a custom variable that is indexed looks at little more than it
///   returns, whatever else is stored; where several of these are asked for, at what one of them leaves. Each backend says which
///   listings it has no index for. An empty value of a custom variable, and one of more than 1,024 bytes, is stored, and listed,
///   but not indexed.
/// * **A lost condition** returns [`Put::Lost`] with what stands there, not an error. A store that repeats a write whose answer
///   got lost recognises its own first attempt and returns [`Put::Stored`]; only if another writer has replaced that attempt in
///   the meantime is it `Lost`, and what is returned then already builds on it.
/// * **A time-out** returns [`RecordsError::Unavailable`]; the write may have taken effect. So may one whose future was dropped.
/// * **Keys**: a bucket name holds neither `/` nor NUL. An object key is any UTF-8 of 1 to 1,023 bytes; keys are compared byte
///   by byte, never decoded or normalised.
/// * **Due work**: `due` names what [`Record::due`] says is due, as of the last write; where the index behind it follows
///   later (DynamoDB, usually within a second), a record may be missing from it or still stand in it for that long, and may come
///   up to a millisecond late. Whoever acts on it reads the record first.
/// * **Sizes**: a record is well below 400 KB (the limit of DynamoDB), and the names of its custom variables are not empty.
#[async_trait]
pub trait Records: fmt::Debug + Send + Sync + 'static {
    /// Reads one record, strongly consistent.
    ///
    /// # Errors
    /// If the store cannot be reached in time or holds something unreadable.
    async fn get(&self, key: &RecordKey) -> Result<Option<Record>, RecordsError>;

    /// Writes `record` if the stored version is still `expected`.
    ///
    /// # Errors
    /// If the store cannot be reached in time; then it is unknown whether the write took effect.
    async fn put(&self, record: &Record, expected: Option<Version>) -> Result<Put, RecordsError>;

    /// Lists a page of records. Following the cursors visits every record that was there all the while, matched all the while and
    /// stood in the index all the while, exactly once.
    ///
    /// # Errors
    /// If the store cannot be reached in time, or the cursor is not one of its own.
    async fn list(&self, query: &Query) -> Result<Page, RecordsError>;

    /// At most `limit` records that are due by `now`, those first that have been due for longest. Costs what is named, not
    /// what is stored.
    ///
    /// # Errors
    /// If the store cannot be reached in time, or lacks the index that it looks into.
    async fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<RecordKey>, RecordsError>;
}
