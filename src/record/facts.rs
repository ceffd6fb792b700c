//! What is known about one version of an object, and whether it is the version that a record describes.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Record, State};

/// What is known about one version of an object: from HEAD, or, unconfirmed, from the callback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// ETag without quotes, upper case; absent if the callback does not say and nobody else was asked.
    pub etag: Option<String>,
    /// Size in bytes; absent likewise.
    pub size: Option<u64>,
    /// Stored Content-Type.
    pub mime: Option<String>,
    /// Last-Modified, to the second.
    pub last_modified: Option<Timestamp>,
    /// Version id, in versioned buckets.
    pub version_id: Option<String>,
    /// CRC-64 of the content.
    pub crc64: Option<u64>,
    /// Whether the object is marked as made by us, wherever it lies: a thumbnail of it would be one of a thumbnail.
    pub own_output: bool,
    /// Whether OSS itself said so, asked with our own credentials.
    pub confirmed: bool,
}

impl Facts {
    /// Whether these claims contradict nothing that OSS says.
    pub fn agree_with(&self, confirmed: &Self) -> bool {
        agree(self.etag.as_ref(), confirmed.etag.as_ref())
            && agree(self.size.as_ref(), confirmed.size.as_ref())
            && agree(self.crc64.as_ref(), confirmed.crc64.as_ref())
    }
}

/// What the upload's own callback says beyond the facts. Absent for a callback that is about another version than the facts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Upload {
    /// Request id of the upload.
    pub request_id: Option<String>,
    /// Width in pixels, as OSS saw it.
    pub width: Option<u32>,
    /// Height in pixels, as OSS saw it.
    pub height: Option<u32>,
    /// Custom variables.
    pub custom: BTreeMap<String, String>,
}

impl Record {
    /// Whether `facts` describe the version that this record describes.
    ///
    /// Against what OSS confirmed, a claim is compared by what it says: a callback without an ETag by its size alone. Of two
    /// claims only equal ones are the same, as there is nobody to ask. The type counts where both are from OSS: the same bytes
    /// may be uploaded again under another type within the second that Last-Modified tells apart.
    pub fn describes(&self, facts: &Facts) -> bool {
        let (etags, sizes) = ((self.etag.as_ref(), facts.etag.as_ref()), (self.size.as_ref(), facts.size.as_ref()));
        let same = match (self.confirmed, facts.confirmed) {
            (false, false) => etags.0 == etags.1 && sizes.0 == sizes.1,
            (true, true) => {
                agree(etags.0, etags.1) && agree(sizes.0, sizes.1) && agree(self.mime.as_ref(), facts.mime.as_ref())
            }
            _ => agree(etags.0, etags.1) && agree(sizes.0, sizes.1),
        };
        same && self.state != State::Deleted && agree(self.last_modified.as_ref(), facts.last_modified.as_ref())
    }

    /// Whether OSS once confirmed just this version: a claim with an ETag that says nothing new.
    pub fn is_known_from(&self, facts: &Facts) -> bool {
        self.confirmed && !self.recheck && facts.etag.is_some() && self.describes(facts)
    }

    /// This record as a callback tells it that could not be checked: with its claims, confirmed by nobody.
    pub fn claimed(&self, claims: &Facts) -> Self {
        let mut claimed = self.clone();
        if !self.is_known_from(claims) {
            claimed.set_facts(claims);
            claimed.thumbnails.clear();
        }
        claimed
    }

    pub(super) fn set_facts(&mut self, facts: &Facts) {
        self.etag.clone_from(&facts.etag);
        self.size = facts.size;
        self.mime.clone_from(&facts.mime);
        self.last_modified = facts.last_modified;
        self.version_id.clone_from(&facts.version_id);
        self.crc64 = facts.crc64;
        self.confirmed = facts.confirmed;
    }

    pub(super) fn set_upload(&mut self, upload: &Upload) {
        self.request_id.clone_from(&upload.request_id);
        self.width = upload.width;
        self.height = upload.height;
        self.custom.clone_from(&upload.custom);
    }
}

fn agree<T: PartialEq>(one: Option<&T>, other: Option<&T>) -> bool {
    one.is_none() || other.is_none() || one == other
}
