//! How long a function on Lambda takes from the start of its process to its first answer, and what that costs the processor.
//!
//!     bash benches/run lambda_start
//!
//! The Runtime API is played on loopback by this program, which hands out one event and stops the clock when its answer has
//! arrived: the emulator's own start would drown what is measured. The event is a signed callback about a new object, the store
//! a DynamoDB on loopback, reached over plain http: one conditional write.
//!
//! Needs Node with `npm ci` done in `benches/node-function`, and the programs that `benches/run` builds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_dynamodb::types::{AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

mod support;

use support::function::{Signed, TEST_KEY_URL, repository};
use support::{Series, callback, oss_callback, print_table};

const ROUNDS: usize = 31;
const TABLE: &str = "records";
const REGION: &str = "eu-central-1";

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let store = runtime.block_on(start_dynamodb());
    let empty = sibling("empty-function");
    assert!(empty.exists(), "no {}: run `bash benches/run lambda_start`", empty.display());
    let node = repository("benches/node-function");
    assert!(node.join("node_modules").exists(), "run `npm ci` in {}", node.display());

    let functions: [(&str, Vec<PathBuf>, &str); 3] = [
        ("an empty function (`lambda_http`)", vec![empty], "ok"),
        ("oss-callback, DynamoDB over http", vec![oss_callback()], "recorded"),
        ("Node with the AWS SDK, DynamoDB over http", vec!["node".into(), node.join("bootstrap.mjs")], "recorded"),
    ];
    let environment = environment(store);
    let mut clock: [Series; 3] = Default::default();
    let mut processor: [Series; 3] = Default::default();
    let mut number = 0;
    // The first two rounds warm up.
    for round in 0..ROUNDS + 2 {
        for (((_, command, status), clock), processor) in functions.iter().zip(&mut clock).zip(&mut processor) {
            number += 1;
            let started = runtime.block_on(first_answer(command, &environment, &callback(number)));
            let body: Value = serde_json::from_str(started.answer["body"].as_str().unwrap()).unwrap();
            assert_eq!((&started.answer["statusCode"], &body["status"]), (&json!(200), &json!(status)), "{body}");
            if round > 1 {
                clock.push(started.time.as_secs_f64() * 1e3);
                processor.push(started.processor.as_secs_f64() * 1e3);
            }
        }
    }

    let rows: Vec<Vec<String>> = functions
        .iter()
        .zip(clock.iter().zip(&processor))
        .map(|((name, ..), (time, spent))| {
            vec![
                (*name).to_owned(),
                format!("{:.1} ms", time.median()),
                format!("{:.2}", time.over(&clock[0])),
                format!("{:.3}", time.over(&clock[2])),
                format!("{:.1} ms", spent.median()),
                format!("{:.2}", spent.over(&processor[0])),
                format!("{:.3}", spent.over(&processor[2])),
            ]
        })
        .collect();
    print_table(
        &format!("From the start of the process to the first answer, medians of {ROUNDS} interleaved rounds"),
        &["function", "time", "of the empty one", "of Node", "processor time", "of the empty one", "of Node"],
        &rows,
    );
}

/// A program that was built beside this one's.
fn sibling(name: &str) -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_oss-callback")).with_file_name(name)
}

/// What Lambda sets, and what the functions ask for.
fn environment(store: SocketAddr) -> BTreeMap<&'static str, String> {
    let key = repository("tests/support/test-key.pub.pem").display().to_string();
    [
        ("PATH", std::env::var("PATH").unwrap_or_default()),
        ("AWS_LAMBDA_FUNCTION_NAME", "measured".to_owned()),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1769".to_owned()),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST".to_owned()),
        ("AWS_LAMBDA_LOG_GROUP_NAME", "measured".to_owned()),
        ("AWS_LAMBDA_LOG_STREAM_NAME", "measured".to_owned()),
        ("_HANDLER", "callback".to_owned()),
        ("AWS_REGION", REGION.to_owned()),
        ("AWS_ACCESS_KEY_ID", "nobody".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "nothing".to_owned()),
        ("AWS_ENDPOINT_URL_DYNAMODB", format!("http://{store}")),
        ("OSS_CALLBACK_BUCKETS", "examplebucket".to_owned()),
        ("OSS_CALLBACK_STORE", format!("dynamodb:{TABLE}")),
        ("OSS_CALLBACK_KEYS", format!("{TEST_KEY_URL}={key}")),
        ("TABLE", TABLE.to_owned()),
        ("KEY_FILE", key),
    ]
    .into()
}

