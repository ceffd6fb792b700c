//! Sends a callback and reads the answer: one connection per URL, by hand, so that the request is exactly the one that
//! was composed and the answer is judged as it came, unnormalised.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::HeaderValue;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;

use super::Upload;
use super::address::{CallbackUrl, is_private};
use super::compose::Composed;
use super::parameters::Callback;
use super::template::EmptyValue;
use super::verdict::{Answer, Failure, judge_body, judge_head};
use crate::error::Error;
use crate::fault::{CallbackFault, Faults, Subject};
use crate::journal::{Happened, Recorder, milliseconds_since, remembered, remembered_path};
use crate::key::CallbackKey;
use crate::raw::Observed;
use crate::server::Stopping;

/// The longest answer head that is read, in bytes, and the most header lines in it.
const LONGEST_HEAD: usize = 64 * 1024;
const MOST_HEADERS: usize = 100;

/// How long the rest of an answer that failed already is read for the journal.
const LAST_LOOK: Duration = Duration::from_millis(200);

/// Everything that all callbacks of one stand-in have in common.
pub(crate) struct Callbacks {
    pub(crate) key: CallbackKey,
    pub(crate) key_url: String,
    pub(crate) forbid_private: bool,
    pub(crate) empty_value: EmptyValue,
    /// For one URL, from the first packet to the last byte of the answer.
    pub(crate) time_limit: Duration,
    pub(crate) tls: Tls,
    pub(crate) faults: Arc<Faults>,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) stopping: Stopping,
    /// Counts the callbacks that are through: who is to be overtaken waits for the next.
    pub(crate) through: watch::Sender<u64>,
}

/// TLS with and without the name of the wanted host in the first message.
pub(crate) struct Tls {
    with_name: TlsConnector,
    without_name: TlsConnector,
}

impl Tls {
    /// Trusts the public certificate authorities and these (PEM).
    ///
    /// # Errors
    ///
    /// What is wrong with the certificates.
    pub(crate) fn trusting(pem: &[u8]) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|cause| cause.to_string())?;
            roots.add(certificate).map_err(|cause| cause.to_string())?;
        }
        Self::new(roots).map_err(|cause| cause.to_string())
    }

    fn new(mut roots: RootCertStore) -> Result<Self, rustls::Error> {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let with_name = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut without_name = with_name.clone();
        without_name.enable_sni = false;
        Ok(Self { with_name: Arc::new(with_name).into(), without_name: Arc::new(without_name).into() })
    }

    /// Connects to the first of these addresses that can be reached, by TLS if the URL says so.
    pub(crate) async fn connect(
        &self,
        url: &CallbackUrl,
        addresses: Vec<SocketAddr>,
        sni: bool,
    ) -> io::Result<(Box<dyn Connection>, SocketAddr)> {
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    if !url.https {
                        return Ok((Box::new(stream), address));
                    }
                    let name = ServerName::try_from(url.host.clone()).map_err(io::Error::other)?;
                    let connector = if sni { &self.with_name } else { &self.without_name };
                    return Ok((Box::new(connector.connect(name, stream).await?), address));
                }
                Err(cause) => last = cause,
            }
        }
        Err(last)
    }
}

/// Plain or encrypted.
pub(crate) trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

impl Callback {
    /// Refuses private addresses, also behind names, if this stand-in forbids them.
    pub(crate) async fn check_addresses(&self, callbacks: &Callbacks) -> Result<(), Error> {
        if !callbacks.forbid_private {
            return Ok(());
        }
        for url in &self.urls {
            // A name that cannot be resolved now fails when the callback is fired.
            let addresses = resolve(url).await.unwrap_or_default();
            if addresses.iter().any(|address| is_private(address.ip())) {
                let message = "Private address is forbidden to callback.";
                return Err(Error::invalid_argument("callback", &url.authority, message).ec("0007-00000008"));
            }
        }
        Ok(())
    }
}

impl Callbacks {
    /// Tries the URLs in order until one succeeds; the last failure is the one reported.
    pub(crate) async fn fire(&self, callback: &Callback, upload: &Upload<'_>) -> Result<Answer, Failure> {
        let body = callback.body.fill(callback.body_type, self.empty_value, upload, &callback.variables);
        let mut last = Failure::cannot_connect();
        for url in &callback.urls {
            match self.try_url(url, callback, upload, &body).await {
                Ok(answer) => {
                    tracing::info!(url = url.authority, request_id = upload.request_id, "callback answered");
                    return Ok(answer);
                }
                Err(failure) => {
                    tracing::warn!(
                        url = url.authority,
                        request_id = upload.request_id,
                        reason = failure.message,
                        "callback failed"
                    );
                    last = failure;
                }
            }
        }
        Err(last)
    }

