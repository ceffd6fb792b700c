//! The server: accepts connections and takes each request through reading, proof and operation to its answer.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::header::{CONTENT_TYPE, EXPECT, HOST, HeaderValue};
use http::request::Parts;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use crate::callback::Callbacks;
use crate::error::Error;
use crate::get::{get_object, head_object};
use crate::list::list_objects;
use crate::operation::Operation;
use crate::put::{Target, put_object};
use crate::reply::{Reply, full, new_request_id, stamp};
use crate::request::{Address, Query, addresses};
use crate::signature::{Claim, Head};
use crate::store::Store;

/// Where the public key is served. An underscore cannot stand in a bucket's name, so this hides no object.
pub(crate) const PUBLIC_KEY_PATH: &str = "/_standin/callback_pub_key_v1.pem";

/// How long connections have to finish once the stand-in is asked to stop.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// How much of the body of a refused request is still read, and how long: a client that is cut off while it sends
/// reports a broken connection in place of the refusal.
const DRAINED_BYTES: u64 = 16 * 1024 * 1024;
const DRAINED_TIME: Duration = Duration::from_secs(5);

/// What all requests share.
pub(crate) struct State {
    pub(crate) buckets: Vec<String>,
    pub(crate) region: String,
    pub(crate) access_key_id: String,
    pub(crate) access_key_secret: String,
    /// `None`: neither skew nor expiry is looked at.
    pub(crate) max_skew: Option<Duration>,
    /// Whether signatures are not asked for.
    pub(crate) anonymous: bool,
    pub(crate) store: Store,
    pub(crate) callbacks: Callbacks,
    /// Closed when the last request is done with all of the above, also one whose client is gone: only then is the
    /// data folder free. Dropped last, as fields are dropped in order.
    pub(crate) _in_use: mpsc::Sender<Infallible>,
}

