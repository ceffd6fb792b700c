//! The contract of the port, point by point.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::join_all;
use jiff::Timestamp;
use oss_callback::record::{Lease, Record, RecordKey, State, Version};
use oss_callback::records::{Put, Query, Records, RecordsError};

use crate::samples::{BUCKET, full, hostile_keys, key, plain, seen};

/// A test per point of the contract, each with a fresh store: `$with` is an async function that opens one, hands it to the point
/// and removes it.
macro_rules! conformance {
    ($with:path) => {
        conformance! { $with =>
            an_absent_record_is_none,
            a_first_put_is_stored_and_read_back,
            a_put_with_another_expectation_writes_nothing_and_returns_what_stands_there,
            a_put_that_expects_an_absent_record_is_lost_to_nothing,
            every_field_comes_back_as_it_was,
            keys_are_neither_confused_nor_refused,
            an_empty_store_lists_nothing,
            sixteen_writers_hand_out_sixteen_generations,
            of_racing_first_writers_exactly_one_wins,
            of_racing_writers_of_the_same_content_exactly_one_wins,
            a_listing_holds_what_its_filters_ask_for,
            pages_visit_every_record_exactly_once,
            a_page_of_no_records_is_a_page_of_one,
            a_cursor_goes_on_after_records_are_added_and_changed,
            a_foreign_cursor_is_refused,
            what_is_due_is_named_in_the_order_of_its_time_and_nothing_before_it,
            no_more_is_named_than_asked_for_and_the_oldest_first,
            what_is_due_at_another_time_or_no_longer_is_named_so_after_the_write,
            a_lost_write_changes_nothing_about_what_is_due,
            every_key_can_be_due,
        }
    };
    ($with:path => $($point:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $point() {
                $with($crate::conformance::$point).await;
            }
        )*
    };
}

pub(crate) async fn an_absent_record_is_none(records: Arc<dyn Records>) {
    assert_eq!(records.get(&key("absent")).await.unwrap(), None);
}

pub(crate) async fn a_first_put_is_stored_and_read_back(records: Arc<dyn Records>) {
    let record = plain(&key("a"));
    assert_eq!(records.put(&record, None).await.unwrap(), Put::Stored);
    assert_eq!(records.get(&key("a")).await.unwrap(), Some(record));
}

pub(crate) async fn a_put_with_another_expectation_writes_nothing_and_returns_what_stands_there(
    records: Arc<dyn Records>,
) {
    let first = plain(&key("a"));
    store(&*records, &first).await;
    let second = seen(Some(&first), &key("a"), "SECOND");
    let Version { generation, revision } = first.version();
    let wrong = [
        None,
        Some(Version { generation: generation + 1, revision }),
        Some(Version { generation, revision: revision + 1 }),
        Some(Version { generation: 0, revision: 0 }),
    ];
    for expected in wrong {
        let lost = records.put(&second, expected).await.unwrap();
        assert_eq!(lost, Put::Lost(Some(Box::new(first.clone()))), "{expected:?}");
        assert_eq!(records.get(&key("a")).await.unwrap().as_ref(), Some(&first), "{expected:?}");
    }
    assert_eq!(records.put(&second, Some(first.version())).await.unwrap(), Put::Stored);
    assert_eq!(records.get(&key("a")).await.unwrap(), Some(second));
}

pub(crate) async fn a_put_that_expects_an_absent_record_is_lost_to_nothing(records: Arc<dyn Records>) {
    let record = plain(&key("a"));
    assert_eq!(records.put(&record, Some(record.version())).await.unwrap(), Put::Lost(None));
    assert_eq!(records.get(&key("a")).await.unwrap(), None);
}

pub(crate) async fn every_field_comes_back_as_it_was(records: Arc<dyn Records>) {
    let sparse = plain(&key("sparse"));
    let rich = full(&key("rich"));
    for record in [&sparse, &rich] {
        store(&*records, record).await;
        assert_eq!(records.get(&record.key()).await.unwrap().as_ref(), Some(record));
    }
    for state in State::ALL {
        let record = Record { state, ..full(&key(state.as_str())) };
        store(&*records, &record).await;
        let emptied = Record { revision: 1, ..plain(&record.key()) };
        assert_eq!(records.put(&emptied, None).await.unwrap(), Put::Lost(Some(Box::new(record.clone()))));
        assert_eq!(records.put(&emptied, Some(record.version())).await.unwrap(), Put::Stored);
        assert_eq!(records.get(&record.key()).await.unwrap(), Some(emptied), "what was replaced must be gone");
    }
}

