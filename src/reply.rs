//! The answer to a request: always JSON, always whole, always with a length.

use bytes::Bytes;
use http::StatusCode;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::header::{HeaderName, HeaderValue};
use serde::Serialize;
use serde_json::json;

use crate::error::Failure;
use crate::record::{Reason, Record, ThumbnailState};

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
        let thumbnails: Vec<_> = record
            .thumbnails
            .iter()
            .filter(|thumbnail| thumbnail.state == ThumbnailState::Ready)
            .map(|thumbnail| {
                json!({
                    "name": thumbnail.name, "bucket": thumbnail.bucket, "key": thumbnail.key, "width": thumbnail.width,
                    "height": thumbnail.height, "mime": thumbnail.mime, "size": thumbnail.size,
                })
            })
            .collect();
        let mut answer = json!({
            "status": status, "bucket": record.bucket, "object": record.object, "etag": record.etag,
            "size": record.size, "mime": record.mime, "generation": record.generation,
            "confirmed": record.confirmed, "thumbnails": thumbnails, "request_id": request_id,
        });
        if let (Some(reason), Some(fields)) = (reason, answer.as_object_mut()) {
            fields.insert("reason".to_owned(), json!(reason));
        }
        Self::ok(&answer)
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
