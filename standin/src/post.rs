//! PostObject: what the form of a web page uploads. The fields come first and say who may store what where; the file
//! comes last and goes to disk as it arrives.

mod credentials;
pub(crate) mod form;
pub(crate) mod policy;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use percent_encoding::utf8_percent_encode;

use self::credentials::signed_policy;
use self::form::{Event, FormError, Head, Parser};
use self::policy::{Policy, field_name};
use crate::callback::Callback;
use crate::error::Error;
use crate::put::check_received;
use crate::reply::{Reply, empty, xml};
use crate::request::LONGEST_KEY;
use crate::server::State;
use crate::signature::UNRESERVED;
use crate::store::{Acl, Bucket, Object, Received};
use crate::upload::{Arrived, LARGEST_UPLOAD, Target, describe, exists, incomplete_body, location, stored, too_large};
use crate::xml::Document;

/// protocol: the name of a field has at most 8 KB, its value 2 MB, and all values before the file 8 MB.
const LONGEST_NAME: usize = 8 * 1024;
const LONGEST_VALUE: usize = 2 * 1024 * 1024;
const ALL_VALUES: usize = 8 * 1024 * 1024;
/// protocol: what `callback-var` may have elsewhere.
const ALL_VARIABLES: usize = 5 * 1024;
/// The stand-in's own limit.
const MOST_FIELDS: usize = 1000;

/// Headers of the object that a form can set, besides `x-oss-meta-*`.
const OBJECT_FIELDS: &[&str] = &[
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-md5",
    "expires",
    "x-oss-forbid-overwrite",
];

/// The fields that stand before the file. Where a name comes twice, the first counts.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    /// By the names that count: in lower case, those of custom variables as they were sent.
    values: BTreeMap<String, String>,
}

impl Fields {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// protocol: custom variables have at most 5 KB. A template may name one many times.
    fn variables(&self) -> Result<BTreeMap<String, String>, Error> {
        let variables: BTreeMap<String, String> = self
            .values
            .iter()
            .filter(|(name, _)| name.starts_with("x:"))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let length: usize = variables.iter().map(|(name, value)| name.len() + value.len()).sum();
        if length > ALL_VARIABLES {
            return Err(too_long("All custom variables together", ALL_VARIABLES).ec("0007-00000101"));
        }
        Ok(variables)
    }
}

/// `target` has no key yet; `host` is the one that the uploader addressed, `now` the time that
/// the stand-in takes it to be.
pub(crate) async fn post_object(
    state: &Arc<State>,
    mut target: Target,
    host: &str,
    now: SystemTime,
    headers: &HeaderMap,
    body: &mut Incoming,
) -> Result<Reply, Error> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let boundary = form::boundary(content_type).ok_or_else(|| {
        let message = "Bucket POST must be of the enclosure-type multipart/form-data, with a boundary.";
        Error::new(StatusCode::BAD_REQUEST, "RequestIsNotMultiPartContent", message)
    })?;
    let mut form = Form { parser: Parser::new(&boundary), body };
    let (fields, file) = read_fields(&mut form).await?;

    target.key = key_of(&fields, &file)?;
    let object_type = content_type_of(&fields, &file);
    let policy = match state.anonymous {
        // Whoever signed it: what it demands of the fields still holds.
        true => fields.get("policy").map(Policy::parse).transpose()?,
        false => signed_policy(state, &fields, now)?,
    };
    if policy.is_none() && !state.anonymous && target.bucket.settings().acl != Acl::PublicReadWrite {
        return Err(Error::access_denied("The form is not signed."));
    }
    if let Some(policy) = &policy {
        policy.check(|name| match name {
            "bucket" => target.bucket_name.clone(),
            "key" => target.key.clone(),
            // Not documented: which of the types is meant. Here the one that the object gets.
            "content-type" => object_type.clone(),
            name => fields.get(name).unwrap_or_default().to_owned(),
        })?;
    }
    // protocol: a faulty callback is refused before anything is stored.
    let callback = Callback::from_form(
        fields.get("callback"),
        fields.get("callback-var"),
        fields.variables()?,
        &target.bucket.settings().callback_policies,
    )?;
    if let Some(callback) = &callback {
        callback.check_addresses(&state.callbacks).await?;
    }
    let object_headers = headers_of(&fields, &object_type)?;
    let description = describe(&target.key, &object_headers)?;
    if !description.overwrite && target.bucket.find(&target.key).is_some() {
        return Err(exists(&target.key));
    }
    let success = Success::of(&fields)?;
    let allowed = policy.map_or(0..=u64::MAX, |policy| policy.length_range());
    let mut received = receive_file(&mut form, &target.bucket, &allowed).await?;
    check_received(&object_headers, &received)?;
    // protocol: only that of PutObject is the MD5 of the content.
    received.etag_is_not_md5();

    let (content, key, location) = (received.content(), target.key.clone(), location(host, &target));
    let commit = move |bucket: &Bucket| Ok(stored(bucket.commit(received, description)?, &key));
    let plain = move |target: &Target, object: &Object| success.reply(target, &object.etag, &location);
    Arrived { target, callback, operation: "PostObject" }.become_object(state, content, commit, plain).await
}

