//! The store in a DynamoDB table: on an emulator in this process, and, where `AWS_ENDPOINT_URL_DYNAMODB` names another server,
//! on that one too.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Region};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection,
    ProjectionType, PutRequest, ScalarAttributeType, WriteRequest,
};
use futures_util::future::join_all;
use jiff::Timestamp;
use oss_callback::record::{Record, RecordKey, State};
use oss_callback::records::dynamodb::{Credentials, DynamoDb, DynamoDbSettings, Index, indexes};
use oss_callback::records::{Put, Query, Records, RecordsError};
use tokio::net::TcpListener;

use crate::conformance::{OWNER, every, listed, store};
use crate::proxy::{Fault, Proxy};
use crate::samples::{full, hostile_keys, key, plain, seen};

const TABLE: &str = "records";
const REGION: &str = "eu-central-1";
const SECRET: &str = "the-secret-access-key";
const TOKEN: &str = "the-session-token";

mod on_the_emulator {
    conformance!(super::with_emulator);
}

mod on_another_server {
    conformance!(super::with_another_server);
}

async fn with_emulator<F: Future<Output = ()>>(point: impl FnOnce(Arc<dyn Records>) -> F) {
    let emulator = start_emulator().await;
    point(Arc::new(DynamoDb::new(TABLE, indexed(patient(&url_of(emulator)))))).await;
}

/// Runs the point in a table of its own, which is removed even if the point fails.
async fn with_another_server<F>(point: impl FnOnce(Arc<dyn Records>) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let Ok(endpoint) = std::env::var("AWS_ENDPOINT_URL_DYNAMODB") else { return };
    let settings = indexed(patient(&endpoint));
    let client = administrator(&settings);
    let table = format!("oss-callback-test-{}", unique());
    create_table(&client, &table).await;
    let outcome = tokio::spawn(point(Arc::new(DynamoDb::new(&table, settings)))).await;
    client.delete_table().table_name(&table).send().await.unwrap();
    outcome.unwrap();
}

/// With the custom variables that the conformance suite asks by.
fn indexed(settings: DynamoDbSettings) -> DynamoDbSettings {
    DynamoDbSettings { indexed: vec![OWNER.to_owned()], ..settings }
}

/// A word that no other run and no other test uses.
fn unique() -> String {
    let directory = tempfile::Builder::new().prefix("").rand_bytes(16).tempdir().unwrap();
    directory.path().file_name().unwrap().to_str().unwrap().to_owned()
}

/// An emulator with the table.
async fn start_emulator() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(dynoxide::server::serve_on(listener, dynoxide::Database::memory().unwrap()));
    create_table(&administrator(&patient(&url_of(address))), TABLE).await;
    address
}

fn url_of(address: SocketAddr) -> String {
    format!("http://{address}")
}

/// Time-outs that a busy machine does not reach.
fn patient(endpoint: &str) -> DynamoDbSettings {
    let long = Duration::from_secs(60);
    DynamoDbSettings { operation_timeout: long, attempt_timeout: long, connect_timeout: long, ..settings(endpoint) }
}

fn settings(endpoint: &str) -> DynamoDbSettings {
    let credentials = Credentials {
        access_key_id: "the-key-id".to_owned(),
        secret_access_key: SECRET.to_owned(),
        session_token: Some(TOKEN.to_owned()),
    };
    DynamoDbSettings { endpoint: Some(endpoint.to_owned()), ..DynamoDbSettings::new(REGION, credentials) }
}

/// A client for what the store itself never does: make and remove tables, look at raw items.
fn administrator(settings: &DynamoDbSettings) -> Client {
    let Credentials { access_key_id, secret_access_key, session_token } = settings.credentials.clone();
    let credentials =
        aws_sdk_dynamodb::config::Credentials::new(access_key_id, secret_access_key, session_token, None, "test");
    let mut config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new(settings.region.clone()))
        .credentials_provider(credentials)
        .http_client(aws_smithy_http_client::Builder::new().build_http());
    config.set_endpoint_url(settings.endpoint.clone());
    Client::from_conf(config.build())
}

async fn create_table(client: &Client, table: &str) {
    create_table_with(client, table, indexes(&[OWNER.to_owned()])).await;
}

