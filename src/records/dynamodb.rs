//! The records in a DynamoDB table: one item per object, under the partition key `pk`, which is the record's joined key.
//! Objects are spread over the partitions by their whole key, so many uploads into one bucket meet no hot one.
//!
//! What is due stands in the global secondary index `due`: partition key `due_shard`, one of 16 named by a hash of the key,
//! so that much work at the same time meets no hot partition either; sort key `due_at`, milliseconds since 1970; projection
//! `KEYS_ONLY`. The two attributes exist only while something is due, so the index holds nothing else. It follows the table
//! within about a second. A table without it serves everything but [`Records::due`]; items written before they had these
//! attributes come in when they are written again.
//!
//! # Cost
//!
//! In request units, as DynamoDB bills them on demand. A record takes about 1 KB, with two thumbnails up to 2 KB.
//!
//! | operation | read units | write units |
//! | --- | --- | --- |
//! | `get` | 1 per 4 KB | |
//! | `put` | | 1 per KB; a lost condition too |
//! | and, if something becomes due or no longer is | | 1 more; 2 where only the time changes |
//! | `list` | 1 per 4 KB examined, up to 1,000 items a page, matching or not | |
//! | `due` | 16 times 0.5 per 4 KB named, so 8 where there is little | |
//!
//! A picture whose thumbnails are made in the request costs two puts and two changes of the index; an object that is only
//! recorded costs one put and none. Looking for due work every two seconds, as the pool does, comes to 4 read units a second.
//!
//! The client is made by the first request, so that a function that starts for a request that is refused at once pays nothing
//! for it. Everything it needs comes in as a value; nothing here reads the environment.

use std::collections::HashMap;
use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Region, SharedHttpClient};
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::query::{QueryError, QueryOutput};
use aws_sdk_dynamodb::operation::scan::builders::ScanFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use aws_smithy_http_client::Builder as HttpClientBuilder;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use futures_util::future::try_join_all;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use webpki_root_certs::TLS_SERVER_ROOT_CERTS;

use super::{Page, Put, Query, Records, RecordsError, cursor};
use crate::record::{Record, RecordKey, Version};

/// The partition key.
const KEY: &str = "pk";

/// A random word that each put writes along: how a put that was repeated recognises its own first attempt.
const WRITE: &str = "write";

/// The index of what is due, and its keys.
const DUE: &str = "due";
const DUE_SHARD: &str = "due_shard";
const DUE_AT: &str = "due_at";

/// Names of the shards: the first digit of a hash.
const SHARDS: &str = "0123456789abcdef";

/// Nanoseconds in the unit of [`DUE_AT`].
const MILLISECOND: i128 = 1_000_000;

/// Items that one page of a listing looks at.
const EXAMINED_PER_PAGE: usize = 1_000;

/// One repetition: it helps against a connection that died while the function was frozen, and two attempts fit the budget of
/// an answer.
const ATTEMPTS: u32 = 2;

/// Waiting before the repetition, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(100));

type Item = HashMap<String, AttributeValue>;

/// Who asks. Its `Debug` shows the key id alone.
#[derive(Clone)]
pub struct Credentials {
    /// Access key id.
    pub access_key_id: String,
    /// Secret access key.
    pub secret_access_key: String,
    /// Session token, where the credentials are temporary.
    pub session_token: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Credentials").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

/// Where the table is and how long an answer may take.
#[derive(Debug, Clone)]
pub struct DynamoDbSettings {
    /// AWS region, such as `eu-central-1`.
    pub region: String,
    /// URL of another endpoint than the region's own, such as a local one; `http://` is taken as it is.
    pub endpoint: Option<String>,
    /// Who asks.
    pub credentials: Credentials,
    /// Time for one operation with its repetition.
    pub operation_timeout: Duration,
    /// Time for one attempt.
    pub attempt_timeout: Duration,
    /// Time to make a connection.
    pub connect_timeout: Duration,
}

impl DynamoDbSettings {
    /// The region's own endpoint and the time-outs that fit an answer within four seconds: 1 s for an operation, 500 ms for
    /// an attempt, 400 ms for a connection.
    pub fn new(region: impl Into<String>, credentials: Credentials) -> Self {
        Self {
            region: region.into(),
            endpoint: None,
            credentials,
            operation_timeout: Duration::from_secs(1),
            attempt_timeout: Duration::from_millis(500),
            connect_timeout: Duration::from_millis(400),
        }
    }
}

/// The store of records in a DynamoDB table, which has the partition key `pk`, a string, and no sort key.
pub struct DynamoDb {
    table: String,
    settings: DynamoDbSettings,
    client: OnceLock<Result<Client, String>>,
}

impl DynamoDb {
    /// Names the table. Nothing is connected, or even looked at, before the first request.
    pub fn new(table: impl Into<String>, settings: DynamoDbSettings) -> Self {
        Self { table: table.into(), settings, client: OnceLock::new() }
    }