/// A form with the body that it comes in.
struct Form<'a> {
    parser: Parser,
    body: &'a mut Incoming,
}

impl Form<'_> {
    async fn next(&mut self) -> Result<Event, Error> {
        loop {
            let event = self.parser.next().map_err(|FormError(problem)| malformed(problem))?;
            if let Some(event) = event {
                return Ok(event);
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.parser.push(data);
                    }
                }
                Some(Err(_)) => return Err(incomplete_body()),
                None => return Err(malformed("The form ends before its closing boundary")),
            }
        }
    }

    /// Reads to the end; what comes behind the file does not count.
    async fn finish(&mut self) -> Result<(), Error> {
        while !self.parser.is_closed() {
            self.next().await?;
        }
        while let Some(frame) = self.body.frame().await {
            frame.map_err(|_| incomplete_body())?;
        }
        Ok(())
    }
}

/// Everything up to the content of the file.
async fn read_fields(form: &mut Form<'_>) -> Result<(Fields, Head), Error> {
    let mut fields = Fields::default();
    let mut room = ALL_VALUES;
    for _ in 0..=MOST_FIELDS {
        let head = match form.next().await? {
            Event::Part(head) => head,
            Event::End => {
                return Err(malformed("It must have a field named file, after all others"));
            }
            Event::Data(_) | Event::PartEnd => continue,
        };
        if head.name.len() > LONGEST_NAME {
            return Err(too_long("The name of a field", LONGEST_NAME).ec("0006-00000110"));
        }
        if head.name.eq_ignore_ascii_case("file") {
            return Ok((fields, head));
        }
        let value = read_value(form).await?;
        room = room.checked_sub(value.len()).ok_or_else(|| {
            let message = format!("The fields before the file exceed the maximum allowed size of {ALL_VALUES}.");
            Error::new(StatusCode::BAD_REQUEST, "MaxPOSTPreDataLengthExceededError", message).ec("0006-00000112")
        })?;
        let value = String::from_utf8(value).map_err(|_| malformed("The value of a field is not UTF-8"))?;
        fields.values.entry(field_name(&head.name)).or_insert(value);
    }
    Err(too_long("The list of fields", MOST_FIELDS))
}

async fn read_value(form: &mut Form<'_>) -> Result<Vec<u8>, Error> {
    let mut value = Vec::new();
    loop {
        match form.next().await? {
            Event::Data(data) if value.len() + data.len() > LONGEST_VALUE => {
                return Err(too_long("The value of a field", LONGEST_VALUE));
            }
            Event::Data(data) => value.extend_from_slice(&data),
            Event::PartEnd | Event::Part(_) | Event::End => return Ok(value),
        }
    }
}

/// Writes the file to the disk, and refuses it as soon as it is too long.
async fn receive_file(form: &mut Form<'_>, bucket: &Bucket, allowed: &RangeInclusive<u64>) -> Result<Received, Error> {
    let mut receiving = bucket.receive().await.map_err(Error::disk)?;
    loop {
        let data: Bytes = match form.next().await? {
            Event::Data(data) => data,
            Event::PartEnd | Event::Part(_) | Event::End => break,
        };
        let size = receiving.size() + data.len() as u64;
        if size > LARGEST_UPLOAD || size > *allowed.end() {
            return Err(too_large().detail("MaxSizeAllowedByPolicy", allowed.end().to_string()));
        }
        receiving.write(&data).await.map_err(Error::disk)?;
    }
    form.finish().await?;
    if receiving.size() < *allowed.start() {
        let message = "Your proposed upload is smaller than the minimum allowed size.";
        return Err(Error::new(StatusCode::BAD_REQUEST, "EntityTooSmall", message)
            .detail("ProposedSize", receiving.size().to_string())
            .detail("MinSizeAllowed", allowed.start().to_string()));
    }
    receiving.finish().await.map_err(Error::disk)
}

