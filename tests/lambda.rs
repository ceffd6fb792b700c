//! The Lambda edge: the recorded events, and events made of signed callbacks.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use oss_callback::app::App;
use oss_callback::lambda::answer;
use proptest::prelude::*;
use serde_json::{Value, json};
use support::{API_TOKEN, Signed, app, repository, settings};

struct Function {
    app: Arc<App>,
    _data: tempfile::TempDir,
}

impl Function {
    fn new(more: &[(&str, &str)]) -> Self {
        let data = tempfile::tempdir().unwrap();
        Self { app: app(&settings(data.path(), more)), _data: data }
    }

    async fn answer(&self, event: &Value) -> (u64, Value) {
        let response = answer(&self.app, &event.to_string()).await;
        let body = response["body"].as_str().unwrap();
        let length: usize = response["headers"]["content-length"].as_str().unwrap().parse().unwrap();
        assert_eq!(length, body.len());
        assert_eq!(response["isBase64Encoded"], false);
        (response["statusCode"].as_u64().unwrap(), serde_json::from_str(body).unwrap())
    }
}

/// An event as an HTTP API makes it of a signed callback.
fn event(signed: &Signed, stage: &str, raw_path: &str) -> Value {
    let headers: serde_json::Map<String, Value> =
        signed.headers.iter().map(|(name, value)| (name.to_lowercase(), json!(value))).collect();
    json!({
        "version": "2.0", "routeKey": "$default", "rawPath": raw_path,
        "rawQueryString": signed.query.clone().unwrap_or_default(), "headers": headers,
        "requestContext": {
            "accountId": "123456789012", "apiId": "api", "domainName": "api.execute-api.eu-central-1.amazonaws.com",
            "domainPrefix": "api", "requestId": "id", "routeKey": "$default", "stage": stage,
            "time": "12/Mar/2020:19:03:58 +0000", "timeEpoch": 1_583_348_638_390_u64,
            "http": {"method": "POST", "path": raw_path, "protocol": "HTTP/1.1", "sourceIp": "1.2.3.4", "userAgent": "x"},
        },
        "body": STANDARD.encode(&signed.body), "isBase64Encoded": true,
    })
}

