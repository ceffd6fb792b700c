//! Requests sent as they are, byte for byte, and their answers as they came: for trying a server out, not for callbacks,
//! whose answers are judged as OSS judges them.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::Instant;

use crate::callback::{CallbackUrl, Connection, Tls, parse_head, resolve};

/// The longest answer that is kept, in bytes on the wire.
const LONGEST: usize = 4 * 1024 * 1024;

/// One answer of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RawAnswer {
    /// The status code, whatever three digits it is.
    pub status: u16,
    /// Names in lower case; values that came several times are joined by commas. What is not UTF-8 is replaced.
    pub headers: BTreeMap<String, String>,
    /// Without its chunked framing, if it had one.
    pub body: Vec<u8>,
    /// Whether the body is all that was announced: not, if the connection broke, the time ran out, or it is longer than
    /// 4 MiB.
    pub complete: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoAnswer {
    /// Nothing that can be connected to. IPv6 literals are not supported, as with OSS.
    #[error("{url:?} is not a URL to connect to: [http[s]://]HOST[:PORT][/PATH]")]
    Url {
        /// The URL as it was given.
        url: String,
    },
    /// The certificates cannot be used.
    #[error("cannot use the certificates: {0}")]
    Certificates(String),
    /// No connection, or no TLS.
    #[error("cannot connect to {authority}: {cause}")]
    Connect {
        /// Host and port.
        authority: String,
        /// What the system says.
        cause: io::Error,
    },
    /// The connection broke before there was the head of an answer.
    #[error("the connection ended without an answer{}", .0.as_ref().map(|cause| format!(": {cause}")).unwrap_or_default())]
    Broken(Option<io::Error>),
    /// Nothing came in time.
    #[error("no answer within {} ms", .0.as_millis())]
    Late(Duration),
    /// Something answered, but not in HTTP/1.
    #[error("what came back is not HTTP/1")]
    NotHttp,
}

/// Connects to the host of a URL (the path is not used), sends these bytes as they are, and reads one answer.
///
/// `certificates` are authorities (PEM) that https trusts beside the public ones; the limit is for everything together.
///
/// # Errors
///
/// See [`NoAnswer`]. An answer that was cut short is none: [`RawAnswer::complete`] tells.
pub async fn send_raw(url: &str, request: &[u8], certificates: &[u8], limit: Duration) -> Result<RawAnswer, NoAnswer> {
    let url = CallbackUrl::parse(url).ok_or_else(|| NoAnswer::Url { url: url.to_owned() })?;
    let tls = Tls::trusting(certificates).map_err(NoAnswer::Certificates)?;
    let deadline = Instant::now() + limit;
    let failed = |cause| NoAnswer::Connect { authority: url.authority.clone(), cause };
    let connecting = async { tls.connect(&url, resolve(&url).await?, true).await };
    let (connection, _) =
        tokio::time::timeout_at(deadline, connecting).await.map_err(|_| NoAnswer::Late(limit))?.map_err(failed)?;
    let mut observed = Observed::new(connection, request);
    let sending = async {
        observed.write_all(request).await?;
        observed.flush().await
    };
    // A server may answer, and hang up, before it has read everything.
    let sent = tokio::time::timeout_at(deadline, sending).await.map_err(|_| NoAnswer::Late(limit))?;
    let answer = observed.answer(deadline, limit).await;
    match (sent, answer) {
        (Err(cause), Err(NoAnswer::Broken(_))) => Err(NoAnswer::Broken(Some(cause))),
        (_, answer) => answer,
    }
}

/// A connection that remembers what came over it.
pub(crate) struct Observed {
    connection: Box<dyn Connection>,
    received: Vec<u8>,
    /// Answers to HEAD have no body, whatever they announce.
    to_head: bool,
}

impl Observed {
    pub(crate) fn new(connection: Box<dyn Connection>, request: &[u8]) -> Self {
        Self { connection, received: Vec::new(), to_head: request.starts_with(b"HEAD ") }
    }

    /// The answer to what was sent; reads what is still missing of it.
    pub(crate) async fn answer(mut self, deadline: Instant, limit: Duration) -> Result<RawAnswer, NoAnswer> {
        let mut piece = [0; 16 * 1024];
        loop {
            let so_far = answer_in(&self.received, self.to_head)?;
            if so_far.as_ref().is_some_and(|answer| answer.complete) || self.received.len() > LONGEST {
                return so_far.ok_or(NoAnswer::NotHttp);
            }
            // `read` of this type appends to `received`.
            match tokio::time::timeout_at(deadline, self.read(&mut piece)).await {
                Ok(Ok(0)) => return at_the_end(so_far).ok_or(NoAnswer::Broken(None)),
                Ok(Ok(_)) => {}
                Ok(Err(cause)) => return so_far.ok_or(NoAnswer::Broken(Some(cause))),
                Err(_) => return so_far.ok_or(NoAnswer::Late(limit)),
            }
        }
    }
}

