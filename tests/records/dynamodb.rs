//! The store in a DynamoDB table: on an emulator in this process, and, where `AWS_ENDPOINT_URL_DYNAMODB` names another server,
//! on that one too.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Region};
use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, GlobalSecondaryIndex, KeySchemaElement, KeyType, Projection, ProjectionType,
    ScalarAttributeType,
};
use jiff::Timestamp;
use oss_callback::record::{Record, State};
use oss_callback::records::dynamodb::{Credentials, DynamoDb, DynamoDbSettings};
use oss_callback::records::{Put, Records, RecordsError};
use tokio::net::TcpListener;

use crate::conformance::store;
use crate::proxy::{Fault, Proxy};
use crate::samples::{full, key, plain, seen};

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
    point(Arc::new(DynamoDb::new(TABLE, patient(&url_of(emulator))))).await;
}

/// Runs the point in a table of its own, which is removed even if the point fails.
async fn with_another_server<F>(point: impl FnOnce(Arc<dyn Records>) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let Ok(endpoint) = std::env::var("AWS_ENDPOINT_URL_DYNAMODB") else { return };
    let settings = patient(&endpoint);
    let client = administrator(&settings);
    let table = format!("oss-callback-test-{}", unique());
    create_table(&client, &table).await;
    let outcome = tokio::spawn(point(Arc::new(DynamoDb::new(&table, settings)))).await;
    client.delete_table().table_name(&table).send().await.unwrap();
    outcome.unwrap();
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
    let due = GlobalSecondaryIndex::builder()
        .index_name("due")
        .key_schema(part("due_shard", KeyType::Hash))
        .key_schema(part("due_at", KeyType::Range))
        .projection(Projection::builder().projection_type(ProjectionType::KeysOnly).build())
        .build()
        .unwrap();
    client
        .create_table()
        .table_name(table)
        .key_schema(part("pk", KeyType::Hash))
        .attribute_definitions(attribute("pk", ScalarAttributeType::S))
        .attribute_definitions(attribute("due_shard", ScalarAttributeType::S))
        .attribute_definitions(attribute("due_at", ScalarAttributeType::N))
        .billing_mode(BillingMode::PayPerRequest)
        .global_secondary_indexes(due)
        .send()
        .await
        .unwrap();
}

/// A key of the table or of an index.
fn part(attribute: &str, part: KeyType) -> KeySchemaElement {
    KeySchemaElement::builder().attribute_name(attribute).key_type(part).build().unwrap()
}

fn attribute(name: &str, of: ScalarAttributeType) -> AttributeDefinition {
    AttributeDefinition::builder().attribute_name(name).attribute_type(of).build().unwrap()
}

#[tokio::test]
async fn a_table_without_the_index_serves_all_but_what_is_due_and_that_is_said() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = patient(&url_of(listener.local_addr().unwrap()));
    tokio::spawn(dynoxide::server::serve_on(listener, dynoxide::Database::memory().unwrap()));
    administrator(&settings)
        .create_table()
        .table_name(TABLE)
        .key_schema(part("pk", KeyType::Hash))
        .attribute_definitions(attribute("pk", ScalarAttributeType::S))
        .billing_mode(BillingMode::PayPerRequest)
        .send()
        .await
        .unwrap();
    let records = DynamoDb::new(TABLE, settings);
    let record = Record { state: State::Received, ..plain(&key("a")) };
    store(&records, &record).await;
    assert_eq!(records.get(&key("a")).await.unwrap(), Some(record));
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
    let keys: Vec<_> = scan.items().iter().map(|item| item["pk"].as_s().unwrap().as_str()).collect();
    assert_eq!(keys, ["examplebucket/due"]);
    assert_eq!(scan.items()[0].len(), 3, "no more than its keys: {:?}", scan.items()[0]);
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
