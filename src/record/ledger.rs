//! The ledger of thumbnails: one line for each variant of the picture.

use serde::{Deserialize, Serialize};

use super::Reason;

/// The state of one variant in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThumbnailState {
    /// Made and stored in OSS.
    Ready,
    /// Cannot be made; see the reason.
    Failed,
}

/// One line of the thumbnail ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thumbnail {
    /// Name of the variant in the rules.
    pub name: String,
    /// Whether it exists.
    pub state: ThumbnailState,
    /// Bucket it is stored in.
    pub bucket: String,
    /// Key it is stored under.
    pub key: String,
    /// Width in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// Height in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    /// MIME type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime: Option<String>,
    /// Size in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
}

impl Thumbnail {
    /// Why it does not exist; one that failed without saying why has failed all the same.
    pub(super) fn failure(&self) -> Option<Reason> {
        (self.state == ThumbnailState::Failed).then(|| self.reason.unwrap_or(Reason::Unknown))
    }
}
