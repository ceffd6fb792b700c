//! Multipart uploads: an object that comes in parts, in any order, and appears when it is completed.

use std::collections::BTreeSet;
use std::sync::Arc;

use crc_fast::{CrcAlgorithm, checksum_combine};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use hyper::body::Incoming;
use md5::{Digest as _, Md5};

use crate::callback::Callback;
use crate::error::Error;
use crate::list::{Encoding, write_owner};
use crate::put::{check_md5, receive_checked};
use crate::reply::{Reply, empty, xml};
use crate::request::Query;
use crate::server::State;
use crate::store::{Bucket, Completion, MultipartUpload, Object, Part, Whole, on_disk, upper_hex};
use crate::upload::{Arrived, LARGEST_DOCUMENT, Target, describe, exists, header_is, location, read_whole, stored};
use crate::xml::{Document, Element};

/// protocol: parts are numbered from 1 to 10,000.
const MOST_PARTS: u32 = 10_000;
/// protocol: every part but the last has at least 100 KB.
const SMALLEST_PART: u64 = 100 * 1024;
/// protocol: a page of a list has at most 1,000 entries, and as many by default.
const LARGEST_PAGE: usize = 1000;

/// InitiateMultipartUpload. A callback that is asked for here has no effect: OSS fires it when the upload is completed.
pub(crate) async fn initiate(target: Target, query: &Query, headers: &HeaderMap) -> Result<Reply, Error> {
    let encoding = Encoding::of(query)?;
    let description = describe(&target.key, headers)?;
    let bucket = Arc::clone(&target.bucket);
    let begun = on_disk(move || bucket.begin_upload(description)).await?;
    let upload = begun.ok_or_else(|| exists(&target.key))?;
    let mut document = Document::new("InitiateMultipartUploadResult");
    encoding.write(&mut document);
    document.text("Bucket", &target.bucket_name);
    document.text("Key", &encoding.of_text(&target.key));
    document.text("UploadId", &upload.id);
    Ok(xml(document))
}

pub(crate) async fn upload_part(
    target: Target,
    query: &Query,
    headers: &HeaderMap,
    body: &mut Incoming,
) -> Result<Reply, Error> {
    let number = part_number(query.get("partNumber").unwrap_or_default())?;
    let id = id_in(query);
    // Before the body is read: nobody should send gigabytes to an upload that is gone.
    if !target.bucket.has_upload(&id, &target.key) {
        return Err(no_such_upload(&id));
    }
    let received = receive_checked(&target.bucket, headers, body).await?;
    let (bucket, key, upload) = (Arc::clone(&target.bucket), target.key.clone(), id.clone());
    let added = on_disk(move || bucket.add_part(&upload, &key, number, received)).await?;
    let part = added.ok_or_else(|| no_such_upload(&id))?;
    let mut reply = empty(StatusCode::OK);
    for (name, value) in [
        ("etag", format!("\"{}\"", upper_hex(&part.md5))),
        ("content-md5", part.content_md5()),
        ("x-oss-hash-crc64ecma", part.crc64.to_string()),
    ] {
        let value = HeaderValue::try_from(value).map_err(Error::internal)?;
        reply.headers_mut().insert(HeaderName::from_static(name), value);
    }
    Ok(reply)
}

