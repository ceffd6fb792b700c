//! The store in a file of our own.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

use futures_util::future::join_all;
use jiff::Timestamp;
use oss_callback::record::{Record, State};
use oss_callback::records::embedded::{Embedded, OpenError};
use oss_callback::records::{Put, Query, Records};
use tempfile::TempDir;

use crate::conformance::{OWNER, every, listed, store};
use crate::samples::{full, hostile_keys, key, plain};

conformance!(with_store);

async fn with_store<F: Future<Output = ()>>(point: impl FnOnce(Arc<dyn Records>) -> F) {
    let directory = TempDir::new().unwrap();
    point(Arc::new(Embedded::open_indexed(directory.path(), &[OWNER.to_owned()]).unwrap())).await;
}

#[tokio::test]
async fn records_come_in_the_order_of_their_keys() {
    let directory = TempDir::new().unwrap();
    let records = Embedded::open(directory.path()).unwrap();
    let mut keys = hostile_keys();
    for key in keys.iter().rev() {
        store(&records, &plain(key)).await;
    }
    keys.sort();
    let page = records.list(&every(1_000)).await.unwrap();
    assert_eq!(page.records.iter().map(Record::key).collect::<Vec<_>>(), keys);
    assert_eq!(page.cursor, None);
}

#[tokio::test]
async fn the_last_full_page_ends_the_listing() {
    let directory = TempDir::new().unwrap();
    let records = Embedded::open(directory.path()).unwrap();
    store(&records, &plain(&key("a"))).await;
    store(&records, &plain(&key("b"))).await;
    assert_eq!(records.list(&every(2)).await.unwrap().cursor, None);
}

#[tokio::test]
async fn what_was_stored_is_there_after_reopening() {
    let directory = TempDir::new().unwrap();
    let record = full(&key("a"));
    for expected in [None, Some(&record)] {
        let records = Embedded::open(directory.path()).unwrap();
        assert_eq!(records.get(&key("a")).await.unwrap().as_ref(), expected);
        if expected.is_none() {
            store(&records, &record).await;
        }
    }
}

#[tokio::test]
async fn what_is_due_is_so_after_reopening_and_in_a_database_from_before_there_was_a_table_of_it() {
    let directory = TempDir::new().unwrap();
    let due = Record { state: State::Received, ..plain(&key("due")) };
    let settled = Record { state: State::Ready, revision: 2, ..plain(&key("settled")) };
    let records = Embedded::open(directory.path()).unwrap();
    store(&records, &due).await;
    store(&records, &Record { state: State::Received, ..plain(&key("settled")) }).await;
    assert_eq!(records.put(&settled, Some(plain(&key("settled")).version())).await.unwrap(), Put::Stored);
    drop(records);
    for older in [false, true] {
        if older {
            let database = redb::Database::open(directory.path().join("records.redb")).unwrap();
            let transaction = database.begin_write().unwrap();
            let table = redb::TableDefinition::<&[u8], ()>::new("due");
            assert!(transaction.delete_table(table).unwrap(), "the table has another name now");
            transaction.commit().unwrap();
        }
        let records = Embedded::open(directory.path()).unwrap();
        assert_eq!(records.due(Timestamp::UNIX_EPOCH, 9).await.unwrap(), [key("due")], "older: {older}");
    }
}

/// The stored lists by state and by custom variable, as another program sees them.
fn remove_listings(directory: &Path) {
    let database = redb::Database::open(directory.join("records.redb")).unwrap();
    let transaction = database.begin_write().unwrap();
    let table = redb::TableDefinition::<&[u8], ()>::new("listings");
    assert!(transaction.delete_table(table).unwrap(), "the table has another name now");
    transaction.commit().unwrap();
}

