//! The program: its ready line, its flags, and how it ends.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::{CallbackServer, ID, Message, SECRET, call, ok, send_raw};
use md5::{Digest as _, Md5};
use rsa::pkcs8::{DecodePrivateKey as _, EncodePublicKey as _, LineEnding};
use rsa::{Pkcs1v15Sign, RsaPrivateKey};
use serde_json::{Value, json};

/// A running program; killed when dropped.
struct Program {
    child: Child,
    stdout: BufReader<ChildStdout>,
    ready: Value,
}

impl Program {
    fn start(data: &Path, more: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_oss-standin"))
            .args(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .args(more)
            .env("OSS_ACCESS_KEY_ID", ID)
            .env("OSS_ACCESS_KEY_SECRET", SECRET)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        Self { child, stdout, ready: serde_json::from_str(&line).unwrap() }
    }

    fn address(&self) -> SocketAddr {
        self.ready["listen"].as_str().unwrap().strip_prefix("http://").unwrap().parse().unwrap()
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap().success());
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_ready_line_is_all_that_stands_on_standard_output() {
    let data = tempfile::tempdir().unwrap();
    for signal in ["-TERM", "-INT"] {
        let mut program =
            Program::start(data.path(), &["--region", "eu-central-1", "--key-url", "https://example.com/k"]);
        assert_eq!(program.ready["event"], "ready");
        assert_eq!(program.ready["bucket"], "examplebucket");
        assert_eq!(program.ready["region"], "eu-central-1");
        assert_eq!(program.ready["access_key_id"], ID);
        assert!(program.ready["access_key_secret"].is_null(), "a secret that was given is not printed");
        assert_eq!(program.ready["key_url"], "https://example.com/k");
        assert_eq!(call("PUT", "k").body("x").send_to(program.address()).status(), 200);
        program.signal(signal);
        assert!(program.child.wait().unwrap().success());
        let mut rest = String::new();
        program.stdout.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "");
    }
}

#[test]
fn what_was_answered_survives_being_killed() {
    let data = tempfile::tempdir().unwrap();
    let program = Program::start(data.path(), &[]);
    let put = call("PUT", "k").body("content").send_to(program.address());
    assert_eq!(put.status(), 200);
    program.signal("-KILL");
    drop(program);
    let program = Program::start(data.path(), &[]);
    let get = call("GET", "k").send_to(program.address());
    assert_eq!((get.text().as_str(), get.header("etag")), ("content", put.header("etag")));
}

#[test]
fn killed_in_the_middle_of_overwriting_it_holds_one_whole_version() {
    let data = tempfile::tempdir().unwrap();
    let program = Program::start(data.path(), &[]);
    let address = program.address();
    let (sender, acknowledged) = std::sync::mpsc::channel();
    let uploader = std::thread::spawn(move || {
        for version in 0..u32::MAX {
            let body = version.to_be_bytes().repeat(5000);
            // The upload that is cut off ends the loop.
            let put = std::panic::catch_unwind(|| call("PUT", "k").body(body).send_to(address));
            let Ok(200) = put.map(|put| put.status()) else { break };
            sender.send(version).unwrap();
        }
    });
    for _ in 0..20 {
        acknowledged.recv().unwrap();
    }
    program.signal("-KILL");
    uploader.join().unwrap();
    let last = acknowledged.try_iter().last().unwrap_or(19);
    drop(program);

    let program = Program::start(data.path(), &[]);
    let body = call("GET", "k").send_to(program.address()).body;
    let version = u32::from_be_bytes(body[..4].try_into().unwrap());
    assert!(version == last || version == last + 1, "{version} after {last}");
    assert!(body == version.to_be_bytes().repeat(5000));
    let bucket = data.path().join("buckets/examplebucket");
    for folder in ["objects", "bodies"] {
        assert_eq!(std::fs::read_dir(bucket.join(folder)).unwrap().count(), 1, "{folder}");
    }
}

#[test]
fn a_start_that_fails_says_why_and_exits_with_1() {
    let data = tempfile::tempdir().unwrap();
    let program = Program::start(data.path(), &[]);
    let second = Command::new(env!("CARGO_BIN_EXE_oss-standin"))
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(data.path())
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(second.stdout.is_empty());
    assert!(String::from_utf8(second.stderr).unwrap().contains("another stand-in uses"));
    drop(program);
}

/// Runs a command to its end, in this folder, with this on standard input.
fn run(folder: &Path, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_oss-standin"))
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Who fails early does not read it.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// What a command wrote on standard output: one line of JSON.
fn line(output: &Output) -> Value {
    let text = std::str::from_utf8(&output.stdout).unwrap();
    assert_eq!(text.trim_end().lines().count(), 1, "{text} {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(text).unwrap()
}

/// Whether the signature of a callback is that of this private key.
fn is_signed_with(request: &Message, key_file: &Path) -> bool {
    let key = RsaPrivateKey::from_pkcs8_pem(&std::fs::read_to_string(key_file).unwrap()).unwrap();
    let target = request.start.split(' ').nth(1).unwrap();
    let signed = [target.as_bytes(), b"\n", &request.body].concat();
    let signature = STANDARD.decode(request.header("authorization")).unwrap();
    key.to_public_key().verify(Pkcs1v15Sign::new::<Md5>(), &Md5::digest(signed), &signature).is_ok()
}

#[test]
fn a_triggered_callback_is_signed_and_says_what_it_was_told_to_say() {
    let folder = tempfile::tempdir().unwrap();
    let server = CallbackServer::answering(vec![ok("{\"Status\":\"OK\"}"), ok("{}")]);
    let template = "{\"o\":${object},\"s\":${size},\"w\":${imageInfo.width},\"f\":${imageInfo.format},\"u\":${x:uid},\
                    \"r\":${reqId},\"p\":${operation},\"m\":${contentMd5},\"c\":${clientIp}}";
    let output = run(
        folder.path(),
        &[
            "trigger",
            &server.url("/cb?a=1"),
            "--bucket=b-1",
            "--object=照片/a b.jpg",
            "--size=9",
            "--image=810x539:jpg",
            "--var=x:uid=\"7\"=é",
            "--request-id=5CF3E7821AB22D0FDB86704D",
            "--operation=CompleteMultipartUpload",
            "--content-md5=",
            "--client-ip=192.0.2.1",
            "--body-type=json",
            "--body",
            template,
            "--host=callback.example.com",
            "--header=more=1",
            "--key-url=https://example.com/k.pem",
            "--times=2",
        ],
        b"",
    );
    assert!(output.status.success(), "{output:?}");
    let lines: Vec<Value> =
        std::str::from_utf8(&output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["status"], 200);
    assert_eq!(lines[0]["body"], "{\"Status\":\"OK\"}");
    assert_eq!(lines[0]["headers"]["content-type"], "application/json");
    assert_eq!(lines[0]["uploader"], json!({"status": 200}));
    assert!(lines[0]["milliseconds"].is_u64());

    let request = server.request();
    assert_eq!(request.start, "POST /cb?a=1 HTTP/1.1");
    let expected = json!({
        "o": "照片/a b.jpg", "s": 9, "w": 810, "f": "jpg", "u": "\"7\"=é", "r": "5CF3E7821AB22D0FDB86704D",
        "p": "CompleteMultipartUpload", "m": null, "c": "192.0.2.1",
    });
    assert_eq!(serde_json::from_slice::<Value>(&request.body).unwrap(), expected);
    for (name, value) in [
        ("host", "callback.example.com"),
        ("more", "1"),
        ("x-oss-bucket", "b-1"),
        ("x-oss-request-id", "5CF3E7821AB22D0FDB86704D"),
        ("x-oss-pub-key-url", &STANDARD.encode("https://example.com/k.pem")),
    ] {
        assert_eq!(request.header(name), value, "{name}");
    }
    assert!(is_signed_with(&request, &folder.path().join("oss-standin-data/keys/callback-512.pem")));
    let signature = request.header("authorization").to_owned();
    assert_eq!(server.request().header("authorization"), signature, "the same body twice");
    for told in [&output.stdout, &output.stderr] {
        assert!(!String::from_utf8_lossy(told).contains(&signature));
    }
}

#[test]
fn a_triggered_callback_is_signed_with_the_key_of_the_stand_in_that_serves() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(&folder.path().join("oss-standin-data"), &[]);
    let server = CallbackServer::answering(vec![ok("{}"); 4]);
    assert!(run(folder.path(), &["trigger", &server.url("/")], b"").status.success());
    let published =
        send_raw(program.address(), b"GET /_standin/callback_pub_key_v1.pem HTTP/1.1\r\nHost: h\r\n\r\n").text();
    let key_file = folder.path().join("oss-standin-data/keys/callback-512.pem");
    let key = RsaPrivateKey::from_pkcs8_pem(&std::fs::read_to_string(&key_file).unwrap()).unwrap();
    assert_eq!(key.to_public_key().to_public_key_pem(LineEnding::LF).unwrap(), published);
    let request = server.request();
    assert!(is_signed_with(&request, &key_file));
    let fields: std::collections::BTreeMap<String, String> = request
        .text()
        .split('&')
        .map(|field| field.split_once('=').unwrap())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    assert_eq!(fields["bucket"], "examplebucket");
    assert_eq!(fields["reqId"], request.header("x-oss-request-id"));

    // Where cargo dev has run, its key is the one that is wanted, unless another is served under the URL.
    let of_cargo_dev = folder.path().join("target/dev/oss/keys/callback-512.pem");
    assert!(
        run(folder.path(), &["trigger", &server.url("/"), "--print", "--data", "target/dev/oss"], b"").status.success()
    );
    assert!(run(folder.path(), &["trigger", &server.url("/")], b"").status.success());
    assert!(is_signed_with(&server.request(), &of_cargo_dev));
    let key_url = program.ready["key_url"].as_str().unwrap();
    assert!(run(folder.path(), &["trigger", &server.url("/"), "--key-url", key_url], b"").status.success());
    assert!(is_signed_with(&server.request(), &key_file));
    let of_nobody = ["trigger", &server.url("/"), "--key-url", key_url, "--data", "target/dev/oss"];
    let output = run(folder.path(), &of_nobody, b"");
    assert!(is_signed_with(&server.request(), &of_cargo_dev));
    assert!(String::from_utf8(output.stderr).unwrap().contains("another key is served at this URL"));
}

#[test]
fn a_trigger_says_what_the_uploader_would_have_got_and_exits_with_1_if_that_is_203() {
    let folder = tempfile::tempdir().unwrap();
    let refused = b"HTTP/1.1 403 Forbidden\r\nContent-Type: application/json\r\nContent-Length: 22\r\n\r\n{\"error\":\"not signed\"}";
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    let server = CallbackServer::answering(vec![refused.to_vec(), chunked.to_vec(), ok("no json")]);
    for (status, body, message) in [
        (403, "{\"error\":\"not signed\"}", "Error status : 403."),
        (200, "{}", "Error Status : 400.User server missing content-length."),
        (200, "no json", "Response body is not valid json format."),
    ] {
        let output = run(folder.path(), &["trigger", &server.url("/")], b"");
        assert_eq!(output.status.code(), Some(1));
        let line = line(&output);
        assert_eq!((&line["status"], &line["body"]), (&json!(status), &json!(body)));
        assert_eq!(line["uploader"]["status"], 203);
        assert_eq!(line["uploader"]["code"], "CallbackFailed");
        assert_eq!(line["uploader"]["message"], message);
    }
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = run(folder.path(), &["trigger", &format!("http://{unused}/")], b"");
    assert_eq!(output.status.code(), Some(1));
    let line = line(&output);
    assert_eq!(line["status"], Value::Null);
    assert!(line["error"].as_str().unwrap().contains("cannot connect"), "{line}");
    assert!(line["uploader"]["message"].as_str().unwrap().starts_with("Error status : -1."), "{line}");
}

#[test]
fn a_trigger_that_oss_would_refuse_sends_nothing_and_says_so_in_its_words() {
    let folder = tempfile::tempdir().unwrap();
    let server = CallbackServer::answering(vec![ok("{}")]);
    for (flags, sentence) in [
        (["--body", "$(object)"], "Left brace must be adjacent to dollar sign."),
        (["--var", "uid=7"], "The names of callback-var must begin with x:."),
        (["--header", "x-oss-a=1"], "The name of an additional header must not begin with x-oss-."),
    ] {
        for command in [["trigger"].as_slice(), &["callback", "--url"]] {
            let url = server.url("/");
            let output = run(folder.path(), &[command, &[&url], &flags].concat(), b"");
            assert_eq!(output.status.code(), Some(1));
            assert!(output.stdout.is_empty());
            assert!(String::from_utf8_lossy(&output.stderr).contains(sentence), "{output:?}");
        }
    }
    assert!(server.was_not_called());
    assert!(!folder.path().join("oss-standin-data").exists(), "no key is made in vain");
}

/// Accepts one connection, and answers once this many bytes have come; more may follow.
fn listen_for(count: usize) -> (SocketAddr, std::thread::JoinHandle<Vec<u8>>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let listening = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut received = vec![0; count];
        stream.read_exact(&mut received).unwrap();
        stream.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 4\r\nETag: \"e\"\r\n\r\ndone").unwrap();
        stream.read_to_end(&mut received).unwrap();
        received
    });
    (address, listening)
}

