//! The answer to a request: always JSON, always whole, always with a length.

use bytes::Bytes;
use http::StatusCode;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::header::{HeaderName, HeaderValue};
use serde::Serialize;
use serde_json::json;

use crate::error::Failure;
use crate::record::{Reason, Record, Thumbnail, ThumbnailState};

/// A finished answer, ready for any edge.
#[derive(Debug, Clone)]
pub struct Reply {
    /// HTTP status.
    pub status: StatusCode,
    /// All headers, `Content-Type` and `Content-Length` among them.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// One JSON value.
    pub body: Bytes,
}

impl Reply {
    /// 200 with this value.
    pub fn ok(value: &impl Serialize) -> Self {
        Self::json(StatusCode::OK, value)
    }

    /// The answer to a callback whose object was recorded, is known, or could not be asked about. `status` and `reason`
    /// are the record's own unless this request learned something that the record does not say.
    pub fn recorded(record: &Record, status: &str, reason: Option<Reason>, request_id: Option<&str>) -> Self {
        let ready = record.thumbnails.iter().filter(|thumbnail| thumbnail.state == ThumbnailState::Ready);
        Self::ok(&Recorded {
            status,
            reason,
            bucket: &record.bucket,
            object: &record.object,
            etag: record.etag.as_deref(),
            size: record.size,
            mime: record.mime.as_deref(),
            generation: record.generation,
            confirmed: record.confirmed,
            thumbnails: ready.map(Made::from).collect(),
            request_id,
        })
    }

    /// The answer to a callback about an object that OSS does not have.
    pub fn ignored(bucket: &str, object: &str, request_id: Option<&str>) -> Self {
        Self::ok(&json!({
            "status": "ignored", "reason": Reason::ObjectNotFound, "bucket": bucket, "object": object,
            "request_id": request_id,
        }))
    }

    fn json(status: StatusCode, value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => Self::with_body(status, body),
            Err(_) => Self::from(Failure::Internal),
        }
    }

    fn with_body(status: StatusCode, body: Vec<u8>) -> Self {
        let headers = vec![
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (CONTENT_LENGTH, HeaderValue::from(body.len())),
            (CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ];
        Self { status, headers, body: body.into() }
    }
}

/// What is told of a record.
#[derive(Serialize)]
struct Recorded<'a> {
    status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    bucket: &'a str,
    object: &'a str,
    etag: Option<&'a str>,
    size: Option<u64>,
    mime: Option<&'a str>,
    generation: u64,
    confirmed: bool,
    thumbnails: Vec<Made<'a>>,
    request_id: Option<&'a str>,
}

/// What is told of a thumbnail.
#[derive(Serialize)]
struct Made<'a> {
    name: &'a str,
    bucket: &'a str,
    key: &'a str,
    width: Option<u32>,
    height: Option<u32>,
    mime: Option<&'a str>,
    size: Option<u64>,
}

impl<'a> From<&'a Thumbnail> for Made<'a> {
    fn from(thumbnail: &'a Thumbnail) -> Self {
        let Thumbnail { name, bucket, key, width, height, mime, size, .. } = thumbnail;
        Self { name, bucket, key, width: *width, height: *height, mime: mime.as_deref(), size: *size }
    }
}

impl From<Failure> for Reply {
    fn from(failure: Failure) -> Self {
        let body = json!({"error": {"code": failure.code(), "message": failure.message()}});
        let mut reply = Self::with_body(failure.status(), body.to_string().into_bytes());
        match failure {
            Failure::MethodNotAllowed { allowed } => reply.headers.push((ALLOW, HeaderValue::from_static(allowed))),
            Failure::Unauthorized => {
                reply.headers.push((WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")));
            }
            Failure::Busy | Failure::Contended | Failure::StoreUnavailable { .. } | Failure::Timeout { .. } => {
                reply.headers.push((RETRY_AFTER, HeaderValue::from_static("1")));
            }
            _ => {}
        }
        reply
    }
}