/// CompleteMultipartUpload. `host` is the one that the uploader addressed.
pub(crate) async fn complete(
    state: &Arc<State>,
    target: Target,
    host: &str,
    query: &Query,
    headers: &HeaderMap,
    body: &mut Incoming,
) -> Result<Reply, Error> {
    // protocol: a faulty callback is refused before anything is stored.
    let callback = Callback::read(headers, query, &target.bucket.settings().callback_policies)?;
    if let Some(callback) = &callback {
        callback.check_addresses(&state.callbacks).await?;
    }
    let encoding = Encoding::of(query)?;
    let id = id_in(query);
    let (_, arrived) = find(&target, &id)?;
    let list = read_whole(body, LARGEST_DOCUMENT).await?;
    check_md5(headers, &list)?;
    let parts = match header_is(headers, "x-oss-complete-all", "yes") {
        true if list.is_empty() => arrived,
        true => {
            let message = "A list of parts must not be given together with x-oss-complete-all.";
            return Err(Error::invalid_argument("x-oss-complete-all", "yes", message).ec("0042-00000216"));
        }
        false => choose(&listed(&list)?, &arrived)?,
    };
    check_parts(&parts)?;
    let overwrite = !header_is(headers, "x-oss-forbid-overwrite", "true");

    let (content, key, location) = (target.bucket.content_of(&parts), target.key.clone(), location(host, &target));
    let commit = move |bucket: &Bucket| {
        let whole = whole_of(&parts);
        Ok(match bucket.complete_upload(&id, &key, &parts, whole, overwrite)? {
            Completion::Committed(commit) => stored(commit, &key),
            Completion::NoSuchUpload => Err(no_such_upload(&id)),
            Completion::PartsChanged => Err(invalid_part(None)),
        })
    };
    let plain = move |target: &Target, object: &Object| {
        let mut document = Document::new("CompleteMultipartUploadResult");
        encoding.write(&mut document);
        document.text("Location", &location);
        document.text("Bucket", &target.bucket_name);
        document.text("Key", &encoding.of_text(&target.key));
        document.text("ETag", &format!("\"{}\"", object.etag));
        xml(document)
    };
    let arrived = Arrived { target, callback, operation: "CompleteMultipartUpload" };
    arrived.become_object(state, content, commit, plain).await
}

pub(crate) async fn abort(target: Target, query: &Query) -> Result<Reply, Error> {
    let id = id_in(query);
    let (bucket, key, upload) = (target.bucket, target.key, id.clone());
    match on_disk(move || bucket.abort_upload(&upload, &key)).await? {
        true => Ok(empty(StatusCode::NO_CONTENT)),
        false => Err(no_such_upload(&id)),
    }
}

pub(crate) fn list_parts(target: &Target, query: &Query) -> Result<Reply, Error> {
    let encoding = Encoding::of(query)?;
    let count = page_size(query, "max-parts")?;
    let marker = match query.get("part-number-marker").filter(|text| !text.is_empty()) {
        None => 0,
        Some(text) => text.parse().map_err(|_| {
            let message = "The part-number-marker must be a whole number that is not negative.";
            Error::invalid_argument("part-number-marker", text, message)
        })?,
    };
    let (upload, parts) = find(target, &id_in(query))?;
    let after: Vec<&Part> = parts.iter().filter(|part| part.number > marker).collect();
    let page = after.get(..count.min(after.len())).unwrap_or_default();
    let mut document = Document::new("ListPartsResult");
    encoding.write(&mut document);
    document.text("Bucket", &target.bucket_name);
    document.text("Key", &encoding.of_text(&target.key));
    document.text("UploadId", &upload.id);
    document.text("StorageClass", "Standard");
    document.text("PartNumberMarker", &marker.to_string());
    // Of an empty page too: oss2 cannot read a list without it.
    let next = page.last().map_or(marker, |last| last.number);
    document.text("NextPartNumberMarker", &next.to_string());
    document.text("MaxParts", &count.to_string());
    document.text("IsTruncated", if page.len() < after.len() { "true" } else { "false" });
    for part in page {
        document.open("Part");
        document.text("PartNumber", &part.number.to_string());
        document.instant("LastModified", part.last_modified);
        document.text("ETag", &format!("\"{}\"", upper_hex(&part.md5)));
        document.text("HashCrc64ecma", &part.crc64.to_string());
        document.text("Size", &part.size().to_string());
        document.close();
    }
    Ok(xml(document))
}

