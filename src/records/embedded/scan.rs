//! A page of a listing: a bounded walk over the keys, which stand in their order.

use std::ops::Bound;

use redb::{Database, ReadableDatabase as _};

use super::{RECORDS, decode, stored_key};
use crate::record::{Record, RecordKey};
use crate::records::{Page, Query, RecordsError, cursor};

/// Items that one page of a listing looks at.
const EXAMINED_PER_PAGE: usize = 10_000;

/// A page about to be read.
pub(super) struct Scan {
    query: Query,
    /// What every key in question begins with.
    scope: Vec<u8>,
    start: Bound<Vec<u8>>,
    /// Items to look at.
    pub(super) budget: usize,
}

impl Scan {
    pub(super) fn new(query: Query) -> Result<Self, RecordsError> {
        let scope = scope_of(&query);
        let start = match &query.cursor {
            None => Bound::Included(scope.clone()),
            Some(cursor) => Bound::Excluded(last_key(cursor, &scope)?),
        };
        Ok(Self { query, scope, start, budget: EXAMINED_PER_PAGE })
    }

    pub(super) fn page(&self, database: &Database) -> Result<Result<Page, RecordsError>, redb::Error> {
        let table = database.begin_read()?.open_table(RECORDS)?;
        let start = self.start.as_ref().map(Vec::as_slice);
        let mut page = Page::default();
        let mut last = Vec::new();
        for (examined, item) in table.range::<&[u8]>((start, Bound::Unbounded))?.enumerate() {
            let (key, value) = item?;
            if !key.value().starts_with(&self.scope) {
                break;
            }
            if examined == self.budget || page.records.len() == self.query.limit.max(1) {
                page.cursor = Some(cursor::after(&last));
                break;
            }
            match decode::<Record>(key.value(), value.value()) {
                Ok(record) if self.query.matches(&record) => page.records.push(record),
                Ok(_) => {}
                Err(error) => return Ok(Err(error)),
            }
            last.clear();
            last.extend_from_slice(key.value());
        }
        Ok(Ok(page))
    }
}

/// What the key of every record that the query can match begins with.
fn scope_of(query: &Query) -> Vec<u8> {
    match &query.bucket {
        Some(bucket) => stored_key(&RecordKey::new(bucket.as_str(), query.prefix.as_deref().unwrap_or_default())),
        None => Vec::new(),
    }
}

/// The key that the page before ended with.
fn last_key(cursor: &str, scope: &[u8]) -> Result<Vec<u8>, RecordsError> {
    let key = cursor::last_key(cursor)?;
    let ours = key.contains(&0) && key.starts_with(scope) && std::str::from_utf8(&key).is_ok();
    if ours { Ok(key) } else { Err(RecordsError::BadCursor) }
}
