//! A client, a signer and a callback server for tests, all by hand: what goes over the wire is what the test says.
#![allow(dead_code, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs, unreachable_pub)]

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use oss_standin::{Builder, Standin};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sha1::Sha1;

pub const ID: &str = "LTAI5tLocalTestKey";
pub const SECRET: &str = "localTestSecret";

pub fn builder(data: &tempfile::TempDir) -> Builder {
    Standin::builder().bucket("examplebucket").data(data.path()).listen("127.0.0.1:0").credentials(ID, SECRET)
}

/// Waits for a condition, and fails if it does not come true.
pub fn eventually(what: &str, condition: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < until, "not so after a minute: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// One message off the wire.
#[derive(Debug)]
pub struct Message {
    pub start: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Message {
    pub fn status(&self) -> u16 {
        self.start.split(' ').nth(1).unwrap().parse().unwrap()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    /// The content of the first XML element of this name.
    pub fn element(&self, name: &str) -> String {
        let text = self.text();
        let Some((_, rest)) = text.split_once(&format!("<{name}>")) else { return String::new() };
        rest.split_once(&format!("</{name}>")).unwrap().0.to_owned()
    }

    pub fn parse(received: &[u8]) -> Self {
        let end = received.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or_else(|| {
            panic!("no head in {:?}", String::from_utf8_lossy(received));
        });
        let head = String::from_utf8(received[..end].to_vec()).unwrap();
        let mut lines = head.split("\r\n");
        let start = lines.next().unwrap().to_owned();
        let headers = lines
            .map(|line| line.split_once(':').unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Self { start, headers, body: received[end + 4..].to_vec() }
    }
}

/// Reads again where a signal came between: that a child has ended, which a socket with a time-out does not sit out.
fn read(stream: &mut TcpStream, piece: &mut [u8]) -> usize {
    loop {
        match stream.read(piece) {
            Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
            read => return read.unwrap(),
        }
    }
}

/// Sends these bytes and nothing more, and reads the answer to its end.
pub fn send_raw(address: SocketAddr, request: &[u8]) -> Message {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(request).unwrap();
    let mut received = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let complete = received.windows(4).position(|window| window == b"\r\n\r\n").and_then(|end| {
            let message = Message::parse(&received);
            let interim = message.status() < 200;
            if interim {
                received.drain(..end + 4);
                return None;
            }
            let length = message.header("content-length").parse().unwrap_or(0_usize);
            let without_body = request.starts_with(b"HEAD") || matches!(message.status(), 204 | 304);
            (without_body || message.body.len() >= length).then_some(message)
        });
        if let Some(message) = complete {
            let _ = stream.shutdown(Shutdown::Both);
            return message;
        }
        let count = read(&mut stream, &mut piece);
        assert!(count > 0, "closed early after {:?}", String::from_utf8_lossy(&received));
        received.extend_from_slice(&piece[..count]);
    }
}

/// A request that [`Call::send`] signs with version 1.
#[derive(Clone)]
pub struct Call {
    method: String,
    bucket: String,
    key: String,
    query: String,
    signed_query: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

pub fn call(method: &str, key: &str) -> Call {
    let (query, signed_query) = (String::new(), String::new());
    let bucket = "examplebucket".to_owned();
    Call {
        method: method.into(),
        bucket,
        key: key.into(),
        query,
        signed_query,
        headers: BTreeMap::new(),
        body: Vec::new(),
    }
}

impl Call {
    /// Parameters that version 1 does not sign.
    pub fn query(mut self, query: &str) -> Self {
        self.query = format!("?{query}");
        self
    }

    /// Another bucket; an empty name means none.
    pub fn bucket(mut self, name: &str) -> Self {
        self.bucket = name.to_owned();
        self
    }

    /// Parameters that version 1 signs as they stand here, sorted.
    pub fn resource(mut self, parameters: &str) -> Self {
        self.query = format!("?{parameters}");
        self.signed_query.clone_from(&self.query);
        self
    }

    /// Adds one parameter that version 1 signs, after all others.
    pub fn signed_query(mut self, name: &str, value: &str) -> Self {
        self.query.push_str(if self.query.is_empty() { "?" } else { "&" });
        self.query.push_str(&format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)));
        self.signed_query = format!("?{name}={value}");
        self
    }

    /// The whole query, signed as it stands.
    pub fn bare_query(mut self, query: &str) -> Self {
        self.query = format!("?{query}");
        self.signed_query = self.query.clone();
        self
    }

    /// Adds parameters that version 1 does not sign.
    pub fn query_more(mut self, query: &str) -> Self {
        self.query.push_str(if self.query.is_empty() { "?" } else { "&" });
        self.query.push_str(query);
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.insert(name.to_owned(), value.to_owned());
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub fn callback(self, callback: &serde_json::Value) -> Self {
        self.header("x-oss-callback", &STANDARD.encode(callback.to_string()))
    }

    pub fn variables(self, variables: &serde_json::Value) -> Self {
        self.header("x-oss-callback-var", &STANDARD.encode(variables.to_string()))
    }

    pub fn send(&self, standin: &Standin) -> Message {
        self.send_to(standin.address())
    }

    pub fn send_to(&self, address: SocketAddr) -> Message {
        let date = httpdate::fmt_http_date(SystemTime::now());
        let get = |name: &str| self.headers.get(name).map_or("", String::as_str);
        let mut signed = format!("{}\n{}\n{}\n{date}\n", self.method, get("content-md5"), get("content-type"));
        for (name, value) in self.headers.iter().filter(|(name, _)| name.starts_with("x-oss-")) {
            signed.push_str(&format!("{name}:{value}\n"));
        }
        let bucket = if self.bucket.is_empty() { String::new() } else { format!("{}/", self.bucket) };
        signed.push_str(&format!("/{bucket}{}{}", self.key, self.signed_query));
        let mut mac = Hmac::<Sha1>::new_from_slice(SECRET.as_bytes()).unwrap();
        mac.update(signed.as_bytes());
        let signature = STANDARD.encode(mac.finalize().into_bytes());
        let path: String = self.key.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let mut request = format!(
            "{} /{bucket}{path}{} HTTP/1.1\r\nHost: {address}\r\nDate: {date}\r\nAuthorization: OSS {ID}:{signature}\r\n",
            self.method, self.query
        );
        for (name, value) in &self.headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if (self.method == "PUT" || !self.body.is_empty()) && !self.headers.contains_key("transfer-encoding") {
            request.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        request.push_str("\r\n");
        let mut request = request.into_bytes();
        request.extend_from_slice(&self.body);
        send_raw(address, &request)
    }
}

/// A callback server that answers each connection with the next of these answers, then stops listening.
pub struct CallbackServer {
    pub address: SocketAddr,
    requests: mpsc::Receiver<Message>,
}

/// An answer that OSS relays.
pub fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

impl CallbackServer {
    pub fn answering(answers: Vec<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, requests) = mpsc::channel();
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut received = Vec::new();
                let mut piece = [0; 4096];
                loop {
                    let head = received.windows(4).any(|window| window == b"\r\n\r\n");
                    let message = head.then(|| Message::parse(&received));
                    if let Some(message) = message
                        && message.body.len() >= message.header("content-length").parse().unwrap()
                    {
                        sender.send(message).unwrap();
                        break;
                    }
                    let count = read(&mut stream, &mut piece);
                    assert!(count > 0, "the callback broke off");
                    received.extend_from_slice(&piece[..count]);
                }
                stream.write_all(&answer).unwrap();
                if answer.is_empty() {
                    // Silent: until the other side gives up.
                    let _ = stream.read(&mut piece);
                }
            }
        });
        Self { address, requests }
    }

    pub fn url(&self, target: &str) -> String {
        format!("http://{}{target}", self.address)
    }

    pub fn request(&self) -> Message {
        self.requests.recv_timeout(Duration::from_secs(30)).unwrap()
    }

    pub fn was_not_called(&self) -> bool {
        self.requests.try_recv().is_err()
    }
}
