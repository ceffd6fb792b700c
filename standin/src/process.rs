//! Processing, in the order in which it happens: the text of a request becomes a [`Task`] in [`chain`], the object is
//! read, [`image`], [`info`] or [`video`] make something of it, and that is the answer or is stored.

mod chain;
mod geometry;
mod image;
mod info;
mod jpeg;
mod video;

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::header::{CONTENT_TYPE, ETAG, LAST_MODIFIED};
use http::{HeaderMap, HeaderValue, StatusCode};
use hyper::body::Incoming;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::Semaphore;

use self::chain::{Conversion, Destination, Task, Trigger, Work};
use self::image::{LARGEST_SOURCE, damaged, source_too_large};
use self::video::Ffmpeg;
use crate::callback::Callback;
use crate::error::Error;
use crate::get::{CONDITIONS, check_conditions, last_modified};
use crate::put::check_md5;
use crate::reply::{Reply, empty, full};
use crate::request::Query;
use crate::server::State;
use crate::store::{Bucket, Commit, Content, Description, Object, is_bucket_name, on_disk};
use crate::upload::{Target, Uploaded, image_for, read_whole};

/// The longest body of a request for processing, in bytes: two parameters of a callback and some words.
const LONGEST_BODY: usize = 16 * 1024;
/// How many pictures are worked on at a time: each may take a gigabyte.
const PICTURES_AT_A_TIME: usize = 2;
/// How much of a result is in memory at a time while it is stored.
const PIECE: usize = 64 * 1024;

/// What all processing of one stand-in shares.
pub(crate) struct Processing {
    ffmpeg: Ffmpeg,
    pictures: Arc<Semaphore>,
}

/// What processing makes.
struct Output {
    bytes: Vec<u8>,
    content_type: &'static str,
}

impl Processing {
    /// Blocks on the disk.
    pub(crate) fn new(ffmpeg: PathBuf, data: &Path) -> io::Result<Self> {
        Ok(Self { ffmpeg: Ffmpeg::new(ffmpeg, data)?, pictures: Arc::new(Semaphore::new(PICTURES_AT_A_TIME)) })
    }
}

/// GetObject with `x-oss-process`.
pub(crate) async fn get_processed(
    state: &State,
    target: &Target,
    query: &Query,
    headers: &HeaderMap,
) -> Result<Reply, Error> {
    let task = Task::parse(query.get("x-oss-process").unwrap_or_default())?;
    // protocol: what changes something is asked for by POST.
    if task.save_as.is_some() || matches!(task.work, Work::Convert(_) | Work::TriggerCallback(_)) {
        let message = "What stores or calls something must be asked for by POST.";
        return Err(Error::new(StatusCode::BAD_REQUEST, "InvalidArgument", message));
    }
    let (object, content) = source(target)?;
    if check_conditions(&object, headers, &CONDITIONS)? {
        return Ok(empty(StatusCode::NOT_MODIFIED));
    }
    reply(&object, make(state, &task.work, content).await?)
}

/// `?x-oss-process` by POST: the task stands in the body, and its result may be stored.
pub(crate) async fn post_process(
    state: &Arc<State>,
    target: Target,
    headers: &HeaderMap,
    body: &mut Incoming,
) -> Result<Reply, Error> {
    let text = text_in(headers, body, "x-oss-process").await?;
    let task = Task::parse(&text)?;
    let (object, content) = source(&target)?;
    match task.work {
        Work::TriggerCallback(trigger) => trigger_callback(state, target, object, content, &trigger).await,
        Work::Convert(_) => {
            let message = "video/convert must be asked for with x-oss-async-process.";
            Err(Error::new(StatusCode::BAD_REQUEST, "InvalidArgument", message))
        }
        work => match task.save_as {
            // Not documented; clients have been seen to get the picture itself.
            None => reply(&object, make(state, &work, content).await?),
            Some(destination) => {
                let (bucket_name, bucket) = bucket_of(state, &target, &destination)?;
                let output = make(state, &work, content).await?;
                let key = destination.key.clone();
                // A task of its own: a client that hangs up now does not tear the commit.
                let storing =
                    tokio::spawn(async move { save(&bucket, key, output.content_type, output.bytes.as_slice()).await });
                let saved = storing.await.map_err(Error::internal)??;
                Ok(json_reply(&json!({
                    "bucket": bucket_name,
                    "fileSize": saved.size,
                    "object": destination.key,
                    "status": "OK",
                })))
            }
        },
    }
}

