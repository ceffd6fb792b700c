//! The edge to Lambda: events of an HTTP API (payload 2.0) and of function URLs, taken apart byte for byte.
//!
//! The event is not turned into an `http::Request`: that normalises the path and panics on characters that a query may
//! hold, and the signature covers both as they came.

pub mod work;

use std::sync::Arc;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use lambda_http::request::LambdaRequest;
use lambda_runtime::{LambdaEvent, service_fn};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::error::Failure;
use crate::reply::Reply;
use crate::request::{Body, DeliveredPath, Incoming};

/// Serves invocations until Lambda ends the process.
///
/// # Errors
/// If the Runtime API cannot be reached.
pub async fn run(app: Arc<App>) -> Result<(), lambda_runtime::Error> {
    lambda_runtime::run(service_fn(move |event: LambdaEvent<Box<RawValue>>| {
        let app = Arc::clone(&app);
        async move { Ok::<_, std::convert::Infallible>(answer(&app, event.payload.get()).await) }
    }))
    .await
}

/// The answer to one event, in the form that HTTP APIs and function URLs expect.
pub async fn answer(app: &App, event: &str) -> Value {
    let reply = match incoming(event) {
        Ok(incoming) => app.handle(incoming).await,
        Err(failure) => {
            tracing::error!(code = failure.code(), "{}", failure.message());
            failure.into()
        }
    };
    proxy_response(&reply)
}

fn proxy_response(reply: &Reply) -> Value {
    let headers: Map<String, Value> = reply
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), json!(value.to_str().unwrap_or_default())))
        .collect();
    // The two empty ones are for `cargo lambda watch`, which takes no answer without them.
    json!({
        "statusCode": reply.status.as_u16(),
        "headers": headers,
        "multiValueHeaders": {},
        "cookies": [],
        "body": String::from_utf8_lossy(&reply.body),
        "isBase64Encoded": false,
    })
}

fn incoming(event: &str) -> Result<Incoming, Failure> {
    let received = Instant::now();
    let Ok(LambdaRequest::ApiGatewayV2(event)) = serde_json::from_str(event) else {
        return Err(Failure::UnsupportedEvent { message: refusal(event) });
    };
    let context = event.request_context;
    let path = event.raw_path.unwrap_or_default();
    // A function URL leaves the path as it was sent and decodes the copy in the context; an HTTP API decodes both.
    let decoded = context.http.path.as_deref().is_none_or(|copy| copy == path);
    let stage = context.stage.filter(|stage| !stage.is_empty() && stage != "$default");
    Ok(Incoming {
        received,
        method: context.http.method,
        path: DeliveredPath { path, decoded, stage },
        query: event.raw_query_string.filter(|query| !query.is_empty()),
        headers: event.headers,
        body: body(event.body, event.is_base64_encoded),
    })
}

/// Form bodies arrive as Base64, JSON bodies as text.
fn body(body: Option<String>, is_base64: bool) -> Body {
    let text = body.unwrap_or_default();
    if !is_base64 {
        return Body::Whole(text.into());
    }
    match STANDARD.decode(text) {
        Ok(bytes) => Body::Whole(Bytes::from(bytes)),
        Err(_) => Body::Broken("the gateway says that it is Base64, but it is not"),
    }
}

/// Why an event is none that can be proven, as far as it says what it is.
fn refusal(event: &str) -> &'static str {
    #[derive(serde::Deserialize)]
    struct Kind {
        version: Option<String>,
        #[serde(rename = "httpMethod")]
        method: Option<String>,
    }
    match serde_json::from_str(event) {
        Ok(Kind { version, method }) if version.as_deref() == Some("1.0") || method.is_some() => {
            "This is an event with payload format 1.0 (a REST API, or an HTTP API set to 1.0). It no longer holds the query \
             as OSS signed it, so no callback can be proven. Use an HTTP API with payload format 2.0, or a function URL."
        }
        _ => {
            "This event comes neither from an HTTP API with payload format 2.0 nor from a function URL; nothing else can \
             carry a callback."
        }
    }
}
