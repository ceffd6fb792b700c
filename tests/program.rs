//! The built program: its ready line, its refusals, and what is left after it was killed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use support::{API_TOKEN, Signed, send, settings};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The program with these settings and no others.
fn program(data: &Path, more: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_oss-callback"));
    command.env_clear().envs(settings(data, more)).current_dir(data);
    command
}

struct Running {
    child: Child,
    address: SocketAddr,
}

impl Running {
    fn start(data: &Path, more: &[(&str, &str)]) -> Self {
        let (child, ready) = started(program(data, more).arg("serve"));
        let address = ready["listen"].as_str().unwrap().strip_prefix("http://").unwrap().parse().unwrap();
        Self { child, address }
    }

    /// A worker, which listens nowhere, and the store that it says it has.
    fn work(data: &Path, more: &[(&str, &str)]) -> (Self, String) {
        let (child, ready) = started(program(data, more).arg("worker"));
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        (Self { child, address: nowhere }, ready["store"].as_str().unwrap().to_owned())
    }

    async fn read(&self, target: &str) -> support::Answer {
        let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {API_TOKEN}\r\n\r\n");
        send(self.address, request.as_bytes()).await
    }

    /// Ends it by this signal and returns what it wrote to standard error.
    fn end(self, signal: &str) -> (Option<i32>, String) {
        self.signal(signal);
        self.ended()
    }

    fn signal(&self, signal: &str) {
        let killed = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(killed.success());
    }

    /// Waits for its end.
    fn ended(mut self) -> (Option<i32>, String) {
        let mut log = String::new();
        std::io::Read::read_to_string(&mut self.child.stderr.take().unwrap(), &mut log).unwrap();
        (self.child.wait().unwrap().code(), log)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The running program and its ready line.
fn started(command: &mut Command) -> (Child, Value) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ready: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no ready line, but {line:?}"));
    assert_eq!(ready["event"], "ready");
    (child, ready)
}

fn output(command: &mut Command) -> (Output, String) {
    let output = command.output().unwrap();
    let error = String::from_utf8(output.stderr.clone()).unwrap();
    (output, error)
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_kill_and_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let running = Running::start(data.path(), &[]);
    let signed = Signed::form("bucket=examplebucket&object=a%2Fb&etag=AA&size=1&reqId=R");
    let answer = send(running.address, &signed.bytes()).await;
    assert_eq!(answer.outcome(), "recorded");
    let record = running.read("/records/examplebucket/a/b").await;
    running.end("-KILL");

    let running = Running::start(data.path(), &[]);
    assert_eq!(running.read("/records/examplebucket/a/b").await.body, record.body);
    let (code, log) = running.end("-TERM");
    assert_eq!(code, Some(0), "{log}");

    let (output, error) = output(program(data.path(), &[]).args(["records", "get", "examplebucket/a/b"]));
    assert!(output.status.success(), "{error}");
    assert_eq!(output.stdout.trim_ascii(), record.body);
}

/// An OSS that has every object, empty and of no type, once it may answer.
struct Held {
    listener: tokio::net::TcpListener,
}

impl Held {
    async fn new() -> (Self, String) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        (Self { listener }, endpoint)
    }

    /// Waits for one question, and keeps it waiting.
    async fn asked(&self) -> TcpStream {
        let (mut stream, _) = self.listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"HEAD "), "{}", String::from_utf8_lossy(&head));
        stream
    }
}

async fn answer_head(mut stream: TcpStream) {
    let head = b"HTTP/1.1 200 OK\r\nETag: \"AA\"\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n";
    stream.write_all(head).await.unwrap();
}

/// The settings of an OSS that is there.
fn oss(endpoint: &str) -> [(&str, &str); 4] {
    [
        ("OSS_ENDPOINT", endpoint),
        ("OSS_REGION", "cn-hangzhou"),
        ("OSS_ACCESS_KEY_ID", "id"),
        ("OSS_ACCESS_KEY_SECRET", "secret"),
    ]
}

