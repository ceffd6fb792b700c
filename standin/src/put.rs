//! PutObject.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, StatusCode};
use hyper::body::Incoming;
use md5::{Digest as _, Md5};

use crate::callback::Callback;
use crate::error::Error;
use crate::reply::{Reply, full};
use crate::request::Query;
use crate::server::State;
use crate::store::{Bucket, Received};
use crate::upload::{Arrived, LARGEST_UPLOAD, Target, describe, exists, receive, stored, too_large};

pub(crate) async fn put_object(
    state: &Arc<State>,
    target: Target,
    query: &Query,
    headers: &HeaderMap,
    body: &mut Incoming,
) -> Result<Reply, Error> {
    // protocol: a faulty callback is refused before anything is stored.
    let callback = Callback::read(headers, query, &target.bucket.settings().callback_policies)?;
    if let Some(callback) = &callback {
        callback.check_addresses(&state.callbacks).await?;
    }
    let description = describe(&target.key, headers)?;
    if !description.overwrite && target.bucket.find(&target.key).is_some() {
        return Err(exists(&target.key));
    }
    let received = receive_checked(&target.bucket, headers, body).await?;
    let (content, key) = (received.content(), target.key.clone());
    let commit = move |bucket: &Bucket| Ok(stored(bucket.commit(received, description)?, &key));
    let arrived = Arrived { target, callback, operation: "PutObject" };
    arrived.become_object(state, content, commit, |_, _| full("")).await
}

/// Writes a request's body to the disk, and refuses it unless it is what its headers announce.
pub(crate) async fn receive_checked(
    bucket: &Bucket,
    headers: &HeaderMap,
    body: &mut Incoming,
) -> Result<Received, Error> {
    // Before the body is read.
    declared_md5(headers)?;
    if !headers.contains_key(TRANSFER_ENCODING) {
        check_length(headers)?;
    }
    let received = receive(bucket, body).await?;
    check_received(headers, &received)?;
    Ok(received)
}

/// Refuses a body that has not the digest that the request claims.
pub(crate) fn check_received(headers: &HeaderMap, received: &Received) -> Result<(), Error> {
    match declared_md5(headers)? {
        Some(declared) if declared != received.md5 => Err(invalid_digest(headers)),
        _ => Ok(()),
    }
}

fn check_length(headers: &HeaderMap) -> Result<(), Error> {
    let length: Option<u64> =
        headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    match length {
        Some(length) if length > LARGEST_UPLOAD => Err(too_large()),
        Some(_) => Ok(()),
        None => Err(Error::new(
            StatusCode::LENGTH_REQUIRED,
            "MissingContentLength",
            "You must provide the Content-Length HTTP header.",
        )),
    }
}

/// The digest that a request claims its body has.
fn declared_md5(headers: &HeaderMap) -> Result<Option<[u8; 16]>, Error> {
    let Some(value) = headers.get("content-md5") else { return Ok(None) };
    let digest = STANDARD.decode(value.as_bytes()).ok().and_then(|digest| digest.try_into().ok());
    digest.map(Some).ok_or_else(|| invalid_digest(headers))
}

/// Refuses a body that is in memory unless it has the digest that the request claims.
pub(crate) fn check_md5(headers: &HeaderMap, body: &[u8]) -> Result<(), Error> {
    match declared_md5(headers)? {
        Some(declared) if declared != <[u8; 16]>::from(Md5::digest(body)) => Err(invalid_digest(headers)),
        _ => Ok(()),
    }
}

fn invalid_digest(headers: &HeaderMap) -> Error {
    let sent = headers.get("content-md5").map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    Error::new(StatusCode::BAD_REQUEST, "InvalidDigest", "The Content-MD5 you specified was invalid.")
        .detail("Content-MD5", sent.unwrap_or_default())
}