async fn create_table_with(client: &Client, table: &str, indexes: Vec<Index>) {
    let mut request = client
        .create_table()
        .table_name(table)
        .key_schema(part("pk", KeyType::Hash))
        .attribute_definitions(attribute("pk", ScalarAttributeType::S))
        .billing_mode(BillingMode::PayPerRequest);
    let mut attributes = BTreeMap::new();
    for Index { name, partition, sort, sort_is_number } in indexes {
        let of = if sort_is_number { ScalarAttributeType::N } else { ScalarAttributeType::S };
        let index = GlobalSecondaryIndex::builder()
            .index_name(name)
            .key_schema(part(&partition, KeyType::Hash))
            .key_schema(part(sort, KeyType::Range))
            .projection(Projection::builder().projection_type(ProjectionType::KeysOnly).build());
        request = request.global_secondary_indexes(index.build().unwrap());
        attributes.insert(partition, ScalarAttributeType::S);
        attributes.insert(sort.to_owned(), of);
    }
    for (name, of) in attributes {
        request = request.attribute_definitions(attribute(&name, of));
    }
    request.send().await.unwrap();
}

/// A key of the table or of an index.
fn part(attribute: &str, part: KeyType) -> KeySchemaElement {
    KeySchemaElement::builder().attribute_name(attribute).key_type(part).build().unwrap()
}

fn attribute(name: &str, of: ScalarAttributeType) -> AttributeDefinition {
    AttributeDefinition::builder().attribute_name(name).attribute_type(of).build().unwrap()
}

#[tokio::test]
async fn a_table_without_indexes_serves_all_but_what_is_due_and_that_is_said() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = patient(&url_of(listener.local_addr().unwrap()));
    tokio::spawn(dynoxide::server::serve_on(listener, dynoxide::Database::memory().unwrap()));
    create_table_with(&administrator(&settings), TABLE, Vec::new()).await;
    let records = DynamoDb::new(TABLE, indexed(settings));
    let record =
        Record { state: State::Received, custom: [(OWNER.to_owned(), "1".to_owned())].into(), ..plain(&key("a")) };
    store(&records, &record).await;
    store(&records, &plain(&key("b"))).await;
    assert_eq!(records.get(&key("a")).await.unwrap(), Some(record));
    let by_bucket = Query { bucket: Some("examplebucket".to_owned()), ..every(1) };
    let by_state = Query { state: Some(State::Received), ..every(1) };
    let by_owner = Query { custom: vec![(OWNER.to_owned(), "1".to_owned())], ..every(1) };
    assert_eq!(listed(&records, &by_bucket).await, [key("a"), key("b")].into());
    for query in [by_state, by_owner] {
        assert_eq!(listed(&records, &query).await, [key("a")].into(), "{query:?}");
    }
    let sentence = records.due(Timestamp::UNIX_EPOCH, 9).await.unwrap_err().to_string();
    for word in [TABLE, "\"due\"", "due_shard", "due_at", "KEYS_ONLY"] {
        assert!(sentence.contains(word), "{word} is missing from: {sentence}");
    }
}

#[tokio::test]
async fn the_index_holds_only_what_is_due() {
    let emulator = start_emulator().await;
    let settings = patient(&url_of(emulator));
    let records = DynamoDb::new(TABLE, settings.clone());
    store(&records, &plain(&key("settled"))).await;
    store(&records, &Record { state: State::Received, ..plain(&key("due")) }).await;
    let scan = administrator(&settings).scan().table_name(TABLE).index_name("due").send().await.unwrap();
    assert_eq!(scan.items().len(), 1);
    let keys: Vec<_> = scan.items().iter().map(|item| item["pk"].as_s().unwrap().as_str()).collect();
    assert_eq!(keys, ["examplebucket/due"]);
    assert_eq!(scan.items()[0].len(), 3, "no more than its keys: {:?}", scan.items()[0]);
}

/// The keys of the records that stand in an index.
async fn standing_in(client: &Client, index: &str) -> BTreeSet<String> {
    let scan = client.scan().table_name(TABLE).index_name(index).send().await.unwrap();
    scan.items().iter().map(|item| item["pk"].as_s().unwrap().clone()).collect()
}

