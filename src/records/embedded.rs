//! The records in one file on this machine, for a single process.
//!
//! A put is answered once it is on disk. One thread does all writing: it takes every put that is waiting, applies them in one
//! transaction and syncs once, so that the price of a sync is shared by all callbacks in flight and an idle store adds no
//! delay. Reads see the last committed transaction and never wait for a write.
//!
//! What is due, and what is in a rare state or has which custom variable, stands in tables beside the records, changed in the
//! same transaction. A store that was written without them, or for other variables, is brought up to date when it is opened,
//! which reads every record once. A put then costs one more entry for each of these that changes; a listing reads what it
//! returns: by bucket and prefix, by state (but `ready` and `recorded`, in which most records are: for these it reads what the
//! rest of the question leaves), and by a custom variable that is indexed. Nothing expires: a tombstone costs a few hundred
//! bytes of disk, and keeps the count of generations.
//!
//! After an error of the disk the database is closed, and opened again by the next use: a full disk costs answers, not a
//! restart.

use std::error::Error;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::{self, JoinHandle};

use async_trait::async_trait;
use jiff::Timestamp;
use redb::{Database, ReadableDatabase as _, TableDefinition, TableHandle as _};
use tokio::sync::{mpsc, oneshot};
use tokio::task;

use super::{Page, Put, Query, Records, RecordsError};
use crate::record::{Record, RecordKey, Version};

mod due;
mod listings;
mod scan;
mod unfinished;
mod write;

use scan::Scan;
use write::{Job, write_until_closed};

/// Bucket, NUL, object: the bucket holds no NUL, so different objects never share a key and a bucket's objects stand together,
/// ordered by their bytes. The value is the record as JSON.
const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");

/// The database inside the directory.
const FILE: &str = "records.redb";

/// Holds the process id of whoever has the store open, for the message to a second process. Never a lock: that is on the
/// database file and goes with the process, whereas this file may outlive it.
const OWNER: &str = "owner";

/// Memory for cached pages, in bytes.
const CACHE_SIZE: usize = 64 * 1024 * 1024;

/// Puts that may wait for the writer; beyond that, callers wait to hand theirs over.
const WAITING_PUTS: usize = 1024;

/// Why the store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open, or this one already does.
    #[error(
        "the record store {} is in use by {}: stop it, ask it for the records instead, or choose another directory",
        path.display(),
        OwnerName(*owner)
    )]
    InUse {
        /// The database file.
        path: PathBuf,
        /// Process id of the one that has it open, where it left it.
        owner: Option<u32>,
    },
    /// The directory or a file in it cannot be made, read or written.
    #[error("the directory {} of the record store cannot be used: {source}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The database file cannot be read, or is none.
    #[error("the record store {} cannot be opened: {source}", path.display())]
    Database {
        /// The database file.
        path: PathBuf,
        /// What the database said.
        source: Box<dyn Error + Send + Sync>,
    },
}

/// How a message names the process that has the store open.
struct OwnerName(Option<u32>);

impl fmt::Display for OwnerName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(process) => write!(formatter, "process {process}"),
            None => formatter.write_str("another process"),
        }
    }
}

/// The store of records in a directory of this machine.
///
/// Dropping it finishes the puts that were accepted, then closes the database.
pub struct Embedded {
    store: Arc<Store>,
    owner: PathBuf,
    /// `None` only while being dropped.
    puts: Option<mpsc::Sender<Job>>,
    /// `None` only while being dropped.
    writer: Option<JoinHandle<()>>,
}

impl Embedded {
    /// Opens the store in `directory`, which is made if need be, readable by its owner alone. Repairs the database if the
    /// process that had it open before did not close it, which takes about a millisecond per megabyte. Records are indexed by
    /// the custom variables that they were indexed by before.
    ///
    /// # Errors
    /// If another process has it open, or if the directory or the database cannot be used.
    pub fn open(directory: &Path) -> Result<Self, OpenError> {
        Self::open_with(directory, None)
    }

    /// As [`Embedded::open`], but with records indexed by the custom variables of these names and no others: where that was not
    /// so before, every record is read once.
    ///
    /// # Errors
    /// As [`Embedded::open`].
    pub fn open_indexed(directory: &Path, indexed: &[String]) -> Result<Self, OpenError> {
        Self::open_with(directory, Some(indexed))
    }