pub(crate) fn list_multipart_uploads(bucket_name: &str, bucket: &Bucket, query: &Query) -> Result<Reply, Error> {
    let get = |name| query.get(name).unwrap_or_default();
    let encoding = Encoding::of(query)?;
    let wanted = Wanted {
        prefix: get("prefix"),
        delimiter: get("delimiter"),
        key_marker: get("key-marker"),
        // protocol: without a key-marker it has no meaning.
        id_marker: if get("key-marker").is_empty() { "" } else { get("upload-id-marker") },
        count: page_size(query, "max-uploads")?,
    };
    let page = page(bucket.uploads(), &wanted);
    let mut document = Document::new("ListMultipartUploadsResult");
    encoding.write(&mut document);
    document.text("Bucket", bucket_name);
    document.text("KeyMarker", &encoding.of_text(wanted.key_marker));
    document.text("UploadIdMarker", wanted.id_marker);
    if page.truncated {
        document.text("NextKeyMarker", &encoding.of_text(&page.last_key));
        document.text("NextUploadIdMarker", &page.last_id);
    }
    document.text("Delimiter", &encoding.of_text(wanted.delimiter));
    document.text("Prefix", &encoding.of_text(wanted.prefix));
    document.text("MaxUploads", &wanted.count.to_string());
    document.text("IsTruncated", if page.truncated { "true" } else { "false" });
    for upload in &page.uploads {
        document.open("Upload");
        document.text("Key", &encoding.of_text(&upload.description.key));
        document.text("UploadId", &upload.id);
        write_owner(&mut document);
        document.text("StorageClass", "Standard");
        document.instant("Initiated", upload.initiated);
        document.close();
    }
    for prefix in &page.common_prefixes {
        document.open("CommonPrefixes");
        document.text("Prefix", &encoding.of_text(prefix));
        document.close();
    }
    Ok(xml(document))
}

/// What a client asks to see of the uploads.
struct Wanted<'a> {
    prefix: &'a str,
    delimiter: &'a str,
    key_marker: &'a str,
    id_marker: &'a str,
    count: usize,
}

/// What it is shown.
#[derive(Default)]
struct Page {
    uploads: Vec<Arc<MultipartUpload>>,
    common_prefixes: BTreeSet<String>,
    truncated: bool,
    last_key: String,
    last_id: String,
}

/// One page of these uploads, which are in the order of keys and ids.
fn page(uploads: Vec<Arc<MultipartUpload>>, wanted: &Wanted<'_>) -> Page {
    let mut page = Page::default();
    for upload in uploads {
        let key = upload.description.key.as_str();
        let Some(rest) = key.strip_prefix(wanted.prefix) else { continue };
        let group = match wanted.delimiter {
            "" => None,
            delimiter => rest.find(delimiter).and_then(|at| key.get(..wanted.prefix.len() + at + delimiter.len())),
        };
        let seen = match group {
            Some(group) => group <= wanted.key_marker || page.common_prefixes.contains(group),
            None if key == wanted.key_marker => upload.id.as_str() <= wanted.id_marker || wanted.id_marker.is_empty(),
            None => key < wanted.key_marker,
        };
        if seen {
            continue;
        }
        if page.uploads.len() + page.common_prefixes.len() == wanted.count {
            page.truncated = true;
            break;
        }
        match group {
            Some(group) => {
                (page.last_key, page.last_id) = (group.to_owned(), String::new());
                page.common_prefixes.insert(group.to_owned());
            }
            None => {
                (page.last_key, page.last_id) = (key.to_owned(), upload.id.clone());
                page.uploads.push(upload);
            }
        }
    }
    page
}

/// One part as a completion lists it.
#[derive(Debug, PartialEq, Eq)]
struct Listed {
    number: u32,
    /// Upper-case, without quotes.
    etag: String,
}

