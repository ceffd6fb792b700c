//! The global secondary indexes of the table: what each is called, and where a record stands in it.

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::record::{Record, RecordKey};
use crate::records::way::{is_indexable, is_rare};

/// Names of the shards: the first digit of a hash.
pub(super) const SHARDS: &str = "0123456789abcdef";

/// The sort key of the indexes that hold records of several buckets.
const SORT_KEY: &str = "sort_key";

/// The longest sort key that DynamoDB takes, in bytes.
const LONGEST_SORT_KEY: usize = 1_024;

/// As much of a longer key stands in its sort key, in bytes; the hash that tells it from others fills the rest.
const LONGEST_START: usize = LONGEST_SORT_KEY - 64;

/// The longest name of an index, and of an attribute that is a key of one, in bytes.
const LONGEST_NAME: usize = 255;

/// A global secondary index of the table. Its partition key is a string, and it holds the keys alone (`KEYS_ONLY`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    /// Its name.
    pub name: String,
    /// The attribute that is its partition key.
    pub partition: String,
    /// The attribute that is its sort key.
    pub sort: &'static str,
    /// Whether the sort key is a number, not a string.
    pub sort_is_number: bool,
}

impl fmt::Display for Index {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, partition, sort, sort_is_number } = self;
        let of = if *sort_is_number { "a number" } else { "a string" };
        write!(
            formatter,
            "a global secondary index {name:?} with the partition key {partition} (a string), the sort key {sort} ({of}) \
             and the projection KEYS_ONLY"
        )
    }
}

impl Index {
    /// What is due, by time.
    pub(super) fn due() -> Self {
        Self { sort_is_number: true, ..Self::new("due", "due_shard", "due_at") }
    }

    /// Everything, by bucket and object key.
    pub(super) fn bucket() -> Self {
        Self::new("bucket", "bucket_shard", "object")
    }

    /// What is in a rare state, by bucket and object key.
    pub(super) fn state() -> Self {
        Self::new("state", "state_shard", SORT_KEY)
    }

    /// What has a custom variable of this name, by bucket and object key; `None` for a name that cannot be an index's.
    pub(super) fn custom(name: &str) -> Option<Self> {
        let index = format!("custom.{name}");
        let fits = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
        (fits && !name.is_empty() && index.len() <= LONGEST_NAME).then(|| Self::new(&index, &index, SORT_KEY))
    }

    fn new(name: &str, partition: &str, sort: &'static str) -> Self {
        Self { name: name.to_owned(), partition: partition.to_owned(), sort, sort_is_number: false }
    }

    /// The partition of one shard that holds what has this value: a bucket's name, a state's, or that of a custom variable.
    pub(super) fn partition_of(shard: char, value: &str) -> String {
        format!("{shard}/{value}")
    }

    /// Where this index has a record of the key, within its partition.
    pub(super) fn sort_key_of(&self, key: &RecordKey) -> String {
        if self.sort == SORT_KEY { shortened(key.joined()) } else { key.object.clone() }
    }

    /// What the sort keys begin with of all records in `bucket` whose object key begins with `prefix`.
    pub(super) fn scope(&self, bucket: Option<&str>, prefix: &str) -> String {
        match bucket {
            _ if self.sort != SORT_KEY => prefix.to_owned(),
            None => String::new(),
            Some(bucket) => start_of(&RecordKey::new(bucket, prefix).joined()).to_owned(),
        }
    }
}

/// The attributes that have a record stand in the indexes, other than `due`; absent ones keep it out.
pub(super) fn attributes(record: &Record, key: &str, indexed: &[String]) -> Vec<(String, String)> {
    let shard = shard_of(key);
    let bucket = (Index::bucket().partition, Index::partition_of(shard, &record.bucket));
    let state =
        is_rare(record.state).then(|| (Index::state().partition, Index::partition_of(shard, record.state.as_str())));
    let custom = indexed.iter().filter_map(|name| {
        let value = record.custom.get(name).filter(|value| is_indexable(value))?;
        Some((Index::custom(name)?.partition, Index::partition_of(shard, value)))
    });
    let mut attributes: Vec<_> = state.into_iter().chain(custom).collect();
    if !attributes.is_empty() {
        attributes.push((SORT_KEY.to_owned(), shortened(key.to_owned())));
    }
    attributes.push(bucket);
    attributes
}

/// Which of the 16 parts of an index a record belongs to.
pub(super) fn shard_of(key: &str) -> char {
    let digit = Sha256::digest(key).first().map_or(0, |byte| byte >> 4);
    char::from_digit(u32::from(digit), 16).unwrap_or('0')
}

/// The key as far as a sort key can hold it. One that is too long keeps its start, and so its place among the others, and is
/// told from those that begin alike by its hash.
fn shortened(key: String) -> String {
    if key.len() <= LONGEST_SORT_KEY { key } else { format!("{}{:x}", start_of(&key), Sha256::digest(&key)) }
}

/// As much of the key as every sort key holds.
fn start_of(key: &str) -> &str {
    key.split_at(key.floor_char_boundary(LONGEST_START)).0
}

/// The first text behind all that begin so; `None` if nothing comes behind them.
pub(super) fn end_of(scope: &str) -> Option<String> {
    let last = scope.trim_end_matches(char::MAX);
    let (at, sign) = last.char_indices().next_back()?;
    // Between these two there are no characters.
    let next = if sign == '\u{d7ff}' { '\u{e000}' } else { char::from_u32(u32::from(sign).saturating_add(1))? };
    Some(format!("{}{next}", last.split_at(at).0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_so_ends_before_the_end() {
        for (scope, end) in [
            ("a", Some("b")),
            ("photos/", Some("photos0")),
            ("a\u{10ffff}\u{10ffff}", Some("b")),
            ("\u{d7ff}", Some("\u{e000}")),
            ("\u{7f}", Some("\u{80}")),
            ("\u{10ffff}", None),
            ("", None),
        ] {
            assert_eq!(end_of(scope).as_deref(), end, "{scope:?}");
            let last = format!("{scope}\u{10ffff}\u{10ffff}");
            assert!(end.is_none_or(|end| last.as_str() < end), "{scope:?}");
        }
    }

    #[test]
    fn a_sort_key_fits_and_tells_every_key_from_every_other() {
        let long = |end: &str| RecordKey::new("b".repeat(63), format!("{}{end}", "é".repeat(510)));
        let keys = [long("a"), long("b"), long("é"), RecordKey::new("b".repeat(63), "é".repeat(400))];
        let mut sort_keys: Vec<_> = keys.iter().map(|key| Index::state().sort_key_of(key)).collect();
        for (key, sort_key) in keys.iter().zip(&sort_keys) {
            assert!(sort_key.len() <= LONGEST_SORT_KEY, "{} bytes", sort_key.len());
            for prefix in ["", "é", &key.object] {
                let scope = Index::state().scope(Some(&key.bucket), prefix);
                assert!(sort_key.starts_with(&scope), "{sort_key:?} is not found by {scope:?}");
            }
        }
        sort_keys.sort_unstable();
        sort_keys.dedup();
        assert_eq!(sort_keys.len(), keys.len());
    }
}
