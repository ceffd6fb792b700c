//! GetObject and HeadObject: conditions, ranges, and headers that the query overrides.

use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::stream;
use http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LAST_MODIFIED, RANGE,
};
use http::{HeaderMap, Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;

use crate::error::Error;
use crate::reply::{Reply, full};
use crate::request::Query;
use crate::store::{Bucket, Content, Object};
use crate::upload::header_is;

/// Headers that a signed query may override, as `response-NAME`.
const OVERRIDABLE: &[&str] =
    &["content-type", "content-language", "expires", "cache-control", "content-disposition", "content-encoding"];

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

/// GetObjectMeta: a few facts, without conditions and overrides.
pub(crate) fn get_object_meta(bucket: &Bucket, key: &str) -> Result<Reply, Error> {
    let object = bucket.find(key).ok_or_else(|| Error::no_such_key(key))?;
    let every = headers_of(&object);
    let mut reply = full("");
    for name in [ETAG.as_str(), LAST_MODIFIED.as_str(), "x-oss-hash-crc64ecma"] {
        if let (Ok(name), Some(value)) = (HeaderName::try_from(name), every.get(name)) {
            reply.headers_mut().insert(name, value.clone());
        }
    }
    reply.headers_mut().insert(CONTENT_LENGTH, object.size.into());
    Ok(reply)
}

fn head_of(object: &Object, query: &Query, request: &HeaderMap) -> Result<ReplyHead, Error> {
    let unchanged = check_conditions(object, request, &CONDITIONS)?;
    let mut headers = headers_of(object);
    for (name, value) in query.iter() {
        if let Some(name) = name.strip_prefix("response-").filter(|name| OVERRIDABLE.contains(name)) {
            set(&mut headers, name, value);
        }
    }
    if unchanged {
        return Ok(ReplyHead { status: StatusCode::NOT_MODIFIED, headers, range: 0..0 });
    }
    let range = match request.get(RANGE).and_then(|value| value.to_str().ok()) {
        Some(text) => range_wanted(text, object.size, header_is(request, "x-oss-range-behavior", "standard"))?,
        None => None,
    };
    let status = match &range {
        Some(range) => {
            let content_range = format!("bytes {}-{}/{}", range.start, range.end - 1, object.size);
            set(&mut headers, CONTENT_RANGE.as_str(), &content_range);
            StatusCode::PARTIAL_CONTENT
        }
        None => StatusCode::OK,
    };
    let range = range.unwrap_or(0..object.size);
    headers.insert(CONTENT_LENGTH, (range.end - range.start).into());
    Ok(ReplyHead { status, headers, range })
}

/// What is said of an object in any case.
fn headers_of(object: &Object) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in &object.headers {
        set(&mut headers, name, value);
    }
    let mut set = |name: &str, value: &str| set(&mut headers, name, value);
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
    headers
}

/// Sets a header. What cannot stand in one was refused at upload, except for overrides, which are then left out.
fn set(headers: &mut HeaderMap, name: &str, value: &str) {
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_bytes(value.as_bytes())) {
        headers.insert(name, value);
    }
}

/// Where the conditions of a request stand.
pub(crate) struct ConditionNames {
    matches: &'static str,
    none_match: &'static str,
    modified_since: &'static str,
    unmodified_since: &'static str,
}

pub(crate) const CONDITIONS: ConditionNames = ConditionNames {
    matches: "if-match",
    none_match: "if-none-match",
    modified_since: "if-modified-since",
    unmodified_since: "if-unmodified-since",
};

/// Those on the source of a copy.
pub(crate) const COPY_CONDITIONS: ConditionNames = ConditionNames {
    matches: "x-oss-copy-source-if-match",
    none_match: "x-oss-copy-source-if-none-match",
    modified_since: "x-oss-copy-source-if-modified-since",
    unmodified_since: "x-oss-copy-source-if-unmodified-since",
};

