//! Each fault of the stand-in, as the function and its uploader meet it, and as the stand-in's journal tells it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::io::Cursor;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{Method, Request};
use image::{ImageFormat, RgbImage};
use oss_standin::{Event, Happened, Standin};
use reqsign_aliyun_oss::{Credential, RequestSigner, SigningVersion};
use reqsign_core::{Context, SignRequest as _};
use serde_json::{Value, json};
use support::{Answer, Function, TEST_KEY_URL, repository, send};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const BUCKET: &str = "examplebucket";
const TEMPLATE: &str =
    "bucket=${bucket}&object=${object}&etag=${etag}&size=${size}&mimeType=${mimeType}&reqId=${reqId}";

/// What OSS tells an uploader whose callback server it could not reach.
const CANNOT_CONNECT: &str = "Error status : -1.OSS can not connect to your callbackUrl, please check it.";

/// The stand-in with faults, and the function beside it.
struct Loop {
    standin: Standin,
    function: Function,
    _data: tempfile::TempDir,
}

impl Loop {
    async fn start(faults: &[&str]) -> Self {
        Self::start_with(faults, &[]).await
    }

    async fn start_with(faults: &[&str], more: &[(&str, &str)]) -> Self {
        let data = tempfile::tempdir().unwrap();
        let mut builder = Standin::builder()
            .bucket(BUCKET)
            .credentials("id", "secret")
            .data(data.path().join("oss"))
            .listen("127.0.0.1:0");
        for fault in faults {
            builder = builder.fault(fault.parse().unwrap());
        }
        let standin = builder.start().await.unwrap();
        let pem = data.path().join("standin.pem");
        std::fs::write(&pem, standin.public_key_pem()).unwrap();
        let test_pem = repository("tests/support/test-key.pub.pem");
        let keys = format!("{}={},{TEST_KEY_URL}={}", standin.key_url(), pem.display(), test_pem.display());
        let endpoint = standin.endpoint();
        let mut settings = vec![
            ("OSS_CALLBACK_KEYS", keys.as_str()),
            ("OSS_ENDPOINT", endpoint.as_str()),
            ("OSS_REGION", "cn-hangzhou"),
            ("OSS_ACCESS_KEY_ID", "id"),
            ("OSS_ACCESS_KEY_SECRET", "secret"),
        ];
        settings.extend(more);
        let function = Function::start(&settings).await;
        Self { standin, function, _data: data }
    }

    async fn upload(&self, key: &str, mime: &str, bytes: &[u8]) -> Answer {
        self.upload_for("/callback", key, mime, bytes).await
    }

    /// An upload whose callbackUrl has this path.
    async fn upload_for(&self, path: &str, key: &str, mime: &str, bytes: &[u8]) -> Answer {
        let url = format!("http://{}{path}", self.function.address);
        let callback = STANDARD.encode(json!({"callbackUrl": url, "callbackBody": TEMPLATE}).to_string());
        let headers = [("content-type", mime), ("x-oss-callback", &callback)];
        let request = signed(self.standin.address(), Method::PUT, key, &headers, bytes).await;
        send(self.standin.address(), &request).await
    }

    async fn text(&self, key: &str) -> Answer {
        self.upload(key, "text/plain", b"hello").await
    }

    async fn get(&self, key: &str) -> Answer {
        let request = signed(self.standin.address(), Method::GET, key, &[], b"").await;
        send(self.standin.address(), &request).await
    }

    async fn record(&self, key: &str) -> Value {
        self.function.read(&format!("/records/{BUCKET}/{key}")).await.json()
    }

    /// Whether the function has a record of it at all.
    async fn is_recorded(&self, key: &str) -> bool {
        self.function.read(&format!("/records/{BUCKET}/{key}")).await.status == 200
    }

    fn events(&self) -> Vec<Arc<Event>> {
        self.standin.journal().events()
    }

    /// The requests for one operation, each with the status and the fault of its answer.
    fn answers(&self, operation: &str) -> Vec<(Option<u16>, Option<String>)> {
        let events = self.events();
        let ids = events.iter().filter(
            |event| matches!(&event.happened, Happened::Request { operation: Some(of), .. } if of == operation),
        );
        ids.filter_map(|request| {
            events.iter().find_map(|event| match &event.happened {
                Happened::Answer { status, fault, .. } if event.request_id == request.request_id => {
                    Some((*status, fault.clone()))
                }
                _ => None,
            })
        })
        .collect()
    }