/// `?x-oss-async-process`: the answer is the number of a task that goes on.
pub(crate) async fn post_async_process(
    state: &Arc<State>,
    target: Target,
    headers: &HeaderMap,
    body: &mut Incoming,
) -> Result<Reply, Error> {
    let text = text_in(headers, body, "x-oss-async-process").await?;
    let task = Task::parse(&text)?;
    let Work::Convert(conversion) = task.work else {
        return Err(Error::not_implemented("x-oss-async-process of other than video/convert"));
    };
    let Some(mut destination) = task.save_as else {
        let message = "x-oss-async-process needs sys/saveas.";
        return Err(Error::new(StatusCode::BAD_REQUEST, "MissingArgument", message));
    };
    // Variables of the name of a result; others than this one are kept as they are.
    destination.key = destination.key.replace("{autoext}", &conversion.container);
    let (_, content) = source(&target)?;
    let (_, bucket) = bucket_of(state, &target, &destination)?;
    if !state.processing.ffmpeg.is_installed().await {
        // OSS would take the task. Here it could never end, so better say so at once.
        return Err(Error::not_implemented("video/convert without ffmpeg, which is not installed"));
    }
    let task_id = format!("MediaConvert-{}", new_uuid());
    let (state, task) = (Arc::clone(state), task_id.clone());
    tokio::spawn(async move {
        let key = destination.key.clone();
        let converted = tokio::select! {
            converted = convert(&state, content, &conversion, &bucket, destination.key) => converted,
            // Who stops the stand-in does not wait for a film.
            () = state.stopping.asked() => return tracing::warn!(task, key, "not converted: the stand-in stops"),
        };
        match converted {
            Ok(object) => tracing::info!(task, key, size = object.size, "converted"),
            Err(error) => tracing::warn!(task, key, code = error.code, reason = error.message, "not converted"),
        }
    });
    Ok(json_reply(&json!({
        "EventId": new_uuid().replace('-', "").to_uppercase(),
        "RequestId": target.request_id,
        "TaskId": task_id,
    })))
}

async fn convert(
    state: &State,
    content: Content,
    conversion: &Conversion,
    bucket: &Arc<Bucket>,
    key: String,
) -> Result<Arc<Object>, Error> {
    let converted = state.processing.ffmpeg.convert(content, conversion).await?;
    let file = tokio::fs::File::open(converted.path()).await.map_err(Error::internal)?;
    save(bucket, key, conversion.content_type(), file).await
}

/// Fires a callback for an object that exists.
async fn trigger_callback(
    state: &Arc<State>,
    target: Target,
    object: Arc<Object>,
    content: Content,
    trigger: &Trigger,
) -> Result<Reply, Error> {
    let policies = &target.bucket.settings().callback_policies;
    let callback = Callback::from_encoded(trigger.callback.as_deref(), trigger.variables.as_deref(), policies)?
        .ok_or_else(|| {
            Error::invalid_argument("callback", "", "trigger/callback needs a callback with a callbackUrl.")
        })?;
    callback.check_addresses(&state.callbacks).await?;
    // A task of its own: a client that hangs up now does not keep the callback from being fired.
    let state = Arc::clone(state);
    let fired = tokio::spawn(async move {
        let image = image_for(Some(&callback), content).await;
        // Not documented: the operation; OSS calls the permission to do this so.
        let uploaded = Uploaded { target: &target, object: &object, image, operation: "PostProcessTask" };
        uploaded.answer(&state, Some(callback), full("")).await
    });
    fired.await.map_err(Error::internal)?
}

/// What a request's body says after `NAME=`.
async fn text_in(headers: &HeaderMap, body: &mut Incoming, name: &str) -> Result<String, Error> {
    let body = read_whole(body, LONGEST_BODY).await?;
    check_md5(headers, &body)?;
    let text = std::str::from_utf8(&body).ok().map(str::trim);
    text.and_then(|text| text.strip_prefix(name)?.strip_prefix('='))
        .map(str::to_owned)
        .ok_or_else(|| Error::new(StatusCode::BAD_REQUEST, "InvalidRequest", format!("no {name} parameter found")))
}