    fn open_with(directory: &Path, indexed: Option<&[String]>) -> Result<Self, OpenError> {
        let unusable = |source| OpenError::Directory { path: directory.to_owned(), source };
        make_private_directory(directory).map_err(unusable)?;
        let path = directory.join(FILE);
        let owner = directory.join(OWNER);
        let created = unfinished::open_or_make(&path).map_err(|error| open_error(directory, error))?;
        // Later the file must be there: if it is not, its disk is gone, and a new empty store would hide that.
        let store = Store::open(path.clone(), created, indexed, move || Ok(configured().open(&path)?))
            .map_err(|error| open_error(directory, error))?;
        // A store that cannot say who has it open is still a store.
        if let Err(error) = fs::write(&owner, std::process::id().to_string()) {
            tracing::warn!(path = %owner.display(), %error, "the owner of the record store could not be noted");
        }
        sync_directory(directory).map_err(unusable)?;
        Self::start(store, owner).map_err(unusable)
    }

    /// Starts the writer of an open store.
    fn start(store: Store, owner: PathBuf) -> io::Result<Self> {
        let store = Arc::new(store);
        let (puts, jobs) = mpsc::channel(WAITING_PUTS);
        let writer = thread::Builder::new().name("records".to_owned()).spawn({
            let store = Arc::clone(&store);
            move || write_until_closed(&store, jobs)
        })?;
        Ok(Self { store, owner, puts: Some(puts), writer: Some(writer) })
    }

    /// Reads without holding up the asynchronous threads: the disk may be slow.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, RecordsError> + Send + 'static,
    ) -> Result<T, RecordsError> {
        let store = Arc::clone(&self.store);
        task::spawn_blocking(move || work(&store))
            .await
            .unwrap_or_else(|_| Err(RecordsError::Unavailable("reading it was broken off".to_owned())))
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Embedded").field("path", &self.store.path).finish_non_exhaustive()
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // Without a sender the writer ends, after the puts that it still finds.
        self.puts = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!(path = %self.store.path.display(), "the writer of the record store had panicked");
        }
        // While the database is still locked, so that it cannot be the next owner's file.
        let _ = fs::remove_file(&self.owner);
        // Explicitly: a read that nobody waits for any more may still hold on to the store.
        self.store.close();
    }
}

#[async_trait]
impl Records for Embedded {
    async fn get(&self, key: &RecordKey) -> Result<Option<Record>, RecordsError> {
        let key = stored_key(key);
        self.read(move |store| store.with(|database| read_one(database, &key))?).await
    }

    async fn put(&self, record: &Record, expected: Option<Version>) -> Result<Put, RecordsError> {
        let value = serde_json::to_vec(record).map_err(|error| RecordsError::Unreadable(error.to_string()))?;
        let (answer, outcome) = oneshot::channel();
        let key = stored_key(&record.key());
        let entries = listings::entries(record, &key, &self.store.indexed);
        let job = Job { key, value, due: record.due(), entries, expected, answer };
        let ended = || RecordsError::Unavailable("its writer has ended; restart the process".to_owned());
        self.puts.as_ref().ok_or_else(ended)?.send(job).await.map_err(|_| ended())?;
        outcome.await.unwrap_or_else(|_| Err(ended()))
    }

    async fn list(&self, query: &Query) -> Result<Page, RecordsError> {
        let scan = Scan::new(query.clone(), &self.store.indexed)?;
        self.read(move |store| store.with(|database| scan.page(database))?).await
    }

    async fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<RecordKey>, RecordsError> {
        self.read(move |store| store.with(|database| due::read(database, now, limit))?).await
    }
}

/// The database, and how to open it again.
struct Store {
    path: PathBuf,
    /// Names of the custom variables by which records are indexed.
    indexed: Vec<String>,
    reopen: Box<dyn Fn() -> Result<Database, redb::Error> + Send + Sync>,
    handle: RwLock<Handle>,
}

enum Handle {
    Open(Database),
    /// An operation failed; the next one opens the database again.
    Failed,
    /// For good: a read that nobody waits for any more must not open it again behind the next owner's back.
    Closed,
}

impl Store {
    fn open(
        path: PathBuf,
        database: Database,
        indexed: Option<&[String]>,
        reopen: impl Fn() -> Result<Database, redb::Error> + Send + Sync + 'static,
    ) -> Result<Self, redb::Error> {
        let indexed = make_tables(&database, indexed)?;
        Ok(Self { path, indexed, reopen: Box::new(reopen), handle: RwLock::new(Handle::Open(database)) })
    }