#[tokio::test]
async fn who_is_asked_to_stop_finishes_the_answers_under_way() {
    let data = tempfile::tempdir().unwrap();
    let (held, endpoint) = Held::new().await;
    let running = Running::start(data.path(), &oss(&endpoint));
    let address = running.address;
    let callback = Signed::form("bucket=examplebucket&object=o&reqId=R").bytes();
    let answer = tokio::spawn(async move { send(address, &callback).await });
    let question = held.asked().await;
    running.signal("-TERM");
    // Nobody is let in any more, so the signal has arrived.
    let waiting = async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap();
    answer_head(question).await;
    let answer = answer.await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.outcome());
    let (code, log) = running.ended();
    assert_eq!(code, Some(0), "{log}");
}

#[tokio::test]
async fn a_worker_does_what_a_killed_server_left_over() {
    let data = tempfile::tempdir().unwrap();
    let running = Running::start(data.path(), &oss("http://127.0.0.1:1"));
    let callback = Signed::form("bucket=examplebucket&object=o&etag=AA&size=0&reqId=R").bytes();
    assert_eq!(send(running.address, &callback).await.outcome(), "unverified");
    running.end("-KILL");

    let (held, endpoint) = Held::new().await;
    let (worker, store) = Running::work(data.path(), &oss(&endpoint));
    assert_eq!(store, format!("embedded:{}", data.path().display()));
    let question = tokio::time::timeout(Duration::from_secs(60), held.asked()).await.unwrap();
    // It finishes what it has in hand, though it is asked to stop meanwhile.
    worker.signal("-TERM");
    answer_head(question).await;
    let (code, log) = worker.ended();
    assert_eq!(code, Some(0), "{log}");
    let (output, error) = output(program(data.path(), &[]).args(["records", "get", "examplebucket/o"]));
    assert!(output.status.success(), "{error}");
    let record: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((record["state"].as_str(), record["confirmed"].as_bool()), (Some("recorded"), Some(true)), "{record}");
}

#[test]
fn a_worker_on_a_table_says_so_and_outlives_a_store_that_is_away() {
    for signal in ["-TERM", "-INT"] {
        let data = tempfile::tempdir().unwrap();
        let table = [
            ("OSS_CALLBACK_STORE", "dynamodb:records"),
            ("AWS_ENDPOINT_URL_DYNAMODB", "http://127.0.0.1:1"),
            ("AWS_REGION", "eu-central-1"),
            ("AWS_ACCESS_KEY_ID", "id"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
        ];
        let (worker, store) = Running::work(data.path(), &[&oss("http://127.0.0.1:1")[..], &table].concat());
        assert_eq!(store, "dynamodb:records");
        let (code, log) = worker.end(signal);
        assert_eq!(code, Some(0), "{signal}: {log}");
    }
}

#[test]
fn a_worker_whose_store_another_process_holds_says_which_and_ends_with_75() {
    let data = tempfile::tempdir().unwrap();
    let running = Running::start(data.path(), &[]);
    let (output, error) = output(program(data.path(), &oss("http://127.0.0.1:1")).arg("worker"));
    assert_eq!(output.status.code(), Some(75), "{error}");
    assert!(error.contains(&format!("process {}", running.child.id())), "{error}");
    assert!(output.stdout.is_empty(), "it is not ready");
}

#[test]
fn a_worker_without_oss_is_told_what_it_lacks() {
    let data = tempfile::tempdir().unwrap();
    for (settings, missing) in [
        (&[][..], &["OSS_ENDPOINT", "OSS_ACCESS_KEY_SECRET"][..]),
        (&oss("http://127.0.0.1:1")[..2], &["OSS_ACCESS_KEY_ID"]),
    ] {
        let (output, error) = output(program(data.path(), settings).arg("worker"));
        assert_eq!(output.status.code(), Some(1), "{error}");
        for name in missing {
            assert!(
                error.contains(name),
                "{name} is missing from:
{error}"
            );
        }
        assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 0, "nothing is made");
    }
}