fn source(target: &Target) -> Result<(Arc<Object>, Content), Error> {
    target.bucket.read(&target.key).ok_or_else(|| Error::no_such_key(&target.key).ec("0040-00000024"))
}

fn bucket_of(state: &State, target: &Target, destination: &Destination) -> Result<(String, Arc<Bucket>), Error> {
    let Some(name) = &destination.bucket else {
        return Ok((target.bucket_name.clone(), Arc::clone(&target.bucket)));
    };
    if !is_bucket_name(name) {
        return Err(Error::new(StatusCode::BAD_REQUEST, "InvalidBucketName", "The specified bucket is not valid.")
            .detail("BucketName", name));
    }
    let bucket = state.store.bucket(name).ok_or_else(|| Error::no_such_bucket(name))?;
    Ok((name.clone(), bucket))
}

/// Does what can be answered at once.
async fn make(state: &State, work: &Work, content: Content) -> Result<Output, Error> {
    match work {
        Work::ImageInfo => {
            let bytes = with_picture(state, content, info::describe).await?.into_bytes();
            Ok(Output { bytes, content_type: "application/json" })
        }
        Work::Image(steps) => {
            let steps = steps.clone();
            let picture = with_picture(state, content, move |source| image::process(source, &steps)).await?;
            Ok(Output { bytes: picture.bytes, content_type: picture.content_type })
        }
        Work::Snapshot(snapshot) => {
            let bytes = state.processing.ffmpeg.snapshot(content, snapshot).await?;
            Ok(Output { bytes, content_type: if snapshot.png { "image/png" } else { "image/jpeg" } })
        }
        Work::Convert(_) | Work::TriggerCallback(_) => Err(Error::internal("work that is not answered at once")),
    }
}

/// Reads a source within the limits and works on it, off the async threads. A decoder that fails on hostile content
/// costs this request alone.
async fn with_picture<T: Send + 'static>(
    state: &State,
    mut content: Content,
    work: impl FnOnce(&[u8]) -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let size = content.size();
    if size > LARGEST_SOURCE {
        return Err(source_too_large(size));
    }
    let turn = Arc::clone(&state.processing.pictures).acquire_owned().await.map_err(Error::internal)?;
    let working = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let mut source = Vec::new();
        content.read_to_end(&mut source).map_err(Error::internal)?;
        work(&source)
    });
    working.await.map_err(|failed| if failed.is_panic() { damaged(false) } else { Error::internal(failed) })?
}

/// Stores a result as an object, durably.
async fn save(
    bucket: &Arc<Bucket>,
    key: String,
    content_type: &str,
    mut content: impl AsyncRead + Unpin,
) -> Result<Arc<Object>, Error> {
    let mut receiving = bucket.receive().await.map_err(Error::disk)?;
    let mut piece = Vec::with_capacity(PIECE);
    while content.read_buf(&mut piece).await.map_err(Error::internal)? > 0 {
        receiving.write(&piece).await.map_err(Error::internal)?;
        piece.clear();
    }
    let received = receiving.finish().await.map_err(Error::internal)?;
    let description =
        Description { key, content_type: content_type.to_owned(), headers: Default::default(), overwrite: true };
    let bucket = Arc::clone(bucket);
    match on_disk(move || bucket.commit(received, description)).await? {
        Commit::Stored(object) => Ok(object),
        Commit::Exists => Err(Error::internal("an object that may be replaced was not")),
    }
}

/// protocol: the entity tag is that of the source, whatever was made of it.
fn reply(object: &Object, output: Output) -> Result<Reply, Error> {
    let mut reply = full(output.bytes);
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(output.content_type));
    headers.insert(ETAG, HeaderValue::try_from(format!("\"{}\"", object.etag)).map_err(Error::internal)?);
    let changed = httpdate::fmt_http_date(last_modified(object));
    headers.insert(LAST_MODIFIED, HeaderValue::try_from(changed).map_err(Error::internal)?);
    Ok(reply)
}

fn json_reply(document: &serde_json::Value) -> Reply {
    let mut reply = full(document.to_string());
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

/// A random number in the shape of a UUID.
fn new_uuid() -> String {
    let digits = format!("{:032x}", rand::random::<u128>());
    let part = |range: std::ops::Range<usize>| digits.get(range).unwrap_or_default();
    [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-")
}