#[tokio::test]
async fn listings_hold_what_was_stored_before_there_were_any_or_under_other_rules() {
    let directory = TempDir::new().unwrap();
    let record = Record { state: State::Failed, ..full(&key("a")) };
    let records = Embedded::open(directory.path()).unwrap();
    store(&records, &record).await;
    store(&records, &plain(&key("b"))).await;
    drop(records);
    let by_state = Query { state: Some(State::Failed), ..every(9) };
    let by_owner = Query { custom: vec![(OWNER.to_owned(), "42".to_owned())], ..every(9) };
    let other = "empty".to_owned();
    let owner = OWNER.to_owned();
    for indexed in
        [None, Some(vec![owner.clone()]), None, Some(vec![other.clone()]), Some(vec![other, owner]), Some(vec![])]
    {
        for older in [false, true] {
            if older {
                remove_listings(directory.path());
            }
            let records = match &indexed {
                None => Embedded::open(directory.path()).unwrap(),
                Some(indexed) => Embedded::open_indexed(directory.path(), indexed).unwrap(),
            };
            for query in [&by_state, &by_owner] {
                assert_eq!(
                    records.list(query).await.unwrap().records,
                    std::slice::from_ref(&record),
                    "{indexed:?}, older: {older}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_put_that_nobody_waits_for_is_finished_before_the_store_closes() {
    let directory = TempDir::new().unwrap();
    let records = Embedded::open(directory.path()).unwrap();
    let record = plain(&key("a"));
    // Polled once, the put is with the writer; then its caller gives up.
    let put = tokio::time::timeout(std::time::Duration::ZERO, records.put(&record, None)).await;
    drop(put);
    drop(records);
    let reopened = Embedded::open(directory.path()).unwrap();
    assert_eq!(reopened.get(&key("a")).await.unwrap(), Some(record));
}

#[test]
fn a_second_opener_is_told_who_has_the_store_open() {
    let directory = TempDir::new().unwrap();
    let first = Embedded::open(directory.path()).unwrap();
    let refused = Embedded::open(directory.path()).unwrap_err();
    let OpenError::InUse { path, owner } = &refused else { panic!("{refused:?}") };
    assert!(path.starts_with(directory.path()));
    assert_eq!(*owner, Some(std::process::id()));
    let sentence = refused.to_string();
    assert!(sentence.contains(&format!("process {}", std::process::id())), "{sentence}");
    assert!(sentence.contains(&path.display().to_string()), "{sentence}");
    drop(first);
    Embedded::open(directory.path()).unwrap();
}

#[test]
fn a_note_of_an_owner_that_is_gone_or_unreadable_keeps_nobody_out() {
    let directory = TempDir::new().unwrap();
    for stale in ["1", "no number", ""] {
        std::fs::write(directory.path().join("owner"), stale).unwrap();
        drop(Embedded::open(directory.path()).unwrap());
    }
    let open = Embedded::open(directory.path()).unwrap();
    std::fs::remove_file(directory.path().join("owner")).unwrap();
    let refused = Embedded::open(directory.path()).unwrap_err();
    assert!(matches!(refused, OpenError::InUse { owner: None, .. }), "{refused:?}");
    drop(open);
}

#[test]
fn a_file_that_is_no_database_is_left_alone() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("records.redb");
    std::fs::write(&file, "somebody's notes").unwrap();
    let refused = Embedded::open(directory.path()).unwrap_err();
    assert!(matches!(refused, OpenError::Database { .. }), "{refused:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "somebody's notes");
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let refused = Embedded::open(&file.join("store")).unwrap_err();
    assert!(matches!(refused, OpenError::Directory { .. }), "{refused:?}");
    assert!(refused.to_string().contains(&file.display().to_string()), "{refused}");
}

#[cfg(unix)]
#[test]
fn the_directory_is_closed_to_other_users() {
    use std::os::unix::fs::PermissionsExt as _;

    let directory = TempDir::new().unwrap();
    let made = directory.path().join("new/store");
    drop(Embedded::open(&made).unwrap());
    assert_eq!(std::fs::metadata(&made).unwrap().permissions().mode() & 0o777, 0o700);
}

/// Names the directory for the child that is to be killed.
const CHILD_DIRECTORY: &str = "RECORDS_TEST_CHILD_DIRECTORY";

/// Puts that the child makes at the same time, so that a transaction holds several.
const WRITERS: usize = 8;

#[tokio::test]
async fn what_was_acknowledged_survives_the_death_of_the_process() {
    let directory = TempDir::new().unwrap();
    for round in 0..3 {
        let mut child = start_child(directory.path());
        let acknowledged = kill_after(&mut child, 40 + 30 * round);
        let records = Embedded::open(directory.path()).unwrap();
        for object in &acknowledged {
            assert!(records.get(&key(object)).await.unwrap().is_some(), "{object} was acknowledged");
        }
        let stored = listed(&records, &every(1_000)).await;
        assert!(stored.len() >= acknowledged.len());
    }
}

fn start_child(directory: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "embedded::the_child_that_writes_until_it_is_killed", "--nocapture"])
        .env(CHILD_DIRECTORY, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Lets the child work until it has acknowledged so many puts, kills it in the midst of the next, and returns all that it
/// acknowledged.
fn kill_after(child: &mut Child, count: usize) -> Vec<String> {
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut acknowledged = Vec::new();
    while acknowledged.len() < count {
        acknowledged.extend(next_acknowledged(&mut lines).expect("the child must not end by itself"));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    while let Some(line) = next_acknowledged(&mut lines) {
        acknowledged.extend(line);
    }
    acknowledged
}

/// The object of the next line, if it is one of the child's own; `None` at the end.
fn next_acknowledged(lines: &mut BufReader<ChildStdout>) -> Option<Option<String>> {
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    // A line without an end was cut off.
    let line = line.strip_suffix('\n')?;
    Some(line.strip_prefix("acknowledged ").map(str::to_owned))
}

/// The role of the child; without a directory in the environment there is nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_child_that_writes_until_it_is_killed() {
    let Some(directory) = std::env::var_os(CHILD_DIRECTORY) else { return };
    let records = Arc::new(Embedded::open(Path::new(&directory)).unwrap());
    let writers = (0..WRITERS).map(|writer| tokio::spawn(write_forever(Arc::clone(&records), writer)));
    join_all(writers).await;
}

async fn write_forever(records: Arc<Embedded>, writer: usize) {
    let process = std::process::id();
    for number in 0_u64.. {
        let object = format!("{process}/{writer}/{number}");
        assert_eq!(records.put(&full(&key(&object)), None).await.unwrap(), Put::Stored);
        let mut output = std::io::stdout().lock();
        writeln!(output, "acknowledged {object}").unwrap();
        output.flush().unwrap();
    }
}
