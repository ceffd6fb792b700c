//! A page of a listing: a bounded walk over keys, which stand in their order; over those of the records, or over those that
//! have a state or a custom variable in common.

use std::ops::Bound;

use redb::{Database, ReadableDatabase as _};

use super::listings::{LISTINGS, of_custom, of_state};
use super::{RECORDS, decode, stored_key};
use crate::record::{Record, RecordKey};
use crate::records::way::Way;
use crate::records::{Page, Query, RecordsError, cursor};

/// Items that one page of a listing looks at.
const EXAMINED_PER_PAGE: usize = 10_000;

/// A page about to be read.
pub(super) struct Scan {
    query: Query,
    /// What the entries in question begin with in the listings, before the key of a record; `None` to walk over the records.
    listing: Option<Vec<u8>>,
    /// What the key of every record in question begins with.
    scope: Vec<u8>,
    /// Where the page before ended.
    behind: Option<Vec<u8>>,
    /// Items to look at.
    pub(super) budget: usize,
}

/// The keys and values of records, one after another.
type Walk<'a> = Box<dyn Iterator<Item = Result<(Vec<u8>, Vec<u8>), redb::Error>> + 'a>;

impl Scan {
    /// `indexed` names the custom variables in the listings.
    pub(super) fn new(query: Query, indexed: &[String]) -> Result<Self, RecordsError> {
        let scope = scope_of(&query);
        let behind = query.cursor.as_deref().map(|cursor| last_key(cursor, &scope)).transpose()?;
        let listing = match Way::of(&query, indexed) {
            Way::Custom(name, value) => Some(of_custom(name, value)),
            Way::State(state) => Some(of_state(state)),
            Way::Key => None,
        };
        Ok(Self { query, listing, scope, behind, budget: EXAMINED_PER_PAGE })
    }

    pub(super) fn page(&self, database: &Database) -> Result<Result<Page, RecordsError>, redb::Error> {
        let transaction = database.begin_read()?;
        let records = transaction.open_table(RECORDS)?;
        let listing = self.listing.as_deref().unwrap_or_default();
        let start = match &self.behind {
            None => Bound::Included([listing, &self.scope].concat()),
            Some(last) => Bound::Excluded([listing, last].concat()),
        };
        let range = (start.as_ref().map(Vec::as_slice), Bound::Unbounded);
        let walk: Walk<'_> = if self.listing.is_none() {
            Box::new(records.range::<&[u8]>(range)?.map(|item| {
                let (key, value) = item?;
                Ok((key.value().to_vec(), value.value().to_vec()))
            }))
        } else {
            let entries = transaction.open_table(LISTINGS)?.range::<&[u8]>(range)?;
            Box::new(entries.map_while(|item| match item {
                Ok((entry, _)) => entry.value().strip_prefix(listing).map(|key| {
                    // Written together, so where the one is, the other is.
                    let value = records.get(key)?.map(|value| value.value().to_vec());
                    Ok((key.to_vec(), value.unwrap_or_default()))
                }),
                Err(error) => Some(Err(error.into())),
            }))
        };
        let mut page = Page::default();
        let mut last = Vec::new();
        for (examined, item) in walk.enumerate() {
            let (key, value) = item?;
            if !key.starts_with(&self.scope) {
                break;
            }
            if examined == self.budget || page.records.len() == self.query.limit.max(1) {
                page.cursor = Some(cursor::after(&last));
                break;
            }
            match decode::<Record>(&key, &value) {
                Ok(record) if self.query.matches(&record) => page.records.push(record),
                Ok(_) => {}
                Err(error) => return Ok(Err(error)),
            }
            last = key;
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
