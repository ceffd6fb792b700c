//! The edge to plain HTTP: a server that reads bounded requests and stops gracefully.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;

use crate::app::App;
use crate::error::Failure;
use crate::reply::Reply;
use crate::request::{BODY_LIMIT, Body, DeliveredPath, Incoming};

/// How long the head of a request may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
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

    /// Answers until `stop` is done, then finishes the answers in flight.
    pub async fn serve(self, stop: impl Future<Output = ()>) {
        let graceful = GracefulShutdown::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
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
                .serve_connection(TokioIo::new(stream), service_fn(move |request| answer(Arc::clone(&app), request)));
            let connection = graceful.watch(connection);
            tokio::spawn(async move {
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

/// Done when the process is asked to stop: SIGINT or SIGTERM.
pub async fn stop_signal() {
    let interrupt = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminate = std::future::pending::<()>();
    tokio::select! { () = interrupt => {}, () = terminate => {} }
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
        app.handle(incoming).await
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

async fn read(body: hyper::body::Incoming, time: Duration) -> Body {
    match tokio::time::timeout(time, Limited::new(body, BODY_LIMIT).collect()).await {
        Ok(Ok(whole)) => Body::Whole(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Body::TooLarge,
        Ok(Err(_)) => Body::Broken("it broke off"),
        Err(_) => Body::TooSlow,
    }
}
