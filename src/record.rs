//! The record kept for each object, and the transitions between its states as pure functions.
//!
//! A record always describes one version of one object. Nothing here reads a clock, a store or the network: time comes in
//! as a value, so that every transition can be tested by its inputs and outputs alone.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The layout of the record as written by this version of the program.
pub const SCHEMA: u32 = 1;

/// How often work on one generation is begun before it counts as failed. An attempt is counted before it is made, so that one
/// that kills the process counts too.
pub const MOST_ATTEMPTS: u32 = 5;

/// The pause after the first failure; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(5);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

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
    /// Work on it was begun [`MOST_ATTEMPTS`] times and never came to an end.
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
    const fn is_of_others(self) -> bool {
        matches!(self, Self::OutOfTime | Self::LeasedElsewhere | Self::OssUnavailable | Self::OssForbidden)
    }
}

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
    fn failure(&self) -> Option<Reason> {
        (self.state == ThumbnailState::Failed).then(|| self.reason.unwrap_or(Reason::Unknown))
    }
}

/// The right to work on a record, until it expires.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Who holds it; unique to one piece of work.
    pub owner: String,
    /// When it expires.
    pub until: Timestamp,
}

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

/// What is to be done with a newly seen version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Nothing to make.
    Record,
    /// Not to be processed.
    Skip(Reason),
    /// Thumbnails are due, and this lease is taken on them at once.
    Make(Lease),
    /// Thumbnails are due; somebody else makes them.
    Leave,
    /// OSS could not be asked; somebody must look later.
    Verify(Reason),
}

/// How work on a record ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The source was decoded; each variant was made, or failed for good.
    Made {
        /// The ledger.
        thumbnails: Vec<Thumbnail>,
        /// Something to be said although every variant was made, such as a declared type that the content belies.
        remark: Option<Reason>,
    },
    /// No variant can ever be made.
    Failed(Reason),
    /// The content is not something to be processed.
    Skipped(Reason),
    /// The rules no longer ask for anything.
    Nothing,
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

