//! ListObjects and ListObjectsV2: one page of a bucket in key order.

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
    let get = |name| query.get(name).unwrap_or_default();
    let version_two = match get("list-type") {
        "" | "1" => false,
        "2" => true,
        other => return Err(Error::invalid_argument("list-type", other, "list-type must be 2 or absent.")),
    };
    let encoding = Encoding::of(query)?;
    let token = query.get("continuation-token").filter(|token| version_two && !token.is_empty());
    let after = match (token, version_two) {
        (None, true) => get("start-after").to_owned(),
        (None, false) => get("marker").to_owned(),
        (Some(token), _) => {
            URL_SAFE_NO_PAD.decode(token).ok().and_then(|marker| String::from_utf8(marker).ok()).ok_or_else(|| {
                Error::invalid_argument("continuation-token", token, "The continuation token is not one of ours.")
            })?
        }
    };
    let wanted = Wanted { prefix: get("prefix"), delimiter: get("delimiter"), after, count: page_size(query)? };
    let page = page(&bucket.index(), &wanted);

    let mut document = Document::new("ListBucketResult");
    document.text("Name", bucket_name);
    document.text("Prefix", &encoding.of_text(wanted.prefix));
    match (version_two, query.get("start-after")) {
        (false, _) => document.text("Marker", &encoding.of_text(&wanted.after)),
        (true, Some(start_after)) => document.text("StartAfter", &encoding.of_text(start_after)),
        (true, None) => {}
    }
    if let Some(token) = token {
        document.text("ContinuationToken", token);
    }
    document.text("MaxKeys", &wanted.count.to_string());
    document.text("Delimiter", &encoding.of_text(wanted.delimiter));
    encoding.write(&mut document);
    document.text("IsTruncated", if page.next.is_some() { "true" } else { "false" });
    match &page.next {
        Some(next) if version_two => document.text("NextContinuationToken", &URL_SAFE_NO_PAD.encode(next)),
        Some(next) => document.text("NextMarker", &encoding.of_text(next)),
        None => {}
    }
    if version_two {
        document.text("KeyCount", &(page.objects.len() + page.common_prefixes.len()).to_string());
    }
    let with_owner = !version_two || get("fetch-owner") == "true";
    write_page(&mut document, &page, encoding, with_owner);
    Ok(xml(document))
}

fn write_page(document: &mut Document, page: &Page, encoding: Encoding, with_owner: bool) {
    for object in &page.objects {
        document.open("Contents");
        document.text("Key", &encoding.of_text(&object.key));
        document.instant("LastModified", object.last_modified);
        document.text("ETag", &format!("\"{}\"", object.etag));
        document.text("Type", object.kind.as_str());
        document.text("Size", &object.size.to_string());
        document.text("StorageClass", "Standard");
        if with_owner {
            write_owner(document);
        }
        document.close();
    }
    for prefix in &page.common_prefixes {
        document.open("CommonPrefixes");
        document.text("Prefix", &encoding.of_text(prefix));
        document.close();
    }
}

/// The one account that a stand-in has.
pub(crate) fn write_owner(document: &mut Document) {
    document.open("Owner");
    document.text("ID", ACCOUNT);
    document.text("DisplayName", ACCOUNT);
    document.close();
}

/// How many entries a page may have.
pub(crate) fn page_size(query: &Query) -> Result<usize, Error> {
    let Some(text) = query.get("max-keys") else { return Ok(DEFAULT_PAGE) };
    match text.parse() {
        Ok(count @ 1..=LARGEST_PAGE) => Ok(count),
        _ => Err(Error::invalid_argument("max-keys", text, "max-keys must be a number from 1 to 1000.")),
    }
}

/// How keys stand in an answer: as they are, or percent-encoded because XML cannot hold every character.
#[derive(Clone, Copy)]
pub(crate) enum Encoding {
    Plain,
    Url,
}

impl Encoding {
    /// The one that a query asks for.
    pub(crate) fn of(query: &Query) -> Result<Self, Error> {
        Self::named(query.get("encoding-type").unwrap_or_default())
    }

    pub(crate) fn named(name: &str) -> Result<Self, Error> {
        match name {
            "" => Ok(Self::Plain),
            "url" => Ok(Self::Url),
            other => {
                let message = "Invalid Encoding Method specified in Request.";
                Err(Error::invalid_argument("encoding-type", other, message))
            }
        }
    }

    pub(crate) fn of_text(self, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Url => utf8_percent_encode(text, UNRESERVED).to_string(),
        }
    }

    /// Says so in an answer.
    pub(crate) fn write(self, document: &mut Document) {
        if let Self::Url = self {
            document.text("EncodingType", "url");
        }
    }
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
