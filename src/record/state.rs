//! Where a record stands, and why.

use serde::{Deserialize, Serialize};

/// Where a record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Recorded; thumbnails are due and nobody works on them.
    Received,
    /// Somebody holds the lease and makes the thumbnails.
    Processing,
    /// Every variant was made.
    Ready,
    /// At least one variant can never be made.
    Failed,
    /// Recorded; nothing to make.
    Recorded,
    /// Recorded; refused by a rule, one of our own thumbnails, or a format that is not decoded.
    Skipped,
    /// Recorded from the callback's claims; OSS could not be asked in time.
    Unverified,
    /// The object is gone; a tombstone.
    Deleted,
}

impl State {
    /// All states, for parsers and tests.
    pub const ALL: [Self; 8] = [
        Self::Received,
        Self::Processing,
        Self::Ready,
        Self::Failed,
        Self::Recorded,
        Self::Skipped,
        Self::Unverified,
        Self::Deleted,
    ];

    /// The stable name, as in JSON, in filters and in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Processing => "processing",
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::Recorded => "recorded",
            Self::Skipped => "skipped",
            Self::Unverified => "unverified",
            Self::Deleted => "deleted",
        }
    }

    /// The state with this stable name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// Why a record or one of its thumbnails is not `ready`: a stable code that people and programs can look up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The object lies under our own output prefix.
    OwnOutput,
    /// A rule says that this object is not to be processed.
    RefusedByRule,
    /// A rule asks for something that this version does not make.
    NotSupported,
    /// The content is of a format that is not decoded.
    UnsupportedFormat,
    /// The declared type says one thing, the content another.
    TypeMismatch,
    /// The content could not be decoded.
    Undecodable,
    /// The object has more bytes than the limit.
    TooManyBytes,
    /// The image has more pixels, or a longer side, than the limit.
    TooManyPixels,
    /// The thumbnail could not be encoded.
    NotEncodable,
    /// There was not enough time left; the work is still due.
    OutOfTime,
    /// Another request or worker holds the lease.
    LeasedElsewhere,
    /// OSS could not be reached, or answered with a server error.
    OssUnavailable,
    /// OSS refused our credentials.
    OssForbidden,
    /// OSS says that there is no such object.
    ObjectNotFound,
    /// The object changed while it was worked on.
    ObjectChanged,
    /// Work on it was begun [`MOST_ATTEMPTS`](super::MOST_ATTEMPTS) times and never came to an end.
    Exhausted,
    /// A reason written by a newer version of this program.
    #[serde(other)]
    Unknown,
}

impl Reason {
    /// The stable code.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OwnOutput => "own_output",
            Self::RefusedByRule => "refused_by_rule",
            Self::NotSupported => "not_supported",
            Self::UnsupportedFormat => "unsupported_format",
            Self::TypeMismatch => "type_mismatch",
            Self::Undecodable => "undecodable",
            Self::TooManyBytes => "too_many_bytes",
            Self::TooManyPixels => "too_many_pixels",
            Self::NotEncodable => "not_encodable",
            Self::OutOfTime => "out_of_time",
            Self::LeasedElsewhere => "leased_elsewhere",
            Self::OssUnavailable => "oss_unavailable",
            Self::OssForbidden => "oss_forbidden",
            Self::ObjectNotFound => "object_not_found",
            Self::ObjectChanged => "object_changed",
            Self::Exhausted => "exhausted",
            Self::Unknown => "unknown",
        }
    }

    /// Whether what went wrong says nothing about the object: such an attempt does not count.
    pub(super) const fn is_of_others(self) -> bool {
        matches!(self, Self::OutOfTime | Self::LeasedElsewhere | Self::OssUnavailable | Self::OssForbidden)
    }
}
