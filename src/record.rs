//! The record kept for each object, and the transitions between its states as pure functions.
//!
//! A record always describes one version of one object. Nothing here reads a clock, a store or the network: time comes in
//! as a value, so that every transition can be tested by its inputs and outputs alone.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

mod due;
mod facts;
mod ledger;
mod state;
mod transitions;

pub use due::{Lease, MOST_ATTEMPTS, lease_until};
pub use facts::{Facts, Upload};
pub use ledger::{Thumbnail, ThumbnailState};
pub use state::{Reason, State};
pub use transitions::{End, Plan, Transition};

/// The layout of the record as written by this version of the program.
pub const SCHEMA: u32 = 1;

/// The identity of a record: one per object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey {
    /// Bucket name as in the callback.
    pub bucket: String,
    /// Object key, 1 to 1,023 bytes of UTF-8, never decoded or normalised.
    pub object: String,
}

impl RecordKey {
    /// Names the record of `object` in `bucket`.
    pub fn new(bucket: impl Into<String>, object: impl Into<String>) -> Self {
        Self { bucket: bucket.into(), object: object.into() }
    }

    /// The key as one string for stores with a single key column: bucket, `/`, object. A bucket name holds no slash, so
    /// the first slash separates them and different objects never share a key.
    pub fn joined(&self) -> String {
        format!("{}/{}", self.bucket, self.object)
    }
}

/// What a store compares before it writes: the record is still the one that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// +1 for every new version of the object seen; starts at 1.
    pub generation: u64,
    /// +1 for every write of the record; starts at 1.
    pub revision: u64,
}

/// One item per object in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Bucket.
    pub bucket: String,
    /// Object key.
    pub object: String,
    /// ETag without quotes, upper case; absent only while unconfirmed.
    pub etag: Option<String>,
    /// Size in bytes; absent only while unconfirmed.
    pub size: Option<u64>,
    /// Content-Type.
    pub mime: Option<String>,
    /// When OSS stored this version.
    pub last_modified: Option<Timestamp>,
    /// Version id, in versioned buckets.
    pub version_id: Option<String>,
    /// CRC-64 of the content.
    pub crc64: Option<u64>,
    /// Width in pixels, before orientation.
    pub width: Option<u32>,
    /// Height in pixels, before orientation.
    pub height: Option<u32>,
    /// +1 for every new version of the object seen; starts at 1.
    pub generation: u64,
    /// +1 for every write; starts at 1.
    pub revision: u64,
    /// Where it stands.
    pub state: State,
    /// Why it is not `ready`.
    pub reason: Option<Reason>,
    /// Whether OSS confirmed it.
    pub confirmed: bool,
    /// A callback told of another version while OSS could not be asked: somebody must look.
    #[serde(default)]
    pub recheck: bool,
    /// The ledger of variants.
    pub thumbnails: Vec<Thumbnail>,
    /// Custom variables of the upload.
    pub custom: BTreeMap<String, String>,
    /// How often work on this generation was begun, leaving out what failed for reasons that are not the object's.
    pub attempts: u32,
    /// How often something was put off for such reasons.
    #[serde(default)]
    pub deferrals: u32,
    /// Not to be looked at before this time, where something is due and nobody holds the lease.
    #[serde(default)]
    pub next_attempt: Option<Timestamp>,
    /// Who works on it.
    pub lease: Option<Lease>,
    /// When the object was first seen.
    pub first_seen: Timestamp,
    /// When this record was last written.
    pub updated: Timestamp,
    /// Request id of the upload that this version came from.
    pub request_id: Option<String>,
    /// Layout, see [`SCHEMA`].
    pub schema: u32,
}

impl Record {
    /// The key it is stored under.
    pub fn key(&self) -> RecordKey {
        RecordKey::new(self.bucket.clone(), self.object.clone())
    }

    /// What a store compares before this record may be replaced.
    pub const fn version(&self) -> Version {
        Version { generation: self.generation, revision: self.revision }
    }
}
