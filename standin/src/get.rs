//! GetObject and HeadObject: conditions, ranges, and headers that the query overrides.

use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::stream;
use http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_MATCH,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE,
};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;

use crate::error::Error;
use crate::reply::{Reply, full};
use crate::request::Query;
use crate::store::{Bucket, Content, Object};

/// How much of an object is in memory at a time while it is sent.
const PIECE: usize = 64 * 1024;

pub(crate) fn get_object(bucket: &Bucket, key: &str, query: &Query, headers: &HeaderMap) -> Result<Reply, Error> {
    let (object, content) = bucket.read(key).ok_or_else(|| Error::no_such_key(key))?;
    let head = head_of(&object, query, headers)?;
    if head.status == StatusCode::NOT_MODIFIED {
        return Ok(head.with_body(full("")));
    }
    let body = stream_of(content, head.range.clone());
    Ok(head.with_body(body))
}

pub(crate) fn head_object(bucket: &Bucket, key: &str, query: &Query, headers: &HeaderMap) -> Result<Reply, Error> {
    let object = bucket.find(key).ok_or_else(|| Error::no_such_key(key))?;
    Ok(head_of(&object, query, headers)?.with_body(full("")))
}

/// Everything of an answer but its body.
struct ReplyHead {
    status: StatusCode,
    headers: HeaderMap,
    range: Range<u64>,
}

impl ReplyHead {
    fn with_body(self, mut reply: Reply) -> Reply {
        *reply.status_mut() = self.status;
        *reply.headers_mut() = self.headers;
        reply
    }
}

fn head_of(object: &Object, query: &Query, request: &HeaderMap) -> Result<ReplyHead, Error> {
    let unchanged = check_conditions(object, request)?;
    let mut headers = HeaderMap::new();
    let mut set = |name: &str, value: &str| {
        // What cannot stand in a header was refused at upload, except for overrides, which are then left out.
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_bytes(value.as_bytes())) {
            headers.insert(name, value);
        }
    };
    for (name, value) in &object.headers {
        set(name, value);
    }
    set(CONTENT_TYPE.as_str(), &object.content_type);
    set(ETAG.as_str(), &format!("\"{}\"", object.etag));
    set(LAST_MODIFIED.as_str(), &httpdate::fmt_http_date(last_modified(object)));
    set("x-oss-object-type", object.kind.as_str());
    set("x-oss-storage-class", "Standard");
    set("x-oss-hash-crc64ecma", &object.crc64.to_string());
    if let Some(md5) = &object.content_md5 {
        set("content-md5", md5);
    }
    set(ACCEPT_RANGES.as_str(), "bytes");
    for (name, value) in query.iter() {
        if let Some(
            name @ ("content-type"
            | "content-language"
            | "expires"
            | "cache-control"
            | "content-disposition"
            | "content-encoding"),
        ) = name.strip_prefix("response-")
        {
            set(name, value);
        }
    }
    if unchanged {
        return Ok(ReplyHead { status: StatusCode::NOT_MODIFIED, headers, range: 0..0 });
    }
    // protocol: a range that cannot be served is ignored and the whole object sent.
    let range =
        request.get(RANGE).and_then(|value| value.to_str().ok()).and_then(|text| parse_range(text, object.size));
    let status = match &range {
        Some(range) => {
            set(CONTENT_RANGE.as_str(), &format!("bytes {}-{}/{}", range.start, range.end - 1, object.size));
            StatusCode::PARTIAL_CONTENT
        }
        None => StatusCode::OK,
    };
    let range = range.unwrap_or(0..object.size);
    set(CONTENT_LENGTH.as_str(), &(range.end - range.start).to_string());
    Ok(ReplyHead { status, headers, range })
}

/// Whether the object is unchanged for the reader (304); an unmet demand is an error (412).
pub(crate) fn check_conditions(object: &Object, headers: &HeaderMap) -> Result<bool, Error> {
    let modified = last_modified(object);
    let date = |name| {
        headers.get(name).and_then(|value| value.to_str().ok()).and_then(|text| httpdate::parse_http_date(text).ok())
    };
    let matches = |name| headers.get(name).map(|value| names_etag(value, &object.etag));
    let failed = match matches(IF_MATCH) {
        Some(matching) => (!matching).then_some("If-Match"),
        None => date(IF_UNMODIFIED_SINCE).filter(|since| modified > *since).map(|_| "If-Unmodified-Since"),
    };
    if let Some(condition) = failed {
        return Err(Error::new(
            StatusCode::PRECONDITION_FAILED,
            "PreconditionFailed",
            "At least one of the pre-conditions you specified did not hold.",
        )
        .detail("Condition", condition));
    }
    Ok(match matches(IF_NONE_MATCH) {
        Some(matching) => matching,
        None => date(IF_MODIFIED_SINCE).is_some_and(|since| modified <= since),
    })
}

/// Whether a list of entity tags, quoted or bare, names this one.
fn names_etag(value: &HeaderValue, etag: &str) -> bool {
    value.to_str().is_ok_and(|list| {
        list.split(',')
            .map(|tag| tag.trim().trim_start_matches("W/").trim_matches('"'))
            .any(|tag| tag == "*" || tag.eq_ignore_ascii_case(etag))
    })
}

/// When the object last changed, in whole seconds, as far as HTTP dates go.
pub(crate) fn last_modified(object: &Object) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(object.last_modified / 1000).unwrap_or(0))
}

/// The bytes that a Range header asks for; `None` if it does not ask for one range that exists.
fn parse_range(text: &str, size: u64) -> Option<Range<u64>> {
    let (first, last) = text.trim().strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| text.parse::<u64>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    let range = match (first, last) {
        ("", last) => size.saturating_sub(number(last)?)..size,
        (first, "") => number(first)?..size,
        (first, last) => number(first)?..number(last)?.saturating_add(1).min(size),
    };
    (range.start < range.end).then_some(range)
}

/// A part of a content as it is sent: read from the disk piece by piece, as fast as the client takes it.
fn stream_of(content: Content, range: Range<u64>) -> Reply {
    let pieces = stream::try_unfold((content, range), |(mut content, range)| async move {
        if range.is_empty() {
            return Ok(None);
        }
        let reading = tokio::task::spawn_blocking(move || {
            content.seek(SeekFrom::Start(range.start))?;
            let mut piece = vec![0; PIECE.min(usize::try_from(range.end - range.start).unwrap_or(PIECE))];
            let count = content.read(&mut piece)?;
            if count == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            piece.truncate(count);
            Ok((piece, (content, range.start + count as u64..range.end)))
        });
        let (piece, rest) = reading.await.map_err(io::Error::other)??;
        Ok(Some((Frame::data(Bytes::from(piece)), rest)))
    });
    Response::new(StreamBody::new(pieces).boxed_unsync())
}
