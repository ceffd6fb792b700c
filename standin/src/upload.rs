//! What every upload has in common, whichever operation makes it: the callback is judged first, the body goes to disk
//! as it arrives, the object appears, the callback is fired, and its verdict decides the answer.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE, ETAG, EXPIRES,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use percent_encoding::utf8_percent_encode;

use crate::callback::{Callback, Image, Upload, image_in};
use crate::error::Error;
use crate::put::check_md5;
use crate::reply::{Reply, full};
use crate::server::State;
use crate::signature::UNRESERVED_PATH;
use crate::store::{Bucket, Commit, Content, Description, Object, Received, on_disk};
use crate::xml::Element;

/// protocol: one request uploads at most 5 GiB.
pub(crate) const LARGEST_UPLOAD: u64 = 5 * 1024 * 1024 * 1024;

/// The longest XML document of a request in bytes: protocol: 2 MB.
pub(crate) const LARGEST_DOCUMENT: usize = 2 * 1024 * 1024;

/// Headers of what is not imitated: they change nothing here, but what OSS would refuse is refused.
const CHECKED_ONLY: &[(&str, &[&str])] = &[
    ("x-oss-object-acl", &["default", "private", "public-read", "public-read-write"]),
    ("x-oss-storage-class", &["Standard", "IA", "Archive", "ColdArchive", "DeepColdArchive"]),
    ("x-oss-server-side-encryption", &["AES256", "KMS", "SM4"]),
    ("x-oss-forbid-overwrite", &["true", "false"]),
];

/// Where an upload goes and where it comes from.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) bucket_name: String,
    pub(crate) bucket: Arc<Bucket>,
    pub(crate) key: String,
    pub(crate) client: IpAddr,
    pub(crate) request_id: String,
}

/// Writes a request's body to the disk.
pub(crate) async fn receive(bucket: &Bucket, body: &mut Incoming) -> Result<Received, Error> {
    let mut receiving = bucket.receive().await.map_err(Error::disk)?;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| incomplete_body())?;
        if let Some(data) = frame.data_ref() {
            if receiving.size() + data.len() as u64 > LARGEST_UPLOAD {
                return Err(too_large());
            }
            receiving.write(data).await.map_err(Error::disk)?;
        }
    }
    receiving.finish().await.map_err(Error::disk)
}

/// Reads a request's body into memory, if it is no longer than `limit` bytes.
pub(crate) async fn read_whole(body: &mut Incoming, limit: usize) -> Result<Bytes, Error> {
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| incomplete_body())?;
        if let Some(data) = frame.data_ref() {
            if whole.len() + data.len() > limit {
                let message = format!("The body of this request must not be longer than {limit} bytes.");
                return Err(Error::new(StatusCode::BAD_REQUEST, "EntityTooLarge", message));
            }
            whole.extend_from_slice(data);
        }
    }
    Ok(whole.into())
}

/// The XML document that a request's body holds, with this root, checked against its Content-MD5 if it brings one (OSS
/// requires one of some operations; SDKs do not always send it).
pub(crate) async fn read_document(headers: &HeaderMap, body: &mut Incoming, root: &str) -> Result<Element, Error> {
    let document = read_whole(body, LARGEST_DOCUMENT).await?;
    check_md5(headers, &document)?;
    Element::parse(&document, root).ok_or_else(|| Error::malformed_xml(root))
}

/// What the headers of an upload say about the object that it makes.
pub(crate) fn describe(key: &str, headers: &HeaderMap) -> Result<Description, Error> {
    for (name, values) in CHECKED_ONLY {
        let Some(value) = headers.get(*name) else { continue };
        let value = String::from_utf8_lossy(value.as_bytes());
        if !values.iter().any(|known| known.eq_ignore_ascii_case(&value)) {
            let message = format!("The value of {name} must be one of {}.", values.join(", "));
            return Err(Error::invalid_argument(name, &value, message));
        }
    }
    let kept = [CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, EXPIRES];
    let mut description = Description {
        key: key.to_owned(),
        content_type: "application/octet-stream".to_owned(),
        headers: BTreeMap::new(),
        overwrite: !header_is(headers, "x-oss-forbid-overwrite", "true"),
    };
    for (name, value) in headers {
        if *name != CONTENT_TYPE && !kept.contains(name) && !name.as_str().starts_with("x-oss-meta-") {
            continue;
        }
        let value = std::str::from_utf8(value.as_bytes()).map_err(|_| {
            Error::invalid_argument(name.as_str(), "", "A header that is kept with the object must be UTF-8.")
        })?;
        if *name != CONTENT_TYPE {
            description.headers.insert(name.as_str().to_owned(), value.to_owned());
        } else if !value.is_empty() {
            description.content_type = value.to_owned();
        }
    }
    Ok(description)
}

/// The image properties that a callback asks for.
///
/// A decoder that fails on hostile content costs the properties, not the upload.
pub(crate) async fn image_for(callback: Option<&Callback>, content: Content) -> Option<Image> {
    callback.filter(|callback| callback.asks_about_image())?;
    tokio::task::spawn_blocking(move || image_in(content)).await.ok().flatten()
}

