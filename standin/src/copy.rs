//! CopyObject.

use std::io::Read as _;
use std::sync::Arc;

use http::header::ETAG;
use http::{HeaderMap, HeaderValue, StatusCode};
use percent_encoding::percent_decode_str;

use crate::error::Error;
use crate::get::{COPY_CONDITIONS, check_conditions};
use crate::reply::{Reply, empty, xml};
use crate::server::State;
use crate::store::{Bucket, Content, Description, Object, Received, on_disk};
use crate::upload::{Target, describe, exists, header_is, stored};
use crate::xml::Document;

/// How much of an object is in memory at a time while it is copied.
const PIECE: usize = 1024 * 1024;

pub(crate) async fn copy_object(state: &State, target: Target, headers: &HeaderMap) -> Result<Reply, Error> {
    let source = Source::of(headers)?;
    let from = state.store.bucket(&source.bucket).ok_or_else(|| Error::no_such_bucket(&source.bucket))?;
    let (object, content) = from.read(&source.key).ok_or_else(|| Error::no_such_key(&source.key))?;
    if check_conditions(&object, headers, &COPY_CONDITIONS)? {
        return Ok(empty(StatusCode::NOT_MODIFIED));
    }
    let onto_itself = source.bucket == target.bucket_name && source.key == target.key;
    let description = description_of_copy(&object, &target.key, headers, onto_itself)?;
    if !description.overwrite && target.bucket.find(&target.key).is_some() {
        return Err(exists(&target.key));
    }
    let received = copy(content, &target.bucket).await?;
    let bucket = Arc::clone(&target.bucket);
    let committed = on_disk(move || bucket.commit_copy(&object, received, description)).await?;
    Ok(reply(&*stored(committed, &target.key)?))
}

fn reply(copy: &Object) -> Reply {
    let mut document = Document::new("CopyObjectResult");
    document.text("ETag", &format!("\"{}\"", copy.etag));
    document.instant("LastModified", copy.last_modified);
    let mut reply = xml(document);
    reply.headers_mut().insert("x-oss-hash-crc64ecma", copy.crc64.into());
    if let Ok(etag) = HeaderValue::try_from(format!("\"{}\"", copy.etag)) {
        reply.headers_mut().insert(ETAG, etag);
    }
    reply
}

/// protocol: the metadata is that of the source, unless the request says REPLACE; of an object that is copied onto
/// itself it is replaced in any case.
fn description_of_copy(
    source: &Object,
    key: &str,
    headers: &HeaderMap,
    onto_itself: bool,
) -> Result<Description, Error> {
    let named = describe(key, headers)?;
    let replaces = match headers.get("x-oss-metadata-directive") {
        None => false,
        Some(_) if header_is(headers, "x-oss-metadata-directive", "COPY") => false,
        Some(_) if header_is(headers, "x-oss-metadata-directive", "REPLACE") => true,
        Some(other) => {
            let other = String::from_utf8_lossy(other.as_bytes());
            let message = "The metadata directive must be COPY or REPLACE.";
            return Err(Error::invalid_argument("x-oss-metadata-directive", &other, message));
        }
    };
    if replaces || onto_itself {
        return Ok(named);
    }
    Ok(Description { content_type: source.content_type.clone(), headers: source.headers.clone(), ..named })
}

/// Writes a content a second time. Its files could be shared in place of that, at the price of counting who uses them.
async fn copy(mut content: Content, bucket: &Bucket) -> Result<Received, Error> {
    let mut receiving = bucket.receive().await.map_err(Error::disk)?;
    let mut piece = vec![0; PIECE];
    loop {
        let reading = tokio::task::spawn_blocking(move || {
            let count = content.read(&mut piece)?;
            Ok::<_, std::io::Error>((content, piece, count))
        });
        let count;
        (content, piece, count) = reading.await.map_err(Error::internal)?.map_err(Error::internal)?;
        if count == 0 {
            return receiving.finish().await.map_err(Error::internal);
        }
        receiving.write(piece.get(..count).unwrap_or_default()).await.map_err(Error::internal)?;
    }
}

/// What is copied.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) bucket: String,
    pub(crate) key: String,
}

impl Source {
    /// Reads `x-oss-copy-source`.
    ///
    /// protocol: `/bucket/key`, percent-encoded. The slash at the front is missing from some clients; others write a space as
    /// a plus, as in a form.
    pub(crate) fn of(headers: &HeaderMap) -> Result<Self, Error> {
        let value = headers.get("x-oss-copy-source").map(HeaderValue::as_bytes).unwrap_or_default();
        let text = String::from_utf8_lossy(value);
        if text.contains("?versionId=") {
            return Err(Error::not_implemented("copying a version"));
        }
        Self::parse(&text).ok_or_else(|| {
            Error::invalid_argument("x-oss-copy-source", &text, "The copy source must be /bucket/key, percent-encoded.")
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.replace('+', " ");
        let decoded = percent_decode_str(&text).decode_utf8().ok()?;
        let (bucket, key) = decoded.strip_prefix('/').unwrap_or(&decoded).split_once('/')?;
        (!bucket.is_empty() && !key.is_empty()).then(|| Self { bucket: bucket.to_owned(), key: key.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;

    #[test]
    fn a_source_without_bucket_or_key_is_none() {
        for text in ["", "/", "b", "/b", "/b/", "//k", "/b/%ff"] {
            assert_eq!(Source::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_source_is_read_however_it_is_encoded(key in ".{1,20}", slash: bool) {
            let expected = Some(Source { bucket: "b".to_owned(), key: key.clone() });
            let encoded = utf8_percent_encode(&key, NON_ALPHANUMERIC);
            let front = if slash { "/" } else { "" };
            prop_assert_eq!(&Source::parse(&format!("{front}b/{encoded}")), &expected);
            prop_assert_eq!(&Source::parse(&format!("{front}b%2F{encoded}")), &expected);
            let as_in_a_form = encoded.to_string().replace("%20", "+");
            prop_assert_eq!(&Source::parse(&format!("{front}b/{as_in_a_form}")), &expected);
        }

        #[test]
        fn any_source_is_read_or_refused(text in ".{0,30}") {
            let _ = Source::parse(&text);
        }
    }
}
