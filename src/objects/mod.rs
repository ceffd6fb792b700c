//! The port to OSS, and its contract.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

use crate::record::{Facts, RecordKey};

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

/// OSS, asked with the function's own credentials.
///
/// # Contract
///
/// * OSS is strongly consistent: what `head` says was true at some moment between the call and its return.
/// * `get` returns the bytes of exactly the version named by the ETag, or [`ObjectsError::Changed`].
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

    /// Stores an object.
    ///
    /// # Errors
    /// See [`ObjectsError`].
    async fn put(&self, key: &RecordKey, mime: &str, bytes: Bytes) -> Result<(), ObjectsError>;
}
