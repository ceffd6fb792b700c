//! ListObjectsV2: one page of a bucket in key order.

use std::ops::Bound;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::callback::ACCOUNT;
use crate::error::Error;
use crate::reply::{Reply, xml};
use crate::request::Query;
use crate::store::{Bucket, Index, Object};
use crate::xml::Document;

/// What `encoding-type=url` leaves as it is.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// protocol: `max-keys` is 1 to 1,000, by default 100.
const DEFAULT_PAGE: usize = 100;
const LARGEST_PAGE: usize = 1000;

/// What a client asks to see.
struct Wanted<'a> {
    prefix: &'a str,
    delimiter: &'a str,
    /// Only what comes after this in byte order.
    after: String,
    count: usize,
}

/// What it is shown.
#[derive(Default)]
struct Page {
    objects: Vec<Arc<Object>>,
    common_prefixes: Vec<String>,
    /// Where the next page begins, if there is one.
    next: Option<String>,
}

pub(crate) fn list_objects(bucket_name: &str, bucket: &Bucket, query: &Query) -> Result<Reply, Error> {
    if query.get("list-type") != Some("2") {
        return Err(Error::not_implemented("a list without list-type=2"));
    }
    let get = |name| query.get(name).unwrap_or_default();
    let count = match query.get("max-keys") {
        None => DEFAULT_PAGE,
        Some(text) => match text.parse() {
            Ok(count @ 1..=LARGEST_PAGE) => count,
            _ => return Err(Error::invalid_argument("max-keys", text, "max-keys must be a number from 1 to 1000.")),
        },
    };
    let url_encoded = match get("encoding-type") {
        "" => false,
        "url" => true,
        other => {
            return Err(Error::invalid_argument(
                "encoding-type",
                other,
                "Invalid Encoding Method specified in Request.",
            ));
        }
    };
    let token = query.get("continuation-token").filter(|token| !token.is_empty());
    let after = match token {
        None => get("start-after").to_owned(),
        Some(token) => {
            URL_SAFE_NO_PAD.decode(token).ok().and_then(|marker| String::from_utf8(marker).ok()).ok_or_else(|| {
                Error::invalid_argument("continuation-token", token, "The continuation token is not one of ours.")
            })?
        }
    };
    let wanted = Wanted { prefix: get("prefix"), delimiter: get("delimiter"), after, count };
    let page = page(&bucket.index(), &wanted);

    let encode = |text: &str| match url_encoded {
        true => utf8_percent_encode(text, UNRESERVED).to_string(),
        false => text.to_owned(),
    };
    let mut document = Document::new("ListBucketResult");
    document.text("Name", bucket_name);
    document.text("Prefix", &encode(wanted.prefix));
    if let Some(start_after) = query.get("start-after") {
        document.text("StartAfter", &encode(start_after));
    }
    if let Some(token) = token {
        document.text("ContinuationToken", token);
    }
    document.text("MaxKeys", &count.to_string());
    document.text("Delimiter", &encode(wanted.delimiter));
    if url_encoded {
        document.text("EncodingType", "url");
    }
    document.text("IsTruncated", if page.next.is_some() { "true" } else { "false" });
    if let Some(next) = &page.next {
        document.text("NextContinuationToken", &URL_SAFE_NO_PAD.encode(next));
    }
    document.text("KeyCount", &(page.objects.len() + page.common_prefixes.len()).to_string());
    for object in &page.objects {
        document.open("Contents");
        document.text("Key", &encode(&object.key));
        document.text("LastModified", &instant(object.last_modified));
        document.text("ETag", &format!("\"{}\"", object.etag));
        document.text("Type", object.kind.as_str());
        document.text("Size", &object.size.to_string());
        document.text("StorageClass", "Standard");
        if get("fetch-owner") == "true" {
            document.open("Owner");
            document.text("ID", ACCOUNT);
            document.text("DisplayName", ACCOUNT);
            document.close();
        }
        document.close();
    }
    for prefix in &page.common_prefixes {
        document.open("CommonPrefixes");
        document.text("Prefix", &encode(prefix));
        document.close();
    }
    Ok(xml(document))
}

fn page(index: &Index<'_>, wanted: &Wanted<'_>) -> Page {
    let mut page = Page::default();
    let mut last = String::new();
    let mut from = match wanted.after.as_str() < wanted.prefix {
        true => Bound::Included(wanted.prefix.to_owned()),
        false => Bound::Excluded(wanted.after.clone()),
    };
    while let Some(object) = index.first_in((from, Bound::Unbounded)) {
        let key = &object.key;
        let Some(rest) = key.strip_prefix(wanted.prefix) else { break };
        let group = match wanted.delimiter {
            "" => None,
            delimiter => rest.find(delimiter).and_then(|at| key.get(..wanted.prefix.len() + at + delimiter.len())),
        };
        // A group at or before the starting point was on an earlier page.
        let seen = group.is_some_and(|group| group <= wanted.after.as_str());
        if !seen {
            if page.objects.len() + page.common_prefixes.len() == wanted.count {
                page.next = Some(last);
                break;
            }
            last = group.unwrap_or(key).to_owned();
            match group {
                Some(group) => page.common_prefixes.push(group.to_owned()),
                None => page.objects.push(Arc::clone(object)),
            }
        }
        from = match group {
            // No key can be longer than 1,023 bytes, so this is behind all keys of the group: U+10FFFF is the last character.
            Some(group) => Bound::Excluded(format!("{group}{}", "\u{10ffff}".repeat(256))),
            None => Bound::Excluded(key.clone()),
        };
    }
    page
}

/// protocol: with the milliseconds always zero, as OSS stores whole seconds.
fn instant(milliseconds: i64) -> String {
    jiff::Timestamp::from_second(milliseconds.div_euclid(1000))
        .map(|timestamp| timestamp.strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string())
        .unwrap_or_default()
}
