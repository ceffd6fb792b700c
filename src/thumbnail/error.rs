//! Why there is no thumbnail.

use crate::record::Reason;

/// Why there is no thumbnail, or why one of them is missing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ThumbnailError {
    /// The content is of a format that is known, but not decoded.
    #[error("{found} is not decoded; send JPEG, PNG, GIF or WebP")]
    UnsupportedFormat {
        /// Name of the format.
        found: &'static str,
    },
    /// The content is no image of a known format, or a damaged one.
    #[error("the content cannot be decoded: {detail}")]
    Undecodable {
        /// What the decoder found wrong; for logs.
        detail: String,
    },
    /// The file is too large.
    #[error("the file has {bytes} bytes; the limit is {limit}")]
    TooManyBytes {
        /// Size of the file.
        bytes: u64,
        /// What is allowed.
        limit: u64,
    },
    /// The image is too large.
    #[error("the image is {width} by {height} pixels; {limit}")]
    TooManyPixels {
        /// Stored width in pixels.
        width: u32,
        /// Stored height in pixels.
        height: u32,
        /// Which limit it exceeds.
        limit: ExceededLimit,
    },
    /// The thumbnail could not be made of the decoded image, or not be encoded.
    #[error("the thumbnail cannot be encoded: {detail}")]
    NotEncodable {
        /// What the encoder found wrong; for logs.
        detail: String,
    },
}

/// The limit that an image exceeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExceededLimit {
    /// Width times height.
    #[error("the limit is {0} pixels")]
    Pixels(u64),
    /// The longer side.
    #[error("the limit is {0} pixels per side")]
    Side(u32),
    /// The memory that decoding would take.
    #[error("decoding would take {needed} bytes of memory, the limit is {limit}")]
    Memory {
        /// Estimate from the header, in bytes.
        needed: u64,
        /// What is allowed, in bytes.
        limit: u64,
    },
    /// The times that every pixel would be visited.
    #[error("its {0} scans visit them too often")]
    Scans(u32),
}

impl ThumbnailError {
    /// The reason that stands in the record.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::UnsupportedFormat { .. } => Reason::UnsupportedFormat,
            Self::Undecodable { .. } => Reason::Undecodable,
            Self::TooManyBytes { .. } => Reason::TooManyBytes,
            Self::TooManyPixels { .. } => Reason::TooManyPixels,
            Self::NotEncodable { .. } => Reason::NotEncodable,
        }
    }

    pub(super) fn undecodable(detail: impl ToString) -> Self {
        Self::Undecodable { detail: detail.to_string() }
    }

    pub(super) fn not_encodable(detail: impl ToString) -> Self {
        Self::NotEncodable { detail: detail.to_string() }
    }
}
