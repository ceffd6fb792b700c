//! What the client programs share: what they are told, and how they report.

use std::{collections::HashMap, fs, net::SocketAddr, path::PathBuf};

use base64::{Engine, prelude::BASE64_STANDARD};
use reqwest::{Client, Method, header::HeaderMap};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

/// The media types of a callback's body.
pub const FORM: &str = "application/x-www-form-urlencoded";
pub const JSON: &str = "application/json";
/// The two as steps name them.
pub const KINDS: [(&str, &str); 2] = [("form", FORM), ("json", JSON)];
/// The ways in which a callback server can fail that every client is shown.
pub const FAILURES: [&str; 4] = ["500", "not-json", "no-length", "hang"];
/// The objects that are put and listed; the last one shows how keys are encoded.
pub const LISTED: [&str; 5] = ["list/a/1", "list/a/2", "list/b/1", "list/c", "list/d ü+&<.txt"];
/// Of each part but the last one.
pub const PART_SIZE: usize = 300 * 1024;

/// The file that the program's argument names.
#[derive(Deserialize)]
pub struct Settings {
    pub endpoint: String,
    pub region: String,
    pub bucket: String,
    pub access_key_id: String,
    pub access_key_secret: String,
    /// By how the server there answers.
    pub callback_urls: HashMap<String, String>,
    /// Bodies of callbacks by their media type.
    pub templates: HashMap<String, String>,
    /// Custom variables, `x:` included.
    pub variables: HashMap<String, String>,
    /// With text.txt, picture.png and large.bin in it.
    pub folder: PathBuf,
}

impl Settings {
    pub fn load() -> Self {
        let path = std::env::args().nth(1).expect("the path of the settings as the argument");
        serde_json::from_slice(&fs::read(path).expect("settings")).expect("settings in JSON")
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.file(name)).expect("a file of the folder")
    }

    /// Address and port of the stand-in.
    pub fn address(&self) -> SocketAddr {
        self.endpoint.trim_start_matches("http://").parse().expect("an address and a port in the endpoint")
    }

    /// A client that finds these hosts at the stand-in, whatever the name service says.
    pub fn http_client(&self, hosts: &[String]) -> Client {
        let pinned =
            hosts.iter().fold(Client::builder().no_proxy(), |builder, host| builder.resolve(host, self.address()));
        pinned.build().expect("an HTTP client")
    }
}

/// JSON in Base64, as OSS wants the parameters of a callback.
pub fn encode(value: &impl Serialize) -> String {
    BASE64_STANDARD.encode(serde_json::to_vec(value).expect("JSON"))
}

/// What is told about one step.
#[derive(Default)]
pub struct Report(Map<String, Value>);

impl Report {
    /// Adds the fields of this JSON object.
    pub fn tell(&mut self, fields: Value) {
        if let Value::Object(fields) = fields {
            self.0.extend(fields);
        }
    }
}

/// Runs steps one by one and prints a line of JSON about each.
pub struct Steps<E> {
    /// Tells a client's error in its own terms.
    pub describe: fn(&E) -> Value,
}

impl<E> Steps<E> {
    /// Reports what `step` tells; an error is told beside it under `error`.
    pub async fn run(&self, name: &str, step: impl AsyncFnOnce(&mut Report) -> Result<(), E>) {
        let mut report = Report::default();
        if let Err(error) = step(&mut report).await {
            report.tell(json!({"error": (self.describe)(&error)}));
        }
        report.tell(json!({"step": name}));
        println!("{}", Value::Object(report.0));
    }
}

/// Size and SHA-256 of a content, as each object is told that was read back.
pub fn digest(content: &[u8], mime: Option<&str>) -> Value {
    json!({"size": content.len(), "sha256": hex::encode(Sha256::digest(content)), "mime": mime})
}

/// Makes a request as whoever was handed a URL does, without any client of OSS, and tells the answer.
pub async fn send(client: &Client, method: Method, url: &str, headers: HeaderMap, content: Vec<u8>) -> Value {
    let sent = client.request(method, url).headers(headers).body(content).send().await;
    let answer = sent.expect("an answer");
    let header =
        |name: &str| answer.headers().get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let told = json!({
        "status": answer.status().as_u16(),
        "etag": header("etag"),
        "crc64": header("x-oss-hash-crc64ecma"),
        "size": header("content-length"),
        "content_disposition": header("content-disposition"),
    });
    let mut report = Report::default();
    report.tell(told);
    report.tell(json!({"answer": answer.text().await.expect("a text as the answer")}));
    Value::Object(report.0)
}
