//! PostObject: forms as web pages send them, and everything a policy can forbid.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::{CallbackServer, ID, Message, SECRET, builder, call, ok, send_raw};
use hmac::{Hmac, Mac as _};
use oss_standin::Standin;
use serde_json::{Value, json};
use sha1::Sha1;
use sha2::Sha256;

const BOUNDARY: &str = "----form";

async fn start(data: &tempfile::TempDir) -> Standin {
    builder(data).start().await.unwrap()
}

/// A form with a version 1 signature; the file comes last.
#[derive(Clone)]
struct Form {
    fields: Vec<(String, String)>,
    file_head: String,
    content: Vec<u8>,
}

fn form(key: &str, conditions: &Value) -> Form {
    let expiration = jiff::Timestamp::try_from(SystemTime::now() + Duration::from_secs(600)).unwrap();
    form_until(&expiration.to_string(), key, conditions)
}

/// Conditions that allow nearly everything.
fn any() -> Value {
    json!([["content-length-range", 0, 1_000_000]])
}

fn form_until(expiration: &str, key: &str, conditions: &Value) -> Form {
    let policy = STANDARD.encode(json!({"expiration": expiration, "conditions": conditions}).to_string());
    let mut mac = Hmac::<Sha1>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(policy.as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    let form = Form { fields: Vec::new(), file_head: "name=\"file\"".to_owned(), content: b"content".to_vec() };
    form.field("key", key).field("OSSAccessKeyId", ID).field("policy", &policy).field("Signature", &signature)
}

/// Signs a policy for version 4, at a time in seconds from now.
fn form_four(key: &str, from_now: i64, conditions: &[Value]) -> Form {
    let at = |seconds: i64| jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() + seconds).unwrap();
    let date = at(from_now).strftime("%Y%m%dT%H%M%SZ").to_string();
    let credential = format!("{ID}/{}/cn-hangzhou/oss/aliyun_v4_request", &date[..8]);
    let policy = json!({"expiration": at(600).to_string(), "conditions": conditions}).to_string();
    let form = Form { fields: Vec::new(), file_head: "name=\"file\"".to_owned(), content: b"content".to_vec() };
    form.field("key", key)
        .field("x-oss-signature-version", "OSS4-HMAC-SHA256")
        .field("x-oss-credential", &credential)
        .field("x-oss-date", &date)
        .sign_four(&policy)
}

/// What every version 4 policy must bind.
fn bound() -> Vec<Value> {
    let names = ["x-oss-signature-version", "x-oss-credential", "x-oss-date"];
    names.iter().map(|name| json!(["starts-with", format!("${name}"), ""])).collect()
}

fn hmac_sha256(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

impl Form {
    fn value(&self, name: &str) -> String {
        self.fields.iter().find(|(known, _)| known == name).unwrap().1.clone()
    }

    fn sign_four(self, policy: &str) -> Self {
        let policy = STANDARD.encode(policy);
        let mut key = format!("aliyun_v4{SECRET}").into_bytes();
        for part in self.value("x-oss-credential").split('/').skip(1) {
            key = hmac_sha256(&key, part);
        }
        let signature: String = hmac_sha256(&key, &policy).iter().map(|byte| format!("{byte:02x}")).collect();
        self.field("policy", &policy).field("x-oss-signature", &signature)
    }

    fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.retain(|(known, _)| known != name);
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.fields.retain(|(known, _)| known != name);
        self
    }

    /// The parameters of the file's Content-Disposition, and what follows that line.
    fn file(mut self, head: &str, content: &[u8]) -> Self {
        self.file_head = head.to_owned();
        self.content = content.to_vec();
        self
    }

    fn callback(self, callback: &Value) -> Self {
        self.field("callback", &STANDARD.encode(callback.to_string()))
    }

    fn body(&self) -> Vec<u8> {
        let mut body = Vec::new();
        for (name, value) in &self.fields {
            let part = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
            body.extend_from_slice(part.as_bytes());
        }
        let head = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; {}\r\n\r\n", self.file_head);
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(&self.content);
        body.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
        body
    }

    fn request(&self) -> Vec<u8> {
        request(&self.body())
    }

    fn send(&self, standin: &Standin) -> Message {
        send_raw(standin.address(), &self.request())
    }
}