/// A DynamoDB in this process, with the table.
async fn start_dynamodb() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(dynoxide::server::serve_on(listener, dynoxide::Database::memory().unwrap()));
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .region(Region::new(REGION))
        .credentials_provider(Credentials::new("nobody", "nothing", None, None, "benchmark"))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .endpoint_url(format!("http://{address}"))
        .build();
    let part = AttributeDefinition::builder().attribute_name("pk").attribute_type(ScalarAttributeType::S);
    Client::from_conf(config)
        .create_table()
        .table_name(TABLE)
        .billing_mode(BillingMode::PayPerRequest)
        .attribute_definitions(part.build().unwrap())
        .key_schema(KeySchemaElement::builder().attribute_name("pk").key_type(KeyType::Hash).build().unwrap())
        .send()
        .await
        .unwrap();
    address
}

/// The event that an HTTP API makes of a callback.
fn event(signed: &Signed) -> Value {
    let headers: serde_json::Map<String, Value> =
        signed.headers.iter().map(|(name, value)| (name.to_lowercase(), json!(value))).collect();
    json!({
        "version": "2.0", "routeKey": "POST /callback", "rawPath": signed.path, "rawQueryString": "", "headers": headers,
        "requestContext": {
            "accountId": "123456789012", "apiId": "api", "domainName": "api.execute-api.eu-central-1.amazonaws.com",
            "domainPrefix": "api", "requestId": "id", "routeKey": "POST /callback", "stage": "$default",
            "time": "27/Nov/2026:12:00:00 +0000", "timeEpoch": 1_795_780_800_000_u64,
            "http": {
                "method": "POST", "path": signed.path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.10",
                "userAgent": "aliyun-oss-callback",
            },
        },
        "body": STANDARD.encode(&signed.body), "isBase64Encoded": true,
    })
}

/// What was seen of one start.
struct Started {
    answer: Value,
    time: Duration,
    processor: Duration,
}

/// Starts the function under a Runtime API of its own, hands it the callback, and kills it once it has answered.
async fn first_answer(command: &[PathBuf], environment: &BTreeMap<&str, String>, signed: &Signed) -> Started {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (answers, mut answer) = mpsc::unbounded_channel();
    let api = tokio::spawn(serve(listener, Arc::new(Mutex::new(Some(event(signed).to_string()))), answers));
    let mut function = Command::new(&command[0]);
    function.args(&command[1..]).env_clear().envs(environment).env("AWS_LAMBDA_RUNTIME_API", address.to_string());
    function.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let begun = Instant::now();
    let mut process = function.spawn().unwrap();
    let answered = tokio::time::timeout(Duration::from_secs(20), answer.recv()).await;
    let processor = processor_time(process.id());
    process.kill().unwrap();
    process.wait().unwrap();
    api.abort();
    let (at, answer) = answered.ok().flatten().unwrap_or_else(|| panic!("{command:?} does not answer"));
    Started { answer: serde_json::from_slice(&answer).unwrap(), time: at - begun, processor }
}

type Answers = mpsc::UnboundedSender<(Instant, Bytes)>;

/// Lambda's Runtime API for one event.
async fn serve(listener: TcpListener, event: Arc<Mutex<Option<String>>>, answers: Answers) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        stream.set_nodelay(true).unwrap();
        let (event, answers) = (Arc::clone(&event), answers.clone());
        let service = service_fn(move |request| call(request, Arc::clone(&event), answers.clone()));
        connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn call(
    request: Request<Incoming>,
    event: Arc<Mutex<Option<String>>>,
    answers: Answers,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path().ends_with("/invocation/next") {
        let next = event.lock().unwrap().take();
        // The second time nothing comes.
        let Some(event) = next else { return std::future::pending().await };
        let response = Response::builder()
            .header("Content-Type", "application/json")
            .header("Lambda-Runtime-Aws-Request-Id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd")
            .header("Lambda-Runtime-Deadline-Ms", "4102444800000")
            .header(
                "Lambda-Runtime-Invoked-Function-Arn",
                "arn:aws:lambda:eu-central-1:123456789012:function:measured",
            );
        return Ok(response.body(event.into()).unwrap());
    }
    let answer = request.into_body().collect().await.unwrap().to_bytes();
    answers.send((Instant::now(), answer)).unwrap();
    Ok(Response::builder().status(202).body(Bytes::new().into()).unwrap())
}

/// The time that the living threads of a process spent on a processor, to the nanosecond.
fn processor_time(process: u32) -> Duration {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let spent = threads.map(|thread| {
        let schedstat = std::fs::read_to_string(thread.unwrap().path().join("schedstat")).unwrap_or_default();
        schedstat.split(' ').next().unwrap_or_default().parse::<u64>().unwrap_or_default()
    });
    Duration::from_nanos(spent.sum())
}