    fn client(&self) -> Result<&Client, RecordsError> {
        self.client
            .get_or_init(|| make_client(&self.settings))
            .as_ref()
            .map_err(|reason| RecordsError::Unavailable(format!("no client for DynamoDB can be made: {reason}")))
    }

    /// What a put whose condition was lost comes to, given the item that stands there.
    fn lost(standing: Option<&Item>, write: &AttributeValue) -> Result<Put, RecordsError> {
        match standing {
            None => Ok(Put::Lost(None)),
            Some(item) if item.get(WRITE) == Some(write) => Ok(Put::Stored),
            Some(item) => Ok(Put::Lost(Some(Box::new(record_of(item.clone())?)))),
        }
    }

    /// The sentence for people: what happened, to which table, what to do. Never what was sent.
    fn unavailable<E>(&self, error: &SdkError<E>) -> RecordsError
    where
        E: ProvideErrorMetadata,
    {
        let Self { table, settings, .. } = self;
        let region = &settings.region;
        let place = settings.endpoint.as_ref().map_or_else(String::new, |endpoint| format!(" at {endpoint}"));
        let named = format!("table {table:?} in {region}{place}");
        RecordsError::Unavailable(match error {
            SdkError::ServiceError(refused) => refusal(&named, refused.err()),
            SdkError::TimeoutError(_) => {
                format!("{named} did not answer within {} ms; try again", settings.operation_timeout.as_millis())
            }
            SdkError::DispatchFailure(failure) if failure.is_timeout() => {
                format!("{named} could not be connected to in time; see whether the network lets DynamoDB through")
            }
            SdkError::DispatchFailure(_) => {
                format!("{named} cannot be reached; see whether the network lets DynamoDB through")
            }
            SdkError::ResponseError(_) => {
                format!("{named} gave an answer that is none of DynamoDB's; check the endpoint")
            }
            _ => format!("{named} cannot be asked; check region, endpoint and credentials"),
        })
    }

    /// What is due in one shard of the index.
    async fn due_in(&self, shard: char, now: i128, limit: usize) -> Result<QueryOutput, RecordsError> {
        self.client()?
            .query()
            .table_name(&self.table)
            .index_name(DUE)
            .key_condition_expression("#shard = :shard AND #at <= :now")
            .expression_attribute_names("#shard", DUE_SHARD)
            .expression_attribute_names("#at", DUE_AT)
            .expression_attribute_values(":shard", AttributeValue::S(shard.to_string()))
            .expression_attribute_values(":now", AttributeValue::N(now.to_string()))
            .limit(i32::try_from(limit).unwrap_or(i32::MAX))
            .send()
            .await
            .map_err(|error| self.no_index(&error).unwrap_or_else(|| self.unavailable(&error)))
    }

    /// What to do about an index that is missing, or not what it should be.
    fn no_index(&self, error: &SdkError<QueryError>) -> Option<RecordsError> {
        let refused = error.as_service_error().filter(|refused| refused.code() == Some("ValidationException"))?;
        Some(RecordsError::Unavailable(format!(
            "table {:?} cannot be asked what is due ({}); it needs a global secondary index {DUE:?} with the partition key \
             {DUE_SHARD} (a string), the sort key {DUE_AT} (a number) and the projection KEYS_ONLY",
            self.table,
            refused.message().unwrap_or("no reason given"),
        )))
    }