/// protocol: `${filename}` in the key is the name of the uploader's file.
fn key_of(fields: &Fields, file: &Head) -> Result<String, Error> {
    let message = "A form must have a field named key before the file, and it must not be empty.";
    let key = fields.get("key").filter(|key| !key.is_empty());
    let key = key.ok_or_else(|| Error::invalid_argument("key", "", message))?;
    let filename = file.filename.as_deref().unwrap_or_default();
    // Not documented: what becomes of a whole path. Browsers send the last part alone.
    let filename = filename.rsplit(['/', '\\']).next().unwrap_or_default();
    let key = key.replace("${filename}", filename);
    match (1..=LONGEST_KEY).contains(&key.len()) {
        true => Ok(key),
        false => Err(Error::new(
            StatusCode::BAD_REQUEST,
            "InvalidObjectName",
            "The length of the key must be between 1 and 1023 bytes.",
        )),
    }
}

/// protocol: first the field of OSS, then the type of the file, then the field of that name.
fn content_type_of(fields: &Fields, file: &Head) -> String {
    let named = [fields.get("x-oss-content-type"), file.content_type.as_deref(), fields.get("content-type")];
    let found = named.into_iter().flatten().find(|value| !value.is_empty());
    found.unwrap_or("application/octet-stream").to_owned()
}

/// The fields that describe the object, as the headers that they would be in a PutObject.
fn headers_of(fields: &Fields, content_type: &str) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::new();
    let mut set = |name: &str, value: &str| -> Result<(), Error> {
        let refused = || Error::invalid_argument(name, value, "This field cannot be a header of the object.");
        let header = HeaderName::try_from(name).map_err(|_| refused())?;
        headers.insert(header, HeaderValue::from_bytes(value.as_bytes()).map_err(|_| refused())?);
        Ok(())
    };
    set(CONTENT_TYPE.as_str(), content_type)?;
    for (name, value) in &fields.values {
        if OBJECT_FIELDS.contains(&name.as_str()) || name.starts_with("x-oss-meta-") {
            set(name, value)?;
        }
    }
    Ok(headers)
}

/// What an upload without a callback is answered. With one, its answer or its failure is: how OSS combines the two is
/// not documented.
enum Success {
    Status(StatusCode),
    Redirect(String),
}

impl Success {
    fn of(fields: &Fields) -> Result<Self, Error> {
        if let Some(url) = fields.get("success_action_redirect").filter(|url| !url.is_empty()) {
            let usable =
                HeaderValue::try_from(url).is_ok() && (url.starts_with("http://") || url.starts_with("https://"));
            return match usable {
                true => Ok(Self::Redirect(url.to_owned())),
                false => {
                    let message = "It must be an http or https URL with what is not ASCII percent-encoded.";
                    Err(Error::invalid_argument("success_action_redirect", url, message))
                }
            };
        }
        // protocol: 204 by default, and for every other value.
        Ok(Self::Status(match fields.get("success_action_status") {
            Some("200") => StatusCode::OK,
            Some("201") => StatusCode::CREATED,
            _ => StatusCode::NO_CONTENT,
        }))
    }

    fn reply(&self, target: &Target, etag: &str, location: &str) -> Reply {
        match self {
            Self::Status(StatusCode::CREATED) => {
                let mut document = Document::new("PostResponse");
                document.text("Bucket", &target.bucket_name);
                document.text("Location", location);
                document.text("Key", &target.key);
                document.text("ETag", &format!("\"{etag}\""));
                let mut reply = xml(document);
                *reply.status_mut() = StatusCode::CREATED;
                reply
            }
            Self::Status(status) => empty(*status),
            Self::Redirect(url) => {
                let separator = if url.contains('?') { '&' } else { '?' };
                let encode = |text: &str| utf8_percent_encode(text, UNRESERVED).to_string();
                // Not documented: that the page is told what was stored, and in which parameters.
                let url = format!(
                    "{url}{separator}bucket={}&key={}&etag={}",
                    target.bucket_name,
                    encode(&target.key),
                    encode(&format!("\"{etag}\""))
                );
                let mut reply = empty(StatusCode::SEE_OTHER);
                if let Ok(url) = HeaderValue::try_from(url) {
                    reply.headers_mut().insert(LOCATION, url);
                }
                reply
            }
        }
    }
}

fn malformed(problem: &str) -> Error {
    let problem = problem.trim_end_matches('.');
    let message = format!("The body of your POST request is not well-formed multipart/form-data. {problem}.");
    Error::new(StatusCode::BAD_REQUEST, "MalformedPOSTRequest", message).ec("0006-00000104")
}

fn too_long(what: &str, limit: usize) -> Error {
    let message = format!("{what} exceeds the maximum allowed size of {limit}.");
    Error::new(StatusCode::BAD_REQUEST, "FieldItemTooLong", message)
}