/// Reads the list of a completion; its Content-Type does not matter, as SDKs send all kinds.
fn listed(document: &[u8]) -> Result<Vec<Listed>, Error> {
    let malformed = || Error::malformed_xml("CompleteMultipartUpload").ec("0042-00000205");
    let document = Element::parse(document, "CompleteMultipartUpload").ok_or_else(malformed)?;
    let mut list = Vec::new();
    for part in document.children("Part") {
        let number = part.child_text("PartNumber").ok_or_else(malformed)?.trim();
        let etag = part.child_text("ETag").ok_or_else(malformed)?.trim();
        let number = number.parse().map_err(|_| malformed())?;
        list.push(Listed { number, etag: etag.trim_matches('"').to_ascii_uppercase() });
    }
    if list.is_empty() {
        return Err(malformed());
    }
    Ok(list)
}

/// The parts that a list names, if all of them have arrived; these are in the order of their numbers.
fn choose(listed: &[Listed], arrived: &[Part]) -> Result<Vec<Part>, Error> {
    if !listed.is_sorted_by(|earlier, later| earlier.number < later.number) {
        return Err(Error::new(
            StatusCode::BAD_REQUEST,
            "InvalidPartOrder",
            "The list of parts was not in ascending order. Parts list must specified in order by part number.",
        ));
    }
    let find = |listed: &Listed| {
        let index = arrived.binary_search_by_key(&listed.number, |part| part.number).ok()?;
        let part = arrived.get(index)?;
        (upper_hex(&part.md5) == listed.etag).then(|| part.clone())
    };
    listed.iter().map(|listed| find(listed).ok_or_else(|| invalid_part(Some(listed)))).collect()
}

fn check_parts(parts: &[Part]) -> Result<(), Error> {
    let Some((_, all_but_last)) = parts.split_last() else { return Err(invalid_part(None)) };
    match all_but_last.iter().find(|part| part.size() < SMALLEST_PART) {
        None => Ok(()),
        Some(part) => {
            let message = "Your proposed upload is smaller than the minimum allowed size.";
            Err(Error::new(StatusCode::BAD_REQUEST, "EntityTooSmall", message)
                .detail("PartNumber", part.number.to_string())
                .detail("ETag", upper_hex(&part.md5))
                .detail("ProposedSize", part.size().to_string())
                .detail("MinSizeAllowed", SMALLEST_PART.to_string()))
        }
    }
}

/// protocol: the CRC-64 is that of the whole content; the ETag ends in the number of parts. What it begins with is not
/// documented: here the MD5 over the MD5s of the parts.
fn whole_of(parts: &[Part]) -> Whole {
    let mut digest = Md5::new();
    let mut crc64 = 0;
    for part in parts {
        digest.update(part.md5);
        crc64 = checksum_combine(CrcAlgorithm::Crc64Xz, crc64, part.crc64, part.size());
    }
    Whole { etag: format!("{}-{}", upper_hex(&digest.finalize()), parts.len()), crc64 }
}

fn part_number(text: &str) -> Result<u32, Error> {
    text.parse().ok().filter(|number| (1..=MOST_PARTS).contains(number)).ok_or_else(|| {
        let message = "Part number must be an integer between 1 and 10000, inclusive.";
        Error::invalid_argument("partNumber", text, message)
    })
}

fn page_size(query: &Query, name: &'static str) -> Result<usize, Error> {
    let Some(text) = query.get(name).filter(|text| !text.is_empty()) else { return Ok(LARGEST_PAGE) };
    text.parse().ok().filter(|count| (1..=LARGEST_PAGE).contains(count)).ok_or_else(|| {
        Error::invalid_argument(name, text, format!("{name} must be a number from 1 to {LARGEST_PAGE}."))
    })
}

fn id_in(query: &Query) -> String {
    query.get("uploadId").unwrap_or_default().to_owned()
}

fn find(target: &Target, id: &str) -> Result<(Arc<MultipartUpload>, Vec<Part>), Error> {
    target.bucket.upload(id, &target.key).ok_or_else(|| no_such_upload(id))
}

