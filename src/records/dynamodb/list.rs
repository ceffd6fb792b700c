//! A page of a listing: through an index where one leaves less to look at than the whole table.
//!
//! An index is asked in all its shards at once, and what they name is merged into the order of the keys. Records are then read
//! from the table, strongly consistent, and judged by what they are now: an index that follows late may leave one out, but
//! never shows what is no longer so.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

use aws_sdk_dynamodb::operation::query::QueryOutput;
use aws_sdk_dynamodb::operation::scan::builders::ScanFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes};
use futures_util::future::try_join_all;

use super::DynamoDb;
use super::failure::IndexFailure;
use super::index::{Index, SHARDS, end_of};
use super::item::{Item, KEY, key_of, record_key_of, record_of};
use crate::record::{Record, RecordKey};
use crate::records::way::Way;
use crate::records::{Page, Query, RecordsError, cursor};

/// Items, or keys in an index, that one page of a listing looks at; a page that goes through an index may end somewhat later.
const EXAMINED_PER_PAGE: usize = 1_000;

/// The most records that DynamoDB reads at a time.
const READ_AT_A_TIME: usize = 100;

/// Keys that fit into the least that reading a shard costs, whatever it finds.
const KEYS_PER_READ_UNIT: usize = 16;

/// Bytes of an object key at most, and more than a bucket name has.
const LONGEST_OBJECT: usize = 1_023;
const LONGEST_BUCKET: usize = 255;

impl DynamoDb {
    pub(super) async fn page(&self, query: &Query) -> Result<Page, RecordsError> {
        // What no key can match would be refused as the key of an index.
        if query.prefix.as_ref().is_some_and(|prefix| prefix.len() > LONGEST_OBJECT)
            || query.bucket.as_ref().is_some_and(|bucket| bucket.len() > LONGEST_BUCKET)
        {
            return Ok(Page::default());
        }
        let begun = query.cursor.as_deref().map(|word| Position::read(word, query)).transpose()?;
        // A listing goes on the way it began, whatever indexes came or went.
        match (begun, Lookup::of(query, &self.settings.indexed)) {
            (Some(Position::Scanned(key)), _) => self.scan(query, Some(key)).await,
            (Some(Position::Listed(key)), Some(lookup)) => {
                let found = self.look_up(query, &lookup, Some(key)).await;
                found.map_err(|failure| self.no_index(&lookup.index, failure))
            }
            (Some(Position::Listed(_)), None) => Err(RecordsError::BadCursor),
            (None, None) => self.scan(query, None).await,
            (None, Some(lookup)) => match self.look_up(query, &lookup, None).await {
                Ok(page) => Ok(page),
                Err(IndexFailure::Other(error)) => Err(error),
                Err(IndexFailure::Missing(reason)) => {
                    self.missing.warn(&self.table, &lookup.index, &reason);
                    self.scan(query, None).await
                }
            },
        }
    }

    /// A page through an index, behind the record of this key.
    async fn look_up(
        &self,
        query: &Query,
        lookup: &Lookup<'_>,
        behind: Option<RecordKey>,
    ) -> Result<Page, IndexFailure> {
        let limit = query.limit.max(1);
        let mut page = Page::default();
        let mut behind = behind.map(|key| lookup.entry_of(key));
        if behind.as_ref().is_some_and(|entry| !lookup.reaches(&entry.sort_key)) {
            return Err(RecordsError::BadCursor.into());
        }
        let mut examined = 0_usize;
        // Where the index alone decides, no record is read in vain.
        let mut reading = limit;
        loop {
            let found = self.entries(lookup, behind.as_ref(), limit).await?;
            examined = examined.saturating_add(found.entries.len());
            let mut named: Vec<_> = found.entries.iter().filter(|entry| query.wants(&entry.key)).collect();
            while !named.is_empty() {
                let rest = named.split_off(named.len().min(reading).min(READ_AT_A_TIME));
                let mut records = self.read(named.iter().map(|entry| &entry.key)).await?;
                for entry in named {
                    page.records.extend(records.remove(&entry.key).filter(|record| query.matches(record)));
                    if page.records.len() == limit {
                        let ended = !found.more && found.entries.last() == Some(entry);
                        page.cursor = (!ended).then(|| Position::Listed(entry.key.clone()).word());
                        return Ok(page);
                    }
                }
                reading = READ_AT_A_TIME;
                named = rest;
            }
            match found.entries.last().filter(|_| found.more) {
                None => return Ok(page),
                Some(last) if examined >= EXAMINED_PER_PAGE => {
                    page.cursor = Some(Position::Listed(last.key.clone()).word());
                    return Ok(page);
                }
                Some(last) => behind = Some(last.clone()),
            }
        }
    }