    /// Runs `work` on the database. An error closes it, because the library refuses everything after an error of the disk.
    fn with<T>(&self, work: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, RecordsError> {
        let mut handle = self.shared();
        if matches!(*handle, Handle::Failed) {
            drop(handle);
            self.open_again()?;
            handle = self.shared();
        }
        let outcome = match &*handle {
            Handle::Open(database) => work(database),
            Handle::Failed | Handle::Closed => Err(redb::Error::DatabaseClosed),
        };
        drop(handle);
        outcome.map_err(|error| {
            self.give_up();
            self.unavailable(&error)
        })
    }

    fn open_again(&self) -> Result<(), RecordsError> {
        let mut handle = self.exclusive();
        if matches!(*handle, Handle::Failed) {
            *handle = Handle::Open((self.reopen)().map_err(|error| self.unavailable(&error))?);
            tracing::info!(path = %self.path.display(), "the record store is open again");
        }
        Ok(())
    }

    /// Waits for whoever uses the database, then lets go of it until the next operation.
    fn give_up(&self) {
        let mut handle = self.exclusive();
        if matches!(*handle, Handle::Open(_)) {
            *handle = Handle::Failed;
        }
    }

    /// Waits for whoever uses the database, then closes it.
    fn close(&self) {
        *self.exclusive() = Handle::Closed;
    }

    fn unavailable(&self, error: &redb::Error) -> RecordsError {
        let path = self.path.display();
        tracing::error!(%path, %error, "the record store failed");
        RecordsError::Unavailable(format!(
            "{path} failed: {error}; see that the disk has room and is healthy, the store is opened again by itself"
        ))
    }

    // A panic under the lock leaves a handle that is whole either way.
    fn shared(&self) -> RwLockReadGuard<'_, Handle> {
        self.handle.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn exclusive(&self) -> RwLockWriteGuard<'_, Handle> {
        self.handle.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read_one(database: &Database, key: &[u8]) -> Result<Result<Option<Record>, RecordsError>, redb::Error> {
    let table = database.begin_read()?.open_table(RECORDS)?;
    let stored = table.get(key)?;
    Ok(stored.map(|value| decode(key, value.value())).transpose())
}

fn stored_key(key: &RecordKey) -> Vec<u8> {
    [key.bucket.as_bytes(), &[0], key.object.as_bytes()].concat()
}

/// Reads what is stored: the whole record, or only the part that is asked for.
fn decode<T: serde::de::DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T, RecordsError> {
    serde_json::from_slice(value)
        .map_err(|error| RecordsError::Unreadable(format!("{:?}: {error}", String::from_utf8_lossy(key))))
}

fn configured() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_SIZE);
    builder
}

/// Makes the tables of a new database, and those that a database of an older version lacks or that hold other custom variables
/// than are asked for, so that reading can count on them; costs nothing where they are there already. Returns the names of the
/// custom variables by which records are indexed.
fn make_tables(database: &Database, indexed: Option<&[String]>) -> Result<Vec<String>, redb::Error> {
    let standing = listings::indexed(database)?;
    let mut indexed = indexed.map(<[_]>::to_vec).or_else(|| standing.clone()).unwrap_or_default();
    indexed.sort();
    indexed.dedup();
    let listed = standing.as_ref() == Some(&indexed);
    let there: Vec<String> = database.begin_read()?.list_tables()?.map(|table| table.name().to_owned()).collect();
    let whole = [RECORDS.name(), due::DUE.name()].iter().all(|name| there.iter().any(|table| table == name));
    if listed && whole {
        return Ok(indexed);
    }
    let transaction = database.begin_write()?;
    if !whole {
        due::fill(&mut transaction.open_table(due::DUE)?, &transaction.open_table(RECORDS)?)?;
    }
    if !listed {
        listings::rebuild(&transaction, &indexed)?;
    }
    transaction.commit()?;
    Ok(indexed)
}

fn open_error(directory: &Path, error: redb::Error) -> OpenError {
    let path = directory.join(FILE);
    match error {
        redb::Error::DatabaseAlreadyOpen => OpenError::InUse { path, owner: noted_owner(directory) },
        error => OpenError::Database { path, source: Box::new(error) },
    }
}

/// Who has the store open, as far as the note says so; it may be missing or unreadable.
fn noted_owner(directory: &Path) -> Option<u32> {
    fs::read_to_string(directory.join(OWNER)).ok()?.trim().parse().ok()
}