/// Whether the object is unchanged for the reader (304); an unmet demand is an error (412).
pub(crate) fn check_conditions(object: &Object, headers: &HeaderMap, names: &ConditionNames) -> Result<bool, Error> {
    let modified = last_modified(object);
    let date = |name: &str| {
        headers.get(name).and_then(|value| value.to_str().ok()).and_then(|text| httpdate::parse_http_date(text).ok())
    };
    let matches = |name: &str| headers.get(name).map(|value| names_etag(value, &object.etag));
    let failed = match matches(names.matches) {
        Some(matching) => (!matching).then_some(names.matches),
        None => date(names.unmodified_since).filter(|since| modified > *since).map(|_| names.unmodified_since),
    };
    if let Some(condition) = failed {
        return Err(Error::new(
            StatusCode::PRECONDITION_FAILED,
            "PreconditionFailed",
            "At least one of the pre-conditions you specified did not hold.",
        )
        .detail("Condition", condition));
    }
    Ok(match matches(names.none_match) {
        Some(matching) => matching,
        None => date(names.modified_since).is_some_and(|since| modified <= since),
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

/// What a Range header asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Between(u64, u64),
    From(u64),
    Last(u64),
}

impl Asked {
    /// `None` for what is no range of bytes. protocol: of several ranges only the first counts.
    fn parse(text: &str) -> Option<Self> {
        let first = text.trim().strip_prefix("bytes=")?.split(',').next()?;
        let number = |text: &str| text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
        match first.trim().split_once('-')? {
            ("", last) => number(last).map(Self::Last),
            (first, "") => number(first).map(Self::From),
            (first, last) => number(first).zip(number(last)).map(|(first, last)| Self::Between(first, last)),
        }
    }

    /// The bytes of an object of this size; what lies beyond its end is left out. Empty if nothing is left.
    fn within(self, size: u64) -> Range<u64> {
        match self {
            Self::Between(first, last) => first..last.saturating_add(1).min(size),
            Self::From(first) => first..size,
            Self::Last(count) => size.saturating_sub(count)..size,
        }
    }

    /// Whether it lies within the object from its first byte to its last.
    fn fits(self, size: u64) -> bool {
        match self {
            Self::Between(_, last) => last < size,
            Self::From(_) => true,
            Self::Last(count) => count <= size,
        }
    }
}

/// The part of an object that a Range header asks for; `None` if the whole object is to be sent.
///
/// protocol: a range that is not all within the object is ignored. With `x-oss-range-behavior: standard` it is cut to
/// the object as with HTTP, and refused if nothing is left of it.
fn range_wanted(text: &str, size: u64, standard: bool) -> Result<Option<Range<u64>>, Error> {
    let Some(asked) = Asked::parse(text) else { return Ok(None) };
    let range = asked.within(size);
    if !range.is_empty() {
        return Ok((standard || asked.fits(size)).then_some(range));
    }
    // A range that ends before it begins is no range, which HTTP ignores.
    if !standard || matches!(asked, Asked::Between(first, last) if last < first) {
        return Ok(None);
    }
    let message = "The requested range cannot be satisfied.";
    let mut error = Error::new(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange", message)
        .detail("RangeRequested", text)
        .detail("ActualObjectSize", size.to_string());
    set(&mut error.headers, CONTENT_RANGE.as_str(), &format!("bytes */{size}"));
    Err(error)
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_range_is_a_part_of_the_object_or_the_whole(text in "(bytes=)?[0-9]{0,3}-?[0-9]{0,21}(,|-|.){0,3}", size in 0_u64..1000, standard: bool) {
            if let Ok(Some(range)) = range_wanted(&text, size, standard) {
                prop_assert!(range.start < range.end && range.end <= size);
            }
        }

        #[test]
        fn a_range_within_the_object_is_served_as_asked(size in 1_u64..1000, at in 0_u64..1000, length in 1_u64..1000, standard: bool) {
            let first = at % size;
            let last = (first + length - 1).min(size - 1);
            let wanted = |text: String| range_wanted(&text, size, standard).ok().flatten();
            prop_assert_eq!(wanted(format!("bytes={first}-{last}")), Some(first..last + 1));
            prop_assert_eq!(wanted(format!("bytes={first}-")), Some(first..size));
            prop_assert_eq!(wanted(format!("bytes=-{}", size - first)), Some(first..size));
        }
    }
}