    /// What all shards of an index name behind this place, in order, as far as every shard was looked at.
    async fn entries(
        &self,
        lookup: &Lookup<'_>,
        behind: Option<&Entry>,
        limit: usize,
    ) -> Result<Entries, IndexFailure> {
        let count = KEYS_PER_READ_UNIT.saturating_add(limit / SHARDS.len()).min(EXAMINED_PER_PAGE);
        let shards = SHARDS.chars().map(|shard| self.entries_in(shard, lookup, behind, count));
        let mut entries = Vec::new();
        let mut horizon: Option<Entry> = None;
        for answer in try_join_all(shards).await? {
            let keys = answer.items.unwrap_or_default();
            let found: Vec<_> = keys
                .iter()
                .map(|item| Ok(lookup.entry_of(record_key_of(item)?)))
                .collect::<Result<_, RecordsError>>()?;
            if answer.last_evaluated_key.is_some()
                && let Some(last) = found.last()
                && horizon.as_ref().is_none_or(|horizon| last < horizon)
            {
                horizon = Some(last.clone());
            }
            entries.extend(found);
        }
        entries.retain(|entry| {
            behind.is_none_or(|behind| entry > behind) && horizon.as_ref().is_none_or(|horizon| entry <= horizon)
        });
        entries.sort_unstable();
        Ok(Entries { entries, more: horizon.is_some() })
    }

    async fn entries_in(
        &self,
        shard: char,
        lookup: &Lookup<'_>,
        behind: Option<&Entry>,
        count: usize,
    ) -> Result<QueryOutput, IndexFailure> {
        let text = |value: &str| AttributeValue::S(value.to_owned());
        // The place itself is asked for again: an index takes one condition on the order, and has no word for "behind, up to".
        let from = behind.map_or(lookup.scope.as_str(), |behind| &behind.sort_key);
        let to = end_of(&lookup.scope);
        let condition = match (from, &to) {
            ("", _) => "#partition = :partition",
            (_, None) => "#partition = :partition AND #sort >= :from",
            (_, Some(_)) => "#partition = :partition AND #sort BETWEEN :from AND :to",
        };
        let Lookup { index, value, .. } = lookup;
        let mut request = self
            .client()?
            .query()
            .table_name(&self.table)
            .index_name(&index.name)
            .key_condition_expression(condition)
            .expression_attribute_names("#partition", &index.partition)
            .expression_attribute_values(":partition", text(&Index::partition_of(shard, value)))
            .limit(i32::try_from(count).unwrap_or(i32::MAX));
        if !from.is_empty() {
            request = request
                .expression_attribute_names("#sort", index.sort)
                .expression_attribute_values(":from", text(from));
            if let Some(to) = &to {
                request = request.expression_attribute_values(":to", text(to));
            }
        }
        request.send().await.map_err(|error| self.index_failure(&error))
    }

