//! What becomes of a callback when OSS is slow, wrong or gone in the middle of it: with an OSS that follows a script.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use oss_callback::config::Purpose;
use serde_json::Value;
use support::{Function, Signed};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

/// How the scripted OSS answers a request.
#[derive(Clone)]
enum Answer {
    /// This status and these header lines, with a body for GET.
    Now(u16, &'static str, &'static [u8]),
    /// The same, once the test says so.
    WhenTold(u16, &'static str, &'static [u8]),
    /// The connection is closed without a word.
    Reset,
    /// Nothing, ever.
    Never,
}

const OLD: Answer = Answer::Now(200, "ETag: \"AA\"\r\nContent-Type: image/png\r\nX-Length: 10\r\n", b"");
const NEW: Answer = Answer::Now(200, "ETag: \"BB\"\r\nContent-Type: text/plain\r\nX-Length: 20\r\n", b"");
const GONE: Answer = Answer::Now(404, "", b"");

/// An OSS that gives the next answer of its script for each method; the last one for ever.
struct Script {
    heads: Mutex<Vec<Answer>>,
    gets: Mutex<Vec<Answer>>,
    asked: Mutex<Vec<String>>,
    told: Notify,
    arrived: Notify,
}

impl Script {
    async fn start(heads: &[Answer], gets: &[Answer]) -> (Arc<Self>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let script = Arc::new(Self {
            heads: Mutex::new(heads.to_vec()),
            gets: Mutex::new(gets.to_vec()),
            asked: Mutex::default(),
            told: Notify::new(),
            arrived: Notify::new(),
        });
        let serving = Arc::clone(&script);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&serving).answer(stream));
            }
        });
        (script, endpoint)
    }

    fn next(answers: &Mutex<Vec<Answer>>) -> Answer {
        let mut answers = answers.lock().unwrap();
        if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() }
    }

    async fn answer(self: Arc<Self>, mut stream: TcpStream) {
        loop {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read_u8().await {
                    Ok(byte) => head.push(byte),
                    Err(_) => return,
                }
            }
            let line = String::from_utf8_lossy(&head).lines().next().unwrap().to_owned();
            let is_head = line.starts_with("HEAD");
            let answer = if is_head { Self::next(&self.heads) } else { Self::next(&self.gets) };
            self.asked.lock().unwrap().push(line);
            self.arrived.notify_one();
            let (status, headers, body) = match answer {
                Answer::Now(status, headers, body) => (status, headers, body),
                Answer::WhenTold(status, headers, body) => {
                    self.told.notified().await;
                    (status, headers, body)
                }
                Answer::Reset => return,
                Answer::Never => std::future::pending().await,
            };
            // A HEAD tells the length of what it does not send.
            let length =
                headers.split("X-Length: ").nth(1).map_or(body.len().to_string(), |rest| rest.trim().to_owned());
            let head = format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {length}\r\n\r\n");
            let _ = stream.write_all(head.as_bytes()).await;
            if !is_head {
                let _ = stream.write_all(body).await;
            }
        }
    }

    fn count(&self, method: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|line| line.starts_with(method)).count()
    }
}

async fn function(endpoint: &str, purpose: Purpose, budget: &str) -> Function {
    Function::start_for(
        purpose,
        &[
            ("OSS_ENDPOINT", endpoint),
            ("OSS_REGION", "cn-hangzhou"),
            ("OSS_ACCESS_KEY_ID", "id"),
            ("OSS_ACCESS_KEY_SECRET", "secret"),
            ("OSS_CALLBACK_BUDGET_MS", budget),
        ],
    )
    .await
}

fn callback() -> Vec<u8> {
    Signed::form("bucket=examplebucket&object=o&reqId=R").bytes()
}

async fn record(function: &Function) -> Value {
    function.read("/records/examplebucket/o").await.json()
}