#[test]
fn a_replayed_recording_arrives_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for recordings in [crate_folder.join("tests/wire"), crate_folder.join("../events/genuine")] {
        for entry in std::fs::read_dir(recordings).unwrap() {
            let path = entry.unwrap().path();
            let recorded = std::fs::read(&path).unwrap();
            let (address, listening) = listen_for(recorded.len());
            let output = run(folder.path(), &["replay", path.to_str().unwrap(), &format!("http://{address}")], b"");
            assert!(listening.join().unwrap() == recorded, "{}", path.display());
            assert_eq!(output.status.code(), Some(0), "{output:?}");
            let line = line(&output);
            assert_eq!((&line["status"], &line["headers"]["etag"]), (&json!(201), &json!("\"e\"")));
            // An answer to HEAD has no body, whatever it announces.
            assert_eq!(line["body"], if recorded.starts_with(b"HEAD ") { "" } else { "done" });
            count += 1;
        }
    }
    assert!(count > 60);
}

#[test]
fn a_recording_that_cannot_work_is_sent_as_it_is_with_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let cut = b"PUT /k HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc\n...(6 more bytes)";
    for (recorded, flags, sent, warning) in [
        (&b"POST / HTTP/1.1\nA: b\n\nx"[..], [].as_slice(), &b"POST / HTTP/1.1\nA: b\n\nx"[..], "no empty line"),
        (b"POST / HTTP/1.1\r\nA: b\r\n\r\nx", &[], b"POST / HTTP/1.1\r\nA: b\r\n\r\nx", "no Content-Length"),
        (cut, &[], cut, ""),
        (cut, &["--fill"], b"PUT /k HTTP/1.1\r\nContent-Length: 9\r\n\r\nabccccccc", ""),
    ] {
        let (address, listening) = listen_for(sent.len());
        let output = run(folder.path(), &[&["replay", "-", &format!("http://{address}")], flags].concat(), recorded);
        assert_eq!(listening.join().unwrap(), sent);
        assert!(String::from_utf8_lossy(&output.stderr).contains(warning), "{output:?}");
    }
}