/// What becomes of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transition {
    /// Nothing to write.
    Unchanged,
    /// Write this, under the version that was read.
    Write(Box<Record>),
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

    /// Whether `facts` describe the version that this record describes.
    ///
    /// Against what OSS confirmed, a claim is compared by what it says: a callback without an ETag by its size alone. Of two
    /// claims only equal ones are the same, as there is nobody to ask.
    pub fn describes(&self, facts: &Facts) -> bool {
        let (etags, sizes) = ((self.etag.as_ref(), facts.etag.as_ref()), (self.size.as_ref(), facts.size.as_ref()));
        let same = if self.confirmed || facts.confirmed {
            agree(etags.0, etags.1) && agree(sizes.0, sizes.1)
        } else {
            etags.0 == etags.1 && sizes.0 == sizes.1
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

    /// From when on somebody should look at this record: work is to be done or taken over, or OSS is to be asked. `None`
    /// where nothing is due.
    pub fn due(&self) -> Option<Timestamp> {
        match self.state {
            State::Processing => Some(self.lease.as_ref().map_or(self.updated, |lease| lease.until)),
            State::Received | State::Unverified => Some(self.next_attempt.unwrap_or(self.updated)),
            _ if self.recheck => Some(self.next_attempt.unwrap_or(self.updated)),
            _ => None,
        }
    }

    /// Whether work is due that nobody does at `now`.
    pub fn is_due(&self, now: Timestamp) -> bool {
        match self.state {
            State::Received => self.next_attempt.is_none_or(|next| next <= now),
            State::Processing => self.lease.as_ref().is_none_or(|lease| lease.until <= now),
            _ => false,
        }
    }

    /// Whether OSS must be asked about it: nobody knows whether it is true, or still is.
    pub fn is_in_doubt(&self) -> bool {
        self.recheck || self.state == State::Unverified
    }

    /// When to look again after a failure: each pause is twice as long as the one before, up to an hour, and up to a quarter
    /// longer by `random`, so that what failed together does not come back together.
    pub fn next_try(&self, now: Timestamp, random: u32) -> Timestamp {
        let failures = self.attempts.saturating_add(self.deferrals).saturating_sub(1).min(16);
        let pause = FIRST_PAUSE.saturating_mul(1 << failures).min(LONGEST_PAUSE);
        let spread = pause.mul_f64(f64::from(random) / f64::from(u32::MAX) / 4.0);
        now.saturating_add(pause + spread).unwrap_or(Timestamp::MAX)
    }

    /// Transition A: an object was seen, by its callback or in a listing.
    ///
    /// A version that the record already describes changes nothing, except that a first confirmation, or the upload's own
    /// callback after something else made the record, fills in what was missing. Any other version is a new generation.
    pub fn observe(
        previous: Option<&Self>,
        key: &RecordKey,
        facts: &Facts,
        upload: Option<&Upload>,
        plan: &Plan,
        now: Timestamp,
    ) -> Transition {
        let Some(previous) = previous else {
            return Transition::Write(Box::new(Self::first(key, facts, upload, plan, now)));
        };
        if !previous.describes(facts) {
            if matches!(plan, Plan::Verify(_)) {
                return previous.doubt(now);
            }
            let mut next = Self::first(key, facts, upload, plan, now);
            next.generation = previous.generation.saturating_add(1);
            next.revision = previous.revision.saturating_add(1);
            next.first_seen = previous.first_seen;
            return Transition::Write(Box::new(next));
        }
        let confirms = facts.confirmed && !previous.confirmed;
        let settles = facts.confirmed && previous.recheck;
        let describes_upload =
            previous.request_id.is_none() && upload.is_some_and(|upload| upload.request_id.is_some());
        if !confirms && !settles && !describes_upload {
            return Transition::Unchanged;
        }
        let mut next = previous.clone();
        next.revision = previous.revision.saturating_add(1);
        next.updated = now;
        if settles {
            next.recheck = false;
            next.next_attempt = next.next_attempt.filter(|_| next.state == State::Received);
        }
        if confirms {
            next.set_facts(facts);
            next.begin(plan, now);
        }
        if describes_upload && let Some(upload) = upload {
            next.set_upload(upload);
        }
        Transition::Write(Box::new(next))
    }

    /// A claim of another version that cannot be checked now never replaces what is known, but is not forgotten either.
    fn doubt(&self, now: Timestamp) -> Transition {
        if self.recheck || self.state == State::Unverified {
            return Transition::Unchanged;
        }
        let next_attempt = self.next_attempt.unwrap_or_else(|| later(now, FIRST_PAUSE));
        Transition::Write(Box::new(Self { recheck: true, next_attempt: Some(next_attempt), ..self.rewritten(now) }))
    }

    /// Transition B: takes the lease on due work, counting the attempt before it is made. `None` where nothing is due. Work
    /// that was begun too often already is not begun again: it has failed.
    pub fn lease(&self, lease: Lease, now: Timestamp) -> Option<Self> {
        if !self.is_due(now) {
            return None;
        }
        if self.attempts >= MOST_ATTEMPTS {
            return Some(self.rewritten(now).exhausted());
        }
        Some(Self {
            state: State::Processing,
            reason: None,
            attempts: self.attempts.saturating_add(1),
            next_attempt: None,
            lease: Some(lease),
            ..self.rewritten(now)
        })
    }

    /// Transition B for whoever has just heard from OSS: a pause that OSS or the time was to blame for is over.
    pub fn lease_early(&self, lease: Lease, now: Timestamp) -> Option<Self> {
        let paused = self.state == State::Received && self.reason.is_some_and(Reason::is_of_others);
        let unpaused = paused.then(|| Self { next_attempt: None, ..self.clone() });
        unpaused.as_ref().unwrap_or(self).lease(lease, now)
    }

    /// Work on this version is due again from the beginning, such as after the rules changed; what the ledger has stays made.
    /// `None` where work is due anyway, and for what is no object that we know of.
    pub fn again(&self, now: Timestamp) -> Option<Self> {
        let at_rest = matches!(self.state, State::Ready | State::Failed | State::Recorded | State::Skipped);
        (at_rest && self.confirmed).then(|| Self {
            state: State::Received,
            reason: None,
            attempts: 0,
            deferrals: 0,
            next_attempt: Some(now),
            ..self.rewritten(now)
        })
    }

    /// OSS could not be asked about a record in doubt: somebody is to try again at `next`. `None` where there is no doubt.
    pub fn postpone(&self, next: Timestamp, now: Timestamp) -> Option<Self> {
        self.is_in_doubt().then(|| Self {
            deferrals: self.deferrals.saturating_add(1),
            next_attempt: Some(next),
            ..self.rewritten(now)
        })
    }

    /// Transitions C and D: the work ended so. `None` if `owner` no longer holds the lease: the result belongs to nobody
    /// and is dropped.
    pub fn commit(&self, owner: &str, end: End, now: Timestamp) -> Option<Self> {
        let (state, reason, thumbnails) = match end {
            End::Made { thumbnails, remark } => {
                let failed = thumbnails.iter().find_map(Thumbnail::failure);
                let state = if failed.is_some() { State::Failed } else { State::Ready };
                (state, failed.or(remark), thumbnails)
            }
            End::Failed(reason) => (State::Failed, Some(reason), Vec::new()),
            End::Skipped(reason) => (State::Skipped, Some(reason), Vec::new()),
            End::Nothing => (State::Recorded, None, Vec::new()),
        };
        let next_attempt = self.recheck.then_some(now);
        self.is_leased_by(owner).then(|| Self {
            state,
            reason,
            thumbnails,
            lease: None,
            next_attempt,
            ..self.rewritten(now)
        })
    }

    /// Transition D, transient: the lease is given back and the work is due again at `next`, unless it was begun too often.
    /// `made` is what was done of it, which nobody has to do again.
    pub fn release(
        &self,
        owner: &str,
        reason: Reason,
        made: Vec<Thumbnail>,
        next: Timestamp,
        now: Timestamp,
    ) -> Option<Self> {
        if !self.is_leased_by(owner) {
            return None;
        }
        let mut released = Self {
            state: State::Received,
            reason: Some(reason),
            thumbnails: made,
            next_attempt: Some(next),
            lease: None,
            ..self.rewritten(now)
        };
        match reason {
            // Not even a failure, so that who has more time may begin at once.
            Reason::OutOfTime => released.attempts = released.attempts.saturating_sub(1),
            reason if reason.is_of_others() => {
                released.attempts = released.attempts.saturating_sub(1);
                released.deferrals = released.deferrals.saturating_add(1);
            }
            _ if released.attempts >= MOST_ATTEMPTS => return Some(released.exhausted()),
            _ => {}
        }
        Some(released)
    }

    fn exhausted(self) -> Self {
        let next_attempt = self.recheck.then_some(self.updated);
        Self { state: State::Failed, reason: Some(Reason::Exhausted), lease: None, next_attempt, ..self }
    }

    /// Transition E: OSS, asked about the object as it is now, says that it is gone. `None` where the tombstone stands
    /// already.
    pub fn delete(&self, now: Timestamp) -> Option<Self> {
        (self.state != State::Deleted || self.recheck).then(|| Self {
            state: State::Deleted,
            reason: Some(Reason::ObjectNotFound),
            recheck: false,
            next_attempt: None,
            lease: None,
            ..self.rewritten(now)
        })
    }

    /// Transition E, found while working: the version that `owner` works on is gone. `None` if `owner` no longer holds the
    /// lease, for then the record may be about a newer version, which is none of its business.
    pub fn gone(&self, owner: &str, now: Timestamp) -> Option<Self> {
        self.is_leased_by(owner).then(|| self.delete(now)).flatten()
    }

    fn first(key: &RecordKey, facts: &Facts, upload: Option<&Upload>, plan: &Plan, now: Timestamp) -> Self {
        let mut record = Self {
            bucket: key.bucket.clone(),
            object: key.object.clone(),
            etag: None,
            size: None,
            mime: None,
            last_modified: None,
            version_id: None,
            crc64: None,
            width: None,
            height: None,
            generation: 1,
            revision: 1,
            state: State::Recorded,
            reason: None,
            confirmed: false,
            recheck: false,
            thumbnails: Vec::new(),
            custom: BTreeMap::new(),
            attempts: 0,
            deferrals: 0,
            next_attempt: None,
            lease: None,
            first_seen: now,
            updated: now,
            request_id: None,
            schema: SCHEMA,
        };
        record.set_facts(facts);
        if let Some(upload) = upload {
            record.set_upload(upload);
        }
        record.begin(plan, now);
        record
    }

    fn set_facts(&mut self, facts: &Facts) {
        self.etag.clone_from(&facts.etag);
        self.size = facts.size;
        self.mime.clone_from(&facts.mime);
        self.last_modified = facts.last_modified;
        self.version_id.clone_from(&facts.version_id);
        self.crc64 = facts.crc64;
        self.confirmed = facts.confirmed;
    }

    fn set_upload(&mut self, upload: &Upload) {
        self.request_id.clone_from(&upload.request_id);
        self.width = upload.width;
        self.height = upload.height;
        self.custom.clone_from(&upload.custom);
    }

    fn begin(&mut self, plan: &Plan, now: Timestamp) {
        self.thumbnails.clear();
        (self.reason, self.lease, self.attempts, self.deferrals, self.next_attempt) = (None, None, 0, 0, None);
        match plan {
            Plan::Record => self.state = State::Recorded,
            Plan::Skip(reason) => (self.state, self.reason) = (State::Skipped, Some(*reason)),
            Plan::Make(lease) => {
                (self.state, self.lease, self.attempts) = (State::Processing, Some(lease.clone()), 1);
            }
            Plan::Leave => (self.state, self.next_attempt) = (State::Received, Some(now)),
            Plan::Verify(reason) => {
                (self.state, self.reason) = (State::Unverified, Some(*reason));
                self.next_attempt = Some(later(now, FIRST_PAUSE));
            }
        }
    }

    /// Whether `owner` works on it.
    pub fn is_leased_by(&self, owner: &str) -> bool {
        self.state == State::Processing && self.lease.as_ref().is_some_and(|lease| lease.owner == owner)
    }

    fn rewritten(&self, now: Timestamp) -> Self {
        Self { revision: self.revision.saturating_add(1), updated: now, ..self.clone() }
    }
}

fn agree<T: PartialEq>(one: Option<&T>, other: Option<&T>) -> bool {
    one.is_none() || other.is_none() || one == other
}

/// A lease for `owner` that runs out `after` from `now`.
pub fn lease_until(owner: &str, now: Timestamp, after: Duration) -> Lease {
    Lease { owner: owner.to_owned(), until: later(now, after) }
}

fn later(now: Timestamp, pause: Duration) -> Timestamp {
    now.saturating_add(pause).unwrap_or(Timestamp::MAX)
}