    /// The callbacks in the order in which they came to their end.
    fn callbacks(&self) -> Vec<Sent> {
        let events = self.events();
        let mut sent = Vec::new();
        for (at, event) in events.iter().enumerate() {
            let Happened::CallbackAnswer { status, failure, fault, body: answer, .. } = &event.happened else {
                continue;
            };
            let (path, body) = events[..at]
                .iter()
                .rev()
                .find_map(|earlier| match &earlier.happened {
                    Happened::Callback { path, body, fault: same, .. } if earlier.request_id == event.request_id => {
                        assert_eq!(same, fault);
                        Some((path.clone(), body.clone()))
                    }
                    _ => None,
                })
                .expect("what is answered was sent");
            let (answer, failure) = (answer.clone().unwrap_or_default(), failure.clone());
            sent.push(Sent { path, body, status: *status, answer, failure, fault: fault.clone() });
        }
        sent
    }

    /// The only callback there was.
    fn callback(&self) -> Sent {
        let [sent] = self.callbacks().try_into().unwrap();
        sent
    }

    /// Waits for a journal in which this holds.
    async fn until(&self, holds: impl Fn(&Self) -> bool) {
        let mut last = 0;
        tokio::time::timeout(Duration::from_secs(20), async {
            while !holds(self) {
                let newer = self.standin.journal().wait_for_newer(last).await;
                last = newer.last().unwrap().number;
            }
        })
        .await
        .expect("the journal comes to say so");
    }
}

/// A callback as the journal tells it.
#[derive(Debug)]
struct Sent {
    path: String,
    body: String,
    status: Option<u16>,
    answer: String,
    failure: Option<String>,
    fault: Option<String>,
}

fn some(status: u16, fault: &str) -> (Option<u16>, Option<String>) {
    (Some(status), Some(fault.to_owned()))
}

