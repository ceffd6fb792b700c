//! Requests that real SDKs put on the wire, byte for byte (`wire/`): each is accepted as it is and refused when a
//! signed byte changes.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::fs;

use common::{builder, call, send_raw};
use oss_standin::Standin;
use percent_encoding::percent_decode_str;

fn recordings() -> BTreeMap<String, Vec<u8>> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/wire");
    let recordings: BTreeMap<String, Vec<u8>> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    assert_eq!(recordings.len(), 148);
    recordings
}

fn is_version_two(recording: &[u8]) -> bool {
    let text = String::from_utf8_lossy(recording);
    text.contains("OSS2 AccessKeyId") || text.contains("x-oss-signature-version=OSS2")
}

async fn old_requests_welcome(data: &tempfile::TempDir) -> Standin {
    builder(data).max_skew(None).start().await.unwrap()
}

fn send(standin: &Standin, recording: &[u8]) -> common::Message {
    send_raw(standin.address(), recording)
}

/// A recording taken apart, by other means than the stand-in's.
struct Recording {
    method: String,
    /// Percent-decoded, without the bucket.
    key: String,
    query: String,
    /// As they stand there.
    headers: Vec<(String, String)>,
}

impl Recording {
    fn of(recording: &[u8]) -> Self {
        let end = recording.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(recording[..end].to_vec()).unwrap();
        let mut lines = head.split("\r\n");
        let mut first = lines.next().unwrap().split(' ');
        let (method, target) = (first.next().unwrap(), first.next().unwrap());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let path = percent_decode_str(path).decode_utf8().unwrap();
        let key = path.strip_prefix("/examplebucket").unwrap_or(&path).trim_start_matches('/').to_owned();
        let headers = lines.map(|line| line.split_once(": ").unwrap_or((line.trim_end_matches(':'), "")));
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { method: method.to_owned(), key, query: query.to_owned(), headers }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    fn is_signed_by_version_four(&self) -> bool {
        self.query.contains("OSS4-HMAC") || self.header("authorization").is_some_and(|value| value.starts_with("OSS4"))
    }

    fn is_presigned(&self) -> bool {
        self.header("authorization").is_none()
    }

    /// Everything in its head that its signature covers, to be changed one by one: text that stands there once.
    fn signed_texts(&self) -> Vec<String> {
        let four = self.is_signed_by_version_four();
        let mut texts = vec![format!("{} /", self.method)];
        let dated = four || self.header("x-oss-date").is_some();
        for (name, value) in &self.headers {
            let lower = name.to_ascii_lowercase();
            let always = lower.starts_with("x-oss-") || lower == "content-type" || lower == "content-md5";
            if always || (lower == "date" && !dated && !self.is_presigned()) {
                texts.push(format!("{name}: {value}"));
            }
        }
        for parameter in self.query.split('&').filter(|parameter| !parameter.is_empty()) {
            let name = parameter.split('=').next().unwrap();
            let in_version_one = ["callback", "callback-var", "uploads", "uploadId", "partNumber", "Expires"];
            if name != "Signature" && (four || in_version_one.contains(&name)) {
                texts.push(parameter.to_owned());
            }
        }
        texts
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_recorded_upload_is_accepted_as_it_is_and_read_as_it_is_meant() {
    let data = tempfile::tempdir().unwrap();
    let standin = old_requests_welcome(&data).await;
    let mut uploads = 0;
    for (name, recording) in recordings() {
        if !recording.starts_with(b"PUT ") || is_multipart(&name) || is_version_two(&recording) {
            continue;
        }
        let answer = send(&standin, &recording);
        // Nobody answers the callbacks that these uploads ask for, which 203 says.
        assert!(matches!(answer.status(), 200 | 203), "{name}: {} {}", answer.start, answer.text());
        let key = Recording::of(&recording).key;
        let stored = call("GET", &key).send(&standin);
        assert_eq!((stored.status(), stored.header("etag")), (200, answer.header("etag")), "{name}: {key}");
        assert!(!stored.body.is_empty(), "{name}");
        assert_eq!(call("DELETE", &key).send(&standin).status(), 204);
        uploads += 1;
    }
    assert_eq!(uploads, 48);
    standin.stop().await;
}

/// Recordings of long bodies are cut and say so; what is missing is filled to the announced length.
fn filled(recording: &[u8]) -> Vec<u8> {
    let head = recording.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    let text = String::from_utf8_lossy(&recording[..head]).to_ascii_lowercase();
    let length = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .map(|value| value.trim().parse::<usize>().unwrap());
    let mut request = recording.to_vec();
    match length {
        Some(length) if !text.contains("transfer-encoding") => request.resize(head + length, b'x'),
        _ if text.contains("transfer-encoding") && !recording.ends_with(b"0\r\n\r\n") => {
            // Cut in the middle of a chunk: its announced length, and the end of the body.
            let line = recording[head..].windows(2).position(|window| window == b"\r\n").unwrap();
            let size = String::from_utf8(recording[head..head + line].to_vec()).unwrap();
            let size = usize::from_str_radix(size.trim(), 16).unwrap();
            request.resize(head + line + 2 + size, b'x');
            request.extend_from_slice(b"\r\n0\r\n\r\n");
        }
        _ => {}
    }
    request
}

fn is_multipart(name: &str) -> bool {
    name.contains("multipart") || name.contains("uploader")
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_multipart_requests_are_accepted_and_find_their_upload_gone() {
    let data = tempfile::tempdir().unwrap();
    let standin = old_requests_welcome(&data).await;
    for (name, recording) in recordings().iter().filter(|(name, _)| is_multipart(name)) {
        let answer = send(&standin, &filled(recording));
        if is_version_two(recording) {
            assert_eq!(answer.status(), 400, "{name}");
        } else if name.contains("initiate") {
            assert_eq!(answer.status(), 200, "{name}: {}", answer.text());
            // As the client asked for it, since it makes its next requests of it.
            let sought = Recording::of(recording);
            let key = match sought.query.contains("encoding-type=url") {
                true => percent_decode_str(&answer.element("Key")).decode_utf8().unwrap().into_owned(),
                false => answer.element("Key"),
            };
            assert_eq!((answer.element("Bucket"), key), ("examplebucket".to_owned(), sought.key), "{name}");
        } else {
            let code = answer.element("Code");
            assert_eq!((answer.status(), code.as_str()), (404, "NoSuchUpload"), "{name}: {}", answer.text());
        }
    }
    standin.stop().await;
}

/// The last letter or digit of a text is another one.
fn with_another_end(text: &str) -> String {
    let at = text.rfind(|character: char| character.is_ascii_alphanumeric()).unwrap();
    let other = if &text[at..=at] == "1" { "2" } else { "1" };
    format!("{}{other}{}", &text[..at], &text[at + 1..])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_request_is_refused_when_a_signed_byte_changes() {
    let data = tempfile::tempdir().unwrap();
    let standin = old_requests_welcome(&data).await;
    let mut changes = 0;
    for (name, recording) in recordings() {
        // Forms are signed in their fields; their own tests change them.
        if is_version_two(&recording) || name.contains("post") {
            continue;
        }
        let text = String::from_utf8(filled(&recording)).unwrap();
        let recorded = Recording::of(&recording);
        for signed in recorded.signed_texts() {
            let (before, after) = text.split_once(&signed).unwrap();
            let mut changed = vec![format!("{before}{}{after}", with_another_end(&signed))];
            if signed == format!("{} /", recorded.method) {
                let other = if recorded.method == "PUT" { "POST" } else { "PUT" };
                changed = vec![text.replacen(&recorded.method, other, 1), text.replacen(".txt", ".tyt", 1)];
            }
            for changed in changed {
                let answer = send(&standin, changed.as_bytes());
                // Some of it is looked at before the signature, and so is the secret's owner.
                let early = ["date", "credential", "expires", "signature-version"];
                let refused = match early.iter().any(|name| signed.to_ascii_lowercase().contains(name)) {
                    true => matches!(answer.status(), 400 | 403),
                    false => answer.element("Code") == "SignatureDoesNotMatch",
                };
                assert!(refused, "{name}, {signed}: {} {}", answer.start, answer.text());
                changes += 1;
            }
        }
        let more = text.replacen("\r\n", "\r\nx-oss-meta-more: 1\r\n", 1);
        assert_eq!(send(&standin, more.as_bytes()).element("Code"), "SignatureDoesNotMatch", "{name}");
    }
    assert!(changes > 800, "{changes}");
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signature_version_2_is_refused_by_its_name() {
    let data = tempfile::tempdir().unwrap();
    let standin = old_requests_welcome(&data).await;
    for (name, recording) in recordings().iter().filter(|(_, recording)| is_version_two(recording)) {
        let answer = send(&standin, recording);
        assert_eq!(answer.status(), 400, "{name}");
        assert!(answer.element("Message").contains("OSS2"), "{name}: {}", answer.text());
    }
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_requests_are_too_old_unless_the_clock_is_ignored() {
    let data = tempfile::tempdir().unwrap();
    let standin = builder(&data).start().await.unwrap();
    for (name, code) in [("python-v2-put.http", "RequestTimeTooSkewed"), ("python-v2-presign.http", "AccessDenied")] {
        let answer = send(&standin, &recordings()[name]);
        assert_eq!((answer.status(), answer.element("Code").as_str()), (403, code), "{name}");
    }
    standin.stop().await;
}
