//! The contract of the port, point by point.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::join_all;
use jiff::Timestamp;
use oss_callback::record::{Lease, Record, RecordKey, State, Version};
use oss_callback::records::{Put, Query, Records, RecordsError};
use proptest::collection::vec;
use proptest::prelude::{Strategy, prop};
use proptest::test_runner::{Config, TestRunner};

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
            pages_by_any_filter_visit_every_match_exactly_once,
            a_bucket_is_listed_in_the_order_of_its_keys,
            a_change_of_state_moves_a_record_from_one_listing_to_another,
            a_change_of_owner_moves_a_record_from_one_listing_to_another,
            values_that_no_index_takes_are_stored_and_listed,
            every_key_is_listed_by_every_filter,
            names_and_values_are_not_confused,
            a_filter_that_nothing_can_match_lists_nothing,
            a_cursor_of_another_query_is_refused_or_does_no_harm,
            every_listing_holds_what_matches_whatever_was_written,
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

/// The custom variable by which every store under test indexes its records; others are not indexed.
pub(crate) const OWNER: &str = "uid";

fn in_bucket(bucket: &str) -> Query {
    Query { bucket: Some(bucket.to_owned()), ..Query::default() }
}

fn in_state(state: State) -> Query {
    Query { state: Some(state), ..Query::default() }
}

fn owned_by(owner: &str) -> Query {
    Query { custom: vec![(OWNER.to_owned(), owner.to_owned())], ..Query::default() }
}

fn owned(record: Record, owner: &str) -> Record {
    Record { custom: [(OWNER.to_owned(), owner.to_owned())].into(), ..record }
}