#[tokio::test]
async fn indexes_hold_no_more_than_they_serve() {
    let emulator = start_emulator().await;
    let settings = patient(&url_of(emulator));
    let records = DynamoDb::new(TABLE, indexed(settings.clone()));
    for state in State::ALL {
        store(&records, &Record { state, ..plain(&key(state.as_str())) }).await;
    }
    for (object, owner) in [("empty", ""), ("short", "1")] {
        let custom = [(OWNER.to_owned(), owner.to_owned()), ("other".to_owned(), "1".to_owned())].into();
        store(&records, &Record { custom, ..plain(&key(object)) }).await;
    }
    let client = administrator(&settings);
    let rare = ["received", "processing", "failed", "skipped", "unverified", "deleted"];
    assert_eq!(standing_in(&client, "state").await, rare.map(|state| format!("examplebucket/{state}")).into());
    assert_eq!(standing_in(&client, "custom.uid").await, ["examplebucket/short".to_owned()].into());
    assert_eq!(standing_in(&client, "bucket").await.len(), 10);
    let items = client.scan().table_name(TABLE).send().await.unwrap().items.unwrap();
    for item in items {
        let state = item["state"].as_s().unwrap();
        assert_eq!(
            item.contains_key("sort_key"),
            rare.contains(&state.as_str()) || item["object"].as_s().unwrap() == "short"
        );
        assert_eq!(item.contains_key("expires"), state == "deleted", "{item:?}");
    }
}

#[tokio::test]
async fn a_tombstone_expires_a_month_after_it_was_written_unless_the_object_comes_back_or_is_in_doubt() {
    let emulator = start_emulator().await;
    let settings = patient(&url_of(emulator));
    let records = DynamoDb::new(TABLE, settings.clone());
    let updated = Timestamp::from_second(1_000_000).unwrap();
    let tombstone = Record { state: State::Deleted, updated, ..plain(&key("a")) };
    let doubted = Record { recheck: true, revision: 2, ..tombstone.clone() };
    let back = Record { state: State::Recorded, recheck: false, revision: 3, ..tombstone.clone() };
    let mut standing = None;
    for (record, expires) in [(&tombstone, Some("3592000")), (&doubted, None), (&back, None)] {
        assert_eq!(records.put(record, standing).await.unwrap(), Put::Stored);
        standing = Some(record.version());
        let items = administrator(&settings).scan().table_name(TABLE).send().await.unwrap().items.unwrap();
        let found = items[0].get("expires").map(|expires| expires.as_n().unwrap().as_str());
        assert_eq!(found, expires, "{record:?}");
        assert_eq!(records.get(&key("a")).await.unwrap().as_ref(), Some(record));
    }
}

/// Stores a common record, and that many more items like it, in one bucket, each in this shard of the index.
async fn multiply(records: &DynamoDb, client: &Client, count: usize, shard: fn(usize) -> usize) {
    store(records, &plain(&RecordKey::new("another", "common"))).await;
    let key = AttributeValue::S("another/common".to_owned());
    let common = client.get_item().table_name(TABLE).key("pk", key).send().await.unwrap().item.unwrap();
    let numbers: Vec<_> = (0..count).collect();
    for some in numbers.chunks(25) {
        let puts = some.iter().map(|number| {
            let mut item = common.clone();
            for (attribute, value) in [
                ("pk", format!("another/common/{number:04}")),
                ("object", format!("common/{number:04}")),
                ("bucket_shard", format!("{:x}/another", shard(*number))),
            ] {
                assert!(item.insert(attribute.to_owned(), AttributeValue::S(value)).is_some(), "{attribute}");
            }
            let put = PutRequest::builder().set_item(Some(item)).build().unwrap();
            WriteRequest::builder().put_request(put).build()
        });
        let written = client.batch_write_item().request_items(TABLE, puts.collect()).send().await.unwrap();
        assert!(written.unprocessed_items.is_none_or(|left| left.is_empty()));
    }
}

