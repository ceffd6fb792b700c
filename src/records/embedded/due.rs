//! What is due: a table beside the records, changed in the same transaction, so that it is never ahead of them or behind.

use jiff::Timestamp;
use redb::{Database, ReadableDatabase as _, ReadableTable, Table, TableDefinition};

use super::decode;
use crate::record::{Record, RecordKey};
use crate::records::RecordsError;

/// The time, then the key of the record: what has been due for longest comes first.
pub(super) const DUE: TableDefinition<'_, &[u8], ()> = TableDefinition::new("due");

/// Bytes of the time.
const TIME: usize = size_of::<i128>();

/// The key of what is due at this time.
fn due_key(at: Timestamp, record: &[u8]) -> Vec<u8> {
    [&time_bytes(at.as_nanosecond())[..], record].concat()
}

/// Nanoseconds so that their bytes stand in the order of time: with the sign turned, what is before 1970 comes before it.
const fn time_bytes(nanoseconds: i128) -> [u8; TIME] {
    (nanoseconds ^ i128::MIN).to_be_bytes()
}

/// The record behind `key` was due at `before` and is now at `after`.
pub(super) fn change(
    table: &mut Table<'_, &[u8], ()>,
    key: &[u8],
    before: Option<Timestamp>,
    after: Option<Timestamp>,
) -> Result<(), redb::Error> {
    if before == after {
        return Ok(());
    }
    if let Some(before) = before {
        table.remove(due_key(before, key).as_slice())?;
    }
    if let Some(after) = after {
        table.insert(due_key(after, key).as_slice(), ())?;
    }
    Ok(())
}

/// Names what is due in the records of a database that was written without this table.
pub(super) fn fill(
    table: &mut Table<'_, &[u8], ()>,
    records: &impl ReadableTable<&'static [u8], &'static [u8]>,
) -> Result<(), redb::Error> {
    for item in records.iter()? {
        let (key, value) = item?;
        match decode::<Record>(key.value(), value.value()) {
            Ok(record) => change(table, key.value(), None, record.due())?,
            // Whoever asks for it is told; it is no reason to keep from all the others.
            Err(error) => tracing::error!(%error, "whether work is due on a record cannot be told"),
        }
    }
    Ok(())
}

/// The first `limit` that are due by `now`.
pub(super) fn read(
    database: &Database,
    now: Timestamp,
    limit: usize,
) -> Result<Result<Vec<RecordKey>, RecordsError>, redb::Error> {
    let table = database.begin_read()?.open_table(DUE)?;
    // Times are far from the ends of the number.
    let end = time_bytes(now.as_nanosecond().saturating_add(1));
    let mut due = Vec::new();
    for item in table.range::<&[u8]>(..&end[..])?.take(limit) {
        let key = item?.0;
        match record_key(key.value()) {
            Some(key) => due.push(key),
            None => return Ok(Err(RecordsError::Unreadable(format!("{:?} is no key of what is due", key.value())))),
        }
    }
    Ok(Ok(due))
}

/// The record of which a key of this table speaks.
fn record_key(key: &[u8]) -> Option<RecordKey> {
    let (_, record) = key.split_at_checked(TIME)?;
    let (bucket, object) = std::str::from_utf8(record).ok()?.split_once('\0')?;
    Some(RecordKey::new(bucket, object))
}
