//! By state and by custom variable: a table beside the records, changed in the same transaction, so that it is never ahead of
//! them or behind.

use redb::{
    Database, ReadableDatabase as _, ReadableTable, Table, TableDefinition, TableHandle as _, WriteTransaction,
};

use super::{RECORDS, decode};
use crate::record::{Record, State};
use crate::records::way::{is_indexable, is_rare};

/// What the records behind it have in common, then the key of one of them: a rare state, or one of the custom variables that
/// [`INDEXED`] names.
pub(super) const LISTINGS: TableDefinition<'_, &[u8], ()> = TableDefinition::new("listings");

/// Names of the custom variables in [`LISTINGS`], as JSON, under the one key there is.
const INDEXED: TableDefinition<'_, (), &[u8]> = TableDefinition::new("listed");

/// What the entries of all records in this state begin with.
pub(super) fn of_state(state: State) -> Vec<u8> {
    [b"s", state.as_str().as_bytes(), &[0]].concat()
}

/// What the entries of all records begin with whose custom variable of this name has this value. Both stand with their length
/// before them, as they may hold any byte.
pub(super) fn of_custom(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| (text.len() as u64).to_be_bytes();
    [b"c", &length(name)[..], name.as_bytes(), &length(value), value.as_bytes()].concat()
}

/// The entries of a record.
pub(super) fn entries(record: &Record, key: &[u8], indexed: &[String]) -> Vec<Vec<u8>> {
    let custom = indexed.iter().filter_map(|name| {
        let value = record.custom.get(name).filter(|value| is_indexable(value))?;
        Some(of_custom(name, value))
    });
    let state = is_rare(record.state).then(|| of_state(record.state));
    state.into_iter().chain(custom).map(|listing| [&listing, key].concat()).collect()
}

/// A record had these entries and now has those.
pub(super) fn change(
    table: &mut Table<'_, &[u8], ()>,
    before: &[Vec<u8>],
    after: &[Vec<u8>],
) -> Result<(), redb::Error> {
    for entry in before.iter().filter(|entry| !after.contains(entry)) {
        table.remove(entry.as_slice())?;
    }
    for entry in after.iter().filter(|entry| !before.contains(entry)) {
        table.insert(entry.as_slice(), ())?;
    }
    Ok(())
}

/// Names of the custom variables that the table holds; `None` where there is no table yet, or nobody can say what it holds.
pub(super) fn indexed(database: &Database) -> Result<Option<Vec<String>>, redb::Error> {
    let transaction = database.begin_read()?;
    let there: Vec<String> = transaction.list_tables()?.map(|table| table.name().to_owned()).collect();
    if ![LISTINGS.name(), INDEXED.name()].iter().all(|name| there.iter().any(|table| table == name)) {
        return Ok(None);
    }
    let names = transaction.open_table(INDEXED)?.get(())?;
    Ok(names.and_then(|names| serde_json::from_slice(names.value()).ok()))
}

/// Makes the table anew, with the custom variables of these names.
pub(super) fn rebuild(transaction: &WriteTransaction, indexed: &[String]) -> Result<(), redb::Error> {
    transaction.delete_table(LISTINGS)?;
    let mut table = transaction.open_table(LISTINGS)?;
    for item in transaction.open_table(RECORDS)?.iter()? {
        let (key, value) = item?;
        match decode::<Record>(key.value(), value.value()) {
            Ok(record) => change(&mut table, &[], &entries(&record, key.value(), indexed))?,
            // Whoever asks for it is told; it is no reason to keep from all the others.
            Err(error) => tracing::error!(%error, "a record cannot be listed by state or custom variable"),
        }
    }
    let names = serde_json::Value::from(indexed.to_vec()).to_string();
    transaction.open_table(INDEXED)?.insert((), names.as_bytes())?;
    Ok(())
}