    async fn try_url(
        &self,
        url: &CallbackUrl,
        callback: &Callback,
        upload: &Upload<'_>,
        body: &str,
    ) -> Result<Answer, Failure> {
        let subject = Subject {
            bucket: Some(upload.bucket),
            key: Some(upload.object),
            operation: Some(upload.operation),
            path: Some(&url.path),
        };
        let fault = self.faults.on_callback(subject);
        let composed = self.compose(url, callback, upload, body, fault.as_ref()).map_err(|cause| {
            tracing::error!(%cause, "the callback could not be signed");
            Failure::cannot_connect()
        })?;
        let delivery = Delivery { callbacks: self, composed, sni: callback.sni, fault };
        delivery.run().await
    }

    fn compose<'a>(
        &self,
        url: &'a CallbackUrl,
        callback: &'a Callback,
        upload: &'a Upload<'a>,
        body: &'a str,
        fault: Option<&CallbackFault>,
    ) -> Result<Composed<'a>, rsa::Error> {
        let mut composed = Composed::new(url, callback, upload, body, &self.key, &self.key_url)?;
        if let Some(fault) = fault {
            composed.disturb(fault, &self.key)?;
        }
        Ok(composed)
    }

    /// Waits until another callback is through, but no longer than one may take.
    async fn overtaken(&self) {
        let mut through = self.through.subscribe();
        let _ = tokio::time::timeout(self.time_limit, through.changed()).await;
    }

    async fn connect(&self, url: &CallbackUrl, sni: bool) -> io::Result<(Box<dyn Connection>, SocketAddr)> {
        let mut addresses = resolve(url).await?;
        if self.forbid_private {
            // The name may have been given another address since it was checked.
            addresses.retain(|address| !is_private(address.ip()));
        }
        self.tls.connect(url, addresses, sni).await
    }
}

/// One callback to one URL, with the fault that strikes it.
struct Delivery<'a> {
    callbacks: &'a Callbacks,
    composed: Composed<'a>,
    sni: bool,
    fault: Option<CallbackFault>,
}

impl Delivery<'_> {
    async fn run(&self) -> Result<Answer, Failure> {
        match &self.fault {
            Some(CallbackFault::Lost) => self.written_down(async { Exchange::failed(Failure::cannot_connect()) }).await,
            Some(CallbackFault::AnswerLost) => {
                let lost = async {
                    let exchange = self.send().await;
                    Exchange { result: Err(Failure::cannot_connect()), ..exchange }
                };
                self.written_down(lost).await
            }
            Some(CallbackFault::Late(delay)) => {
                tokio::select! {
                    () = tokio::time::sleep(*delay) => {}
                    // Who stops the stand-in does not wait for this.
                    () = self.callbacks.stopping.asked() => {}
                }
                self.written_down(self.send()).await
            }
            Some(CallbackFault::Doubled) => {
                let first = self.written_down(self.send()).await;
                let _ = self.written_down(self.send()).await;
                first
            }
            Some(CallbackFault::Reordered) => {
                self.callbacks.overtaken().await;
                self.written_down(self.send()).await
            }
            _ => self.written_down(self.send()).await,
        }
    }

    /// Puts what is sent and what comes back into the journal.
    async fn written_down(&self, exchange: impl Future<Output = Exchange>) -> Result<Answer, Failure> {
        let Callbacks { recorder, through, .. } = self.callbacks;
        let Composed { url, callback, upload, .. } = &self.composed;
        let fault = self.fault.as_ref().map(CallbackFault::to_string);
        let url = remembered_path(&url.written());
        let sent = Happened::Callback {
            url: url.clone(),
            path: remembered_path(&self.composed.target()),
            body: remembered(self.composed.body.as_bytes()),
            body_type: callback.body_type.as_str().to_owned(),
            fault: fault.clone(),
        };
        recorder.record(upload.request_id, sent);
        let began = Instant::now();
        let Exchange { status, body, result } = exchange.await;
        let answered = Happened::CallbackAnswer {
            url,
            status,
            body: body.as_deref().map(remembered),
            failure: result.as_ref().err().map(|failure| failure.message.clone()),
            milliseconds: milliseconds_since(began),
            fault,
        };
        recorder.record(upload.request_id, answered);
        through.send_modify(|count| *count += 1);
        result
    }

    async fn send(&self) -> Exchange {
        let limit = self.callbacks.time_limit;
        let deadline = tokio::time::Instant::now() + limit;
        let connected = tokio::time::timeout_at(deadline, self.callbacks.connect(self.composed.url, self.sni)).await;
        let Ok(Ok((connection, peer))) = connected else { return Exchange::failed(Failure::cannot_connect()) };
        let request = self.composed.bytes(SystemTime::now());
        let mut observed = Observed::new(connection, &request);
        let judged = tokio::time::timeout_at(deadline, exchange(&mut observed, &request)).await;
        let Ok(result) = judged else { return Exchange::failed(Failure::timeout(&peer.to_string(), limit)) };
        // An answer that fails is judged by its head alone; what else there is to see of it is for the journal.
        let answer = observed.answer(tokio::time::Instant::now() + LAST_LOOK, limit).await.ok();
        let (status, body) = answer.map(|answer| (answer.status, answer.body.into())).unzip();
        Exchange { status, body, result }
    }
}