    fn scan(&self, query: &Query) -> Result<ScanFluentBuilder, RecordsError> {
        let start = query.cursor.as_deref().map(last_key).transpose()?;
        let filter = Filter::of(query);
        let examined = if filter.is_empty() && query.custom.is_empty() {
            query.limit.clamp(1, EXAMINED_PER_PAGE)
        } else {
            EXAMINED_PER_PAGE
        };
        let scan = self
            .client()?
            .scan()
            .table_name(&self.table)
            .consistent_read(true)
            .limit(i32::try_from(examined).unwrap_or(i32::MAX))
            .set_exclusive_start_key(start.map(|key| HashMap::from([(KEY.to_owned(), AttributeValue::S(key))])));
        Ok(filter.on(scan))
    }
}

impl fmt::Debug for DynamoDb {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("DynamoDb")
            .field("table", &self.table)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Records for DynamoDb {
    async fn get(&self, key: &RecordKey) -> Result<Option<Record>, RecordsError> {
        let answer = self
            .client()?
            .get_item()
            .table_name(&self.table)
            .key(KEY, AttributeValue::S(key.joined()))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| self.unavailable(&error))?;
        answer.item.map(record_of).transpose()
    }

    async fn put(&self, record: &Record, expected: Option<Version>) -> Result<Put, RecordsError> {
        let write = AttributeValue::S(random_word()?);
        let request = self
            .client()?
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item_of(record)?))
            .item(WRITE, write.clone())
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let request = match expected {
            None => request.condition_expression("attribute_not_exists(#key)").expression_attribute_names("#key", KEY),
            Some(version) => request
                .condition_expression("#generation = :generation AND #revision = :revision")
                .expression_attribute_names("#generation", "generation")
                .expression_attribute_names("#revision", "revision")
                .expression_attribute_values(":generation", AttributeValue::N(version.generation.to_string()))
                .expression_attribute_values(":revision", AttributeValue::N(version.revision.to_string())),
        };
        match request.send().await {
            Ok(_) => Ok(Put::Stored),
            Err(error) => match error.as_service_error() {
                Some(PutItemError::ConditionalCheckFailedException(lost)) => Self::lost(lost.item(), &write),
                _ => Err(self.unavailable(&error)),
            },
        }
    }

    async fn list(&self, query: &Query) -> Result<Page, RecordsError> {
        let answer = self.scan(query)?.send().await.map_err(|error| self.unavailable(&error))?;
        let more = answer.last_evaluated_key.as_ref().map(key_of).transpose()?;
        let records = answer.items.unwrap_or_default().into_iter().map(record_of).collect::<Result<Vec<_>, _>>()?;
        Ok(page_of(query, records, more))
    }

    async fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<RecordKey>, RecordsError> {
        // Rounded down, as what is due is rounded up: nothing comes before its time.
        let now = now.as_nanosecond().div_euclid(MILLISECOND);
        let shards = SHARDS.chars().map(|shard| self.due_in(shard, now, limit.max(1)));
        let mut due = Vec::new();
        for item in try_join_all(shards).await?.into_iter().filter_map(|answer| answer.items).flatten() {
            due.push(due_of(&item)?);
        }
        due.sort_unstable();
        Ok(due.into_iter().take(limit).map(|(_, key)| key).collect())
    }
}

/// When an item of the index is due, and the key of its record.
fn due_of(item: &Item) -> Result<(i64, RecordKey), RecordsError> {
    let key = key_of(item)?;
    let at = item.get(DUE_AT).and_then(|at| at.as_n().ok()?.parse().ok());
    match (at, key.split_once('/')) {
        (Some(at), Some((bucket, object))) => Ok((at, RecordKey::new(bucket, object))),
        _ => Err(RecordsError::Unreadable(format!("{key:?} in the index {DUE:?}"))),
    }
}