fn no_such_upload(id: &str) -> Error {
    Error::new(
        StatusCode::NOT_FOUND,
        "NoSuchUpload",
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.",
    )
    .detail("UploadId", id)
}

fn invalid_part(listed: Option<&Listed>) -> Error {
    let error = Error::new(
        StatusCode::BAD_REQUEST,
        "InvalidPart",
        "One or more of the specified parts could not be found or the specified entity tag might not have matched the part's entity tag.",
    );
    match listed {
        None => error,
        Some(part) => error.detail("PartNumber", part.number.to_string()).detail("ETag", &part.etag),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crc_fast::checksum;
    use proptest::prelude::*;

    #[test]
    fn the_list_of_a_completion_is_read_however_it_is_quoted() {
        let expected = [Listed { number: 1, etag: "AB12".into() }, Listed { number: 20, etag: "CD".into() }];
        for document in [
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>\"ab12\"</ETag></Part><Part><ETag>CD</ETag><PartNumber>20</PartNumber></Part></CompleteMultipartUpload>",
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<CompleteMultipartUpload xmlns=\"urn:x\">\n <Part>\n <PartNumber> 1 </PartNumber><ETag>&quot;AB12&quot;</ETag></Part><Part><PartNumber>20</PartNumber><ETag>&#34;CD&#34;</ETag></Part></CompleteMultipartUpload>",
        ] {
            assert_eq!(listed(document.as_bytes()).unwrap(), expected, "{document}");
        }
    }

    #[test]
    fn the_longest_list_is_read() {
        let part = |number| {
            format!(
                "  <Part>\r\n    <PartNumber>{number}</PartNumber>\r\n    <ETag>&quot;{number:032X}&quot;</ETag>\r\n  </Part>\r\n"
            )
        };
        let parts: String = (1..=MOST_PARTS).map(part).collect();
        let document = format!("<CompleteMultipartUpload>\r\n{parts}</CompleteMultipartUpload>");
        assert!(document.len() < LARGEST_DOCUMENT);
        assert_eq!(listed(document.as_bytes()).unwrap().len(), 10_000);
    }

    #[test]
    fn what_is_no_list_of_parts_is_malformed() {
        for document in [
            "",
            "x",
            "<CompleteMultipartUpload/>",
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber></Part></CompleteMultipartUpload>",
            "<CompleteMultipartUpload><Part><PartNumber>x</PartNumber><ETag>A</ETag></Part></CompleteMultipartUpload>",
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>A</ETag></Part>",
            "<Delete><Part><PartNumber>1</PartNumber><ETag>A</ETag></Part></Delete>",
        ] {
            assert_eq!(listed(document.as_bytes()).unwrap_err().code, "MalformedXML", "{document}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_list_or_refused(document in proptest::collection::vec(any::<u8>(), 0..200), text in "(<CompleteMultipartUpload>)?(<Part>)?(<PartNumber>|[0-9]|</PartNumber>|<ETag>|&quot;|&|</ETag>|</Part>|</CompleteMultipartUpload>){0,12}") {
            let _ = listed(&document);
            let _ = listed(text.as_bytes());
        }

        #[test]
        fn the_crc_of_parts_combines_to_that_of_the_whole(first in proptest::collection::vec(any::<u8>(), 0..300), second in proptest::collection::vec(any::<u8>(), 0..300)) {
            let crc = |bytes: &[u8]| checksum(CrcAlgorithm::Crc64Xz, bytes);
            let whole = [first.clone(), second.clone()].concat();
            let from_nothing = checksum_combine(CrcAlgorithm::Crc64Xz, 0, crc(&first), first.len() as u64);
            prop_assert_eq!(from_nothing, crc(&first));
            prop_assert_eq!(checksum_combine(CrcAlgorithm::Crc64Xz, crc(&first), crc(&second), second.len() as u64), crc(&whole));
        }
    }
}