fn request(body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /examplebucket HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn code(message: &Message) -> (u16, String) {
    (message.status(), message.element("Code"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_form_stores_its_file_with_what_the_fields_say() {
    let data = tempfile::tempdir().unwrap();
    let standin = start(&data).await;
    let form = form("a/${filename}", &json!([{"bucket": "examplebucket"}, ["starts-with", "$key", "a/"]]))
        .field("x-oss-meta-who", "me")
        .field("Cache-Control", "no-store")
        .file("name=\"file\"; filename=\"dir/\u{56fe}.txt\"\r\nContent-Type: text/plain", b"\r\n--content--\r\n");
    let posted = form.send(&standin);
    assert_eq!((posted.status(), posted.text().as_str()), (204, ""));
    assert!(!posted.header("x-oss-hash-crc64ecma").is_empty());
    let got = call("GET", "a/\u{56fe}.txt").send(&standin);
    assert_eq!(got.text(), "\r\n--content--\r\n");
    assert_eq!((got.header("content-type"), got.header("cache-control")), ("text/plain", "no-store"));
    assert_eq!((got.header("x-oss-meta-who"), got.header("etag")), ("me", posted.header("etag")));
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_arrives_byte_by_byte_is_the_same_form() {
    let data = tempfile::tempdir().unwrap();
    let standin = start(&data).await;
    let mut stream = TcpStream::connect(standin.address()).unwrap();
    stream.set_nodelay(true).unwrap();
    for byte in form("slow", &any()).request() {
        stream.write_all(&[byte]).unwrap();
    }
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 204");
    assert_eq!(call("GET", "slow").send(&standin).text(), "content");
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn success_is_answered_as_the_form_asks() {
    let data = tempfile::tempdir().unwrap();
    let standin = start(&data).await;
    for (asked, status) in [("200", 200), ("204", 204), ("418", 204)] {
        let posted = form("k", &any()).field("success_action_status", asked).send(&standin);
        assert_eq!((posted.status(), posted.text().as_str()), (status, ""));
    }
    let created = form("a b", &any()).field("success_action_status", "201").send(&standin);
    assert_eq!((created.status(), created.element("Key").as_str()), (201, "a b"));
    assert!(created.element("Location").ends_with("/examplebucket/a%20b"), "{}", created.text());
    let redirect = form("a b", &any()).field("success_action_redirect", "http://page/done?x=1").send(&standin);
    assert_eq!(redirect.status(), 303);
    let etag = created.header("etag").trim_matches('"').to_owned();
    let expected = format!("http://page/done?x=1&bucket=examplebucket&key=a%20b&etag=%22{etag}%22");
    assert_eq!(redirect.header("location"), expected);
    // It looks like an MD5 and is not that of the content.
    assert!(etag.len() == 32 && etag != "9A0364B9E99BB480DD25E1F0284C8555", "{etag}");
    assert_eq!(created.header("content-md5"), "mgNkuembtIDdJeHwKEyFVQ==");
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_condition_is_held_to() {
    let data = tempfile::tempdir().unwrap();
    let standin = start(&data).await;
    let callback = STANDARD.encode("{\"callbackUrl\":\"\"}");
    let conditions = json!([
        {"bucket": "examplebucket"},
        ["eq", "$key", "u/1"],
        ["starts-with", "$x-oss-meta-a", "a"],
        ["in", "$content-type", ["image/png", "text/plain"]],
        ["not-in", "$cache-control", ["no-cache"]],
        ["content-length-range", 3, 7],
        {"callback": callback},
        {"x:uid": "7"},
        {"success_action_status": "200"},
    ]);
    let good = form("u/1", &conditions)
        .field("x-oss-meta-a", "abc")
        .field("Content-Type", "text/plain")
        .field("callback", &callback)
        .field("x:uid", "7")
        .field("success_action_status", "200");
    assert_eq!(good.send(&standin).status(), 200);
    for (name, bad) in [
        ("key", good.clone().field("key", "u/2")),
        ("x-oss-meta-a", good.clone().without("x-oss-meta-a")),
        ("content-type", good.clone().field("Content-Type", "text/html")),
        ("content-type", good.clone().file("name=\"file\"\r\nContent-Type: text/html", b"content")),
        ("content-type", good.clone().field("x-oss-content-type", "text/html")),
        ("cache-control", good.clone().field("Cache-Control", "no-cache")),
        ("callback", good.clone().without("callback")),
        ("x:uid", good.clone().field("x:uid", "8")),
        ("x:uid", good.clone().without("x:uid").field("x:Uid", "7")),
        ("success_action_status", good.clone().field("success_action_status", "201")),
    ] {
        let refused = bad.send(&standin);
        assert_eq!(code(&refused), (403, "AccessDenied".to_owned()), "{name}: {}", refused.text());
        let message = refused.element("Message");
        assert!(message.starts_with("Invalid according to Policy: Policy Condition failed"), "{message}");
        assert!(message.contains(name), "{name}: {message}");
    }
    for (content, expected) in [(&b"12"[..], "EntityTooSmall"), (b"12345678", "EntityTooLarge")] {
        let refused = good.clone().file("name=\"file\"", content).send(&standin);
        assert_eq!(code(&refused), (400, expected.to_owned()));
    }
    assert_eq!(call("GET", "u/1").send(&standin).text(), "content");
    assert_eq!(call("GET", "u/2").send(&standin).status(), 404);
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_without_a_right_to_store_stores_nothing() {
    let data = tempfile::tempdir().unwrap();
    let standin = start(&data).await;
    let good = form("k", &any());
    let policy = good.fields.iter().find(|(name, _)| name == "policy").unwrap().1.clone();
    for (bad, status, expected) in [
        (
            good.clone().field("policy", &policy.replace("IiwiZ", "IiwiY")).field("policy", &format!("{policy}=")),
            403,
            "SignatureDoesNotMatch",
        ),
        (good.clone().field("Signature", "AAAA"), 403, "SignatureDoesNotMatch"),
        (good.clone().field("OSSAccessKeyId", "other"), 403, "InvalidAccessKeyId"),
        (good.clone().without("Signature"), 400, "InvalidArgument"),
        (good.clone().without("policy"), 400, "InvalidArgument"),
        (good.clone().without("key"), 400, "InvalidArgument"),
        (good.clone().field("key", &"k".repeat(1024)), 400, "InvalidObjectName"),
        (good.clone().field("x-oss-signature-version", "OSS2"), 400, "InvalidArgument"),
        (good.clone().field("callback", "?"), 400, "InvalidArgument"),
        (good.clone().field("Content-MD5", "1B2M2Y8AsgTpgAmY7PhCfg=="), 400, "InvalidDigest"),
        (good.clone().field("success_action_redirect", "javascript:x"), 400, "InvalidArgument"),
        (good.clone().file("name=\"other\"", b"x"), 400, "MalformedPOSTRequest"),
        (form_until("2020-01-01T00:00:00.000Z", "k", &any()), 403, "AccessDenied"),
        (form("k", &json!([["like", "$key", "k"]])), 400, "InvalidPolicyDocument"),
    ] {
        let refused = bad.send(&standin);
        assert_eq!(code(&refused), (status, expected.to_owned()), "{}", refused.text());
    }
    let cut = good.body();
    let cut = request(&cut[..cut.len() - 6]);
    assert_eq!(code(&send_raw(standin.address(), &cut)), (400, "MalformedPOSTRequest".to_owned()));
    let other = String::from_utf8(good.request()).unwrap().replacen("multipart/form-data", "text/plain", 1);
    assert_eq!(code(&send_raw(standin.address(), other.as_bytes())), (400, "RequestIsNotMultiPartContent".to_owned()));
    assert_eq!(call("GET", "k").send(&standin).status(), 404);
    let bodies = data.path().join("buckets/examplebucket/bodies");
    assert_eq!(std::fs::read_dir(bodies).unwrap().count(), 0);
    assert_eq!(good.field("x-oss-forbid-overwrite", "true").send(&standin).status(), 204);
    let again = form("k", &any()).field("x-oss-forbid-overwrite", "true").send(&standin);
    assert_eq!(code(&again), (409, "FileAlreadyExists".to_owned()));
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_callback_of_a_form_gets_its_variables_and_answers_the_page() {
    let data = tempfile::tempdir().unwrap();
    let standin = start(&data).await;
    let server = CallbackServer::answering(vec![ok("{\"done\":true}"), b"HTTP/1.1 404 No\r\n\r\n".to_vec()]);
    let callback = json!({
        "callbackUrl": server.url("/cb"),
        "callbackBody": "object=${object}&operation=${operation}&type=${mimeType}&uid=${x:Uid}&none=${x:none}",
    });
    let form = form("k", &any())
        .callback(&callback)
        .field("x:Uid", "7/ü")
        .field("success_action_status", "201")
        .file("name=\"file\"\r\nContent-Type: text/plain", b"content");
    let posted = form.send(&standin);
    assert_eq!((posted.status(), posted.text().as_str()), (200, "{\"done\":true}"));
    assert_eq!(server.request().text(), "object=k&operation=PostObject&type=text%2Fplain&uid=7%2F%C3%BC&none=");
    let failed = form.send(&standin);
    assert_eq!(code(&failed), (203, "CallbackFailed".to_owned()));
    assert_eq!(failed.element("Message"), "Error status : 404.");
    assert_eq!(call("GET", "k").send(&standin).text(), "content");
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_signatures_asked_for_a_bare_form_suffices() {
    let data = tempfile::tempdir().unwrap();
    let standin = builder(&data).anonymous(true).start().await.unwrap();
    let bare = form("k", &any()).without("policy").without("Signature").without("OSSAccessKeyId");
    assert_eq!(bare.send(&standin).status(), 204);
    let of_somebody_else = form("k", &json!([{"key": "k"}])).field("OSSAccessKeyId", "other").field("Signature", "x");
    assert_eq!(of_somebody_else.send(&standin).status(), 204);
    assert_eq!(of_somebody_else.field("key", "else").send(&standin).status(), 403);
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_forms_are_accepted_and_refused_when_their_policy_changes() {
    let data = tempfile::tempdir().unwrap();
    let standin = builder(&data).max_skew(None).start().await.unwrap();
    for name in ["node-post.http", "python-v2-post.http"] {
        let path = format!("{}/tests/wire/{name}", env!("CARGO_MANIFEST_DIR"));
        let recording = std::fs::read(path).unwrap();
        let answer = send_raw(standin.address(), &recording);
        assert!(matches!(answer.status(), 200 | 203 | 204), "{name}: {} {}", answer.start, answer.text());
        let policy = b"eyJleHBpcmF0aW9u";
        let at = recording.windows(policy.len()).position(|window| window == policy).unwrap();
        let mut changed = recording;
        changed[at + policy.len() - 1] = b'v';
        assert_eq!(code(&send_raw(standin.address(), &changed)), (403, "SignatureDoesNotMatch".to_owned()));
    }
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_field_of_a_version_4_signature_is_checked() {
    let data = tempfile::tempdir().unwrap();
    let standin = start(&data).await;
    let good = form_four("k", 0, &bound());
    let credential = good.value("x-oss-credential");
    for (bad, status, expected) in [
        (good.clone().field("policy", &STANDARD.encode("{}")), 403, "SignatureDoesNotMatch"),
        (good.clone().field("x-oss-signature", &"0".repeat(64)), 403, "SignatureDoesNotMatch"),
        (good.clone().field("x-oss-credential", &credential.replace(ID, "other")), 403, "InvalidAccessKeyId"),
        (good.clone().field("x-oss-credential", &credential.replace("cn-", "us-")), 400, "InvalidArgument"),
        (good.clone().field("x-oss-credential", &credential.replace("/oss/", "/ots/")), 400, "InvalidArgument"),
        (good.clone().field("x-oss-date", "20200101T000000Z"), 400, "InvalidArgument"),
        (good.clone().field("x-oss-date", "yesterday"), 400, "InvalidArgument"),
        (good.clone().without("x-oss-date"), 400, "InvalidArgument"),
        (good.clone().without("x-oss-credential"), 400, "InvalidArgument"),
        (good.clone().without("x-oss-signature"), 400, "InvalidArgument"),
        (good.clone().without("x-oss-signature-version"), 400, "InvalidArgument"),
        (form_four("k", 1000, &bound()), 403, "AccessDenied"),
        (form_four("k", -8 * 24 * 3600, &bound()), 403, "AccessDenied"),
    ] {
        let refused = bad.send(&standin);
        assert_eq!(code(&refused), (status, expected.to_owned()), "{}", refused.text());
    }
    assert_eq!(call("GET", "k").send(&standin).status(), 404);
    for form in [good, form_four("k", -6 * 24 * 3600, &bound())] {
        assert_eq!(form.send(&standin).status(), 204);
    }
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_4_policy_must_bind_the_fields_of_its_signature() {
    let data = tempfile::tempdir().unwrap();
    let standin = start(&data).await;
    for (index, name) in ["x-oss-signature-version", "x-oss-credential", "x-oss-date"].into_iter().enumerate() {
        let mut conditions = bound();
        conditions[index] = json!({"bucket": "examplebucket"});
        let refused = form_four("k", 0, &conditions).send(&standin);
        assert_eq!((refused.status(), refused.element("EC").as_str()), (403, "0006-00000228"));
        let message = format!("Invalid according to Policy: Extra input fields: {name}");
        assert_eq!(refused.element("Message"), message);
    }
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_have_their_limits_alone_and_together() {
    let data = tempfile::tempdir().unwrap();
    let standin = start(&data).await;
    let good = form("k", &any());
    let longest = "v".repeat(2 * 1024 * 1024);
    let many = |count: usize| (0..count).fold(good.clone(), |form, index| form.field(&index.to_string(), &longest));
    assert_eq!(many(3).field(&"n".repeat(8 * 1024), "v").send(&standin).status(), 204);
    for (bad, expected) in [
        (good.clone().field("more", &format!("{longest}v")), "FieldItemTooLong"),
        (good.clone().field(&"n".repeat(8 * 1024 + 1), "v"), "FieldItemTooLong"),
        (many(4), "MaxPOSTPreDataLengthExceededError"),
    ] {
        assert_eq!(code(&bad.send(&standin)), (400, expected.to_owned()));
    }
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_reach_a_bucket_by_its_path_and_by_its_host() {
    let data = tempfile::tempdir().unwrap();
    let standin = builder(&data).bucket("other").start().await.unwrap();
    let form = form("a b", &json!([{"bucket": "examplebucket"}])).field("success_action_status", "201");
    let request = String::from_utf8(form.request()).unwrap();
    for (target, host, location) in [
        ("/examplebucket/", "localhost", "http://localhost/examplebucket/a%20b"),
        ("/", "examplebucket.oss-cn-hangzhou.aliyuncs.com", "http://examplebucket.oss-cn-hangzhou.aliyuncs.com/a%20b"),
    ] {
        let request = request.replacen("POST /examplebucket", &format!("POST {target}"), 1).replacen(
            "Host: 127.0.0.1",
            &format!("Host: {host}"),
            1,
        );
        let created = send_raw(standin.address(), request.as_bytes());
        assert_eq!((created.status(), created.element("Location").as_str()), (201, location), "{}", created.text());
        let other = send_raw(standin.address(), request.replace("examplebucket", "other").as_bytes());
        assert_eq!((other.status(), other.element("EC").as_str()), (403, "0006-00000227"), "{target} {host}");
    }
    let missing = request.replacen("POST /examplebucket", "POST /missing", 1);
    assert_eq!(code(&send_raw(standin.address(), missing.as_bytes())), (404, "NoSuchBucket".to_owned()));
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bare_form_suffices_where_everybody_may_write() {
    let data = tempfile::tempdir().unwrap();
    let standin = start(&data).await;
    let bare = form("k", &any()).without("policy").without("Signature").without("OSSAccessKeyId");
    for (acl, status) in [("private", 403), ("public-read", 403), ("public-read-write", 204)] {
        assert_eq!(call("PUT", "").resource("acl").header("x-oss-acl", acl).send(&standin).status(), 200);
        assert_eq!(bare.send(&standin).status(), status, "{acl}");
    }
    standin.stop().await;
}