/// Makes the directory, and those above it, for this user alone: keys and custom variables are nobody else's business. One
/// that exists stays as it is.
fn make_private_directory(directory: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

/// Makes the names durable: a synced file that a directory forgot after a loss of power is lost all the same.
fn sync_directory(directory: &Path) -> io::Result<()> {
    if cfg!(not(unix)) {
        // Elsewhere a directory cannot be opened as a file.
        return Ok(());
    }
    fs::File::open(directory)?.sync_all()?;
    // The directory above may be one that we can pass through but not read.
    match directory.canonicalize()?.parent().map(fs::File::open) {
        Some(Ok(above)) => above.sync_all(),
        Some(Err(_)) | None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use std::sync::atomic::{AtomicBool, Ordering};

    use futures_util::future::join_all;
    use redb::StorageBackend;
    use redb::backends::FileBackend;
    use tempfile::TempDir;

    use super::write::commit;
    use super::*;
    use crate::record::{Facts, Plan, State, Transition};

    /// A disk that can be made to fail.
    #[derive(Debug)]
    struct Disk {
        file: FileBackend,
        full: Arc<AtomicBool>,
        dying: Arc<AtomicBool>,
    }

    fn fail_if(fault: &AtomicBool, kind: io::ErrorKind) -> io::Result<()> {
        if fault.load(Ordering::SeqCst) { Err(kind.into()) } else { Ok(()) }
    }

    impl StorageBackend for Disk {
        fn len(&self) -> io::Result<u64> {
            self.file.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            fail_if(&self.dying, io::ErrorKind::Other)?;
            self.file.read(offset, out)
        }

        fn set_len(&self, length: u64) -> io::Result<()> {
            fail_if(&self.full, io::ErrorKind::StorageFull)?;
            self.file.set_len(length)
        }

        fn sync_data(&self) -> io::Result<()> {
            fail_if(&self.dying, io::ErrorKind::Other)?;
            self.file.sync_data()
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            fail_if(&self.full, io::ErrorKind::StorageFull)?;
            self.file.write(offset, data)
        }

        fn close(&self) -> io::Result<()> {
            self.file.close()
        }
    }

    /// A store on a disk that fails while `full` or `dying` is set.
    fn on_disk(directory: &TempDir, full: &Arc<AtomicBool>, dying: &Arc<AtomicBool>) -> Embedded {
        let path = directory.path().join(FILE);
        let (full, dying) = (Arc::clone(full), Arc::clone(dying));
        let open = move || {
            let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
            let disk = Disk { file: FileBackend::new(file)?, full: Arc::clone(&full), dying: Arc::clone(&dying) };
            Ok(configured().create_with_backend(disk)?)
        };
        let store = Store::open(directory.path().join(FILE), open().unwrap(), None, open);
        Embedded::start(store.unwrap(), directory.path().join(OWNER)).unwrap()
    }

    fn record(object: &str) -> Record {
        let facts = Facts {
            etag: Some("ETAG".to_owned()),
            size: Some(1),
            mime: None,
            last_modified: None,
            version_id: None,
            crc64: None,
            own_output: false,
            confirmed: true,
        };
        let key = RecordKey::new("examplebucket", object);
        match Record::observe(None, &key, &facts, None, &Plan::Record, Timestamp::UNIX_EPOCH) {
            Transition::Write(record) => *record,
            Transition::Unchanged => panic!("the first observation is written"),
        }
    }

    #[tokio::test]
    async fn a_failing_disk_costs_answers_until_it_works_again() {
        let [full, dying] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        for fault in [&full, &dying] {
            let directory = TempDir::new().unwrap();
            let records = on_disk(&directory, &full, &dying);
            assert_eq!(records.put(&record("before"), None).await.unwrap(), Put::Stored);

            fault.store(true, Ordering::SeqCst);
            for _ in 0..3 {
                let refused = records.put(&record("during"), None).await;
                assert!(matches!(refused, Err(RecordsError::Unavailable(_))), "{refused:?}");
            }

            fault.store(false, Ordering::SeqCst);
            assert_eq!(records.get(&record("before").key()).await.unwrap(), Some(record("before")));
            assert_eq!(records.put(&record("after"), None).await.unwrap(), Put::Stored);
            drop(records);
            let reopened = Embedded::open(directory.path()).unwrap();
            assert_eq!(reopened.get(&record("after").key()).await.unwrap(), Some(record("after")));
        }
    }

    #[tokio::test]
    async fn one_unreadable_item_spoils_neither_the_batch_nor_another_key() {
        let directory = TempDir::new().unwrap();
        let records = Embedded::open(directory.path()).unwrap();
        let spoilt = Job {
            key: stored_key(&record("spoilt").key()),
            value: b"{}".to_vec(),
            due: None,
            entries: Vec::new(),
            expected: None,
            answer: oneshot::channel().0,
        };
        records.store.with(|database| commit(database, &[], &[spoilt])).unwrap();
        let (over_it, beside_it) = (record("spoilt"), record("whole"));
        let (refused, stored) = tokio::join!(records.put(&over_it, None), records.put(&beside_it, None));
        assert!(matches!(refused, Err(RecordsError::Unreadable(_))), "{refused:?}");
        assert_eq!(stored.unwrap(), Put::Stored);
        let unreadable = records.get(&record("spoilt").key()).await.unwrap_err();
        assert!(unreadable.to_string().contains("spoilt"), "{unreadable}");
    }

    #[tokio::test]
    async fn a_listing_looks_at_no_more_than_it_returns() {
        let directory = TempDir::new().unwrap();
        let records = Embedded::open_indexed(directory.path(), &["uid".to_owned()]).unwrap();
        let custom = [("uid".to_owned(), "1".to_owned())];
        let rares = (0..20).map(|number| Record {
            bucket: "another".to_owned(),
            state: State::Failed,
            custom: custom.clone().into(),
            ..record(&format!("rare/{number}"))
        });
        let all: Vec<_> = (0..3_000).map(|number| record(&format!("common/{number}"))).chain(rares).collect();
        for outcome in join_all(all.iter().map(|record| records.put(record, None))).await {
            assert_eq!(outcome.unwrap(), Put::Stored);
        }
        for query in [
            Query { state: Some(State::Failed), ..Query::default() },
            Query { custom: custom.to_vec(), ..Query::default() },
            Query { bucket: Some("another".to_owned()), ..Query::default() },
            Query { bucket: Some("another".to_owned()), prefix: Some("rare/".to_owned()), ..Query::default() },
        ] {
            let mut scan = Scan::new(Query { limit: 100, ..query }, &records.store.indexed).unwrap();
            scan.budget = 20;
            let page = records.store.with(|database| scan.page(database)).unwrap().unwrap();
            assert_eq!((page.records.len(), page.cursor), (20, None));
        }
    }

    #[tokio::test]
    async fn what_left_a_listing_is_not_looked_at_any_more() {
        let directory = TempDir::new().unwrap();
        let records = Embedded::open_indexed(directory.path(), &["uid".to_owned()]).unwrap();
        for object in ["a", "b", "c"] {
            let custom = [("uid".to_owned(), "1".to_owned())].into();
            let before = Record { state: State::Failed, custom, ..record(object) };
            let after = Record { revision: 2, ..record(object) };
            assert_eq!(records.put(&before, None).await.unwrap(), Put::Stored);
            assert_eq!(records.put(&after, Some(before.version())).await.unwrap(), Put::Stored);
        }
        for query in [
            Query { state: Some(State::Failed), ..Query::default() },
            Query { custom: vec![("uid".to_owned(), "1".to_owned())], ..Query::default() },
        ] {
            let mut scan = Scan::new(query, &records.store.indexed).unwrap();
            scan.budget = 0;
            assert_eq!(records.store.with(|database| scan.page(database)).unwrap().unwrap(), Page::default());
        }
    }

    #[tokio::test]
    async fn a_page_ends_when_enough_items_were_looked_at_and_the_next_goes_on_there() {
        let directory = TempDir::new().unwrap();
        let records = Embedded::open(directory.path()).unwrap();
        for object in ["a", "b", "c", "d", "e"] {
            records.put(&record(object), None).await.unwrap();
        }
        let mut query = Query { custom: vec![("uid".to_owned(), "1".to_owned())], limit: 10, ..Query::default() };
        let mut pages = 0;
        loop {
            let mut scan = Scan::new(query.clone(), &[]).unwrap();
            scan.budget = 2;
            let page = records.store.with(|database| scan.page(database)).unwrap().unwrap();
            pages += 1;
            assert_eq!(page.records, []);
            if page.cursor.is_none() {
                break;
            }
            query.cursor = page.cursor;
        }
        assert_eq!(pages, 3);
    }
}