    /// These records as they are now; those that are gone are left out. At most [`READ_AT_A_TIME`].
    async fn read(&self, keys: impl Iterator<Item = &RecordKey>) -> Result<HashMap<RecordKey, Record>, RecordsError> {
        let mut left: Vec<Item> =
            keys.map(|key| Item::from([(KEY.to_owned(), AttributeValue::S(key.joined()))])).collect();
        let mut records = HashMap::new();
        while !left.is_empty() {
            let asked = left.len();
            let keys = KeysAndAttributes::builder().set_keys(Some(left)).consistent_read(true).build();
            let keys = keys.map_err(|error| RecordsError::Unavailable(format!("a request is not whole: {error}")))?;
            let answer = self.client()?.batch_get_item().request_items(&self.table, keys).send().await;
            let answer = answer.map_err(|error| self.unavailable(&error))?;
            for item in answer.responses.into_iter().flat_map(HashMap::into_values).flatten() {
                let record = record_of(item)?;
                records.insert(record.key(), record);
            }
            // Too much for one answer: 16 MB, or what the table's capacity allows.
            let unread = answer.unprocessed_keys.into_iter().flat_map(HashMap::into_values);
            left = unread.flat_map(|keys| keys.keys).collect();
            if left.len() == asked {
                return Err(RecordsError::Unavailable(format!(
                    "table {:?} is throttled; raise its capacity or try again later",
                    self.table
                )));
            }
        }
        Ok(records)
    }

    /// A page out of the whole table, behind the item of this key.
    async fn scan(&self, query: &Query, behind: Option<String>) -> Result<Page, RecordsError> {
        let filter = Filter::of(query);
        let examined = if filter.is_empty() && query.custom.is_empty() {
            query.limit.clamp(1, EXAMINED_PER_PAGE)
        } else {
            EXAMINED_PER_PAGE
        };
        let scan = self
            .client()?
            .scan()
            .table_name(&self.table)
            .consistent_read(true)
            .limit(i32::try_from(examined).unwrap_or(i32::MAX))
            .set_exclusive_start_key(behind.map(|key| HashMap::from([(KEY.to_owned(), AttributeValue::S(key))])));
        let answer = filter.on(scan).send().await.map_err(|error| self.unavailable(&error))?;
        let more = answer.last_evaluated_key.as_ref().map(key_of).transpose()?;
        let records = answer.items.unwrap_or_default().into_iter().map(record_of).collect::<Result<Vec<_>, _>>()?;
        Ok(page_of(query, records, more))
    }
}

impl Query {
    /// Whether the record of this key may belong to the answer.
    fn wants(&self, key: &RecordKey) -> bool {
        self.bucket.as_ref().is_none_or(|bucket| *bucket == key.bucket)
            && self.prefix.as_ref().is_none_or(|prefix| key.object.starts_with(prefix.as_str()))
    }
}

/// What is to be looked up, and in which index.
struct Lookup<'query> {
    index: Index,
    /// What the partition stands for: the name of a bucket or a state, or the value of a custom variable.
    value: &'query str,
    /// What every sort key in question begins with.
    scope: String,
}

impl<'query> Lookup<'query> {
    /// The index for this query; `None` where the table itself must be read.
    fn of(query: &'query Query, indexed: &[String]) -> Option<Self> {
        let (index, value) = match Way::of(query, indexed) {
            Way::Custom(name, value) => (Index::custom(name)?, value),
            Way::State(state) => (Index::state(), state.as_str()),
            Way::Key => (Index::bucket(), query.bucket.as_deref()?),
        };
        let scope = index.scope(query.bucket.as_deref(), query.prefix.as_deref().unwrap_or_default());
        Some(Self { index, value, scope })
    }

    /// Whether a place is one that a page of this listing can end at.
    fn reaches(&self, sort_key: &str) -> bool {
        sort_key >= self.scope.as_str() && end_of(&self.scope).is_none_or(|end| sort_key <= end.as_str())
    }

    fn entry_of(&self, key: RecordKey) -> Entry {
        Entry { sort_key: self.index.sort_key_of(&key), key }
    }
}

/// Where an index names a record; they stand in this order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    sort_key: String,
    key: RecordKey,
}

struct Entries {
    entries: Vec<Entry>,
    /// Whether there are others behind them.
    more: bool,
}

/// Where a page ended.
enum Position {
    /// In an index, with the record of this key.
    Listed(RecordKey),
    /// In the table, with the item of this key.
    Scanned(String),
}

