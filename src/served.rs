//! A running server, asked over its own routes: for commands that find the embedded store in its hands.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

#[cfg(feature = "server")]
use crate::reconcile::{self, runs::Run};
use crate::record::{Record, RecordKey};
use crate::records::{Page, Query};

/// How long one answer may take.
const TIME: Duration = Duration::from_secs(10);
/// The most bytes of one answer: a page of 500 records of the largest size.
const ANSWER_LIMIT: usize = 64 * 1024 * 1024;

/// Why the server did not say.
#[derive(Debug, thiserror::Error)]
#[error("the server on {address} (OSS_CALLBACK_LISTEN) {problem}")]
pub struct ServedError {
    address: SocketAddr,
    problem: String,
}

/// A server that is asked for its records.
pub struct ServedRecords {
    address: SocketAddr,
    api_token: String,
}

impl fmt::Debug for ServedRecords {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ServedRecords").field("address", &self.address).finish_non_exhaustive()
    }
}

impl ServedRecords {
    /// Names the server. Nothing is sent yet.
    pub fn new(address: SocketAddr, api_token: impl Into<String>) -> Self {
        Self { address, api_token: api_token.into() }
    }

    /// One record.
    ///
    /// # Errors
    /// If the server does not answer, or not with records.
    pub async fn get(&self, key: &RecordKey) -> Result<Option<Record>, ServedError> {
        let record = self.ask(&[("bucket", &key.bucket), ("object", &key.object)]).await?;
        if record.is_none() {
            // Is it the record that is missing, or the route?
            self.list(&Query { limit: 1, ..Query::default() }).await?;
        }
        Ok(record)
    }

    /// A page of records.
    ///
    /// # Errors
    /// If the server does not answer, or not with records.
    pub async fn list(&self, query: &Query) -> Result<Page, ServedError> {
        let limit = query.limit.to_string();
        let custom: Vec<_> = query.custom.iter().map(|(name, value)| (format!("custom.{name}"), value)).collect();
        let mut pairs = vec![("limit", limit.as_str())];
        pairs.extend(query.bucket.as_deref().map(|bucket| ("bucket", bucket)));
        pairs.extend(query.prefix.as_deref().map(|prefix| ("prefix", prefix)));
        pairs.extend(query.state.map(|state| ("state", state.as_str())));
        pairs.extend(custom.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        pairs.extend(query.cursor.as_deref().map(|cursor| ("cursor", cursor)));
        self.ask(&pairs).await?.ok_or_else(|| self.failed("has no read routes; start it with OSS_CALLBACK_API_TOKEN"))
    }

    /// Starts a run that reconciles, or joins the one that is asked the same.
    ///
    /// # Errors
    /// If the server does not answer, or does not reconcile.
    #[cfg(feature = "server")]
    pub async fn reconcile(&self, request: &reconcile::Request) -> Result<Run, ServedError> {
        let body = serde_json::to_vec(request).map_err(|error| self.failed(error))?;
        self.run(Method::POST, body.into()).await
    }

    /// How the latest run goes, or went.
    ///
    /// # Errors
    /// If the server does not answer, or has none.
    #[cfg(feature = "server")]
    pub async fn reconciling(&self) -> Result<Run, ServedError> {
        self.run(Method::GET, Bytes::new()).await
    }

    #[cfg(feature = "server")]
    async fn run(&self, method: Method, body: Bytes) -> Result<Run, ServedError> {
        #[derive(serde::Deserialize)]
        struct Answer {
            run: Option<Run>,
        }
        let answer: Result<Answer, String> = self.request(method, "/reconcile", body).await?;
        let run = answer.map_err(|reason| self.failed(format!("does not reconcile{reason}")))?.run;
        run.ok_or_else(|| self.failed("has no run that reconciles; was it restarted?"))
    }

    /// The answer to `GET /records` with this query; `None` for 404.
    async fn ask<T: DeserializeOwned>(&self, query: &[(&str, &str)]) -> Result<Option<T>, ServedError> {
        let query = serde_urlencoded::to_string(query).map_err(|error| self.failed(error))?;
        Ok(self.request(Method::GET, &format!("/records?{query}"), Bytes::new()).await?.ok())
    }

    /// The answer to a request; for 404 what the server says of it.
    async fn request<T: DeserializeOwned>(
        &self,
        method: Method,
        target: &str,
        body: Bytes,
    ) -> Result<Result<T, String>, ServedError> {
        let (status, body) = tokio::time::timeout(TIME, self.fetch(method, target, body))
            .await
            .map_err(|_| self.failed("does not answer"))??;
        match status {
            StatusCode::OK => serde_json::from_slice(&body)
                .map(Ok)
                .map_err(|error| self.failed(format!("sent an answer that cannot be read: {error}"))),
            StatusCode::NOT_FOUND => Ok(Err(reason(&body))),
            StatusCode::UNAUTHORIZED => Err(self.failed("does not take this OSS_CALLBACK_API_TOKEN")),
            status => Err(self.failed(format!("answered {status}{}", reason(&body)))),
        }
    }

    async fn fetch(&self, method: Method, target: &str, body: Bytes) -> Result<(StatusCode, Bytes), ServedError> {
        let stream = TcpStream::connect(self.address).await.map_err(|error| self.failed(error))?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.failed(error))?;
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header(HOST, self.address.to_string())
            .header(CONNECTION, "close")
            .header(AUTHORIZATION, format!("Bearer {}", self.api_token))
            .body(Full::new(body))
            .map_err(|error| self.failed(error))?;
        let answer = sender.send_request(request).await.map_err(|error| self.failed(error))?;
        let status = answer.status();
        let body =
            Limited::new(answer.into_body(), ANSWER_LIMIT).collect().await.map_err(|error| self.failed(error))?;
        Ok((status, body.to_bytes()))
    }

    fn failed(&self, problem: impl fmt::Display) -> ServedError {
        ServedError { address: self.address, problem: problem.to_string() }
    }
}

/// What the server says of a failure.
fn reason(body: &[u8]) -> String {
    let answer: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    answer
        .pointer("/error/message")
        .and_then(|message| message.as_str())
        .map_or_else(String::new, |message| format!(": {message}"))
}
