//! The port to OSS, and its contract.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

use jiff::Timestamp;

use crate::record::{Facts, RecordKey};

mod listing;
pub mod oss;

/// Why OSS did not give what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObjectsError {
    /// There is no such object (404).
    #[error("OSS has no such object")]
    NotFound,
    /// The object is no longer the version that was asked for (412).
    #[error("the object in OSS has changed")]
    Changed,
    /// OSS refused our credentials or rights (403).
    #[error("OSS refused the request: {0}")]
    Forbidden(String),
    /// The object has more bytes than the limit.
    #[error("the object is larger than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// Out of reach, too slow, or a server error.
    #[error("OSS is unavailable: {0}")]
    Unavailable(String),
}

/// One object of a listing: less than `head` says, for a thousand at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Object key.
    pub object: String,
    /// What is known of it; nothing of a symbolic link, as `head` speaks of its target.
    pub version: Option<ListedVersion>,
}

/// Which version of an object is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedVersion {
    /// ETag without quotes, upper case.
    pub etag: String,
    /// Size in bytes.
    pub size: u64,
    /// Last-Modified, to the second, as `head` gives it.
    pub last_modified: Timestamp,
}

impl Listed {
    /// What the listing says of the object. Its type is not in it.
    pub fn facts(&self) -> Facts {
        Facts {
            etag: self.version.as_ref().map(|version| version.etag.clone()),
            size: self.version.as_ref().map(|version| version.size),
            mime: None,
            last_modified: self.version.as_ref().map(|version| version.last_modified),
            version_id: None,
            crc64: None,
            own_output: false,
            confirmed: true,
        }
    }
}

/// A page of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// The objects, in byte order of their keys.
    pub objects: Vec<Listed>,
    /// Whether there are more behind the last one.
    pub more: bool,
}

/// OSS, asked with the function's own credentials.
///
/// # Contract
///
/// * OSS is strongly consistent: what `head` says was true at some moment between the call and its return.
/// * `get` returns the bytes of exactly the version named by the ETag, or [`ObjectsError::Changed`].
/// * `list` returns up to a thousand objects behind `after` in byte order, each once, so that going on behind the last one
///   visits every object that is there all the while. A bucket that does not exist is [`ObjectsError::Unavailable`], never an
///   empty listing: what is not listed is taken for deleted.
/// * `put` stores all the bytes or nothing; repeating it with the same bytes is harmless.
/// * Every call ends within the adapter's own time-out; [`ObjectsError::Unavailable`] then leaves open whether a `put` took
///   effect.
#[async_trait]
pub trait Objects: fmt::Debug + Send + Sync + 'static {
    /// What OSS knows about an object now.
    ///
    /// # Errors
    /// See [`ObjectsError`].
    async fn head(&self, key: &RecordKey) -> Result<Facts, ObjectsError>;

    /// The bytes of the version with this ETag, at most `limit` of them.
    ///
    /// # Errors
    /// See [`ObjectsError`].
    async fn get(&self, key: &RecordKey, etag: &str, limit: u64) -> Result<Bytes, ObjectsError>;

    /// The objects of a bucket whose keys begin with `prefix` and come after `after`.
    ///
    /// # Errors
    /// See [`ObjectsError`].
    async fn list(&self, bucket: &str, prefix: &str, after: Option<&str>) -> Result<Listing, ObjectsError>;

    /// Stores an object that was made by us, and says so in its metadata: see [`Facts::own_output`].
    ///
    /// # Errors
    /// See [`ObjectsError`].
    async fn put(&self, key: &RecordKey, mime: &str, bytes: Bytes) -> Result<(), ObjectsError>;
}
