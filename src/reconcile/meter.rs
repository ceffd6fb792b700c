//! What a run asks of OSS and of the store, counted where it is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::compare::Cost;
use crate::objects::{Listing, Objects, ObjectsError};
use crate::record::{Facts, Record, RecordKey, Version};
use crate::records::{Page, Put, Query, Records, RecordsError};

/// What was asked of OSS and of the store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// Pages of listings.
    pub lists: u64,
    /// HEAD of an object.
    pub heads: u64,
    /// GET of an object.
    pub gets: u64,
    /// PUT of a thumbnail.
    pub puts: u64,
    /// Bytes of objects read.
    pub bytes_read: u64,
    /// Bytes of thumbnails stored.
    pub bytes_written: u64,
    /// Records, and pages of records, read.
    pub store_reads: u64,
    /// Records written.
    pub store_writes: u64,
}

impl Spent {
    /// Requests to OSS.
    pub const fn calls(&self) -> u64 {
        self.lists.saturating_add(self.heads).saturating_add(self.gets).saturating_add(self.puts)
    }

    /// What it comes to with repairs of this cost. How large thumbnails become nobody knows before they are made.
    pub(super) fn plus(&self, repairs: &Cost) -> Self {
        let heads = repairs.calls.saturating_sub(repairs.gets).saturating_sub(repairs.puts);
        Self {
            heads: self.heads.saturating_add(heads),
            gets: self.gets.saturating_add(repairs.gets),
            puts: self.puts.saturating_add(repairs.puts),
            bytes_read: self.bytes_read.saturating_add(repairs.bytes),
            store_reads: self.store_reads.saturating_add(repairs.reads),
            store_writes: self.store_writes.saturating_add(repairs.writes),
            ..self.clone()
        }
    }
}

/// The counters of one run.
#[derive(Debug, Default)]
pub(super) struct Meter {
    lists: AtomicU64,
    heads: AtomicU64,
    gets: AtomicU64,
    puts: AtomicU64,
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
    store_reads: AtomicU64,
    store_writes: AtomicU64,
}

impl Meter {
    pub(super) fn spent(&self) -> Spent {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Spent {
            lists: read(&self.lists),
            heads: read(&self.heads),
            gets: read(&self.gets),
            puts: read(&self.puts),
            bytes_read: read(&self.bytes_read),
            bytes_written: read(&self.bytes_written),
            store_reads: read(&self.store_reads),
            store_writes: read(&self.store_writes),
        }
    }

    pub(super) fn of_objects(self: &Arc<Self>, objects: Arc<dyn Objects>) -> MeteredObjects {
        MeteredObjects { objects, meter: Arc::clone(self) }
    }

    pub(super) fn of_records(self: &Arc<Self>, records: Arc<dyn Records>) -> MeteredRecords {
        MeteredRecords { records, meter: Arc::clone(self) }
    }
}

fn add(counter: &AtomicU64, amount: usize) {
    counter.fetch_add(u64::try_from(amount).unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// OSS, with every request counted.
#[derive(Debug)]
pub(super) struct MeteredObjects {
    objects: Arc<dyn Objects>,
    meter: Arc<Meter>,
}

#[async_trait]
impl Objects for MeteredObjects {
    async fn head(&self, key: &RecordKey) -> Result<Facts, ObjectsError> {
        add(&self.meter.heads, 1);
        self.objects.head(key).await
    }

    async fn get(&self, key: &RecordKey, etag: &str, limit: u64) -> Result<Bytes, ObjectsError> {
        add(&self.meter.gets, 1);
        let got = self.objects.get(key, etag, limit).await;
        add(&self.meter.bytes_read, got.as_ref().map_or(0, Bytes::len));
        got
    }

    async fn list(&self, bucket: &str, prefix: &str, after: Option<&str>) -> Result<Listing, ObjectsError> {
        add(&self.meter.lists, 1);
        self.objects.list(bucket, prefix, after).await
    }

    async fn put(&self, key: &RecordKey, mime: &str, bytes: Bytes) -> Result<(), ObjectsError> {
        add(&self.meter.puts, 1);
        add(&self.meter.bytes_written, bytes.len());
        self.objects.put(key, mime, bytes).await
    }
}

/// The store, with every request counted.
#[derive(Debug)]
pub(super) struct MeteredRecords {
    records: Arc<dyn Records>,
    meter: Arc<Meter>,
}

#[async_trait]
impl Records for MeteredRecords {
    async fn get(&self, key: &RecordKey) -> Result<Option<Record>, RecordsError> {
        add(&self.meter.store_reads, 1);
        self.records.get(key).await
    }

    async fn put(&self, record: &Record, expected: Option<Version>) -> Result<Put, RecordsError> {
        let put = self.records.put(record, expected).await;
        // One that was lost to a faster writer changed nothing; one without an answer may have.
        let may_have_written = !matches!(put, Ok(Put::Lost(_)));
        add(&self.meter.store_writes, usize::from(may_have_written));
        put
    }

    async fn list(&self, query: &Query) -> Result<Page, RecordsError> {
        add(&self.meter.store_reads, 1);
        self.records.list(query).await
    }

    async fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<RecordKey>, RecordsError> {
        add(&self.meter.store_reads, 1);
        self.records.due(now, limit).await
    }
}