/// Waits until a listing holds just these, in pages of any size: an index may follow later.
async fn expect_listed(records: &dyn Records, query: &Query, expected: &BTreeSet<RecordKey>) {
    // Pages of one are tedious where there are many.
    let limits: &[usize] = if expected.len() < 6 { &[1, 3, 100] } else { &[3, 100] };
    for &limit in limits {
        let query = Query { limit, ..query.clone() };
        let mut found = BTreeSet::new();
        for _ in 0..500 {
            found = listed(records, &query).await;
            if found == *expected {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert_eq!(found, *expected, "{query:?}");
    }
}

/// A query by each filter alone, and by some together.
fn assorted_queries() -> Vec<Query> {
    let within = |bucket: &str, prefix: &str, query: Query| Query {
        bucket: Some(bucket.to_owned()),
        prefix: Some(prefix.to_owned()),
        ..query
    };
    vec![
        in_bucket("another"),
        within(BUCKET, "photos/1", Query::default()),
        in_state(State::Failed),
        in_state(State::Recorded),
        within(BUCKET, "", in_state(State::Ready)),
        within(BUCKET, "photos/", in_state(State::Failed)),
        Query { prefix: Some("videos/".to_owned()), ..in_state(State::Processing) },
        owned_by("1"),
        owned_by("nobody"),
        owned_by(""),
        within("another", "photos/1", owned_by("1")),
        Query { state: Some(State::Failed), ..owned_by("1") },
        Query { state: Some(State::Deleted), ..owned_by("") },
    ]
}

pub(crate) async fn pages_by_any_filter_visit_every_match_exactly_once(records: Arc<dyn Records>) {
    let mut all = assorted();
    // So many that some shards hold several.
    all.extend((100..124).map(|number| {
        let state = if number % 2 == 0 { State::Failed } else { State::Ready };
        owned(Record { state, ..plain(&key(&format!("photos/{number}"))) }, "1")
    }));
    join_all(all.iter().map(|record| store(&*records, record))).await;
    for query in assorted_queries() {
        let expected = all.iter().filter(|record| query.matches(record)).map(Record::key).collect();
        expect_listed(&*records, &query, &expected).await;
    }
}

pub(crate) async fn a_bucket_is_listed_in_the_order_of_its_keys(records: Arc<dyn Records>) {
    let mut keys: Vec<_> = hostile_keys().into_iter().filter(|key| key.bucket == BUCKET).collect();
    for key in keys.iter().rev() {
        store(&*records, &plain(key)).await;
    }
    keys.sort();
    expect_listed(&*records, &in_bucket(BUCKET), &keys.iter().cloned().collect()).await;
    let mut query = Query { limit: 4, ..in_bucket(BUCKET) };
    let mut in_order = Vec::new();
    loop {
        let page = records.list(&query).await.unwrap();
        in_order.extend(page.records.iter().map(Record::key));
        query.cursor = page.cursor;
        if query.cursor.is_none() {
            break;
        }
    }
    assert_eq!(in_order, keys);
}

pub(crate) async fn a_change_of_state_moves_a_record_from_one_listing_to_another(records: Arc<dyn Records>) {
    let mut standing = plain(&key("a"));
    store(&*records, &standing).await;
    let states = [State::Recorded, State::Failed, State::Received, State::Ready, State::Deleted, State::Ready];
    for (before, after) in states.into_iter().zip(states.into_iter().skip(1)) {
        let next = Record { state: after, revision: standing.revision + 1, ..standing.clone() };
        assert_eq!(records.put(&next, Some(standing.version())).await.unwrap(), Put::Stored);
        standing = next;
        expect_listed(&*records, &in_state(before), &BTreeSet::new()).await;
        expect_listed(&*records, &in_state(after), &[key("a")].into()).await;
    }
}

pub(crate) async fn a_change_of_owner_moves_a_record_from_one_listing_to_another(records: Arc<dyn Records>) {
    let mut standing = owned(plain(&key("a")), "alice");
    store(&*records, &standing).await;
    for (before, after) in [("alice", "bob"), ("bob", ""), ("", "carol"), ("carol", "alice")] {
        let next = owned(Record { revision: standing.revision + 1, ..standing.clone() }, after);
        let lost = records.put(&next, None).await.unwrap();
        assert_eq!(lost, Put::Lost(Some(Box::new(standing.clone()))), "which changes nothing");
        expect_listed(&*records, &owned_by(after), &BTreeSet::new()).await;
        assert_eq!(records.put(&next, Some(standing.version())).await.unwrap(), Put::Stored);
        standing = next;
        expect_listed(&*records, &owned_by(before), &BTreeSet::new()).await;
        expect_listed(&*records, &owned_by(after), &[key("a")].into()).await;
    }
    let without = Record { custom: BTreeMap::new(), revision: standing.revision + 1, ..standing.clone() };
    assert_eq!(records.put(&without, Some(standing.version())).await.unwrap(), Put::Stored);
    expect_listed(&*records, &owned_by("alice"), &BTreeSet::new()).await;
}

pub(crate) async fn values_that_no_index_takes_are_stored_and_listed(records: Arc<dyn Records>) {
    let values = [String::new(), "é".repeat(512), "é".repeat(512) + "x", "x".repeat(2_049), "x".repeat(60_000)];
    let stored: Vec<_> = values
        .iter()
        .enumerate()
        .map(|(number, value)| owned(Record { state: State::Failed, ..plain(&key(&number.to_string())) }, value))
        .collect();
    for record in &stored {
        store(&*records, record).await;
        assert_eq!(records.get(&record.key()).await.unwrap().as_ref(), Some(record));
    }
    for (record, value) in stored.iter().zip(&values) {
        expect_listed(&*records, &owned_by(value), &[record.key()].into()).await;
        expect_listed(&*records, &Query { bucket: Some(BUCKET.to_owned()), ..owned_by(value) }, &[record.key()].into())
            .await;
    }
    expect_listed(&*records, &in_state(State::Failed), &stored.iter().map(Record::key).collect()).await;
}

pub(crate) async fn every_key_is_listed_by_every_filter(records: Arc<dyn Records>) {
    let mut keys = hostile_keys();
    // Bucket and key together are longer than the sort key of an index can be, and alike up to the last byte.
    let bucket = "b".repeat(63);
    let start = "é".repeat(511);
    keys.extend(["x", "y"].map(|end| RecordKey::new(&bucket, format!("{start}{end}"))));
    let all: Vec<_> = keys.iter().map(|key| owned(Record { state: State::Skipped, ..plain(key) }, "someone")).collect();
    join_all(all.iter().map(|record| store(&*records, record))).await;
    for query in [in_state(State::Skipped), owned_by("someone")] {
        expect_listed(&*records, &query, &keys.iter().cloned().collect()).await;
        let long = &keys[keys.len() - 1].object;
        for (bucket, prefix) in
            [(BUCKET, "a"), (BUCKET, "\u{0}"), (BUCKET, "\u{10ffff}"), (&bucket, &start), (&bucket, long)]
        {
            let within = Query { bucket: Some(bucket.to_owned()), prefix: Some(prefix.to_owned()), ..query.clone() };
            let expected: BTreeSet<_> = all.iter().filter(|record| within.matches(record)).map(Record::key).collect();
            assert!(!expected.is_empty(), "{within:?}");
            expect_listed(&*records, &within, &expected).await;
        }
    }
}

pub(crate) async fn names_and_values_are_not_confused(records: Arc<dyn Records>) {
    let owners =
        ["a", "a/b", "a\u{0}", "A", "a ", "\u{0}", "0", "/", "a\u{0}examplebucket\u{0}a", "名", "null", "failed"];
    for owner in owners {
        store(&*records, &owned(plain(&key(owner)), owner)).await;
    }
    let other = Record { custom: [("uidx".to_owned(), "a".to_owned())].into(), ..plain(&key("other")) };
    store(&*records, &other).await;
    for owner in owners {
        expect_listed(&*records, &owned_by(owner), &[key(owner)].into()).await;
    }
    let not_indexed = Query { custom: vec![("uidx".to_owned(), "a".to_owned())], ..Query::default() };
    expect_listed(&*records, &not_indexed, &[key("other")].into()).await;
}

pub(crate) async fn a_filter_that_nothing_can_match_lists_nothing(records: Arc<dyn Records>) {
    let record = owned(Record { state: State::Failed, ..plain(&key("a")) }, "someone");
    store(&*records, &record).await;
    expect_listed(&*records, &in_state(State::Failed), &[key("a")].into()).await;
    let long = "é".repeat(5_000);
    for query in [in_bucket(BUCKET), in_state(State::Failed), owned_by("someone"), Query::default()] {
        for prefix in ["a/", "b", "\u{10ffff}", &long] {
            expect_listed(&*records, &Query { prefix: Some(prefix.to_owned()), ..query.clone() }, &BTreeSet::new())
                .await;
        }
        for bucket in ["", "a/b", "examplebucke", &long] {
            expect_listed(&*records, &Query { bucket: Some(bucket.to_owned()), ..query.clone() }, &BTreeSet::new())
                .await;
        }
    }
    expect_listed(&*records, &owned_by(&long), &BTreeSet::new()).await;
}

pub(crate) async fn a_cursor_of_another_query_is_refused_or_does_no_harm(records: Arc<dyn Records>) {
    let all = assorted();
    join_all(all.iter().map(|record| store(&*records, record))).await;
    let mut queries = assorted_queries();
    queries.push(Query::default());
    let mut cursors = Vec::new();
    for query in &queries {
        cursors.extend(records.list(&Query { limit: 1, ..query.clone() }).await.unwrap().cursor);
    }
    assert!(cursors.len() > 5, "{}", cursors.len());
    for query in &queries {
        for cursor in &cursors {
            let misled = Query { limit: 100, cursor: Some(cursor.clone()), ..query.clone() };
            match records.list(&misled).await {
                Ok(page) => assert!(page.records.iter().all(|record| misled.matches(record)), "{misled:?}"),
                Err(error) => assert!(matches!(error, RecordsError::BadCursor), "{error:?}"),
            }
        }
    }
}

/// A write: which of ten objects gets which state and which owner, and whether the writer knows what stands there.
type Write = (usize, State, &'static str, bool);

fn writes() -> impl Strategy<Value = Vec<Write>> {
    let owner = prop::sample::select(vec!["alice", "bob", "", "none"]);
    vec((0..10_usize, prop::sample::select(State::ALL.to_vec()), owner, prop::bool::weighted(0.9)), 1..30)
}

/// Against a map as the model, in one store from case to case.
pub(crate) async fn every_listing_holds_what_matches_whatever_was_written(records: Arc<dyn Records>) {
    let model = std::sync::Mutex::new(BTreeMap::new());
    let config = Config { cases: 6, failure_persistence: None, max_shrink_iters: 50, ..Config::default() };
    let runtime = tokio::runtime::Handle::current();
    let outcome = tokio::task::block_in_place(|| {
        TestRunner::new(config).run(&writes(), |writes| {
            let mut model = model.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            runtime.block_on(write_and_compare(&*records, &mut model, writes));
            Ok(())
        })
    });
    outcome.unwrap();
}

async fn write_and_compare(records: &dyn Records, model: &mut BTreeMap<RecordKey, Record>, writes: Vec<Write>) {
    for (object, state, owner, knows) in writes {
        let bucket = if object % 2 == 0 { BUCKET } else { "another" };
        let key = RecordKey::new(bucket, format!("{}/{object}", ["photos", "videos"][object % 3 % 2]));
        let standing = model.get(&key);
        let revision = standing.map_or(1, |record| record.revision + 1);
        let record = Record { state, revision, ..plain(&key) };
        let record = if owner == "none" { record } else { owned(record, owner) };
        let known = Version { generation: 7, revision: 7_000 };
        let expected = if knows { standing.map(Record::version) } else { Some(known) };
        let outcome = records.put(&record, expected).await.unwrap();
        if knows {
            assert_eq!(outcome, Put::Stored);
            model.insert(key, record);
        } else {
            assert_eq!(outcome, Put::Lost(standing.cloned().map(Box::new)));
        }
    }
    let states = State::ALL.map(in_state);
    let buckets = [in_bucket(BUCKET), in_bucket("another"), Query::default()];
    for query in states.into_iter().chain(["alice", "bob", ""].map(owned_by)).chain(buckets) {
        let expected: BTreeSet<_> = model.values().filter(|record| query.matches(record)).map(Record::key).collect();
        let query = Query { limit: 9, ..query };
        let mut found = BTreeSet::new();
        for _ in 0..500 {
            found = listed(records, &query).await;
            if found == expected {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        assert_eq!(found, expected, "{query:?}");
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
