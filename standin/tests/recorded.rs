//! Requests that real SDKs put on the wire, byte for byte (`wire/`): each is accepted as it is and refused when a
//! signed byte changes.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::collections::BTreeMap;
use std::fs;

use common::{builder, send_raw};
use oss_standin::Standin;

fn recordings() -> BTreeMap<String, Vec<u8>> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/wire");
    let recordings: BTreeMap<String, Vec<u8>> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    assert!(recordings.len() > 50);
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

#[tokio::test(flavor = "multi_thread")]
async fn every_recorded_upload_is_accepted_as_it_is() {
    let data = tempfile::tempdir().unwrap();
    let standin = old_requests_welcome(&data).await;
    for (name, recording) in recordings() {
        if !recording.starts_with(b"PUT ") || name.contains("part") || is_version_two(&recording) {
            continue;
        }
        let answer = send(&standin, &recording);
        // Nobody answers the callbacks that these uploads ask for, which 203 says.
        assert!(matches!(answer.status(), 200 | 203), "{name}: {} {}", answer.start, answer.text());
        assert!(!answer.header("etag").is_empty(), "{name}");
    }
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
            assert!(name.ends_with(".http") && !answer.element("Key").starts_with("examplebucket"), "{name}");
        } else {
            let code = answer.element("Code");
            assert_eq!((answer.status(), code.as_str()), (404, "NoSuchUpload"), "{name}: {}", answer.text());
        }
    }
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_upload_is_refused_when_a_signed_byte_changes() {
    let data = tempfile::tempdir().unwrap();
    let standin = old_requests_welcome(&data).await;
    for (name, recording) in recordings() {
        // Forms are signed in their fields; their own tests change them.
        if is_version_two(&recording) || name.contains("post") {
            continue;
        }
        let text = String::from_utf8(filled(&recording)).unwrap();
        let lower = text.to_ascii_lowercase();
        let mut changes = vec![
            text.replacen(".txt", ".tyt", 1),
            text.replacen("x-oss-callback: eyJj", "x-oss-callback: eyJk", 1),
            text.replacen("X-Oss-Callback: eyJj", "X-Oss-Callback: eyJk", 1),
            text.replacen("?callback=eyJj", "?callback=eyJk", 1),
            text.replacen("text/plain", "text/plaim", 1),
            text.replacen("PUT ", "GET ", 1),
            text.replacen("\r\n", "\r\nx-oss-meta-more: 1\r\n", 1),
            text.replacen("2026112", "2026111", 2),
        ];
        if lower.contains("x-oss-date: sun") || !lower.contains("x-oss-date") {
            changes.push(text.replace("Sun, 22 Nov 2026", "Sun, 23 Nov 2026"));
        }
        for changed in changes.into_iter().filter(|changed| *changed != text) {
            let answer = send(&standin, changed.as_bytes());
            assert_eq!(
                (answer.status(), answer.element("Code").as_str()),
                (403, "SignatureDoesNotMatch"),
                "{name}: {changed}"
            );
        }
    }
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