/// Polls until the record is as wanted.
async fn record_once(function: &Function, wanted: impl Fn(&Value) -> bool) -> Value {
    let waiting = async {
        loop {
            let record = record(function).await;
            if wanted(&record) {
                return record;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("the record becomes as wanted")
}

#[tokio::test]
async fn work_on_an_old_version_never_touches_a_newer_one() {
    let heads = [OLD, NEW];
    let (script, endpoint) = Script::start(&heads, &[Answer::WhenTold(404, "", b"")]).await;
    let function = function(&endpoint, Purpose::Server, "4000").await;
    let request = callback();
    let (old, newer) = tokio::join!(function.send(&request), async {
        while script.count("GET") == 0 {
            script.arrived.notified().await;
        }
        let newer = function.send(&callback()).await;
        script.told.notify_one();
        newer
    });
    assert_eq!(newer.json()["generation"], 2);
    assert_eq!(old.json()["etag"], "BB", "the answer tells the record as it stands");
    let record = record(&function).await;
    assert_eq!((record["state"].as_str(), record["etag"].as_str()), (Some("recorded"), Some("BB")), "{record}");
}

#[tokio::test]
async fn an_object_that_vanishes_under_the_work_is_ignored_and_becomes_a_tombstone() {
    let (_, endpoint) = Script::start(&[OLD], &[GONE]).await;
    let function = function(&endpoint, Purpose::Server, "4000").await;
    assert_eq!(function.send(&callback()).await.outcome(), "ignored");
    assert_eq!(record(&function).await["state"], "deleted");
}

#[tokio::test]
async fn an_object_that_changes_under_the_work_is_judged_anew() {
    let (_, endpoint) = Script::start(&[OLD, NEW], &[Answer::Now(412, "", b"")]).await;
    let function = function(&endpoint, Purpose::Server, "4000").await;
    let answer = function.send(&callback()).await.json();
    assert_eq!((answer["status"].as_str(), answer["etag"].as_str()), (Some("recorded"), Some("BB")), "{answer}");
    assert_eq!(answer["generation"], 2);
}

#[tokio::test]
async fn a_client_that_hangs_up_does_not_take_its_record_along() {
    let (script, endpoint) =
        Script::start(&[Answer::WhenTold(200, "ETag: \"BB\"\r\nX-Length: 20\r\n", b"")], &[GONE]).await;
    let function = function(&endpoint, Purpose::Server, "4000").await;
    let mut stream = TcpStream::connect(function.address).await.unwrap();
    stream.write_all(&callback()).await.unwrap();
    script.arrived.notified().await;
    drop(stream);
    script.told.notify_one();
    let record = record_once(&function, |record| record["etag"] == "BB").await;
    assert_eq!(record["state"], "recorded");
}

#[tokio::test]
async fn one_broken_connection_is_no_reason_to_doubt() {
    let (script, endpoint) = Script::start(&[Answer::Reset, NEW], &[GONE]).await;
    let function = function(&endpoint, Purpose::Server, "4000").await;
    assert_eq!(function.send(&callback()).await.outcome(), "recorded");
    assert_eq!(script.count("HEAD"), 2);
}

#[tokio::test]
async fn a_bucket_that_does_not_exist_is_not_a_missing_object() {
    for headers in
        ["x-oss-ec: 0015-00000101\r\n", "x-oss-err: PEVycm9yPjxDb2RlPk5vU3VjaEJ1Y2tldDwvQ29kZT48L0Vycm9yPg==\r\n"]
    {
        let (_, endpoint) = Script::start(&[Answer::Now(404, headers, b"")], &[GONE]).await;
        let function = function(&endpoint, Purpose::Server, "4000").await;
        assert_eq!(function.send(&callback()).await.outcome(), "unverified", "{headers}");
        assert_eq!(record(&function).await["state"], "unverified");
    }
}

#[tokio::test]
async fn what_is_not_made_in_time_goes_on_after_the_answer_on_a_server() {
    let (script, endpoint) = Script::start(&[OLD], &[Answer::WhenTold(200, "", b"no picture")]).await;
    let function = function(&endpoint, Purpose::Server, "2000").await;
    let answer = function.send(&callback()).await;
    assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some("processing")));
    assert_eq!(answer.json()["reason"], "out_of_time");
    script.told.notify_one();
    assert_eq!(record_once(&function, |record| record["state"] == "failed").await["reason"], "undecodable");
}

#[tokio::test]
async fn what_is_not_made_in_time_is_given_back_on_lambda() {
    let (_, endpoint) = Script::start(&[OLD], &[Answer::Never]).await;
    let function = function(&endpoint, Purpose::Lambda, "2400").await;
    let answer = function.send(&callback()).await;
    assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some("received")), "{}", answer.json());
    assert_eq!(answer.json()["reason"], "out_of_time");
    let record = record(&function).await;
    assert_eq!((record["state"].as_str(), record["lease"].is_null()), (Some("received"), true), "{record}");
    assert_eq!(record["attempts"], 0, "who had too little time has not failed");
}