impl AsyncRead for Observed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.connection).poll_read(context, buffer))?;
        // Interim answers without end must not fill the memory; what is behind the limit is not shown.
        if self.received.len() <= LONGEST {
            self.received.extend_from_slice(buffer.filled().get(before..).unwrap_or_default());
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Observed {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(context)
    }
}

/// What these bytes hold of an answer, interim answers skipped; `None` while the head is not complete.
fn answer_in(mut received: &[u8], to_head: bool) -> Result<Option<RawAnswer>, NoAnswer> {
    let head = loop {
        let Some(head) = parse_head(received).map_err(|_| NoAnswer::NotHttp)? else { return Ok(None) };
        received = received.get(head.length..).unwrap_or_default();
        // After 101 no HTTP follows.
        if !(100..200).contains(&head.status) || head.status == 101 {
            break head;
        }
    };
    let length = head.values("content-length").first().and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
    let (body, complete) = if to_head || matches!(head.status, 101 | 204 | 304) {
        (Vec::new(), true)
    } else if !head.values("transfer-encoding").is_empty() {
        unchunk(received)
    } else if let Some(length) = length {
        let body = received.get(..length);
        (body.unwrap_or(received).to_vec(), body.is_some())
    } else {
        (received.to_vec(), false)
    };
    let text = |values: Vec<Vec<u8>>| -> Vec<String> {
        values.iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect()
    };
    let headers = head.headers.into_iter().map(|(name, values)| (name, text(values).join(", "))).collect();
    Ok(Some(RawAnswer { status: head.status, headers, body, complete }))
}

/// An answer that announced no length is complete when the connection ends.
fn at_the_end(answer: Option<RawAnswer>) -> Option<RawAnswer> {
    answer.map(|answer| {
        let announced = ["content-length", "transfer-encoding"].iter().any(|name| answer.headers.contains_key(*name));
        RawAnswer { complete: !announced, ..answer }
    })
}

/// The content of as many chunks as there are, and whether the last one is among them. Trailers are not waited for.
fn unchunk(mut framed: &[u8]) -> (Vec<u8>, bool) {
    let mut content = Vec::new();
    while let Ok(httparse::Status::Complete((start, size))) = httparse::parse_chunk_size(framed) {
        if size == 0 {
            return (content, true);
        }
        let rest = framed.get(start..).unwrap_or_default();
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let Some(chunk) = rest.get(..size) else {
            content.extend_from_slice(rest);
            break;
        };
        content.extend_from_slice(chunk);
        let Some(next) = rest.get(size..).and_then(|next| next.strip_prefix(b"\r\n")) else { break };
        framed = next;
    }
    (content, false)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn body(received: &str) -> (String, bool) {
        let answer = answer_in(received.as_bytes(), false).unwrap().unwrap();
        (String::from_utf8(answer.body).unwrap(), answer.complete)
    }

    #[test]
    fn a_body_ends_where_its_framing_says() {
        let expect = |body: &str, complete| (body.to_owned(), complete);
        assert_eq!(body("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}more"), expect("{}", true));
        assert_eq!(body("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}"), expect("{}", false));
        assert_eq!(body("HTTP/1.1 200 OK\r\n\r\n{}"), expect("{}", false));
        assert_eq!(body("HTTP/1.1 204 No Content\r\n\r\n"), expect("", true));
        assert_eq!(body("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 \r\nContent-Length: 0\r\n\r\n"), expect("", true));
        let chunked =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n";
        assert_eq!(body(chunked), expect("abc0123456789", true));
        for (cut, content) in [(67, "abc01234"), (58, "abc")] {
            assert_eq!(body(chunked.get(..cut).unwrap()), expect(content, false), "{cut}");
        }
    }

    #[test]
    fn an_answer_to_head_has_no_body_whatever_it_announces() {
        let answer = answer_in(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nA: 1\r\na: 2\r\n\r\n", true).unwrap().unwrap();
        assert!(answer.complete && answer.body.is_empty());
        assert_eq!(answer.headers.get("a").map(String::as_str), Some("1, 2"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_none(
            head in "(HTTP/1.1 200 OK\r\n(Content-Length: [0-9]{1,20}\r\n|Transfer-Encoding: chunked\r\n)?\r\n)?",
            rest in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let _ = answer_in(&[head.as_bytes(), &rest].concat(), false);
        }
    }
}
