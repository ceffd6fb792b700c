//! The function as a test sees it: started in this process on a free port, spoken to over a socket in raw bytes.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::Md5;
use oss_callback::app::App;
use oss_callback::config::{Config, Purpose, Source};
use oss_callback::server::Server;
use oss_callback::wire;
use rsa::RsaPrivateKey;
use rsa::pkcs1v15::SigningKey;
use rsa::pkcs8::DecodePrivateKey as _;
use rsa::signature::{SignatureEncoding as _, Signer as _};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

pub mod world;

/// The URL that names the key of the tests.
pub const TEST_KEY_URL: &str = "http://keys.test/callback.pem";
/// The token for the read routes.
pub const API_TOKEN: &str = "test-api-token";

/// Where a file of the repository is.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Settings for a function with an embedded store in `data` that trusts the test key.
pub fn settings(data: &Path, more: &[(&str, &str)]) -> BTreeMap<String, String> {
    let key = repository("tests/support/test-key.pub.pem");
    let mut settings: BTreeMap<String, String> = [
        ("OSS_CALLBACK_BUCKETS", "examplebucket".to_owned()),
        ("OSS_CALLBACK_STORE", format!("embedded:{}", data.display())),
        ("OSS_CALLBACK_KEYS", format!("{TEST_KEY_URL}={}", key.display())),
        ("OSS_CALLBACK_API_TOKEN", API_TOKEN.to_owned()),
        ("OSS_CALLBACK_LISTEN", "127.0.0.1:0".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    settings.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    settings
}

/// The function put together from these settings.
pub fn app(settings: &BTreeMap<String, String>) -> Arc<App> {
    app_for(Purpose::Server, settings)
}

/// The same for another purpose, but with the embedded store, which Lambda itself would refuse.
pub fn app_for(purpose: Purpose, settings: &BTreeMap<String, String>) -> Arc<App> {
    let environment = |name: &str| settings.get(name).cloned();
    let mut config = Config::read(&Source::new(BTreeMap::new(), &environment), Purpose::Server).unwrap();
    config.purpose = purpose;
    Arc::new(wire::app(config).unwrap())
}

/// A running server; stops when dropped.
pub struct Function {
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    _data: tempfile::TempDir,
}

impl Function {
    pub async fn start(more: &[(&str, &str)]) -> Self {
        Self::start_for(Purpose::Server, more).await
    }

    pub async fn start_for(purpose: Purpose, more: &[(&str, &str)]) -> Self {
        let data = tempfile::tempdir().unwrap();
        let app = app_for(purpose, &settings(data.path(), more));
        let server = Server::bind("127.0.0.1:0".parse().unwrap(), app).await.unwrap();
        let address = server.address().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(server.serve(async { drop(stopped.await) }));
        Self { address, stop: Some(stop), _data: data }
    }

    /// Sends bytes as they are, and reads the answer.
    pub async fn send(&self, request: &[u8]) -> Answer {
        send(self.address, request).await
    }

    /// Reads a route with the API token.
    pub async fn read(&self, target: &str) -> Answer {
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {API_TOKEN}\r\n\r\n"
        );
        self.send(request.as_bytes()).await
    }
}

/// An answer, taken apart.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("every answer is JSON")
    }

    /// The stable code of an error, or the status of a recorded callback.
    pub fn outcome(&self) -> String {
        let json = self.json();
        json["error"]["code"].as_str().or(json["status"].as_str()).unwrap_or("neither").to_owned()
    }
}

/// Sends bytes to an address and reads one answer to the end of the connection, or of its Content-Length.
pub async fn send(address: SocketAddr, request: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut bytes = Vec::new();
    loop {
        if let Some(answer) = parse(&bytes) {
            return answer;
        }
        let mut buffer = [0; 16 * 1024];
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(read > 0, "the connection ended after {:?}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&buffer[..read]);
    }
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let status: u16 = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    if status == 100 {
        return parse(&bytes[end + 4..]);
    }
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.into()))
        .collect();
    let length: usize = match headers.get("content-length") {
        None if status == 204 => 0,
        length => length.expect("every answer has a Content-Length").parse().unwrap(),
    };
    let body = bytes.get(end + 4..end + 4 + length)?.to_vec();
    Some(Answer { status, headers, body })
}

/// Signs as OSS does: over the decoded path, the raw query and the body.
pub fn sign(path: &str, query: Option<&str>, body: &[u8]) -> String {
    let pem = std::fs::read_to_string(repository("tests/support/test-key.pem")).unwrap();
    let key = SigningKey::<Md5>::new(RsaPrivateKey::from_pkcs8_pem(&pem).unwrap());
    let mut text: Vec<u8> = percent_encoding::percent_decode_str(path).collect();
    if let Some(query) = query {
        text.extend_from_slice(format!("?{query}").as_bytes());
    }
    text.push(b'\n');
    text.extend_from_slice(body);
    STANDARD.encode(key.sign(&text).to_bytes())
}

/// A callback signed with the test key, as raw bytes.
pub struct Signed {
    pub path: String,
    pub query: Option<String>,
    pub body: Vec<u8>,
    pub headers: Vec<(String, String)>,
}

impl Signed {
    pub fn form(body: &str) -> Self {
        Self::new("application/x-www-form-urlencoded", body.as_bytes())
    }

    pub fn json(body: &str) -> Self {
        Self::new("application/json", body.as_bytes())
    }

    pub fn new(content_type: &str, body: &[u8]) -> Self {
        Self::at("/callback", None, content_type, body)
    }

    pub fn at(path: &str, query: Option<&str>, content_type: &str, body: &[u8]) -> Self {
        let headers = [
            ("Authorization", sign(path, query, body)),
            ("x-oss-pub-key-url", STANDARD.encode(TEST_KEY_URL)),
            ("x-oss-signature-version", "1.0".to_owned()),
            ("Content-Type", content_type.to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        Self { path: path.to_owned(), query: query.map(str::to_owned), body: body.to_vec(), headers }
    }

    /// Replaces a header, or removes it.
    pub fn header(mut self, name: &str, value: Option<&str>) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.headers.extend(value.map(|value| (name.to_owned(), value.to_owned())));
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let query = self.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        let mut head = format!("POST {}{query} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n", self.path);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", self.body.len()));
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}