pub(crate) async fn keys_are_neither_confused_nor_refused(records: Arc<dyn Records>) {
    let keys = hostile_keys();
    let written: Vec<_> =
        keys.iter().enumerate().map(|(number, key)| seen(None, key, &format!("ETAG{number}"))).collect();
    for record in &written {
        store(&*records, record).await;
    }
    for record in &written {
        assert_eq!(records.get(&record.key()).await.unwrap().as_ref(), Some(record));
        let inside = Query { bucket: Some(record.bucket.clone()), prefix: Some(record.object.clone()), ..every(3) };
        assert!(listed(&*records, &inside).await.contains(&record.key()), "{:?}", record.key());
    }
    assert_eq!(listed(&*records, &every(5)).await, keys.into_iter().collect());
}

pub(crate) async fn an_empty_store_lists_nothing(records: Arc<dyn Records>) {
    assert_eq!(listed(&*records, &every(10)).await, BTreeSet::new());
}

pub(crate) async fn sixteen_writers_hand_out_sixteen_generations(records: Arc<dyn Records>) {
    let writers = (0..16).map(|writer| {
        let records = Arc::clone(&records);
        tokio::spawn(async move { write_until_stored(&*records, &key("contended"), &format!("ETAG{writer}")).await })
    });
    let mut handed_out: Vec<_> = join_all(writers).await.into_iter().map(Result::unwrap).collect();
    handed_out.sort_unstable();
    assert_eq!(handed_out, (1..=16).collect::<Vec<_>>());
    let last = records.get(&key("contended")).await.unwrap().unwrap();
    assert_eq!((last.generation, last.revision), (16, 16));
}

/// Sees a new version of the object and writes it down; the generation that it got.
async fn write_until_stored(records: &dyn Records, key: &RecordKey, etag: &str) -> u64 {
    let mut standing = records.get(key).await.unwrap();
    loop {
        let next = seen(standing.as_ref(), key, etag);
        match records.put(&next, standing.as_ref().map(Record::version)).await.unwrap() {
            Put::Stored => return next.generation,
            Put::Lost(newer) => standing = newer.map(|record| *record),
        }
    }
}

pub(crate) async fn of_racing_first_writers_exactly_one_wins(records: Arc<dyn Records>) {
    let candidates: Vec<_> = (0..16).map(|writer| seen(None, &key("new"), &format!("ETAG{writer}"))).collect();
    let outcomes = race(&records, &candidates).await;
    let (winners, losers): (Vec<_>, Vec<_>) =
        candidates.into_iter().zip(outcomes).partition(|(_, outcome)| *outcome == Put::Stored);
    assert_eq!((winners.len(), losers.len()), (1, 15));
    let (winner, _) = &winners[0];
    for (_, outcome) in losers {
        assert_eq!(outcome, Put::Lost(Some(Box::new(winner.clone()))));
    }
    assert_eq!(records.get(&key("new")).await.unwrap().as_ref(), Some(winner));
}

pub(crate) async fn of_racing_writers_of_the_same_content_exactly_one_wins(records: Arc<dyn Records>) {
    let candidates = vec![plain(&key("twins")); 8];
    let outcomes = race(&records, &candidates).await;
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Put::Stored).count(), 1);
}

/// Puts all of them at the same time as first records.
async fn race(records: &Arc<dyn Records>, candidates: &[Record]) -> Vec<Put> {
    let puts = candidates.iter().cloned().map(|record| {
        let records = Arc::clone(records);
        tokio::spawn(async move { records.put(&record, None).await.unwrap() })
    });
    join_all(puts).await.into_iter().map(Result::unwrap).collect()
}

pub(crate) async fn a_listing_holds_what_its_filters_ask_for(records: Arc<dyn Records>) {
    let all = assorted();
    for record in &all {
        store(&*records, record).await;
    }
    let queries = [
        every(4),
        Query { bucket: Some(BUCKET.to_owned()), ..every(4) },
        Query { bucket: Some("another".to_owned()), ..every(4) },
        Query { bucket: Some("example".to_owned()), ..every(4) },
        Query { prefix: Some("photos/".to_owned()), ..every(4) },
        Query { prefix: Some(String::new()), ..every(4) },
        Query { bucket: Some(BUCKET.to_owned()), prefix: Some("photos/".to_owned()), ..every(4) },
        Query { bucket: Some(BUCKET.to_owned()), prefix: Some("photos/1".to_owned()), ..every(4) },
        Query { state: Some(State::Failed), ..every(4) },
        Query { state: Some(State::Processing), prefix: Some("photos/".to_owned()), ..every(4) },
        Query { custom: vec![("uid".to_owned(), "1".to_owned())], ..every(4) },
        Query { custom: vec![("uid".to_owned(), String::new())], ..every(4) },
        Query { custom: vec![("absent".to_owned(), String::new())], ..every(4) },
        Query {
            custom: vec![("uid".to_owned(), "1".to_owned()), ("odd".to_owned(), "true".to_owned())],
            bucket: Some("another".to_owned()),
            state: Some(State::Received),
            ..every(4)
        },
    ];
    for query in queries {
        let expected = all.iter().filter(|record| query.matches(record)).map(Record::key).collect();
        assert_eq!(listed(&*records, &query).await, expected, "{query:?}");
    }
}

