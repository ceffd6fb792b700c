//! The server: accepts connections and takes each request through reading, proof and operation to its answer.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::header::{CONTENT_TYPE, EXPECT, HeaderValue};
use http::request::Parts;
use http::{Method, Request};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use crate::admin;
use crate::callback::Callbacks;
use crate::connection::{Client, Cut, Socket};
use crate::cors::stamp_cors;
use crate::dispatch::{host_of, is_for_a_bucket, likely_subject, perform};
use crate::error::Error;
use crate::fault::{Faults, Meeting, RequestFault};
use crate::journal::{Answering, Recorder};
use crate::process::Processing;
use crate::reply::{Reply, full, new_request_id, stamp};
use crate::store::Store;

/// Where the public key is served. No bucket has such a name, and where the bucket stands in Host, it is a key of it.
pub(crate) const PUBLIC_KEY_PATH: &str = "/_standin/callback_pub_key_v1.pem";

/// How long connections have to finish once the stand-in is asked to stop.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// How much of the body of a refused request is still read, and how long: a client that is cut off while it sends
/// reports a broken connection in place of the refusal.
const DRAINED_BYTES: u64 = 16 * 1024 * 1024;
const DRAINED_TIME: Duration = Duration::from_secs(5);

/// Who waits for something else learns from it that the stand-in is asked to stop.
#[derive(Clone)]
pub(crate) struct Stopping(pub(crate) watch::Receiver<bool>);

impl Stopping {
    /// Returns once the stand-in is asked to stop.
    pub(crate) async fn asked(&self) {
        // An error means that the handle of the stand-in is gone, which stops it too.
        let _ = self.0.clone().wait_for(|stopping| *stopping).await;
    }
}

/// What all requests share.
pub(crate) struct State {
    pub(crate) region: String,
    pub(crate) access_key_id: String,
    pub(crate) access_key_secret: String,
    /// `None`: neither skew nor expiry is looked at.
    pub(crate) max_skew: Option<Duration>,
    /// Whether signatures are not asked for.
    pub(crate) anonymous: bool,
    /// Whether a bucket without CORS rules keeps pages of other origins out.
    pub(crate) strict_cors: bool,
    pub(crate) store: Store,
    pub(crate) callbacks: Callbacks,
    pub(crate) processing: Processing,
    pub(crate) faults: Arc<Faults>,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) stopping: Stopping,
    /// Closed when the last request is done with all of the above, also one whose client is gone: only then is the
    /// data folder free. Dropped last, as fields are dropped in order.
    pub(crate) _in_use: mpsc::Sender<Infallible>,
}

/// Serves until told to stop, then lets the requests in progress finish.
pub(crate) async fn serve(listener: TcpListener, state: Arc<State>) {
    let connections = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = state.stopping.asked() => break,
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
        let (socket, client) = Socket::new(stream, peer, state.stopping.clone());
        let service = service_fn(move |request| {
            let (state, client) = (Arc::clone(&state), client.clone());
            async move { answer(&state, &client, request).await }
        });
        let connection = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(socket), service);
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

async fn answer(state: &Arc<State>, client: &Client, request: Request<Incoming>) -> Result<Reply, Cut> {
    let began = Instant::now();
    let (parts, mut body) = request.into_parts();
    let request_id = new_request_id();
    let own = admin::is_own(&parts) && !is_for_a_bucket(state, &parts);
    let mut reply = match own {
        true if is_public_key(&parts) => public_key(state),
        true => admin::answer(state, client, &parts, &mut body).await,
        false => {
            let mut reply = answer_client(state, client, &parts, &mut body, &request_id).await?;
            // Not of the stand-in's own routes: no web page has to read those.
            stamp_cors(&mut reply, state, &parts);
            reply
        }
    };
    stamp(&mut reply, &request_id, began.elapsed().as_millis());
    tracing::info!(method = %parts.method, path = parts.uri.path(), status = reply.status().as_u16(), request_id, "request");
    Ok(reply)
}

/// Answers what is meant for OSS: written down, and struck by at most one fault.
async fn answer_client(
    state: &Arc<State>,
    client: &Client,
    parts: &Parts,
    body: &mut Incoming,
    request_id: &str,
) -> Result<Reply, Cut> {
    let subject = likely_subject(state, parts);
    state.recorder.record(request_id, subject.received(parts));
    let fault = state.faults.on_request(subject.limits());
    let answering = Answering::new(&state.recorder, request_id, fault.as_ref().map(RequestFault::to_string));
    let met = match &fault {
        Some(fault) => fault.meet(client).await,
        None => Meeting::Served,
    };
    let result = match met {
        Meeting::Served => {
            let now = fault.as_ref().map_or_else(SystemTime::now, RequestFault::clock);
            perform(state, client.address, now, parts, body, request_id).await
        }
        Meeting::Refused(error) => Err(error),
        Meeting::Held => {
            let held = async {
                drain(body).await;
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = held => {}
                () = client.stopping() => {}
            }
            return Err(Cut);
        }
        Meeting::Cut => return Err(Cut),
    };
    let code = result.as_ref().err().map(|error| error.code);
    let reply = match result {
        Ok(reply) => reply,
        Err(error) => refused(error, parts, body, request_id).await,
    };
    answering.with(reply.status().as_u16(), code);
    if fault == Some(RequestFault::AnswerLost) {
        client.reset_at_end();
        return Err(Cut);
    }
    Ok(match &fault {
        Some(fault) => fault.disturb(reply, &parts.method),
        None => reply,
    })
}

async fn refused(error: Error, parts: &Parts, body: &mut Incoming, request_id: &str) -> Reply {
    tracing::debug!(code = error.code, reason = error.message, request_id, "answered with an error");
    if !body.is_end_stream() && !parts.headers.contains_key(EXPECT) {
        let _ = tokio::time::timeout(DRAINED_TIME, drain(body)).await;
    }
    let host = host_of(parts).unwrap_or_default();
    match parts.method {
        Method::HEAD => error.into_head_reply(request_id, &host),
        _ => error.into_reply(request_id, &host),
    }
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