#[test]
fn what_print_shows_can_be_replayed_and_its_signature_holds() {
    let folder = tempfile::tempdir().unwrap();
    let server =
        CallbackServer::answering(vec![ok("{}"), b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n".to_vec()]);
    let printed = run(folder.path(), &["trigger", &server.url("/cb"), "--print"], b"");
    assert!(printed.status.success());
    assert!(server.was_not_called());
    let url = server.url("");
    let replayed = run(folder.path(), &["replay", "-", &url], &printed.stdout);
    assert!(replayed.status.success(), "{replayed:?}");
    assert!(is_signed_with(&server.request(), &folder.path().join("oss-standin-data/keys/callback-512.pem")));
    assert_eq!(run(folder.path(), &["replay", "-", &url], &printed.stdout).status.code(), Some(1), "403");
}

#[test]
fn a_server_that_does_not_answer_is_not_waited_for_longer_than_asked() {
    let folder = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let output = run(folder.path(), &["replay", "-", &url, "--timeout", "1"], b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(line(&output)["error"], "no answer within 1000 ms");
}

#[test]
fn written_callback_parameters_are_accepted_by_a_stand_in() {
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(&folder.path().join("oss-standin-data"), &["--anonymous"]);
    let server = CallbackServer::answering(vec![ok("{}"), ok("{}")]);
    let broken = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = run(
        folder.path(),
        &[
            "callback",
            &format!("--url=http://{broken}/"),
            &format!("--url={}", server.url("/cb")),
            "--body=bucket=${bucket}&object=${object}&uid=${x:uid}",
            "--var=x:uid=ü&7",
            "--object=preview.txt",
            "--header=more=1",
            "--sni",
        ],
        b"",
    );
    assert!(output.status.success(), "{output:?}");
    let line = line(&output);
    assert_eq!(line["body"], "bucket=examplebucket&object=preview.txt&uid=%C3%BC%267");
    let text = |name: &str| line[name].as_str().unwrap().to_owned();
    let callback: Value = serde_json::from_str(&text("callback")).unwrap();
    assert_eq!(STANDARD.decode(text("x-oss-callback")).unwrap(), text("callback").as_bytes());
    assert_eq!(STANDARD.decode(text("x-oss-callback-var")).unwrap(), text("callback_var").as_bytes());
    assert_eq!(callback["callbackUrl"], format!("http://{broken}/;{}", server.url("/cb")));
    assert_eq!(callback["callbackSNI"], true);
    assert_eq!(serde_json::from_str::<Value>(&text("callback_var")).unwrap(), json!({"x:uid": "ü&7"}));

    let by_header = call("PUT", "k")
        .header("x-oss-callback", &text("x-oss-callback"))
        .header("x-oss-callback-var", &text("x-oss-callback-var"));
    let by_query = call("PUT", "k").query(&text("query"));
    for upload in [by_header, by_query] {
        let put = upload.body("x").send_to(program.address());
        assert_eq!((put.status(), put.text().as_str()), (200, "{}"));
        let request = server.request();
        assert_eq!(request.text(), "bucket=examplebucket&object=k&uid=%C3%BC%267");
        assert_eq!(request.header("more"), "1");
    }
}

#[test]
fn every_command_explains_itself() {
    let folder = tempfile::tempdir().unwrap();
    for command in ["trigger", "replay", "callback"] {
        let help = run(folder.path(), &[command, "--help"], b"");
        assert!(help.status.success());
        assert!(String::from_utf8(help.stdout).unwrap().contains("Examples:"), "{command}");
        assert_eq!(run(folder.path(), &[command, "--no-such-flag"], b"").status.code(), Some(2));
    }
}