/// Records in two buckets, of all states, with and without custom variables.
fn assorted() -> Vec<Record> {
    let states = State::ALL.into_iter().cycle();
    (0_usize..24)
        .zip(states)
        .map(|(number, state)| {
            let bucket = if number % 3 == 0 { "another" } else { BUCKET };
            let folder = if number % 2 == 0 { "photos" } else { "videos" };
            let mut record = plain(&RecordKey::new(bucket, format!("{folder}/{number}")));
            record.state = state;
            record.custom = custom_of(number);
            record
        })
        .collect()
}

fn custom_of(number: usize) -> BTreeMap<String, String> {
    let uid = match number % 4 {
        0 => return BTreeMap::new(),
        1 => String::new(),
        _ => "1".to_owned(),
    };
    let odd = (number % 2 == 1).to_string();
    [("uid".to_owned(), uid), ("odd".to_owned(), odd)].into()
}

pub(crate) async fn pages_visit_every_record_exactly_once(records: Arc<dyn Records>) {
    let all = assorted();
    for record in &all {
        store(&*records, record).await;
    }
    for limit in [1, 2, 7, 24, 1_000] {
        // `listed` itself refuses a record that comes twice, and a page that is too long.
        assert_eq!(listed(&*records, &every(limit)).await.len(), all.len(), "limit {limit}");
    }
}

pub(crate) async fn a_page_of_no_records_is_a_page_of_one(records: Arc<dyn Records>) {
    store(&*records, &plain(&key("a"))).await;
    store(&*records, &plain(&key("b"))).await;
    let page = records.list(&every(0)).await.unwrap();
    assert_eq!(page.records.len(), 1);
    assert!(page.cursor.is_some());
}

pub(crate) async fn a_cursor_goes_on_after_records_are_added_and_changed(records: Arc<dyn Records>) {
    let there_all_the_while = [key("b"), key("d"), key("f"), key("h")];
    for key in &there_all_the_while {
        store(&*records, &plain(key)).await;
    }
    let first = records.list(&every(2)).await.unwrap();
    for added in ["a", "c", "e", "i"] {
        store(&*records, &plain(&key(added))).await;
    }
    for seen_already in &first.records {
        let next = seen(Some(seen_already), &seen_already.key(), "NEXT");
        assert_eq!(records.put(&next, Some(seen_already.version())).await.unwrap(), Put::Stored);
    }
    let rest = listed(&*records, &Query { cursor: first.cursor, ..every(2) }).await;
    for key in &there_all_the_while {
        let visits = first.records.iter().filter(|record| record.key() == *key).count();
        assert_eq!(visits + usize::from(rest.contains(key)), 1, "{key:?}");
    }
}

pub(crate) async fn a_foreign_cursor_is_refused(records: Arc<dyn Records>) {
    store(&*records, &plain(&key("a"))).await;
    for cursor in ["", "!", "a", "bm8gc2VwYXJhdG9y", "____", "ZXhhbXBsZQ==", "\u{0}", "null"] {
        let query = Query { cursor: Some(cursor.to_owned()), ..every(1) };
        let refused = records.list(&query).await;
        assert!(matches!(refused, Err(RecordsError::BadCursor)), "{cursor:?}: {refused:?}");
    }
}

/// A record on which work is due from this second on.
fn due_at(object: &str, second: i64) -> Record {
    let next_attempt = Some(Timestamp::from_second(second).unwrap());
    Record { state: State::Received, next_attempt, ..plain(&key(object)) }
}