#[test]
fn who_reads_the_ready_line_can_stop_it_at_once() {
    for signal in ["-TERM", "-INT"] {
        let data = tempfile::tempdir().unwrap();
        let (code, log) = Running::start(data.path(), &[]).end(signal);
        assert_eq!(code, Some(0), "{signal}: {log}");
    }
}

#[tokio::test]
async fn no_secret_is_logged_or_answered() {
    let data = tempfile::tempdir().unwrap();
    let secrets = [
        ("OSS_CALLBACK_API_TOKEN", API_TOKEN),
        ("OSS_ACCESS_KEY_SECRET", "canary-access-key-secret"),
        ("OSS_SESSION_TOKEN", "canary-session-token"),
        ("OSS_ACCESS_KEY_ID", "canary-access-key-id"),
        ("OSS_ENDPOINT", "http://127.0.0.1:1"),
        ("OSS_REGION", "cn-hangzhou"),
        ("OSS_CALLBACK_LOG", "json"),
        ("RUST_LOG", "trace"),
    ];
    let running = Running::start(data.path(), &secrets);
    let mut answers = Vec::new();
    for signed in [
        Signed::form("bucket=examplebucket&object=o&token=canary-token&custom=canary-body"),
        Signed::form("bucket=examplebucket&object=o&object=canary-body"),
        Signed::form("bucket=examplebucket&object=o&size=1").header("authorization", Some("Y2FuYXJ5LXNpZ25hdHVyZQ==")),
    ] {
        answers.push(send(running.address, &signed.bytes()).await.body);
    }
    answers.push(running.read("/records/examplebucket/o").await.body);
    let (_, log) = running.end("-TERM");
    assert!(log.lines().count() >= 3, "{log}");
    let answers = String::from_utf8(answers.concat()).unwrap();
    for canary in ["canary-access", "canary-session", "canary-token", "Y2FuYXJ5", "canary-signature", API_TOKEN] {
        assert!(!log.contains(canary), "{canary} stands in the log");
        assert!(!answers.contains(canary), "{canary} stands in an answer");
    }
    assert!(!log.contains("canary-body"), "a body stands in the log");
    for line in log.lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "a log line is one JSON object: {line}");
    }
}

#[test]
fn all_faults_of_the_settings_are_told_at_once_and_nothing_starts() {
    let data = tempfile::tempdir().unwrap();
    let (output, error) = output(
        program(
            data.path(),
            &[
                ("OSS_CALLBACK_BUCKETS", ""),
                ("OSS_CALLBACK_PATH", "callback"),
                ("OSS_CALLBACK_LISTEN", "nowhere"),
                ("OSS_CALLBACK_KEYS", "http://x=/no/such.pem"),
                ("OSS_CALLBACK_STORE", "postgres:x"),
                ("OSS_CALLBACK_BUDGET_MS", "9000"),
                ("OSS_CALLBACK_RULES", "/no/such.toml"),
                ("OSS_ENDPOINT", "oss-cn-hangzhou.aliyuncs.com"),
                ("OSS_CALLBACK_TOKENS", "k:canary-secret"),
                ("OSS_CALLBACK_LOG", "yaml"),
            ],
        )
        .arg("serve"),
    );
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    for name in [
        "OSS_CALLBACK_BUCKETS",
        "OSS_CALLBACK_PATH",
        "OSS_CALLBACK_LISTEN",
        "OSS_CALLBACK_KEYS",
        "OSS_CALLBACK_STORE",
        "OSS_CALLBACK_BUDGET_MS",
        "OSS_CALLBACK_RULES",
        "OSS_REGION",
        "OSS_ACCESS_KEY_ID",
        "OSS_ACCESS_KEY_SECRET",
        "OSS_CALLBACK_TOKENS",
        "OSS_CALLBACK_LOG",
    ] {
        assert!(error.contains(&format!("- {name}")), "{name} is missing from:\n{error}");
    }
    assert!(!error.contains("canary"));
}