/// What came back, and what OSS makes of it.
struct Exchange {
    status: Option<u16>,
    /// As far as it was read.
    body: Option<Bytes>,
    result: Result<Answer, Failure>,
}

impl Exchange {
    fn failed(failure: Failure) -> Self {
        Self { status: None, body: None, result: Err(failure) }
    }
}

/// The addresses of a URL's host. Protocol: a host that has IPv6 addresses alone cannot be called.
pub(crate) async fn resolve(url: &CallbackUrl) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = url.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, url.port)]);
    }
    let addresses = tokio::net::lookup_host((url.host.as_str(), url.port)).await?;
    Ok(addresses.filter(SocketAddr::is_ipv4).collect())
}

/// Sends the request and reads one answer.
pub(super) async fn exchange(connection: &mut dyn Connection, request: &[u8]) -> Result<Answer, Failure> {
    let broken = |_| Failure::cannot_connect();
    connection.write_all(request).await.map_err(broken)?;
    connection.flush().await.map_err(broken)?;
    let mut received = Vec::new();
    let head = loop {
        match parse_head(&received)? {
            // An interim answer; the final one follows.
            Some(head) if (100..200).contains(&head.status) => {
                received.drain(..head.length.min(received.len()));
            }
            Some(head) => break head,
            None if received.len() > LONGEST_HEAD => return Err(Failure::cannot_connect()),
            None => {
                if connection.read_buf(&mut received).await.map_err(broken)? == 0 {
                    return Err(Failure::cannot_connect());
                }
            }
        }
    };
    let lengths: Vec<&[u8]> = head.values("content-length");
    let length = judge_head(head.status, &lengths, !head.values("transfer-encoding").is_empty())?;
    let mut body = received.split_off(head.length.min(received.len()));
    let missing = length.saturating_sub(body.len() as u64);
    connection.take(missing).read_to_end(&mut body).await.map_err(broken)?;
    if (body.len() as u64) < length {
        return Err(Failure::cannot_connect());
    }
    // What a server sends beyond its announced length is not part of the answer.
    body.truncate(usize::try_from(length).unwrap_or(usize::MAX));
    let content_type = head.values("content-type").first().and_then(|value| HeaderValue::from_bytes(value).ok());
    judge_body(content_type.as_ref(), &body)?;
    Ok(Answer { content_type, body: Bytes::from(body) })
}

/// The head of an answer.
pub(crate) struct AnswerHead {
    pub(crate) status: u16,
    /// Bytes that it takes up.
    pub(crate) length: usize,
    /// Names in lower case.
    pub(crate) headers: BTreeMap<String, Vec<Vec<u8>>>,
}

impl AnswerHead {
    pub(crate) fn values(&self, name: &str) -> Vec<&[u8]> {
        self.headers.get(name).into_iter().flatten().map(Vec::as_slice).collect()
    }
}

/// `None` while the head is not complete.
pub(crate) fn parse_head(received: &[u8]) -> Result<Option<AnswerHead>, Failure> {
    let mut lines = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut response = httparse::Response::new(&mut lines);
    match response.parse(received) {
        Ok(httparse::Status::Partial) => Ok(None),
        Ok(httparse::Status::Complete(length)) => {
            let mut headers: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
            for line in response.headers.iter() {
                headers.entry(line.name.to_ascii_lowercase()).or_default().push(line.value.to_vec());
            }
            Ok(Some(AnswerHead { status: response.code.unwrap_or(0), length, headers }))
        }
        // Something answers there, but not in HTTP.
        Err(_) => Err(Failure::cannot_connect()),
    }
}
