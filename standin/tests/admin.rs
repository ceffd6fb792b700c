//! The stand-in's own routes and the journal: faults armed at run time, events read, followed and kept in a file.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{CallbackServer, Message, SECRET, builder, call, ok, send_raw};
use serde_json::{Value, json};

fn admin(address: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> Message {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    );
    send_raw(address, request.as_bytes())
}

fn json_of(message: &Message) -> Value {
    serde_json::from_slice(&message.body).unwrap()
}

/// The events that the route gives, until the connection ends.
fn journal(address: SocketAddr, query: &str) -> Vec<Value> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    write!(stream, "GET /_standin/journal{query} HTTP/1.0\r\nHost: {address}\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("application/jsonl"), "{head}");
    body.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_are_armed_listed_and_taken_away_while_it_runs() {
    let data = tempfile::tempdir().unwrap();
    let standin = builder(&data).start().await.unwrap();
    let address = standin.address();
    let faults = |method: &str, body: &str| admin(address, method, "/_standin/faults", "", body);
    assert_eq!(json_of(&faults("GET", "")), json!({"seed": 0, "faults": []}));

    assert_eq!(faults("POST", r#"{"faults": ["status=503,times=1", "callback-lost"]}"#).status(), 200);
    assert_eq!(call("GET", "k").send(&standin).status(), 503);
    assert_eq!(call("GET", "k").send(&standin).status(), 404);
    assert_eq!(
        json_of(&faults("GET", ""))["faults"],
        json!([
            {"id": 1, "fault": "status=503,times=1", "seen": 2, "struck": 1},
            {"id": 2, "fault": "callback-lost", "seen": 0, "struck": 0},
        ])
    );

    assert_eq!(
        json_of(&faults("POST", r#"{"seed": 7, "faults": ["precondition,prefix=a/"]}"#)),
        json!({"seed": 7, "faults": [{"id": 1, "fault": "precondition,prefix=a/", "seen": 0, "struck": 0}]})
    );
    assert_eq!(call("GET", "a/k").send(&standin).status(), 412);
    assert_eq!(call("GET", "b/k").send(&standin).status(), 404);
    assert_eq!(json_of(&faults("DELETE", "")), json!({"seed": 7, "faults": []}));
    assert_eq!(call("GET", "a/k").send(&standin).status(), 404);
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_faulty_request_to_an_own_route_is_told_what_is_wrong_and_changes_nothing() {
    let data = tempfile::tempdir().unwrap();
    let standin = builder(&data).start().await.unwrap();
    let address = standin.address();
    let faults = "/_standin/faults";
    let long = format!(r#"{{"faults": ["{}"]}}"#, "x".repeat(70_000));
    for (method, path, body, status, says) in [
        ("POST", faults, r#"{"faults": ["hang", "slow=2"]}"#, 400, "the word \"slow=2\" is wrong"),
        ("POST", faults, r#"{"fault": "hang"}"#, 400, "the body is JSON"),
        ("POST", faults, "hang", 400, "the body is JSON"),
        ("POST", faults, &long, 400, "longer than 65536 bytes"),
        ("PUT", faults, "", 405, "PUT is none of this route's methods"),
        ("GET", "/_standin/journal?after=x", "", 400, "after=x is not a whole number"),
        ("GET", "/_standin/journal?follow=x", "", 400, "follow=x is neither"),
        ("GET", "/_standin/nothing", "", 404, "there is no /_standin/nothing"),
    ] {
        let answer = admin(address, method, path, "", body);
        assert_eq!(answer.status(), status, "{method} {path}");
        let message = json_of(&answer)["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(says), "{message}");
    }
    assert!(standin.faults().is_empty());
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_page_can_neither_read_the_journal_nor_arm_a_fault() {
    let data = tempfile::tempdir().unwrap();
    let standin = builder(&data).start().await.unwrap();
    let address = standin.address();
    for (method, path) in [("GET", "/_standin/journal"), ("POST", "/_standin/faults")] {
        for header in ["Origin: http://evil.test\r\n", "Origin: null\r\n", "Sec-Fetch-Site: cross-site\r\n"] {
            let answer = admin(address, method, path, header, r#"{"faults": ["hang"]}"#);
            assert_eq!(
                (answer.status(), json_of(&answer)["error"]["code"].as_str()),
                (403, Some("forbidden")),
                "{header}"
            );
        }
        for host in ["evil.test", "evil.test:9080", "localhost.evil.test", "127.0.0.1.evil.test", ""] {
            let request = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n");
            assert_eq!(send_raw(address, request.as_bytes()).status(), 403, "{host}");
        }
    }
    assert!(standin.faults().is_empty());
    for host in ["localhost", "LOCALHOST:9080", "[::1]:9080", "127.0.0.1"] {
        let request = format!("GET /_standin/faults HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(send_raw(address, request.as_bytes()).status(), 200, "{host}");
    }
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_bucket_stands_in_the_host_the_own_routes_are_keys_like_others() {
    let data = tempfile::tempdir().unwrap();
    let standin = builder(&data).anonymous(true).start().await.unwrap();
    for key in ["_standin/faults", "_standin/callback_pub_key_v1.pem"] {
        let raw = |method: &str, host: &str| {
            let request = format!("{method} /{key} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1\r\n\r\nx");
            send_raw(standin.address(), request.as_bytes())
        };
        assert_eq!(raw("PUT", "examplebucket.localhost:9080").status(), 200);
        assert_eq!(raw("GET", "examplebucket.oss-cn-hangzhou.aliyuncs.com").text(), "x");
        assert_eq!(call("GET", key).send(&standin).text(), "x");
        assert!(raw("GET", "localhost:9080").text().len() > 1);
    }
    standin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_journal_is_read_from_any_number_and_followed_until_the_end() {
    let data = tempfile::tempdir().unwrap();
    let standin = builder(&data).start().await.unwrap();
    let address = standin.address();
    let follower = std::thread::spawn(move || journal(address, "?follow=true"));
    call("PUT", "k").body("content").send(&standin);
    call("GET", "k").send(&standin);
    let all = journal(address, "");
    let told: Vec<_> = all.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(told, ["request", "answer", "request", "answer"], "own routes are not in it");
    assert_eq!(journal(address, "?after=3"), all[3..]);
    assert_eq!(journal(address, "?after=99"), [] as [Value; 0]);
    standin.stop().await;
    assert_eq!(follower.join().unwrap(), all);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_secret_and_no_content_is_in_the_journal_wherever_it_is_read() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("journal.jsonl");
    std::fs::write(&file, "what stood there before\n").unwrap();
    let standin = builder(&data).journal_file(&file).start().await.unwrap();
    let server = CallbackServer::answering(vec![ok("{}")]);
    let callback = json!({"callbackUrl": server.url("/cb?Signature=canary1"), "callbackBody": "object=${object}"});
    let put = call("PUT", "k").body("canary2").header("x-oss-security-token", "canary3").callback(&callback);
    assert_eq!(put.send(&standin).status(), 200);
    let address = standin.address();
    send_raw(address, format!("GET /examplebucket/k?OSSAccessKeyId=i&Expires=1&Signature=canary4&security-token=canary5 HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes());
    let remembered = format!("{:?}", standin.journal().events());
    let read = format!("{:?}", journal(address, ""));
    standin.stop().await;
    let kept = std::fs::read_to_string(&file).unwrap();
    for text in [&remembered, &read, &kept] {
        assert!(text.contains("PutObject") && text.contains("object=k") && text.contains("REDACTED"), "{text}");
        assert!(!text.contains("canary") && !text.contains("OSS LTAI") && !text.contains(SECRET), "{text}");
    }
    let mut lines = kept.lines();
    assert_eq!(lines.next(), Some("what stood there before"), "it is appended to");
    assert_eq!(lines.filter(|line| serde_json::from_str::<Value>(line).is_ok()).count(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_prints_json_lines_into_a_pipe_and_ends_with_the_stand_in() {
    let data = tempfile::tempdir().unwrap();
    let standin = builder(&data).start().await.unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_oss-standin"))
        .args(["watch", &standin.endpoint()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    call("PUT", "k").body("content").send(&standin);
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    output.read_line(&mut first).unwrap();
    let event: Value = serde_json::from_str(&first).unwrap();
    assert_eq!((event["event"].as_str(), event["operation"].as_str()), (Some("request"), Some("PutObject")));
    standin.stop().await;
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert_eq!(rest.lines().count(), 1, "{rest}");
    assert!(child.wait().unwrap().success());
}

#[test]
fn watch_says_why_it_cannot() {
    for (endpoint, says) in [("http://127.0.0.1:1", "cannot watch http://127.0.0.1:1/"), ("/nowhere", "is no URL")] {
        let output = Command::new(env!("CARGO_BIN_EXE_oss-standin")).args(["watch", endpoint]).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert!(complaint.contains(says), "{complaint}");
    }
}

#[test]
fn a_fault_that_cannot_be_read_keeps_the_program_from_starting_and_help_lists_them_all() {
    let standin = || Command::new(env!("CARGO_BIN_EXE_oss-standin"));
    let refused = standin().args(["serve", "--fault", "slow=2s,tims=1"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    let complaint = String::from_utf8(refused.stderr).unwrap();
    assert!(complaint.contains("\"tims=1\" is wrong"), "{complaint}");
    let help = String::from_utf8(standin().args(["serve", "--help"]).output().unwrap().stdout).unwrap();
    for (form, meaning) in oss_standin::FAULT_KINDS.iter().chain(&oss_standin::FAULT_LIMITS) {
        assert!(help.contains(form) && help.contains(meaning), "{form}");
    }
}