/// Waits until the store names just these as due by this second: an index may follow later.
async fn expect_due(records: &dyn Records, second: i64, limit: usize, objects: &[&str]) {
    let now = Timestamp::from_second(second).unwrap();
    let expected: Vec<_> = objects.iter().map(|object| key(object)).collect();
    let mut named = Vec::new();
    for _ in 0..500 {
        named = records.due(now, limit).await.unwrap();
        if named == expected {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("due by {second}: {named:?}, not {expected:?}");
}

pub(crate) async fn what_is_due_is_named_in_the_order_of_its_time_and_nothing_before_it(records: Arc<dyn Records>) {
    let until = Timestamp::from_second(15).unwrap();
    let leased = Lease { owner: "x".to_owned(), until };
    for record in [
        due_at("tenth", 10),
        due_at("before 1970", -1),
        due_at("fifth", 5),
        due_at("thousandth", 1_000),
        Record { state: State::Processing, lease: Some(leased), ..plain(&key("leased until fifteen")) },
        Record { state: State::Ready, recheck: true, ..due_at("doubted at eleven", 11) },
        Record { state: State::Unverified, ..due_at("unverified at twelve", 12) },
        Record { state: State::Ready, ..plain(&key("ready")) },
        Record { state: State::Failed, ..plain(&key("failed")) },
        Record { state: State::Skipped, ..plain(&key("skipped")) },
        Record { state: State::Deleted, ..plain(&key("deleted")) },
        plain(&key("recorded")),
    ] {
        store(&*records, &record).await;
    }
    let all = ["before 1970", "fifth", "tenth", "doubted at eleven", "unverified at twelve", "leased until fifteen"];
    for (second, count) in [(-2, 0), (-1, 1), (4, 1), (5, 2), (9, 2), (10, 3), (11, 4), (12, 5), (14, 5), (15, 6)] {
        expect_due(&*records, second, 100, &all[..count]).await;
    }
    let just_before = Timestamp::new(4, 999_999_999).unwrap();
    assert_eq!(records.due(just_before, 100).await.unwrap(), [key("before 1970")]);
}

pub(crate) async fn no_more_is_named_than_asked_for_and_the_oldest_first(records: Arc<dyn Records>) {
    let names: Vec<_> = (0..40).map(|number| format!("{}", number * 7 % 40)).collect();
    for (second, name) in (0..).zip(&names) {
        store(&*records, &due_at(name, second)).await;
    }
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    for limit in [0, 1, 3, 39, 40, 1_000] {
        expect_due(&*records, 1_000, limit, &names[..limit.min(40)]).await;
    }
}

pub(crate) async fn what_is_due_at_another_time_or_no_longer_is_named_so_after_the_write(records: Arc<dyn Records>) {
    let mut standing = due_at("a", 10);
    store(&*records, &standing).await;
    expect_due(&*records, 10, 9, &["a"]).await;
    for (state, second, due_by) in [
        (State::Received, 20, Some(20)),
        (State::Received, 5, Some(5)),
        (State::Ready, 5, None),
        (State::Received, 7, Some(7)),
    ] {
        let next = Record { state, revision: standing.revision + 1, ..due_at("a", second) };
        assert_eq!(records.put(&next, Some(standing.version())).await.unwrap(), Put::Stored);
        standing = next;
        let named: &[&str] = if due_by.is_some() { &["a"] } else { &[] };
        expect_due(&*records, 1_000, 9, named).await;
        if let Some(second) = due_by {
            expect_due(&*records, second - 1, 9, &[]).await;
        }
    }
}

pub(crate) async fn a_lost_write_changes_nothing_about_what_is_due(records: Arc<dyn Records>) {
    let first = due_at("a", 10);
    store(&*records, &first).await;
    let settled = Record { state: State::Ready, next_attempt: None, revision: 2, ..first.clone() };
    for (record, expected) in [(&settled, None), (&due_at("b", 5), Some(first.version()))] {
        assert!(matches!(records.put(record, expected).await.unwrap(), Put::Lost(_)));
    }
    expect_due(&*records, 1_000, 9, &["a"]).await;
}

pub(crate) async fn every_key_can_be_due(records: Arc<dyn Records>) {
    let keys = hostile_keys();
    for key in &keys {
        store(&*records, &Record { state: State::Received, ..plain(key) }).await;
    }
    let expected: BTreeSet<_> = keys.into_iter().collect();
    let mut named = BTreeSet::new();
    for _ in 0..500 {
        named = records.due(Timestamp::UNIX_EPOCH, 1_000).await.unwrap().into_iter().collect();
        if named == expected {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(named, expected);
}

/// Stores the first record of an object.
pub(crate) async fn store(records: &dyn Records, record: &Record) {
    assert_eq!(records.put(record, None).await.unwrap(), Put::Stored, "{:?}", record.key());
}

pub(crate) fn every(limit: usize) -> Query {
    Query { limit, ..Query::default() }
}

/// Follows the cursors to the end. No record may come twice and no page may be too long.
pub(crate) async fn listed(records: &dyn Records, query: &Query) -> BTreeSet<RecordKey> {
    let mut keys = BTreeSet::new();
    let mut query = query.clone();
    loop {
        let page = records.list(&query).await.unwrap();
        assert!(page.records.len() <= query.limit);
        for record in &page.records {
            assert!(query.matches(record), "{record:?}");
            assert!(keys.insert(record.key()), "{:?} came twice", record.key());
        }
        if page.cursor.is_none() {
            return keys;
        }
        query.cursor = page.cursor;
    }
}
