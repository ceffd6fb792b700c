//! PutObject: the body goes to disk as it arrives, then the object appears, then the callback is fired.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_TYPE, ETAG,
    EXPIRES, TRANSFER_ENCODING,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::callback::{Callback, Image, Upload, image_in};
use crate::error::Error;
use crate::reply::{Reply, full};
use crate::request::Query;
use crate::server::State;
use crate::store::{Bucket, Commit, Description, Object, Received};

/// protocol: one request uploads at most 5 GiB.
const LARGEST_OBJECT: u64 = 5 * 1024 * 1024 * 1024;

/// Where an upload goes and where it comes from.
pub(crate) struct Target {
    pub(crate) bucket_name: String,
    pub(crate) bucket: Arc<Bucket>,
    pub(crate) key: String,
    pub(crate) client: IpAddr,
    pub(crate) request_id: String,
}

pub(crate) async fn put_object(
    state: &Arc<State>,
    target: Target,
    query: &Query,
    headers: &HeaderMap,
    body: &mut Incoming,
) -> Result<Reply, Error> {
    // protocol: a faulty callback is refused before anything is stored.
    let callback = Callback::read(headers, query)?;
    if let Some(callback) = &callback {
        callback.check_addresses(&state.callbacks).await?;
    }
    let declared_md5 = declared_md5(headers)?;
    let description = describe(&target.key, headers)?;
    let overwrite = !header_is(headers, "x-oss-forbid-overwrite", "true");
    if !overwrite && target.bucket.find(&target.key).is_some() {
        return Err(exists(&target.key));
    }
    if !headers.contains_key(TRANSFER_ENCODING) {
        check_length(headers)?;
    }

    let received = receive(&target.bucket, body).await?;
    if declared_md5.is_some_and(|declared| declared != received.md5) {
        return Err(invalid_digest(headers));
    }

    // A task of its own: an uploader that hangs up now neither tears the commit nor keeps the callback from being fired.
    let state = Arc::clone(state);
    let finish = tokio::spawn(async move {
        let image = match &callback {
            Some(callback) if callback.asks_about_image() => image_of(&received).await,
            _ => None,
        };
        let bucket = Arc::clone(&target.bucket);
        let committed = tokio::task::spawn_blocking(move || bucket.commit(received, description, overwrite))
            .await
            .map_err(Error::internal)?
            .map_err(Error::internal)?;
        match committed {
            Commit::Stored(object) => answer(&state, &target, &object, callback, image).await,
            Commit::Exists => Err(exists(&target.key)),
        }
    });
    finish.await.map_err(Error::internal)?
}

/// A decoder that fails on hostile content costs the properties, not the upload.
async fn image_of(received: &Received) -> Option<Image> {
    let file = received.open().ok()?;
    tokio::task::spawn_blocking(move || image_in(file)).await.ok().flatten()
}

async fn answer(
    state: &State,
    target: &Target,
    object: &Object,
    callback: Option<Callback>,
    image: Option<Image>,
) -> Result<Reply, Error> {
    let mut upload_headers = HeaderMap::new();
    for (name, value) in [
        (ETAG.as_str(), format!("\"{}\"", object.etag)),
        ("content-md5", object.content_md5.clone()),
        ("x-oss-hash-crc64ecma", object.crc64.to_string()),
    ] {
        upload_headers.insert(name, HeaderValue::try_from(value).map_err(Error::internal)?);
    }
    let Some(callback) = callback else {
        let mut reply = full("");
        *reply.headers_mut() = upload_headers;
        return Ok(reply);
    };
    let upload = Upload {
        bucket: &target.bucket_name,
        object: &target.key,
        etag: &object.etag,
        size: object.size,
        mime_type: &object.content_type,
        image,
        crc64: object.crc64,
        content_md5: Some(&object.content_md5),
        client: target.client,
        request_id: &target.request_id,
        operation: "PutObject",
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

async fn receive(bucket: &Bucket, body: &mut Incoming) -> Result<Received, Error> {
    let mut receiving = bucket.receive().await.map_err(Error::internal)?;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| {
            Error::new(StatusCode::BAD_REQUEST, "IncompleteBody", "The request body ended before its announced length.")
        })?;
        if let Some(data) = frame.data_ref() {
            if receiving.size() + data.len() as u64 > LARGEST_OBJECT {
                return Err(too_large());
            }
            receiving.write(data).await.map_err(Error::internal)?;
        }
    }
    receiving.finish().await.map_err(Error::internal)
}

fn check_length(headers: &HeaderMap) -> Result<(), Error> {
    let length: Option<u64> =
        headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    match length {
        Some(length) if length > LARGEST_OBJECT => Err(too_large()),
        Some(_) => Ok(()),
        None => Err(Error::new(
            StatusCode::LENGTH_REQUIRED,
            "MissingContentLength",
            "You must provide the Content-Length HTTP header.",
        )),
    }
}

fn describe(key: &str, headers: &HeaderMap) -> Result<Description, Error> {
    let kept = [CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE, EXPIRES];
    let mut description = Description {
        key: key.to_owned(),
        content_type: "application/octet-stream".to_owned(),
        headers: BTreeMap::new(),
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

fn declared_md5(headers: &HeaderMap) -> Result<Option<[u8; 16]>, Error> {
    let Some(value) = headers.get("content-md5") else { return Ok(None) };
    let digest = STANDARD.decode(value.as_bytes()).ok().and_then(|digest| digest.try_into().ok());
    digest.map(Some).ok_or_else(|| invalid_digest(headers))
}

fn invalid_digest(headers: &HeaderMap) -> Error {
    let sent = headers.get("content-md5").map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    Error::new(StatusCode::BAD_REQUEST, "InvalidDigest", "The Content-MD5 you specified was invalid.")
        .detail("Content-MD5", sent.unwrap_or_default())
}

fn exists(key: &str) -> Error {
    Error::new(
        StatusCode::CONFLICT,
        "FileAlreadyExists",
        "The object you specified already exists and can not be overwritten.",
    )
    .detail("Key", key)
}

fn too_large() -> Error {
    Error::new(StatusCode::BAD_REQUEST, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size.")
        .detail("MaxSizeAllowed", LARGEST_OBJECT.to_string())
}

fn header_is(headers: &HeaderMap, name: &str, expected: &str) -> bool {
    headers.get(name).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(expected.as_bytes()))
}