/// Which of the 16 parts of the index a record belongs to.
fn shard_of(key: &str) -> String {
    let digest = Sha256::digest(key);
    format!("{:x}", digest.first().map_or(0, |byte| byte >> 4))
}

/// A page of what a scan found: what belongs to the answer, up to the limit, and where to go on.
fn page_of(query: &Query, found: Vec<Record>, more: Option<String>) -> Page {
    let limit = query.limit.max(1);
    let mut records: Vec<_> = found.into_iter().filter(|record| query.matches(record)).collect();
    // What was found beyond the limit is found again by the next page.
    let cut = records.len() > limit;
    records.truncate(limit);
    let position = if cut { records.last().map(|record| record.key().joined()) } else { more };
    Page { records, cursor: position.map(|key| cursor::after(key.as_bytes())) }
}

/// The part of a query that DynamoDB itself evaluates, which spares sending the rest.
#[derive(Default)]
struct Filter {
    conditions: Vec<&'static str>,
    names: HashMap<String, String>,
    values: HashMap<String, AttributeValue>,
}

impl Filter {
    fn of(query: &Query) -> Self {
        let mut filter = Self::default();
        if let Some(bucket) = &query.bucket {
            filter.add("#bucket = :bucket", "bucket", bucket);
        }
        if let Some(prefix) = query.prefix.as_deref().filter(|prefix| !prefix.is_empty()) {
            filter.add("begins_with(#object, :object)", "object", prefix);
        }
        if let Some(state) = query.state {
            filter.add("#state = :state", "state", state.as_str());
        }
        filter
    }

    /// Adds a condition, in which the attribute stands as `#attribute` and the value as `:attribute`: plain names could be
    /// reserved words.
    fn add(&mut self, condition: &'static str, attribute: &str, value: &str) {
        self.conditions.push(condition);
        self.names.insert(format!("#{attribute}"), attribute.to_owned());
        self.values.insert(format!(":{attribute}"), AttributeValue::S(value.to_owned()));
    }

    fn is_empty(&self) -> bool {
        self.conditions.is_empty()
    }

    fn on(self, scan: ScanFluentBuilder) -> ScanFluentBuilder {
        if self.is_empty() {
            return scan;
        }
        scan.filter_expression(self.conditions.join(" AND "))
            .set_expression_attribute_names(Some(self.names))
            .set_expression_attribute_values(Some(self.values))
    }
}

/// The key that the page before ended with. It may be any: a scan goes through the whole table, whatever it filters by.
fn last_key(cursor: &str) -> Result<String, RecordsError> {
    let key = String::from_utf8(cursor::last_key(cursor)?).map_err(|_| RecordsError::BadCursor)?;
    let ours = key.split_once('/').is_some_and(|(bucket, object)| !bucket.is_empty() && !object.is_empty());
    if ours { Ok(key) } else { Err(RecordsError::BadCursor) }
}

fn key_of(item: &Item) -> Result<String, RecordsError> {
    match item.get(KEY) {
        Some(AttributeValue::S(key)) => Ok(key.clone()),
        _ => Err(RecordsError::Unreadable(format!("the table's partition key is not the string {KEY:?}"))),
    }
}

fn item_of(record: &Record) -> Result<Item, RecordsError> {
    let mut item: Item = serde_dynamo::to_item(record).map_err(|error| RecordsError::Unreadable(error.to_string()))?;
    // What is absent takes no room, and stays out of an index on it.
    item.retain(|_, value| !value.is_null());
    let key = record.key().joined();
    if let Some(due) = record.due() {
        let at = due.as_nanosecond().saturating_add(MILLISECOND - 1).div_euclid(MILLISECOND);
        item.insert(DUE_SHARD.to_owned(), AttributeValue::S(shard_of(&key)));
        item.insert(DUE_AT.to_owned(), AttributeValue::N(at.to_string()));
    }
    item.insert(KEY.to_owned(), AttributeValue::S(key));
    Ok(item)
}

fn record_of(item: Item) -> Result<Record, RecordsError> {
    let key = key_of(&item)?;
    serde_dynamo::from_item(item).map_err(|error| RecordsError::Unreadable(format!("{key:?}: {error}")))
}