impl Position {
    const LISTED: char = 'l';
    const SCANNED: char = 's';

    /// The cursor.
    fn word(&self) -> String {
        let (way, key) = match self {
            Self::Listed(key) => (Self::LISTED, key.joined()),
            Self::Scanned(key) => (Self::SCANNED, key.clone()),
        };
        cursor::after(format!("{way}{key}").as_bytes())
    }

    /// What a cursor says. One that comes from a scan may be any: a scan goes through the whole table, whatever it filters by.
    fn read(word: &str, query: &Query) -> Result<Self, RecordsError> {
        let text = String::from_utf8(cursor::last_key(word)?).map_err(|_| RecordsError::BadCursor)?;
        let key = text.get(1..).and_then(|key| key.split_once('/'));
        let key = key.filter(|(bucket, object)| !bucket.is_empty() && !object.is_empty());
        let key = key.map(|(bucket, object)| RecordKey::new(bucket, object)).ok_or(RecordsError::BadCursor)?;
        match text.chars().next() {
            // A page may have ended where nothing matched, so the prefix is left to the index.
            Some(Self::LISTED) if query.bucket.as_ref().is_none_or(|bucket| *bucket == key.bucket) => {
                Ok(Self::Listed(key))
            }
            Some(Self::SCANNED) => Ok(Self::Scanned(key.joined())),
            _ => Err(RecordsError::BadCursor),
        }
    }
}

/// The indexes that were found missing, each of which is told of once.
#[derive(Debug, Default)]
pub(super) struct Missing(Mutex<BTreeSet<String>>);

impl Missing {
    fn warn(&self, table: &str, index: &Index, reason: &str) {
        if self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(index.name.clone()) {
            tracing::warn!(
                table,
                reason,
                "listings read the whole table, which takes long and costs a read unit per 4 KB stored: give it {index}"
            );
        }
    }
}

/// A page of what a scan found: what belongs to the answer, up to the limit, and where to go on.
fn page_of(query: &Query, found: Vec<Record>, more: Option<String>) -> Page {
    let limit = query.limit.max(1);
    let mut records: Vec<_> = found.into_iter().filter(|record| query.matches(record)).collect();
    // What was found beyond the limit is found again by the next page.
    let cut = records.len() > limit;
    records.truncate(limit);
    let position = if cut { records.last().map(|record| record.key().joined()) } else { more };
    Page { records, cursor: position.map(|key| Position::Scanned(key).word()) }
}

/// The part of a query that DynamoDB itself evaluates, which spares sending the rest.
#[derive(Default)]
struct Filter {
    conditions: Vec<&'static str>,
    names: HashMap<String, String>,
    values: HashMap<String, AttributeValue>,
}

impl Filter {
    fn of(query: &Query) -> Self {
        let mut filter = Self::default();
        if let Some(bucket) = &query.bucket {
            filter.add("#bucket = :bucket", "bucket", bucket);
        }
        if let Some(prefix) = query.prefix.as_deref().filter(|prefix| !prefix.is_empty()) {
            filter.add("begins_with(#object, :object)", "object", prefix);
        }
        if let Some(state) = query.state {
            filter.add("#state = :state", "state", state.as_str());
        }
        filter
    }

    /// Adds a condition, in which the attribute stands as `#attribute` and the value as `:attribute`: plain names could be
    /// reserved words.
    fn add(&mut self, condition: &'static str, attribute: &str, value: &str) {
        self.conditions.push(condition);
        self.names.insert(format!("#{attribute}"), attribute.to_owned());
        self.values.insert(format!(":{attribute}"), AttributeValue::S(value.to_owned()));
    }

    fn is_empty(&self) -> bool {
        self.conditions.is_empty()
    }

    fn on(self, scan: ScanFluentBuilder) -> ScanFluentBuilder {
        if self.is_empty() {
            return scan;
        }
        scan.filter_expression(self.conditions.join(" AND "))
            .set_expression_attribute_names(Some(self.names))
            .set_expression_attribute_values(Some(self.values))
    }
}
