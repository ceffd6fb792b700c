//! The contract of the port, point by point.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::join_all;
use oss_callback::record::{Record, RecordKey, State, Version};
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
