//! A record as an item of the table, and back.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;

use super::index::{Index, attributes, shard_of};
use crate::record::{Record, RecordKey, State};
use crate::records::RecordsError;

/// The partition key.
pub(super) const KEY: &str = "pk";

/// When DynamoDB may remove the item, in seconds since 1970.
const EXPIRES: &str = "expires";

/// How long a tombstone stands, in seconds: 30 days.
const TOMBSTONE_STANDS: i64 = 30 * 24 * 60 * 60;

/// Nanoseconds in the unit of the time in the index `due`.
pub(super) const MILLISECOND: i128 = 1_000_000;

pub(super) type Item = HashMap<String, AttributeValue>;

pub(super) fn key_of(item: &Item) -> Result<String, RecordsError> {
    match item.get(KEY) {
        Some(AttributeValue::S(key)) => Ok(key.clone()),
        _ => Err(RecordsError::Unreadable(format!("the table's partition key is not the string {KEY:?}"))),
    }
}

/// The key of the record, from an item that may hold no more than that.
pub(super) fn record_key_of(item: &Item) -> Result<RecordKey, RecordsError> {
    let key = key_of(item)?;
    match key.split_once('/') {
        Some((bucket, object)) => Ok(RecordKey::new(bucket, object)),
        None => Err(RecordsError::Unreadable(format!("{key:?} is no key of a record"))),
    }
}

/// The item, with the attributes by which it stands in the indexes: `indexed` names the custom variables among them.
pub(super) fn item_of(record: &Record, indexed: &[String]) -> Result<Item, RecordsError> {
    let mut item: Item = serde_dynamo::to_item(record).map_err(|error| RecordsError::Unreadable(error.to_string()))?;
    // What is absent takes no room, and stays out of an index on it.
    item.retain(|_, value| !value.is_null());
    let key = record.key().joined();
    if let Some(due) = record.due() {
        let at = due.as_nanosecond().saturating_add(MILLISECOND - 1).div_euclid(MILLISECOND);
        let Index { partition, sort, .. } = Index::due();
        item.insert(partition, AttributeValue::S(shard_of(&key).to_string()));
        item.insert(sort.to_owned(), AttributeValue::N(at.to_string()));
    } else if record.state == State::Deleted {
        // One in doubt has something due, and stands until that is settled.
        let at = record.updated.as_second().saturating_add(TOMBSTONE_STANDS);
        item.insert(EXPIRES.to_owned(), AttributeValue::N(at.to_string()));
    }
    for (attribute, value) in attributes(record, &key, indexed) {
        item.insert(attribute, AttributeValue::S(value));
    }
    item.insert(KEY.to_owned(), AttributeValue::S(key));
    Ok(item)
}

pub(super) fn record_of(item: Item) -> Result<Record, RecordsError> {
    let key = key_of(&item)?;
    serde_dynamo::from_item(item).map_err(|error| RecordsError::Unreadable(format!("{key:?}: {error}")))
}