#[tokio::test]
async fn a_listing_looks_at_little_more_than_it_returns() {
    let emulator = start_emulator().await;
    let records = DynamoDb::new(TABLE, indexed(patient(&url_of(emulator))));
    let rares = (0..20).map(|number| Record {
        state: State::Failed,
        custom: [(OWNER.to_owned(), "1".to_owned())].into(),
        ..plain(&key(&format!("rare/{number}")))
    });
    let rares: Vec<_> = rares.collect();
    join_all(rares.iter().map(|record| store(&records, record))).await;
    multiply(&records, &administrator(&patient(&url_of(emulator))), 3_000, |number| number % 16).await;
    let rare: BTreeSet<_> = rares.iter().map(Record::key).collect();
    for limit in [3, 100] {
        for query in [
            Query { state: Some(State::Failed), ..every(limit) },
            Query { custom: vec![(OWNER.to_owned(), "1".to_owned())], ..every(limit) },
            Query { bucket: Some("examplebucket".to_owned()), ..every(limit) },
            Query { bucket: Some("examplebucket".to_owned()), prefix: Some("rare/".to_owned()), ..every(limit) },
        ] {
            let meter = Proxy::start(emulator, Fault::HangUp, 0).await;
            let metered = DynamoDb::new(TABLE, indexed(patient(&meter.url())));
            assert_eq!(listed(&metered, &query).await, rare, "{query:?}");
            // Each page asks the index anew for all that is left, and reads each record once.
            let pages = rare.len().div_ceil(limit);
            let (keys, read) = meter.examined();
            assert!(keys <= (pages + 1) * rare.len(), "{keys} keys looked at for {query:?}");
            assert_eq!(read, rare.len(), "{query:?}");
        }
    }
    let meter = Proxy::start(emulator, Fault::HangUp, 0).await;
    let page = Query { bucket: Some("another".to_owned()), prefix: Some("common/1".to_owned()), ..every(100) };
    let page = DynamoDb::new(TABLE, indexed(patient(&meter.url()))).list(&page).await.unwrap();
    let (keys, read) = meter.examined();
    assert_eq!((page.records.len(), read), (100, 100));
    assert!(keys <= 16 * 23, "{keys} keys looked at for a page of 100");
}

#[tokio::test]
async fn a_page_may_end_among_records_that_do_not_match_and_the_next_goes_on_there() {
    let emulator = start_emulator().await;
    let records = DynamoDb::new(TABLE, patient(&url_of(emulator)));
    let failed = |object: String| Record { state: State::Failed, ..plain(&key(&object)) };
    let others: Vec<_> = (0..1_300).map(|number| failed(format!("other/{number:04}"))).collect();
    let wanted: Vec<_> = (0..5).map(|number| failed(format!("rare/{number}"))).collect();
    for some in [others, wanted.clone()].concat().chunks(32) {
        join_all(some.iter().map(|record| store(&records, record))).await;
    }
    let query = Query { state: Some(State::Failed), prefix: Some("rare/".to_owned()), ..every(100) };
    let first = records.list(&query).await.unwrap();
    assert!(first.records.is_empty() && first.cursor.is_some(), "{first:?}");
    assert_eq!(listed(&records, &query).await, wanted.iter().map(Record::key).collect());
}

#[tokio::test]
async fn nothing_is_left_out_where_one_shard_holds_much_that_comes_before_all_others() {
    let emulator = start_emulator().await;
    let settings = patient(&url_of(emulator));
    let records = DynamoDb::new(TABLE, settings.clone());
    multiply(&records, &administrator(&settings), 150, |number| if number < 75 { 0 } else { number % 16 }).await;
    let common = listed(&records, &Query { bucket: Some("another".to_owned()), ..every(100) }).await;
    assert_eq!(common.len(), 151);
}

/// DynamoDB would refuse the whole item, which the emulators do not.
#[tokio::test]
async fn no_key_of_an_index_is_empty_or_longer_than_dynamodb_takes() {
    let emulator = start_emulator().await;
    let settings = indexed(patient(&url_of(emulator)));
    let records = DynamoDb::new(TABLE, settings.clone());
    let long = RecordKey::new("b".repeat(63), "é".repeat(511) + "x");
    let values = [String::new(), "x".repeat(1_024), "x".repeat(1_025), "é".repeat(30_000)];
    let keys = hostile_keys().into_iter().chain([long]);
    for (key, value) in keys.zip(values.iter().cycle()) {
        let custom = [(OWNER.to_owned(), value.clone())].into();
        store(&records, &Record { state: State::Failed, custom, ..plain(&key) }).await;
    }
    for item in administrator(&settings).scan().table_name(TABLE).send().await.unwrap().items.unwrap() {
        for Index { partition, sort, sort_is_number, .. } in indexes(&settings.indexed) {
            for (attribute, most) in [(partition.as_str(), 2_048), (sort, 1_024)] {
                let Some(AttributeValue::S(value)) = item.get(attribute) else { continue };
                assert!(!sort_is_number || attribute != sort);
                assert!((1..=most).contains(&value.len()), "{attribute} has {} bytes", value.len());
            }
        }
    }
}

