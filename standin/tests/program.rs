//! The program: its ready line, its flags, and how it ends.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod common;

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use common::{ID, SECRET, call};
use serde_json::Value;

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
        assert_eq!(
            (&program.ready["access_key_id"], &program.ready["access_key_secret"]),
            (&ID.into(), &SECRET.into())
        );
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