#[test]
fn a_flag_says_the_same_as_its_variable_and_wins_over_it() {
    let data = tempfile::tempdir().unwrap();
    let (_, error) = output(program(data.path(), &[]).args(["serve", "--listen", "nowhere", "--budget-ms", "1"]));
    assert!(error.contains("\"nowhere\"") && error.contains("OSS_CALLBACK_BUDGET_MS"), "{error}");
    let (output, _) = output(program(data.path(), &[]).args(["serve", "--oss-access-key-secret", "x"]));
    assert_eq!(output.status.code(), Some(2), "a secret has no flag");
}

#[test]
fn without_a_verb_and_without_lambda_it_says_what_it_can_do() {
    let data = tempfile::tempdir().unwrap();
    let (output, _) = output(&mut program(data.path(), &[]));
    assert_eq!(output.status.code(), Some(2));
    let (help, _) = self::output(program(data.path(), &[]).arg("--help"));
    let help = String::from_utf8(help.stdout).unwrap();
    for word in ["serve", "worker", "records", "OSS_CALLBACK_LISTEN", "OSS_ACCESS_KEY_SECRET"] {
        assert!(help.contains(word), "{word} is missing from:\n{help}");
    }
}

#[tokio::test]
async fn records_are_listed_as_json_lines_with_filters() {
    let data = tempfile::tempdir().unwrap();
    let rules = data.path().join("rules.toml");
    std::fs::write(&rules, "[index]\ncustom = [\"uid\"]\n").unwrap();
    let running = Running::start(data.path(), &[("OSS_CALLBACK_RULES", rules.to_str().unwrap())]);
    for (object, uid) in [("a/1", "7"), ("a/2", "8"), ("b/1+%26%3F", "7%3D%26")] {
        let signed = Signed::form(&format!("bucket=examplebucket&object={object}&uid={uid}&kind=x"));
        assert_eq!(send(running.address, &signed.bytes()).await.status, 200);
    }
    let listen = running.address.to_string();
    let run = |arguments: &[&str]| {
        output(program(data.path(), &[("OSS_CALLBACK_LISTEN", &listen)]).arg("records").args(arguments))
    };
    let list = |arguments: &[&str]| -> Vec<String> {
        let (output, error) = run(&[&["list"], arguments].concat());
        assert!(output.status.success(), "{error}");
        let lines = String::from_utf8(output.stdout).unwrap();
        let objects = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["object"].clone());
        objects.map(|object| object.as_str().unwrap().to_owned()).collect()
    };
    let expect = || {
        assert_eq!(list(&[]), ["a/1", "a/2", "b/1 &?"]);
        assert_eq!(list(&["--prefix", "a/", "--bucket", "examplebucket", "--state", "recorded"]), ["a/1", "a/2"]);
        assert_eq!(list(&["--limit", "1"]), ["a/1"]);
        assert_eq!(list(&["--state", "ready"]), Vec::<String>::new());
        assert_eq!(list(&["--custom", "uid=7"]), ["a/1"]);
        assert_eq!(list(&["--custom", "uid=7=&"]), ["b/1 &?"]);
        assert_eq!(list(&["--custom", "kind=x", "--custom", "uid=8"]), ["a/2"]);
        assert_eq!(list(&["--custom", "uid="]), Vec::<String>::new());
        assert_eq!(run(&["list", "--custom", "uid"]).0.status.code(), Some(2));
        assert!(run(&["get", "examplebucket/b/1 &?"]).0.status.success());
        let (output, error) = run(&["get", "examplebucket/none"]);
        assert_eq!(output.status.code(), Some(1));
        assert!(error.contains("no record"), "{error}");
    };
    // Through the server that holds the store, and, once that has ended, from the store itself.
    expect();
    running.end("-TERM");
    expect();
}
