//! Answers: the body type that every operation shares, and the headers that every answer carries.

use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, SERVER};
use http::{Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};

use crate::xml::Document;

/// One answer; its body may still be read from disk while it is sent.
pub(crate) type Reply = Response<UnsyncBoxBody<Bytes, io::Error>>;

/// An answer with status 200 and this body.
pub(crate) fn full(body: impl Into<Bytes>) -> Reply {
    Response::new(Full::new(body.into()).map_err(|never| match never {}).boxed_unsync())
}

/// An answer with nothing but a status.
pub(crate) fn empty(status: StatusCode) -> Reply {
    let mut reply = full("");
    *reply.status_mut() = status;
    reply
}

/// An answer with an XML document.
pub(crate) fn xml(document: Document) -> Reply {
    let mut reply = full(document.finish());
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    reply
}

/// The id of one request, also that of the callback it causes.
///
/// protocol: 24 upper-case hex digits; the first eight are the unix time in seconds.
pub(crate) fn new_request_id() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    // Eight digits hold the time until 2106; after that the id keeps its shape and loses its meaning.
    format!("{:08X}{:016X}", seconds & 0xffff_ffff, rand::random::<u64>())
}

/// Adds what every answer carries.
pub(crate) fn stamp(reply: &mut Reply, request_id: &str, milliseconds: u128) {
    let headers = reply.headers_mut();
    headers.insert(SERVER, HeaderValue::from_static("AliyunOSS"));
    if let Ok(value) = HeaderValue::try_from(request_id) {
        headers.insert("x-oss-request-id", value);
    }
    if let Ok(value) = HeaderValue::try_from(milliseconds.to_string()) {
        headers.insert("x-oss-server-time", value);
    }
}