/// A signed request, as raw bytes.
async fn signed(address: SocketAddr, method: Method, key: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut request = Request::builder().method(method).uri(format!("http://{address}/{BUCKET}/{key}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (mut parts, ()) = request.body(()).unwrap().into_parts();
    let credential = Credential {
        access_key_id: "id".to_owned(),
        access_key_secret: "secret".to_owned(),
        security_token: None,
        expires_in: None,
    };
    RequestSigner::new(BUCKET)
        .with_region("cn-hangzhou")
        .with_signing_version(SigningVersion::V4)
        .sign_request(&Context::new(), &mut parts, Some(&credential), None)
        .await
        .unwrap();
    let mut head = format!("{} {} HTTP/1.1\r\n", parts.method, parts.uri.path_and_query().unwrap());
    if !parts.headers.contains_key("host") {
        head.push_str(&format!("host: {address}\r\n"));
    }
    for (name, value) in &parts.headers {
        head.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
    }
    head.push_str(&format!("connection: close\r\ncontent-length: {}\r\n\r\n", body.len()));
    [head.as_bytes(), body].concat()
}

/// Everything that comes back before the connection ends, and how it ends.
async fn send_to_the_end(address: SocketAddr, request: &[u8]) -> (Vec<u8>, std::io::Result<()>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut received = Vec::new();
    let end = stream.read_to_end(&mut received).await.map(drop);
    (received, end)
}

fn png() -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    RgbImage::from_fn(300, 200, |x, y| image::Rgb([x as u8, y as u8, 7]))
        .write_to(&mut bytes, ImageFormat::Png)
        .unwrap();
    bytes.into_inner()
}

/// The text of an element in an XML answer.
fn element(answer: &Answer, name: &str) -> String {
    let text = String::from_utf8(answer.body.clone()).unwrap();
    let (_, rest) = text.split_once(&format!("<{name}>")).unwrap_or_else(|| panic!("no {name} in {text}"));
    rest.split_once("</").unwrap().0.to_owned()
}

fn assert_callback_failed(answer: &Answer, message: &str) {
    assert_eq!((answer.status, element(answer, "Code").as_str()), (203, "CallbackFailed"));
    assert_eq!(element(answer, "Message"), message);
}

/// The record says that OSS could not be asked.
fn assert_unverified(answer: &Answer, reason: &str) {
    let json = answer.json();
    assert_eq!(
        (answer.status, json["status"].as_str(), json["reason"].as_str()),
        (200, Some("unverified"), Some(reason)),
        "{json}"
    );
}

// Requests: the function asks OSS about the object with HEAD and reads it with GET.

#[tokio::test]
async fn a_slow_head_within_the_time_limit_costs_only_time() {
    let running = Loop::start(&["slow=300ms,operation=HeadObject,times=1"]).await;
    let began = Instant::now();
    assert_eq!(running.text("o").await.json()["status"], "recorded");
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert_eq!(running.answers("HeadObject"), [some(200, "slow=300ms")]);
}

#[tokio::test]
async fn a_head_slower_than_the_time_limit_leaves_the_record_unverified() {
    let running = Loop::start_with(&["slow=30s,operation=HeadObject"], &[("OSS_CALLBACK_BUDGET_MS", "3000")]).await;
    assert_unverified(&running.text("o").await, "oss_unavailable");
    running.until(|running| !running.answers("HeadObject").is_empty()).await;
    assert_eq!(running.answers("HeadObject"), [(None, Some("slow=30s".to_owned()))], "the function hung up");
}

#[tokio::test]
async fn a_head_that_hangs_leaves_the_record_unverified_and_stopping_does_not_wait_for_it() {
    let running = Loop::start_with(&["hang,operation=HeadObject"], &[("OSS_CALLBACK_BUDGET_MS", "3000")]).await;
    assert_unverified(&running.text("o").await, "oss_unavailable");
    running.until(|running| !running.answers("HeadObject").is_empty()).await;
    assert_eq!(running.answers("HeadObject"), [(None, Some("hang".to_owned()))]);

    let address = running.standin.address();
    let request = signed(address, Method::HEAD, "o", &[], b"").await;
    let held = tokio::spawn(async move { send_to_the_end(address, &request).await.0 });
    let heads = |running: &Loop| {
        running
            .events()
            .iter()
            .filter(|event| matches!(&event.happened, Happened::Request { method, .. } if method == "HEAD"))
            .count()
    };
    running.until(|running| heads(running) == 2).await;
    let began = Instant::now();
    running.standin.stop().await;
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(held.await.unwrap(), b"");
}

#[tokio::test]
async fn one_reset_is_made_up_for_by_trying_again_and_two_leave_the_record_unverified() {
    let running = Loop::start(&["reset,operation=HeadObject,times=3"]).await;
    assert_unverified(&running.text("o").await, "oss_unavailable");
    assert_eq!(running.text("p").await.json()["status"], "recorded");
    let reset = (None, Some("reset".to_owned()));
    assert_eq!(running.answers("HeadObject"), [reset.clone(), reset.clone(), reset, (Some(200), None)]);
}

#[tokio::test]
async fn a_lost_answer_leaves_an_upload_that_was_stored_called_back_and_recorded() {
    let running = Loop::start(&["answer-lost,operation=PutObject,times=1"]).await;
    let callback = STANDARD.encode(
        json!({"callbackUrl": format!("http://{}/callback", running.function.address), "callbackBody": TEMPLATE})
            .to_string(),
    );
    let headers = [("content-type", "text/plain"), ("x-oss-callback", callback.as_str())];
    let request = signed(running.standin.address(), Method::PUT, "o", &headers, b"hello").await;
    let (received, end) = send_to_the_end(running.standin.address(), &request).await;
    assert_eq!((received.as_slice(), end.unwrap_err().kind()), (&b""[..], std::io::ErrorKind::ConnectionReset));
    assert_eq!(running.get("o").await.body, b"hello");
    assert_eq!(running.callback().status, Some(200));
    assert_eq!(running.record("o").await["state"], "recorded");
    assert_eq!(running.answers("PutObject"), [some(200, "answer-lost")]);
}

#[tokio::test]
async fn a_reset_is_a_reset_and_no_orderly_end() {
    let running = Loop::start(&["reset,operation=GetObject"]).await;
    let request = signed(running.standin.address(), Method::GET, "o", &[], b"").await;
    let (received, end) = send_to_the_end(running.standin.address(), &request).await;
    assert_eq!((received.as_slice(), end.unwrap_err().kind()), (&b""[..], std::io::ErrorKind::ConnectionReset));
}

#[tokio::test]
async fn errors_of_the_service_on_head_leave_the_record_unverified_until_the_next_callback() {
    for (fault, status) in [("status=500", 500), ("status=503", 503)] {
        let running = Loop::start(&[&format!("{fault},operation=HeadObject,times=1")]).await;
        assert_unverified(&running.text("o").await, "oss_unavailable");
        assert_eq!(running.record("o").await["state"], "unverified");
        assert_eq!(running.text("o").await.json()["status"], "recorded");
        assert_eq!(running.answers("HeadObject"), [some(status, fault), (Some(200), None)]);
    }
}

#[tokio::test]
async fn errors_of_the_service_on_an_upload_store_nothing_and_call_nobody() {
    for (fault, status, code) in [("status=500", 500, "InternalError"), ("status=503", 503, "ServiceUnavailable")] {
        let running = Loop::start(&[&format!("{fault},operation=PutObject,times=1")]).await;
        let refused = running.text("o").await;
        assert_eq!((refused.status, element(&refused, "Code").as_str()), (status, code));
        assert_eq!(running.get("o").await.status, 404);
        assert_eq!(running.answers("PutObject"), [some(status, fault)]);
        assert!(running.callbacks().is_empty());
    }
}

#[tokio::test]
async fn a_body_cut_short_is_not_taken_for_the_object() {
    let running = Loop::start(&["truncate,operation=GetObject,times=2"]).await;
    let png = png();
    let json = running.upload("o.png", "image/png", &png).await.json();
    assert_eq!(
        (json["status"].as_str(), json["reason"].as_str()),
        (Some("received"), Some("oss_unavailable")),
        "{json}"
    );
    assert_eq!(running.answers("GetObject"), [some(200, "truncate")]);

    let request = signed(running.standin.address(), Method::GET, "o.png", &[], b"").await;
    let (received, end) = send_to_the_end(running.standin.address(), &request).await;
    end.unwrap();
    let head = received.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    let announced = format!("content-length: {}\r\n", png.len());
    assert!(String::from_utf8_lossy(&received[..head + 2]).contains(&announced));
    assert_eq!(received[head + 4..], png[..png.len() / 2]);

    assert_eq!(running.upload("o.png", "image/png", &png).await.json()["status"], "ready");
}

#[tokio::test]
async fn an_etag_of_another_object_does_not_stay_in_the_record() {
    let running = Loop::start(&["wrong-etag,operation=HeadObject,times=1"]).await;
    let answer = running.upload("o.png", "image/png", &png()).await;
    assert_eq!(answer.json()["status"], "ready", "{}", answer.json());
    assert_eq!(running.record("o.png").await["etag"], answer.headers["etag"].trim_matches('"'));
    assert_eq!(running.answers("HeadObject"), [some(200, "wrong-etag"), (Some(200), None)]);
    assert_eq!(running.answers("GetObject"), [(Some(412), None), (Some(200), None)]);
}

#[tokio::test]
async fn a_precondition_that_fails_once_is_an_object_that_changed_and_is_asked_about_again() {
    let running = Loop::start(&["precondition,operation=GetObject,times=1"]).await;
    let answer = running.upload("o.png", "image/png", &png()).await.json();
    assert_eq!(answer["status"], "ready", "{answer}");
    assert_eq!(running.answers("GetObject"), [some(412, "precondition"), (Some(200), None)]);
    assert_eq!(running.answers("HeadObject").len(), 2);
}

#[tokio::test]
async fn a_clock_that_is_off_refuses_every_signature_and_shows_in_date() {
    let running = Loop::start(&["skew=-3600,times=1,operation=HeadObject", "skew=3600,operation=GetObject"]).await;
    assert_unverified(&running.text("o").await, "oss_forbidden");
    assert_eq!(running.answers("HeadObject"), [some(403, "skew=-3600")]);

    let refused = running.get("o").await;
    assert_eq!((refused.status, element(&refused, "Code").as_str()), (403, "RequestTimeTooSkewed"));
    let date = httpdate::parse_http_date(&refused.headers["date"]).unwrap();
    let ahead = date.duration_since(std::time::SystemTime::now()).unwrap();
    assert!((3500..=3600).contains(&ahead.as_secs()), "{ahead:?}");
}

// Callbacks.

#[tokio::test]
async fn a_lost_callback_leaves_the_object_and_no_record() {
    let running = Loop::start(&["callback-lost,times=1"]).await;
    assert_callback_failed(&running.text("o").await, CANNOT_CONNECT);
    assert_eq!(running.get("o").await.body, b"hello");
    assert!(!running.is_recorded("o").await);
    let sent = running.callback();
    assert_eq!((sent.fault.as_deref(), sent.status), (Some("callback-lost"), None));
    assert_eq!(sent.failure.as_deref(), Some(CANNOT_CONNECT));
}

#[tokio::test]
async fn a_lost_answer_leaves_the_record_and_an_uploader_who_does_not_know() {
    let running = Loop::start(&["callback-answer-lost,times=1"]).await;
    assert_callback_failed(&running.text("o").await, CANNOT_CONNECT);
    assert_eq!(running.record("o").await["state"], "recorded");
    let sent = running.callback();
    assert_eq!((sent.fault.as_deref(), sent.status), (Some("callback-answer-lost"), Some(200)));
    assert!(sent.answer.contains("\"recorded\"") && sent.failure.as_deref() == Some(CANNOT_CONNECT), "{sent:?}");
}

#[tokio::test]
async fn an_upload_waits_for_its_late_callback() {
    let running = Loop::start(&["callback-late=400ms"]).await;
    let began = Instant::now();
    assert_eq!(running.text("o").await.json()["status"], "recorded");
    assert!(began.elapsed() >= Duration::from_millis(400));
    let sent = running.callback();
    assert_eq!((sent.fault.as_deref(), sent.status), (Some("callback-late=400ms"), Some(200)));
}

#[tokio::test]
async fn a_doubled_callback_makes_one_record_and_gets_one_answer_twice() {
    let running = Loop::start(&["callback-doubled"]).await;
    let answer = running.upload("o.png", "image/png", &png()).await;
    assert_eq!(answer.json()["status"], "ready");
    let record = running.record("o.png").await;
    assert_eq!((record["generation"].as_u64(), record["attempts"].as_u64()), (Some(1), Some(1)), "{record}");
    let sent = running.callbacks();
    assert_eq!(sent.len(), 2);
    assert_eq!((&sent[0].body, &sent[0].answer), (&sent[1].body, &sent[1].answer));
    assert!(sent.iter().all(|one| one.fault.as_deref() == Some("callback-doubled") && one.status == Some(200)));
    assert_eq!(answer.body, sent[0].answer.as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_upload_wins_though_its_callback_came_first() {
    let running = Loop::start(&["callback-reordered,times=1"]).await;
    let second_when_first_is_stored = async {
        let stored = |running: &Loop| running.standin.faults()[0].struck == 1;
        while !stored(&running) {
            tokio::task::yield_now().await;
        }
        running.upload("o", "text/plain", b"the second").await
    };
    let (first, second) = tokio::join!(running.upload("o", "text/plain", b"first"), second_when_first_is_stored);
    assert_eq!((first.status, second.status), (200, 200));
    let record = running.record("o").await;
    assert_eq!(record["etag"], second.headers["etag"].trim_matches('"'));
    assert_eq!(record["size"], 10);
    assert_eq!(record["request_id"], second.headers["x-oss-request-id"]);
    let sent = running.callbacks();
    let faults: Vec<_> = sent.iter().map(|one| one.fault.as_deref()).collect();
    assert_eq!(faults, [None, Some("callback-reordered")], "in the order in which they came through");
    assert!(sent[0].body.contains("size=10") && sent[1].body.contains("size=5"));
}

/// The function refuses the callback, and the uploader hears of a status and no more.
async fn assert_refused(fault: &str, code: &str) -> Sent {
    let running = Loop::start(&[fault]).await;
    assert_callback_failed(&running.text("o").await, "Error status : 403.");
    assert!(!running.is_recorded("o").await);
    let sent = running.callback();
    assert_eq!((sent.fault.as_deref(), sent.status), (Some(fault), Some(403)));
    assert!(sent.answer.contains(&format!("\"{code}\"")), "{}", sent.answer);
    sent
}

#[tokio::test]
async fn a_wrong_signature_is_refused() {
    assert_refused("callback-wrong-signature", "signature_mismatch").await;
}

#[tokio::test]
async fn a_key_url_that_nobody_configured_is_refused() {
    assert_refused("callback-wrong-key-url=http://keys.evil.test/k.pem", "untrusted_key_url").await;
}

#[tokio::test]
async fn a_body_that_a_gateway_put_into_base64_is_refused() {
    let sent = assert_refused("callback-base64-body", "signature_mismatch").await;
    let signed = String::from_utf8(STANDARD.decode(sent.body).unwrap()).unwrap();
    assert!(signed.starts_with("bucket=examplebucket&object=o&"), "{signed}");
}

#[tokio::test]
async fn a_gateway_that_adds_or_strips_a_stage_is_seen_through_where_both_paths_are_configured() {
    let both = [("OSS_CALLBACK_PATH", "/prod/callback,/callback")];
    for (fault, called, arrived) in [
        ("callback-stage-added=/prod", "/callback", "/prod/callback"),
        ("callback-stage-stripped=/prod", "/prod/callback", "/callback"),
    ] {
        let running = Loop::start_with(&[fault], &both).await;
        let answer = running.upload_for(called, "o", "text/plain", b"hello").await;
        assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some("recorded")));
        let sent = running.callback();
        assert_eq!((sent.fault.as_deref(), sent.path.as_str()), (Some(fault), arrived));
    }
}

#[tokio::test]
async fn a_stage_that_nobody_configured_is_refused() {
    let running = Loop::start(&["callback-stage-added=/prod"]).await;
    assert_callback_failed(&running.text("o").await, "Error status : 404.");
    let running = Loop::start(&["callback-stage-stripped=/prod"]).await;
    let answer = running.upload_for("/prod/callback", "o", "text/plain", b"hello").await;
    assert_callback_failed(&answer, "Error status : 403.");
    assert!(running.callback().answer.contains("\"signature_mismatch\""));
}

#[tokio::test]
async fn a_callback_of_the_old_documents_is_accepted() {
    let running = Loop::start(&["callback-http-1.0"]).await;
    let answer = running.text("o").await;
    assert_eq!(answer.json()["status"], "recorded");
    assert_eq!(running.record("o").await["request_id"], answer.headers["x-oss-request-id"], "reqId is in the body");
    let sent = running.callback();
    assert_eq!((sent.fault.as_deref(), sent.status), (Some("callback-http-1.0"), Some(200)));
}

// The journal and the seed.

#[tokio::test]
async fn the_journal_tells_an_upload_from_request_to_answer() {
    let running = Loop::start(&[]).await;
    let answer = running.text("a/o").await;
    let id = &answer.headers["x-oss-request-id"];
    let events = running.events();
    let told: Vec<&Happened> =
        events.iter().filter(|event| event.request_id == *id).map(|event| &event.happened).collect();
    let [request, callback, callback_answer, answered] = told.try_into().unwrap();
    let Happened::Request { method, bucket, key, operation, length, .. } = request else { panic!("{request:?}") };
    assert_eq!((method.as_str(), *length), ("PUT", Some(5)));
    assert_eq!(
        (bucket.as_deref(), key.as_deref(), operation.as_deref()),
        (Some(BUCKET), Some("a/o"), Some("PutObject"))
    );
    let Happened::Callback { path, body, body_type, .. } = callback else { panic!("{callback:?}") };
    assert_eq!((path.as_str(), body_type.as_str()), ("/callback", "application/x-www-form-urlencoded"));
    assert!(body.starts_with("bucket=examplebucket&object=a%2Fo&"), "{body}");
    let Happened::CallbackAnswer { status, body, .. } = callback_answer else { panic!("{callback_answer:?}") };
    assert_eq!((*status, body.as_deref().map(str::as_bytes)), (Some(200), Some(answer.body.as_slice())));
    let Happened::Answer { status, code, .. } = answered else { panic!("{answered:?}") };
    assert_eq!((*status, code.as_deref()), (Some(200), None));
    let all = format!("{events:?}");
    assert!(!all.contains("OSS4-HMAC") && !all.contains("hello"), "neither signatures nor content: {all}");
}

#[tokio::test]
async fn the_same_seed_gives_the_same_faults_and_another_seed_others() {
    let struck = async |seed| {
        let running = Loop::start(&[]).await;
        let half = "status=503,operation=GetObject,probability=0.5".parse().unwrap();
        running.standin.set_faults(seed, [half]);
        let mut statuses = Vec::new();
        for _ in 0..40 {
            statuses.push(running.get("none").await.status);
        }
        let told: Vec<u16> = running.answers("GetObject").iter().map(|(status, _)| status.unwrap()).collect();
        assert_eq!(statuses, told);
        statuses
    };
    let (first, again, other) = (struck(7).await, struck(7).await, struck(8).await);
    assert_eq!(first, again);
    assert_ne!(first, other);
    assert!(first.contains(&503) && first.contains(&404), "{first:?}");
}