/// The paths of the recorded callbacks, as OSS called them.
fn signed_paths() -> Vec<String> {
    std::fs::read_dir(repository("events/genuine"))
        .unwrap()
        .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
        .map(|request| request.split(' ').nth(1).unwrap().split('?').next().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn every_recorded_event_is_proven_and_payload_1_0_is_refused_in_words() {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(repository("events/lambda")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let event: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        names.push(name.clone());
        if name.starts_with("rest-api") {
            let (status, body) = Function::new(&[]).answer(&event).await;
            assert_eq!(status, 400);
            let message = body["error"]["message"].as_str().unwrap();
            assert!(message.contains("1.0") && message.contains("2.0"), "{message}");
            continue;
        }
        let mut paths = signed_paths();
        if name.starts_with("function-url") {
            // Only there does the event show the path as OSS called it.
            paths.push(event["rawPath"].as_str().unwrap().to_owned());
        }
        let function =
            Function::new(&[("OSS_CALLBACK_PATH", paths.join(",").as_str()), ("OSS_CALLBACK_BUCKETS", "yonghu-test")]);
        let (status, body) = function.answer(&event).await;
        let expected = match name.as_str() {
            name if name.ends_with("query-in-path") || name.ends_with("json-body") => (400, "missing_field"),
            name if name.contains("json-type") => (400, "bad_body"),
            _ => (200, "recorded"),
        };
        let outcome = body["error"]["code"].as_str().or(body["status"].as_str()).unwrap();
        assert_eq!((status, outcome), expected, "{name}: {body}");
    }
    assert!(names.len() > 5);
}

#[tokio::test]
async fn one_flipped_bit_in_an_event_is_a_mismatch() {
    let function = Function::new(&[]);
    let signed =
        Signed::at("/callback", Some("a=%2F&b"), "application/x-www-form-urlencoded", b"bucket=examplebucket&object=o");
    assert_eq!(function.answer(&event(&signed, "$default", "/callback")).await.0, 200);
    let mut changed = event(&signed, "$default", "/callback");
    changed["rawQueryString"] = json!("a=/&b");
    assert_eq!(function.answer(&changed).await.1["error"]["code"], "signature_mismatch");
    let mut changed = event(&signed, "$default", "/callback");
    changed["body"] = json!(STANDARD.encode(b"bucket=examplebucket&object=p"));
    assert_eq!(function.answer(&changed).await.1["error"]["code"], "signature_mismatch");
    assert_eq!(function.answer(&event(&signed, "$default", "/callbacl")).await.0, 404);
}

#[tokio::test]
async fn a_named_stage_is_part_of_the_signed_path_however_the_gateway_shows_it() {
    let body = b"bucket=examplebucket&object=o";
    let form = "application/x-www-form-urlencoded";
    for (configured, called, delivered) in [
        ("/prod/callback", "/prod/callback", "/prod/callback"),
        ("/prod/callback", "/prod/callback", "/callback"),
        ("/callback", "/prod/callback", "/prod/callback"),
        // A custom domain hides the stage from OSS, but not from the event.
        ("/callback", "/callback", "/prod/callback"),
    ] {
        let function = Function::new(&[("OSS_CALLBACK_PATH", configured)]);
        let signed = Signed::at(called, None, form, body);
        let (status, answer) = function.answer(&event(&signed, "prod", delivered)).await;
        assert_eq!(status, 200, "{configured} {called} {delivered}: {answer}");
    }
    let function = Function::new(&[("OSS_CALLBACK_PATH", "/prod/callback")]);
    let signed = Signed::at("/prod/callback", None, form, body);
    assert_eq!(function.answer(&event(&signed, "test", "/test/callback")).await.0, 404);
}

#[tokio::test]
async fn a_path_that_the_gateway_decoded_is_not_decoded_again() {
    let function = Function::new(&[("OSS_CALLBACK_PATH", "/c%20b%2525")]);
    let signed = Signed::at("/c%20b%2525", None, "application/json", br#"{"bucket":"examplebucket","object":"o"}"#);
    assert_eq!(function.answer(&event(&signed, "$default", "/c b%25")).await.0, 200);
    let mut function_url = event(&signed, "$default", "/c%20b%2525");
    function_url["requestContext"]["http"]["path"] = json!("/c b%25");
    assert_eq!(function.answer(&function_url).await.0, 200);
}

#[tokio::test]
async fn text_bodies_are_taken_as_they_are_and_broken_base64_is_refused() {
    let function = Function::new(&[]);
    let signed = Signed::json(r#"{"bucket":"examplebucket","object":"ü"}"#);
    let mut text = event(&signed, "$default", "/callback");
    text["body"] = json!(String::from_utf8(signed.body.clone()).unwrap());
    text["isBase64Encoded"] = json!(false);
    assert_eq!(function.answer(&text).await.0, 200);
    text["body"] = json!("%%%");
    text["isBase64Encoded"] = json!(true);
    assert_eq!(function.answer(&text).await.1["error"]["code"], "bad_body");
}

#[tokio::test]
async fn characters_that_no_uri_may_hold_do_no_harm() {
    let function = Function::new(&[]);
    for query in ["a b", "\"", "{}", "\u{0}", "%", "ü"] {
        let signed =
            Signed::at("/callback", Some(query), "application/json", br#"{"bucket":"examplebucket","object":"o"}"#);
        assert_eq!(function.answer(&event(&signed, "$default", "/callback")).await.0, 200, "{query:?}");
    }
}

#[tokio::test]
async fn read_routes_stand_under_the_stage_too() {
    let function = Function::new(&[]);
    let signed = Signed::form("bucket=examplebucket&object=a%2Fb%20c");
    assert_eq!(function.answer(&event(&signed, "$default", "/callback")).await.0, 200);
    for (stage, path, query) in [
        ("$default", "/records/examplebucket/a/b c", ""),
        ("prod", "/prod/records/examplebucket/a/b c", ""),
        ("prod", "/prod/records", "bucket=examplebucket&object=a%2Fb+c"),
    ] {
        let mut read = event(&signed, stage, path);
        read["requestContext"]["http"]["method"] = json!("GET");
        read["rawQueryString"] = json!(query);
        read["headers"] = json!({"authorization": format!("Bearer {API_TOKEN}")});
        let (status, record) = function.answer(&read).await;
        assert_eq!((status, record["object"].as_str()), (200, Some("a/b c")), "{stage} {path}");
    }
}

#[tokio::test]
async fn an_event_of_another_kind_is_refused_in_words() {
    for event in [json!({}), json!([]), json!({"Records": []}), json!("text"), json!({"version": "2.0"})] {
        let (status, body) = Function::new(&[]).answer(&event).await;
        assert_eq!((status, body["error"]["code"].as_str()), (400, Some("unsupported_event")), "{event}");
    }
}

proptest! {
    #[test]
    fn no_event_panics(event in ".{0,200}", field in "[a-zA-Z]{1,12}", value in any::<String>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let data = tempfile::tempdir().unwrap();
        let app = app(&settings(data.path(), &[]));
        let signed = Signed::form("bucket=examplebucket&object=o");
        let mut well_formed = self::event(&signed, "$default", "/callback");
        well_formed[field] = json!(value);
        well_formed["rawPath"] = json!(value);
        for text in [event, well_formed.to_string()] {
            let response = runtime.block_on(answer(&app, &text));
            prop_assert!(response["statusCode"].as_u64().is_some_and(|status| status >= 400), "{}", response);
        }
    }
}