#[tokio::test]
async fn a_duplicate_that_meets_work_waits_for_it_and_says_so_when_it_takes_too_long() {
    let (script, endpoint) = Script::start(&[OLD], &[Answer::WhenTold(200, "", b"no picture")]).await;
    let function = function(&endpoint, Purpose::Server, "4000").await;
    let request = callback();
    let (first, second) = tokio::join!(function.send(&request), async {
        while script.count("GET") == 0 {
            script.arrived.notified().await;
        }
        let second = function.send(&request);
        let tell = async {
            while script.count("HEAD") < 2 {
                script.arrived.notified().await;
            }
            script.told.notify_one();
        };
        tokio::join!(second, tell).0
    });
    assert_eq!(first.json()["status"], "failed");
    assert_eq!(first.body, second.body, "equal answers once the state is final");
    assert_eq!(script.count("GET"), 1);
}

#[tokio::test]
async fn a_failing_oss_puts_the_work_off_and_the_next_callback_takes_it_up() {
    let (script, endpoint) =
        Script::start(&[OLD], &[Answer::Now(503, "", b""), Answer::Now(200, "", b"no picture")]).await;
    let function = function(&endpoint, Purpose::Server, "4000").await;
    let answer = function.send(&callback()).await.json();
    assert_eq!((answer["status"].as_str(), answer["reason"].as_str()), (Some("received"), Some("oss_unavailable")));
    let answer = function.send(&callback()).await.json();
    assert_eq!((answer["status"].as_str(), answer["reason"].as_str()), (Some("failed"), Some("undecodable")));
    assert_eq!(script.count("GET"), 2);
    let record = record(&function).await;
    assert_eq!((record["attempts"].as_u64(), record["deferrals"].as_u64()), (Some(1), Some(1)), "{record}");
}

#[tokio::test]
async fn a_doubt_is_kept_until_oss_answers_and_never_shown_as_confirmed() {
    let down = Answer::Now(500, "", b"");
    let (_, endpoint) = Script::start(&[NEW, down.clone(), down, NEW], &[GONE]).await;
    let function = function(&endpoint, Purpose::Server, "4000").await;
    let send = |body: &str| {
        let request = Signed::form(&format!("bucket=examplebucket&object=o&{body}")).bytes();
        let function = &function;
        async move { function.send(&request).await.json() }
    };
    let first = send("etag=BB&size=20&reqId=R").await;
    assert_eq!(first["status"], "recorded");
    assert_eq!(send("etag=BB&size=20&reqId=R").await, first, "a duplicate needs no second confirmation");
    let doubted = send("etag=CC&size=30&reqId=S").await;
    assert_eq!(
        (doubted["status"].as_str(), doubted["confirmed"].as_bool()),
        (Some("unverified"), Some(false)),
        "{doubted}"
    );
    assert_eq!((doubted["etag"].as_str(), doubted["size"].as_u64()), (Some("CC"), Some(30)));
    let kept = record(&function).await;
    assert_eq!((kept["etag"].as_str(), kept["recheck"].as_bool()), (Some("BB"), Some(true)), "{kept}");
    send("etag=CC&size=30&reqId=S").await;
    assert_eq!(record(&function).await["recheck"], false, "OSS was asked");
}

#[tokio::test]
async fn a_stale_callback_does_not_lend_its_variables_to_another_version() {
    let (_, endpoint) = Script::start(&[NEW], &[GONE]).await;
    let function = function(&endpoint, Purpose::Server, "4000").await;
    for body in ["size=999&uid=old&reqId=OLD", "etag=BB&size=20&uid=mine&reqId=NEW"] {
        function.send(&Signed::form(&format!("bucket=examplebucket&object=o&{body}")).bytes()).await;
    }
    let record = record(&function).await;
    assert_eq!(
        (record["custom"]["uid"].as_str(), record["request_id"].as_str()),
        (Some("mine"), Some("NEW")),
        "{record}"
    );
}