/// Serves until told to stop, then lets the requests in progress finish.
pub(crate) async fn serve(listener: TcpListener, state: Arc<State>, mut stop: watch::Receiver<bool>) {
    let connections = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // Also when the handle of the stand-in is gone.
            _ = stop.changed() => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(cause) => {
                // Most often too many open files: the connections that are open must end first.
                tracing::warn!(%cause, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        if let Err(cause) = stream.set_nodelay(true) {
            tracing::debug!(%cause, %peer, "small answers may be late");
        }
        let state = Arc::clone(&state);
        let service = service_fn(move |request| {
            let state = Arc::clone(&state);
            async move { Ok::<_, Infallible>(answer(&state, peer, request).await) }
        });
        let connection = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            if let Err(cause) = connection.await {
                tracing::debug!(%cause, %peer, "connection ended early");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(PATIENCE, connections.shutdown()).await.is_err() {
        tracing::warn!("stopped with requests in progress");
    }
}

async fn answer(state: &Arc<State>, peer: SocketAddr, request: Request<Incoming>) -> Reply {
    let began = Instant::now();
    let (parts, mut body) = request.into_parts();
    let request_id = new_request_id();
    let host = host_of(&parts).unwrap_or_default();
    let result = match is_public_key(&parts) {
        true => Ok(public_key(state)),
        false => perform(state, peer, &parts, &mut body, &request_id).await,
    };
    let mut reply = match result {
        Ok(reply) => reply,
        Err(error) => {
            tracing::debug!(code = error.code, reason = error.message, request_id, "answered with an error");
            if !body.is_end_stream() && !parts.headers.contains_key(EXPECT) {
                let _ = tokio::time::timeout(DRAINED_TIME, drain(&mut body)).await;
            }
            match parts.method {
                Method::HEAD => error.into_head_reply(&request_id, &host),
                _ => error.into_reply(&request_id, &host),
            }
        }
    };
    stamp(&mut reply, &request_id, began.elapsed().as_millis());
    tracing::info!(method = %parts.method, path = parts.uri.path(), status = reply.status().as_u16(), request_id, "request");
    reply
}

async fn perform(
    state: &Arc<State>,
    peer: SocketAddr,
    parts: &Parts,
    body: &mut Incoming,
    request_id: &str,
) -> Result<Reply, Error> {
    let (method, headers) = (&parts.method, &parts.headers);
    let query = Query::parse(parts.uri.query().unwrap_or_default())?;
    let readings = addresses(parts.uri.path(), host_of(parts).as_deref(), &state.buckets)?;
    let address = state.authorize(Head { method, query: &query, headers }, &readings)?;
    let Some(bucket_name) = &address.bucket else {
        return Err(Error::not_implemented("an operation without a bucket"));
    };
    let bucket = state.store.bucket(bucket_name).ok_or_else(|| Error::no_such_bucket(bucket_name))?;
    let key = &address.key;
    match Operation::of(method, key, &query, headers)? {
        Operation::PutObject => {
            let target = Target {
                bucket_name: bucket_name.clone(),
                bucket,
                key: key.clone(),
                client: peer.ip(),
                request_id: request_id.to_owned(),
            };
            put_object(state, target, &query, headers, body).await
        }
        Operation::GetObject => get_object(bucket, key, &query, headers).await,
        Operation::HeadObject => head_object(&bucket, key, &query, headers),
        Operation::ListObjects => list_objects(bucket_name, &bucket, &query),
        Operation::DeleteObject => {
            let key = key.clone();
            let deleted = tokio::task::spawn_blocking(move || bucket.delete(&key)).await.map_err(Error::internal)?;
            deleted.map_err(Error::internal)?;
            // protocol: 204, also if there was no such object.
            let mut reply = full("");
            *reply.status_mut() = StatusCode::NO_CONTENT;
            Ok(reply)
        }
    }
}

impl State {
    /// The reading of the request that its signature proves.
    fn authorize<'a>(&self, head: Head<'_>, readings: &'a [Address]) -> Result<&'a Address, Error> {
        let first = readings.first().ok_or_else(|| Error::internal("a request without an address"))?;
        if self.anonymous {
            // A signature still tells which of several readings the client means.
            let claim = Claim::read(head).ok().flatten();
            let meant = claim.and_then(|claim| claim.verify(head, readings, &self.access_key_secret).ok());
            return Ok(meant.unwrap_or(first));
        }
        let claim = Claim::read(head)?.ok_or_else(|| Error::access_denied("The request is not signed."))?;
        if claim.access_key_id() != self.access_key_id {
            return Err(Error::new(
                StatusCode::FORBIDDEN,
                "InvalidAccessKeyId",
                "The OSS Access Key Id you provided does not exist in our records.",
            )
            .detail("OSSAccessKeyId", claim.access_key_id()));
        }
        if let Some(region) = claim.region().filter(|region| *region != self.region) {
            let message = format!("The request is signed for the region {region}, this is {}.", self.region);
            return Err(Error::invalid_argument("Credential", region, message));
        }
        if let Some(skew) = self.max_skew {
            claim.check_time(SystemTime::now(), skew)?;
        }
        claim.verify(head, readings, &self.access_key_secret)
    }
}

fn host_of(parts: &Parts) -> Option<String> {
    let header = parts.headers.get(HOST).and_then(|value| value.to_str().ok()).map(str::to_owned);
    // A request line may hold a whole URL; then its host counts.
    parts.uri.authority().map(|authority| authority.as_str().to_owned()).or(header)
}

fn is_public_key(parts: &Parts) -> bool {
    parts.uri.path() == PUBLIC_KEY_PATH && matches!(parts.method, Method::GET | Method::HEAD)
}

fn public_key(state: &State) -> Reply {
    let mut reply = full(state.callbacks.key.public_pem().to_owned());
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-pem-file"));
    reply
}

async fn drain(body: &mut Incoming) {
    let mut drained = 0;
    while let Some(Ok(frame)) = body.frame().await {
        drained += frame.data_ref().map_or(0, |data| data.len() as u64);
        if drained > DRAINED_BYTES {
            return;
        }
    }
}