fn random_word() -> Result<String, RecordsError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| RecordsError::Unavailable(format!("the system gives no random bytes: {error}")))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// What DynamoDB's refusal means for whoever runs this.
fn refusal(named: &str, refused: &impl ProvideErrorMetadata) -> String {
    match refused.code().unwrap_or("an unnamed error") {
        "ResourceNotFoundException" => format!("there is no {named}; create it, or correct its name or the region"),
        "ProvisionedThroughputExceededException"
        | "ThrottlingException"
        | "Throttling"
        | "RequestLimitExceeded"
        | "LimitExceededException" => format!("{named} is throttled; raise its capacity or try again later"),
        "ValidationException" => {
            format!("{named} refuses the request: {}", refused.message().unwrap_or("no reason given"))
        }
        code @ ("AccessDeniedException"
        | "ExpiredTokenException"
        | "IncompleteSignatureException"
        | "InvalidSignatureException"
        | "MissingAuthenticationTokenException"
        | "UnrecognizedClientException") => {
            format!("{named} refuses our credentials ({code}); check them and their permissions")
        }
        code => format!("{named} answered with {code}; try again"),
    }
}

fn make_client(settings: &DynamoDbSettings) -> Result<Client, String> {
    let plain = settings.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    let http = if plain { HttpClientBuilder::new().build_http() } else { https_client()? };
    let timeouts = TimeoutConfig::builder()
        .operation_timeout(settings.operation_timeout)
        .operation_attempt_timeout(settings.attempt_timeout)
        .connect_timeout(settings.connect_timeout)
        .build();
    let (first, longest) = BACKOFF;
    let retries =
        RetryConfig::standard().with_max_attempts(ATTEMPTS).with_initial_backoff(first).with_max_backoff(longest);
    let mut config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new(settings.region.clone()))
        .credentials_provider(credentials(&settings.credentials))
        .http_client(http)
        .timeout_config(timeouts)
        .retry_config(retries);
    config.set_endpoint_url(settings.endpoint.clone());
    Ok(Client::from_conf(config.build()))
}

fn credentials(given: &Credentials) -> aws_sdk_dynamodb::config::Credentials {
    let Credentials { access_key_id, secret_access_key, session_token } = given.clone();
    aws_sdk_dynamodb::config::Credentials::new(access_key_id, secret_access_key, session_token, None, "settings")
}

/// A client that trusts the roots that are compiled in: reading the system's takes several times as long, which every cold
/// start would pay.
fn https_client() -> Result<SharedHttpClient, String> {
    let roots = TrustStore::empty().with_pem_certificate(root_certificates());
    let context = TlsContext::builder().with_trust_store(roots).build().map_err(|error| error.to_string())?;
    Ok(HttpClientBuilder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).tls_context(context).build_https())
}

/// The compiled-in roots in the only form that the client takes.
fn root_certificates() -> String {
    let mut pem = String::new();
    for certificate in TLS_SERVER_ROOT_CERTS {
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        STANDARD.encode_string(certificate, &mut pem);
        pem.push_str("\n-----END CERTIFICATE-----\n");
    }
    pem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_connection_leaves_time_for_a_second_attempt() {
        let credentials =
            Credentials { access_key_id: String::new(), secret_access_key: String::new(), session_token: None };
        let settings = DynamoDbSettings::new("eu-central-1", credentials);
        let (_, longest_wait) = BACKOFF;
        assert!(settings.attempt_timeout + longest_wait + settings.connect_timeout <= settings.operation_timeout);
    }

    #[test]
    fn every_root_certificate_is_one_block_of_the_trust_store() {
        let pem = root_certificates();
        assert_eq!(pem.matches("-----BEGIN CERTIFICATE-----\n").count(), TLS_SERVER_ROOT_CERTS.len());
        assert_eq!(pem.matches("\n-----END CERTIFICATE-----\n").count(), TLS_SERVER_ROOT_CERTS.len());
    }
}