/// The template's lines from here on, as long as they are indented deeper than the first.
fn block<'a>(template: &'a str, first: &str) -> Vec<&'a str> {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut lines = template.lines().skip_while(|line| line.trim() != first);
    let begin = lines.next().unwrap_or_else(|| panic!("{first} is missing"));
    let within = lines.take_while(|line| indent(line) > indent(begin));
    let bare = within.map(|line| line.split('#').next().unwrap_or_default().trim());
    bare.filter(|line| !line.is_empty()).collect()
}

#[test]
fn the_template_makes_the_table_that_is_asked_for() {
    let template = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/template.yaml")).unwrap();
    let mut found: Vec<_> = Vec::new();
    let mut defined = BTreeMap::from([("pk".to_owned(), "S")]);
    for Index { name, partition, sort, sort_is_number } in indexes(&[]) {
        assert_eq!(
            block(&template, &format!("- IndexName: {name}")),
            [
                "KeySchema:".to_owned(),
                format!("- AttributeName: {partition}"),
                "KeyType: HASH".to_owned(),
                format!("- AttributeName: {sort}"),
                "KeyType: RANGE".to_owned(),
                "Projection:".to_owned(),
                "ProjectionType: KEYS_ONLY".to_owned(),
            ],
        );
        defined.insert(partition, "S");
        defined.insert(sort.to_owned(), if sort_is_number { "N" } else { "S" });
        found.push(name);
    }
    let named: Vec<_> = template.lines().filter_map(|line| line.trim().strip_prefix("- IndexName: ")).collect();
    assert_eq!(named, found);
    let attributes = block(&template, "AttributeDefinitions:");
    let attributes: BTreeMap<_, _> = attributes
        .chunks(2)
        .map(|pair| {
            let name = pair[0].strip_prefix("- AttributeName: ").unwrap();
            (name.to_owned(), pair[1].strip_prefix("AttributeType: ").unwrap())
        })
        .collect();
    assert_eq!(attributes, defined);
    assert_eq!(block(&template, "TimeToLiveSpecification:"), ["AttributeName: expires", "Enabled: true"]);
}

#[tokio::test]
async fn an_item_holds_no_attribute_for_what_is_absent() {
    let emulator = start_emulator().await;
    let settings = patient(&url_of(emulator));
    store(&DynamoDb::new(TABLE, settings.clone()), &plain(&key("a"))).await;
    let items = administrator(&settings).scan().table_name(TABLE).send().await.unwrap().items.unwrap();
    assert_eq!(items.len(), 1);
    assert_eq!(items[0]["pk"].as_s().unwrap(), "examplebucket/a");
    assert!(items[0].values().all(|value| !value.is_null()), "{:?}", items[0]);
    assert!(!items[0].contains_key("reason"));
}

#[tokio::test]
async fn a_write_whose_answer_was_lost_is_recognised_when_it_is_repeated() {
    for fault in [Fault::Hang, Fault::HangUp] {
        let emulator = start_emulator().await;
        let proxy = Proxy::start(emulator, fault, 1).await;
        // The hanging attempt must end by its time-out, but not the whole operation.
        let settings = DynamoDbSettings { attempt_timeout: Duration::from_secs(2), ..patient(&proxy.url()) };
        let records = DynamoDb::new(TABLE, settings);
        let first = full(&key("a"));
        assert_eq!(records.put(&first, None).await.unwrap(), Put::Stored, "{fault:?}");
        assert_eq!(proxy.writes_passed_on(), 2, "the write and its repetition");
        assert_stands(emulator, &first).await;
    }
}