/// An upload whose content has arrived and is what it should be.
pub(crate) struct Arrived {
    pub(crate) target: Target,
    pub(crate) callback: Option<Callback>,
    /// As the callback's variable of that name has it.
    pub(crate) operation: &'static str,
}

impl Arrived {
    /// Makes the object by `commit`, fires the callback and answers with its verdict; without one, with what `plain`
    /// makes of the object. `content` gives what is committed.
    ///
    /// In a task of its own: an uploader that hangs up now neither tears the commit nor keeps the callback from being
    /// fired.
    pub(crate) async fn become_object(
        self,
        state: &Arc<State>,
        content: Content,
        commit: impl FnOnce(&Bucket) -> io::Result<Result<Arc<Object>, Error>> + Send + 'static,
        plain: impl FnOnce(&Target, &Object) -> Reply + Send + 'static,
    ) -> Result<Reply, Error> {
        let Self { target, callback, operation } = self;
        let (state, bucket) = (Arc::clone(state), Arc::clone(&target.bucket));
        let finish = tokio::spawn(async move {
            let image = image_for(callback.as_ref(), content).await;
            let object = on_disk(move || commit(&bucket)).await??;
            let plain = plain(&target, &object);
            Uploaded { target: &target, object: &object, image, operation }.answer(&state, callback, plain).await
        });
        finish.await.map_err(Error::internal)?
    }
}

/// An object that was just uploaded.
pub(crate) struct Uploaded<'a> {
    pub(crate) target: &'a Target,
    pub(crate) object: &'a Object,
    pub(crate) image: Option<Image>,
    /// The value of the callback's variable of that name.
    pub(crate) operation: &'static str,
}

impl Uploaded<'_> {
    /// Fires the callback, if one is wanted, and answers the upload with its verdict; without one, with `plain`.
    pub(crate) async fn answer(self, state: &State, callback: Option<Callback>, plain: Reply) -> Result<Reply, Error> {
        let mut upload_headers = HeaderMap::new();
        let mut set = |name: &str, value: &str| -> Result<(), Error> {
            let name = HeaderName::try_from(name).map_err(Error::internal)?;
            upload_headers.insert(name, HeaderValue::try_from(value).map_err(Error::internal)?);
            Ok(())
        };
        set(ETAG.as_str(), &format!("\"{}\"", self.object.etag))?;
        set("x-oss-hash-crc64ecma", &self.object.crc64.to_string())?;
        if let Some(md5) = &self.object.content_md5 {
            set("content-md5", md5)?;
        }
        let Some(callback) = callback else {
            let mut reply = plain;
            reply.headers_mut().extend(upload_headers);
            return Ok(reply);
        };
        let upload = Upload {
            bucket: &self.target.bucket_name,
            object: &self.object.key,
            etag: &self.object.etag,
            size: self.object.size,
            mime_type: &self.object.content_type,
            image: self.image,
            crc64: self.object.crc64,
            content_md5: self.object.content_md5.as_deref(),
            client: self.target.client,
            request_id: &self.target.request_id,
            operation: self.operation,
        };
        match state.callbacks.fire(&callback, &upload).await {
            Ok(answer) => {
                let mut reply = full(answer.body);
                *reply.headers_mut() = upload_headers;
                if let Some(content_type) = answer.content_type {
                    reply.headers_mut().insert(CONTENT_TYPE, content_type);
                }
                Ok(reply)
            }
            Err(failure) => {
                // protocol: 203; the object stays.
                let status = StatusCode::NON_AUTHORITATIVE_INFORMATION;
                let mut error = Error::new(status, "CallbackFailed", failure.message).ec(failure.ec);
                error.headers = Box::new(upload_headers);
                Err(error)
            }
        }
    }
}

/// Where an object can be had, as answers to uploads name it: beneath the host that the uploader used.
pub(crate) fn location(host: &str, target: &Target) -> String {
    let key = utf8_percent_encode(&target.key, UNRESERVED_PATH);
    match host.strip_prefix(target.bucket_name.as_str()).is_some_and(|rest| rest.starts_with('.')) {
        true => format!("http://{host}/{key}"),
        false => format!("http://{host}/{}/{key}", target.bucket_name),
    }
}

/// The object that a commit made, unless it stopped at one that may not be replaced.
pub(crate) fn stored(commit: Commit, key: &str) -> Result<Arc<Object>, Error> {
    match commit {
        Commit::Stored(object) => Ok(object),
        Commit::Exists => Err(exists(key)),
    }
}

pub(crate) fn exists(key: &str) -> Error {
    Error::new(
        StatusCode::CONFLICT,
        "FileAlreadyExists",
        "The object you specified already exists and can not be overwritten.",
    )
    .detail("Key", key)
}

pub(crate) fn too_large() -> Error {
    Error::new(StatusCode::BAD_REQUEST, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size.")
        .detail("MaxSizeAllowed", LARGEST_UPLOAD.to_string())
}

pub(crate) fn incomplete_body() -> Error {
    Error::new(StatusCode::BAD_REQUEST, "IncompleteBody", "The request body ended before its announced length.")
}

pub(crate) fn header_is(headers: &HeaderMap, name: &str, expected: &str) -> bool {
    headers.get(name).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(expected.as_bytes()))
}
