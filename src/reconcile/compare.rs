//! What is wrong with a record, and what it costs to mend it: pure.

use jiff::Timestamp;
use serde::Serialize;

use super::Request;
use crate::media::{Action, Rules};
use crate::objects::Listed;
use crate::record::{Reason, Record, RecordKey, State};

/// What is wrong with the record of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// There is none: its callback never came.
    Missing,
    /// It describes another version than the one in OSS.
    Stale,
    /// OSS has not confirmed it.
    InDoubt,
    /// Work is due that nobody does.
    Unfinished,
    /// There is no object.
    Orphaned,
    /// Its work failed, and is to be begun again.
    Failed,
    /// It was made by other rules than today's.
    Outdated,
}

impl Finding {
    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Stale => "stale",
            Self::InDoubt => "in_doubt",
            Self::Unfinished => "unfinished",
            Self::Orphaned => "orphaned",
            Self::Failed => "failed",
            Self::Outdated => "outdated",
        }
    }
}

/// Compares an object of the listing with its record.
pub(super) fn compare(
    listed: &Listed,
    record: Option<&Record>,
    request: &Request,
    rules: &Rules,
    now: Timestamp,
) -> Option<Finding> {
    let Some(record) = record.filter(|record| record.state != State::Deleted) else { return Some(Finding::Missing) };
    if record.is_in_doubt() || !record.confirmed {
        return Some(Finding::InDoubt);
    }
    if !record.describes(&listed.facts()) {
        return Some(Finding::Stale);
    }
    if record.is_due(now) {
        return Some(Finding::Unfinished);
    }
    if request.failed && record.state == State::Failed {
        return Some(Finding::Failed);
    }
    (request.rules_changed && is_outdated(record, rules)).then_some(Finding::Outdated)
}

/// Whether today's rules would have made something else of a record whose work has ended.
///
/// A picture that could not be decoded at all left nothing behind that would tell which rule tried; it counts as failed, not as
/// outdated, or it would be tried again by every run.
fn is_outdated(record: &Record, rules: &Rules) -> bool {
    let size = record.size.unwrap_or_default();
    let (state, reason) = (record.state, record.reason);
    match rules.action(&record.bucket, &record.object, record.mime.as_deref(), size) {
        // Its mark is on it, wherever it lies.
        _ if state == State::Skipped && reason == Some(Reason::OwnOutput) => false,
        Action::Thumbnails(variants) => match state {
            State::Ready | State::Failed => {
                let output = rules.output();
                let etag = record.etag.as_deref().unwrap_or_default();
                let bucket = output.bucket(&record.bucket);
                let key = |variant| output.key(&record.bucket, &record.object, etag, variant);
                let same = variants.len() == record.thumbnails.len()
                    && variants
                        .iter()
                        .zip(&record.thumbnails)
                        .all(|(variant, line)| line.bucket == bucket && line.key == key(variant));
                !record.thumbnails.is_empty() && !same
            }
            State::Recorded => true,
            State::Skipped => matches!(reason, Some(Reason::RefusedByRule | Reason::NotSupported)),
            _ => false,
        },
        Action::Skip(_) => matches!(state, State::Ready | State::Failed | State::Recorded),
        Action::Record => matches!(state, State::Ready | State::Failed | State::Skipped),
    }
}

/// What repairs ask of OSS and of the store, at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cost {
    /// Requests to OSS: `heads`, `gets` and `puts` together.
    pub(super) calls: u64,
    /// Requests for an object.
    pub(super) gets: u64,
    /// Thumbnails stored.
    pub(super) puts: u64,
    /// Bytes of objects.
    pub(super) bytes: u64,
    /// Reads of the store.
    pub(super) reads: u64,
    /// Writes of the store.
    pub(super) writes: u64,
}

impl Cost {
    /// The cost of repairing the record of an object, guessed before OSS was asked: its type, where nobody knows it, by its
    /// name.
    pub(super) fn of_repair(key: &RecordKey, mime: Option<&str>, size: Option<u64>, rules: &Rules) -> Self {
        let size = size.unwrap_or_default();
        match rules.action(&key.bucket, &key.object, mime, size) {
            Action::Thumbnails(variants) if size <= rules.limits().max_bytes => {
                let puts = u64::try_from(variants.len()).unwrap_or(u64::MAX);
                Self { calls: puts.saturating_add(2), gets: 1, puts, bytes: size, reads: 3, writes: 2 }
            }
            Action::Thumbnails(_) => Self { calls: 1, reads: 3, writes: 2, ..Self::default() },
            Action::Skip(_) | Action::Record => Self { calls: 1, reads: 3, writes: 1, ..Self::default() },
        }
    }

    pub(super) const fn plus(&self, other: Self) -> Self {
        Self {
            calls: self.calls.saturating_add(other.calls),
            gets: self.gets.saturating_add(other.gets),
            puts: self.puts.saturating_add(other.puts),
            bytes: self.bytes.saturating_add(other.bytes),
            reads: self.reads.saturating_add(other.reads),
            writes: self.writes.saturating_add(other.writes),
        }
    }
}
