//! A stand-in for OSS with a bucket, a folder for records, and servers over both.

use std::io::Cursor;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use image::{ImageFormat, RgbImage};
use oss_callback::app::App;
use oss_callback::record::{Record, RecordKey};
use oss_callback::records::embedded::Embedded;
use oss_callback::records::{Put, Records as _};
use oss_callback::server::Server;
use oss_standin::{Happened, Standin};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{API_TOKEN, Answer, Signed, send};

/// The bucket of the stand-in.
pub const BUCKET: &str = "examplebucket";

/// The stand-in, open to everybody, and a folder for the records.
pub struct World {
    pub standin: Standin,
    pub data: tempfile::TempDir,
}

/// A server over the records of the world.
pub struct Running {
    pub address: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

impl World {
    pub async fn new(faults: &[&str]) -> Self {
        let data = tempfile::tempdir().unwrap();
        let mut builder = Standin::builder()
            .bucket(BUCKET)
            .anonymous(true)
            .credentials("id", "secret")
            .data(data.path().join("oss"))
            .listen("127.0.0.1:0");
        for fault in faults {
            builder = builder.fault(fault.parse().unwrap());
        }
        Self { standin: builder.start().await.unwrap(), data }
    }

    pub fn records(&self) -> std::path::PathBuf {
        self.data.path().join("records")
    }

    pub async fn serve(&self, more: &[(&str, &str)]) -> Running {
        let oss = self.oss();
        let mut all: Vec<_> = oss.iter().map(|(name, value)| (*name, value.as_str())).collect();
        all.extend(more);
        Running::start(super::app(&super::settings(&self.records(), &all))).await
    }

    /// The settings that lead a function to this OSS.
    pub fn oss(&self) -> [(&'static str, String); 4] {
        [
            ("OSS_ENDPOINT", self.standin.endpoint()),
            ("OSS_REGION", "cn-hangzhou".to_owned()),
            ("OSS_ACCESS_KEY_ID", "id".to_owned()),
            ("OSS_ACCESS_KEY_SECRET", "secret".to_owned()),
        ]
    }

    /// The setting that makes a function trust the key of this OSS.
    pub fn trust(&self) -> (&'static str, String) {
        let pem = self.data.path().join("standin.pem");
        std::fs::write(&pem, self.standin.public_key_pem()).unwrap();
        ("OSS_CALLBACK_KEYS", format!("{}={}", self.standin.key_url(), pem.display()))
    }

    /// Stores an object without a callback; its ETag.
    pub async fn put(&self, key: &str, mime: &str, bytes: &[u8]) -> String {
        let head = format!(
            "PUT /{BUCKET}/{key} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {mime}\r\nContent-Length: {}\r\n\r\n",
            bytes.len()
        );
        let answer = send(self.standin.address(), &[head.as_bytes(), bytes].concat()).await;
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        answer.headers["etag"].trim_matches('"').to_owned()
    }

    pub async fn delete(&self, key: &str) {
        let request = format!("DELETE /{BUCKET}/{key} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        assert_eq!(send(self.standin.address(), request.as_bytes()).await.status, 204);
    }

    pub async fn get(&self, key: &str) -> Answer {
        let request = format!("GET /{BUCKET}/{key} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        send(self.standin.address(), request.as_bytes()).await
    }

    pub fn count(&self, wanted: &str) -> usize {
        let is = |happened: &Happened| matches!(happened, Happened::Request { operation: Some(operation), .. } if operation == wanted);
        self.standin.journal().events().iter().filter(|event| is(&event.happened)).count()
    }

    /// Waits until this operation was asked for so many times.
    pub async fn until_asked(&self, operation: &str, times: usize) {
        let mut last = 0;
        let waiting = async {
            while self.count(operation) < times {
                last = self.standin.journal().wait_for_newer(last).await.last().unwrap().number;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("OSS is asked");
    }

    /// Writes a record behind the back of every server.
    pub async fn write(&self, record: &Record) {
        let records = Embedded::open(&self.records()).unwrap();
        assert_eq!(records.put(record, None).await.unwrap(), Put::Stored);
    }

    /// The record as it stands when no server runs.
    pub async fn left(&self, key: &str) -> Record {
        Embedded::open(&self.records()).unwrap().get(&RecordKey::new(BUCKET, key)).await.unwrap().unwrap()
    }

    pub async fn assert_has_thumbnails(&self, record: &Value) {
        let thumbnails = record["thumbnails"].as_array().unwrap();
        assert_eq!(thumbnails.len(), 2, "{record}");
        for thumbnail in thumbnails {
            assert_eq!(self.get(thumbnail["key"].as_str().unwrap()).await.status, 200, "{thumbnail}");
        }
    }
}

impl Running {
    pub async fn start(app: Arc<App>) -> Self {
        let server = Server::bind("127.0.0.1:0".parse().unwrap(), app).await.unwrap();
        let address = server.address().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(server.serve(async { drop(stopped.await) }));
        Self { address, stop, served }
    }

    pub async fn callback(&self, body: &str) -> Answer {
        send(self.address, &Signed::form(&format!("bucket={BUCKET}&{body}")).bytes()).await
    }

    pub async fn record(&self, key: &str) -> Value {
        let request = format!(
            "GET /records/{BUCKET}/{key} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {API_TOKEN}\r\n\r\n"
        );
        send(self.address, request.as_bytes()).await.json()
    }

    /// Waits until a record is in this state.
    pub async fn until(&self, key: &str, state: &str) -> Value {
        let mut record = Value::Null;
        for _ in 0..600 {
            record = self.record(key).await;
            if record["state"] == state {
                return record;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("not {state}, but {record}");
    }

    /// Stops it and waits for the end of all that it had in hand.
    pub async fn stop(self) {
        drop(self.stop);
        self.served.await.unwrap();
    }
}

/// A picture.
pub fn png() -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    RgbImage::from_fn(900, 600, |x, y| image::Rgb([x as u8, y as u8, 7]))
        .write_to(&mut bytes, ImageFormat::Png)
        .unwrap();
    bytes.into_inner()
}