#[tokio::test]
async fn a_replacement_whose_answer_was_lost_is_recognised_when_it_is_repeated() {
    let emulator = start_emulator().await;
    let first = plain(&key("a"));
    store(&DynamoDb::new(TABLE, patient(&url_of(emulator))), &first).await;
    let proxy = Proxy::start(emulator, Fault::HangUp, 1).await;
    let second = seen(Some(&first), &key("a"), "SECOND");
    let records = DynamoDb::new(TABLE, patient(&proxy.url()));
    assert_eq!(records.put(&second, Some(first.version())).await.unwrap(), Put::Stored);
    assert_stands(emulator, &second).await;
}

#[tokio::test]
async fn a_write_whose_answers_are_all_lost_is_unavailable_and_took_effect_once() {
    let emulator = start_emulator().await;
    let proxy = Proxy::start(emulator, Fault::HangUp, usize::MAX).await;
    let record = plain(&key("a"));
    let outcome = DynamoDb::new(TABLE, patient(&proxy.url())).put(&record, None).await;
    assert!(matches!(outcome, Err(RecordsError::Unavailable(_))), "{outcome:?}");
    assert_stands(emulator, &record).await;
    let repeated = DynamoDb::new(TABLE, patient(&url_of(emulator))).put(&record, None).await.unwrap();
    assert_eq!(repeated, Put::Lost(Some(Box::new(record))));
}

async fn assert_stands(emulator: SocketAddr, record: &Record) {
    let standing = DynamoDb::new(TABLE, patient(&url_of(emulator))).get(&record.key()).await.unwrap();
    assert_eq!(standing.as_ref(), Some(record));
}

#[tokio::test]
async fn a_server_that_never_answers_is_unavailable_in_time() {
    let emulator = start_emulator().await;
    let proxy = Proxy::start(emulator, Fault::Hang, usize::MAX).await;
    let records = DynamoDb::new(TABLE, settings(&proxy.url()));
    let sentence = unavailable(&records).await;
    assert!(sentence.contains(TABLE) && sentence.contains("did not answer within 1000 ms"), "{sentence}");
}

#[tokio::test]
async fn a_closed_port_is_unavailable() {
    for scheme in ["http", "https"] {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let sentence = unavailable(&DynamoDb::new(TABLE, settings(&format!("{scheme}://{closed}")))).await;
        assert!(sentence.contains(TABLE) && sentence.contains(REGION), "{sentence}");
        assert!(sentence.contains("cannot be reached"), "{sentence}");
    }
}

#[tokio::test]
async fn a_missing_table_is_named_with_its_region() {
    let emulator = start_emulator().await;
    let sentence = unavailable(&DynamoDb::new("misspelt", patient(&url_of(emulator)))).await;
    assert!(sentence.contains("there is no table \"misspelt\" in eu-central-1"), "{sentence}");
}

/// The sentence with which a put is refused, which holds no secret.
async fn unavailable(records: &DynamoDb) -> String {
    let refused = records.put(&plain(&key("a")), None).await.unwrap_err();
    assert!(matches!(refused, RecordsError::Unavailable(_)), "{refused:?}");
    for text in [refused.to_string(), format!("{refused:?}")] {
        assert!(!text.contains(SECRET) && !text.contains(TOKEN), "{text}");
    }
    refused.to_string()
}

#[tokio::test]
async fn a_record_that_is_too_large_for_an_item_is_refused_with_the_reason() {
    let emulator = start_emulator().await;
    let records = DynamoDb::new(TABLE, patient(&url_of(emulator)));
    let large = Record { mime: Some("x".repeat(400 * 1024)), ..plain(&key("a")) };
    let refused = records.put(&large, None).await.unwrap_err();
    assert!(refused.to_string().contains("size"), "{refused}");
    assert_eq!(records.get(&key("a")).await.unwrap(), None);
}

#[test]
fn what_is_printed_for_debugging_holds_no_secret() {
    let printed = format!("{:?}", DynamoDb::new(TABLE, settings("http://127.0.0.1:1")));
    assert!(printed.contains(TABLE) && printed.contains(REGION) && printed.contains("the-key-id"), "{printed}");
    assert!(!printed.contains(SECRET) && !printed.contains(TOKEN), "{printed}");
}
