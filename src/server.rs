//! The edge to plain HTTP: a server that reads bounded requests and stops gracefully.
//!
//! Bytes that are no HTTP request at all (a broken request line, a target with characters that no URI may hold) are answered
//! by the HTTP library with an empty 400; everything else gets JSON.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::app::App;
use crate::error::Failure;
use crate::reply::Reply;
use crate::request::{BODY_LIMIT, Body, DeliveredPath, Incoming};

/// How long the head of a request may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// The most connections at a time; further ones wait to be accepted.
const CONNECTIONS: usize = 1024;
/// How much of a body over the limit is read and thrown away, so that the client gets to read the refusal.
const DRAIN_LIMIT: usize = 32 * 1024 * 1024;
/// The most bytes of a request's head: OSS sends less than two kilobytes.
const HEAD_LIMIT: usize = 32 * 1024;
/// How long answers in flight may take once the server is asked to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(6);

/// A server that is bound, but does not answer yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    app: Arc<App>,
}

impl Server {
    /// Binds to an address; port 0 picks a free one.
    ///
    /// # Errors
    /// If the address cannot be bound.
    pub async fn bind(address: SocketAddr, app: Arc<App>) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(address).await?, app })
    }

    /// The address it is bound to.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers, and does the work that is left over, until `stop` is done; then finishes the answers and the work in hand.
    pub async fn serve(self, stop: impl Future<Output = ()>) {
        let (stopping, stopped) = tokio::sync::oneshot::channel::<()>();
        let app = Arc::clone(&self.app);
        let pool = self.app.pool().cloned().map(|worker| {
            tokio::spawn(async move {
                let mut until = tokio::time::Instant::now();
                let stopped = async {
                    // Dropping the other end stops it too.
                    drop(stopped.await);
                    until = tokio::time::Instant::now() + STOP_TIMEOUT;
                    if let Some(runs) = app.runs() {
                        runs.stop();
                    }
                };
                worker.run(stopped).await;
                if let Some(runs) = app.runs()
                    && tokio::time::timeout_at(until, runs.ended()).await.is_err()
                {
                    tracing::warn!("stopped while reconciling; the next run goes on from its last checkpoint");
                }
            })
        });
        // Both at once: whoever asks us to stop may not wait for one after the other.
        let stop = async {
            stop.await;
            drop(stopping);
        };
        self.answer_until(stop).await;
        if let Some(pool) = pool
            && let Err(error) = pool.await
        {
            tracing::error!(%error, "the pool of workers had broken off");
        }
    }

    async fn answer_until(self, stop: impl Future<Output = ()>) {
        let graceful = GracefulShutdown::new();
        let mut stop = std::pin::pin!(stop);
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let accept = async {
                let room = Arc::clone(&room).acquire_owned().await;
                (self.listener.accept().await, room)
            };
            let (accepted, room) = tokio::select! {
                accepted = accept => accepted,
                () = &mut stop => break,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, most likely: give those in use time to be returned.
                    tracing::error!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let _ = stream.set_nodelay(true);
            let app = Arc::clone(&self.app);
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .max_buf_size(HEAD_LIMIT)
                // A client that only stops sending still waits for its answer.
                .half_close(true)
                .serve_connection(TokioIo::new(stream), service_fn(move |request| answer(Arc::clone(&app), request)));
            let connection = graceful.watch(connection);
            tokio::spawn(async move {
                let _room = room;
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "connection ended");
                }
            });
        }
        drop(self.listener);
        if tokio::time::timeout(STOP_TIMEOUT, graceful.shutdown()).await.is_err() {
            tracing::warn!("stopped before every answer was finished");
        }
    }
}

/// Listens for SIGINT and SIGTERM from now on; the future is done when one has come. Called before the ready line, so that
/// whoever reads it can already stop us.
///
/// # Errors
/// If the system does not let the process listen.
#[cfg(unix)]
pub fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
    })
}

/// Listens for Ctrl-C; the future is done when it has come.
///
/// # Errors
/// Never here; elsewhere the system may refuse.
#[cfg(not(unix))]
pub fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    Ok(async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    })
}

async fn answer(app: Arc<App>, request: Request<hyper::body::Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let received = Instant::now();
    let (head, body) = request.into_parts();
    let reply = if head.uri.path() == "/healthz" {
        health(&head.method)
    } else {
        let body = read(body, app.budget() / 2).await;
        let incoming = Incoming {
            received,
            method: head.method,
            path: DeliveredPath::raw(head.uri.path()),
            query: head.uri.query().map(str::to_owned),
            headers: head.headers,
            body,
        };
        // A client that hangs up ends this future, but must not end what was begun: OSS never calls again.
        match tokio::spawn(async move { app.handle(incoming).await }).await {
            Ok(reply) => reply,
            Err(_) => Failure::Internal.into(),
        }
    };
    let mut response = Response::new(Full::new(reply.body));
    *response.status_mut() = reply.status;
    response.headers_mut().extend(reply.headers);
    Ok(response)
}

fn health(method: &Method) -> Reply {
    if method == Method::GET {
        Reply::ok(&serde_json::json!({"status": "ok", "version": env!("CARGO_PKG_VERSION")}))
    } else {
        Failure::MethodNotAllowed { allowed: "GET" }.into()
    }
}

async fn read(mut body: hyper::body::Incoming, time: Duration) -> Body {
    let mut bytes = BytesMut::new();
    let mut total: usize = 0;
    let whole = async {
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return Body::Broken("it broke off") };
            let Ok(data) = frame.into_data() else { continue };
            total = total.saturating_add(data.len());
            if total <= BODY_LIMIT {
                bytes.extend_from_slice(&data);
            } else if total > DRAIN_LIMIT {
                break;
            }
        }
        if total <= BODY_LIMIT { Body::Whole(std::mem::take(&mut bytes).freeze()) } else { Body::TooLarge }
    };
    match tokio::time::timeout(time, whole).await {
        Ok(body) => body,
        Err(_) if total > BODY_LIMIT => Body::TooLarge,
        Err(_) => Body::TooSlow,
    }
}
