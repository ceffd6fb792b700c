//! What the benchmarks share: signed callbacks and whoever fires them, programs that are watched, medians and tables.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use std::cell::Cell;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::LocalSet;

#[path = "../../tests/support/mod.rs"]
pub mod function;

use function::Signed;

/// The program that is measured: that of `OSS_CALLBACK_BENCH_PROGRAM`, else the one that cargo built beside the benchmark.
pub fn oss_callback() -> PathBuf {
    std::env::var_os("OSS_CALLBACK_BENCH_PROGRAM")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_oss-callback")), PathBuf::from)
}

/// A new directory on the file system of the target directory: `/tmp` may be none that syncs.
pub fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

/// The body of a callback with every field that the template asks for.
pub fn body(number: usize) -> String {
    format!(
        "bucket=examplebucket&object=photos%2F2026%2F{number:08}.jpg&etag=ED44E29C2B28998EEAE36FA0AD6061DA&size=2384512\
         &mimeType=image%2Fjpeg&imageInfo.height=3000&imageInfo.width=4000&imageInfo.format=jpg\
         &crc64=10148852870154243126&contentMd5=7UTinCsomY7q42%2BgrWBh2g%3D%3D&vpcId=&clientIp=192.0.2.10\
         &reqId=6B03E97FD0FE039A{number:08X}&operation=PutObject&uid=4711"
    )
}

/// A callback as OSS sends it, with all its headers, about an object that no other number is about.
pub fn callback(number: usize) -> Signed {
    let body = body(number);
    let md5 = STANDARD.encode(Md5::digest(&body));
    let request_id = format!("6B03E97FD0FE039A{number:08X}");
    let more = [
        ("Content-MD5", md5.as_str()),
        ("Date", "Fri, 27 Nov 2026 12:00:00 GMT"),
        ("User-Agent", "aliyun-oss-callback"),
        ("x-oss-additional-headers", ""),
        ("x-oss-bucket", "examplebucket"),
        ("x-oss-owner", "1000000000000000"),
        ("x-oss-request-id", &request_id),
        ("x-oss-requester", "1000000000000000"),
        ("x-oss-tag", "CALLBACK"),
        ("eagleeye-rpcid", "0.1"),
    ];
    more.into_iter().fold(Signed::form(&body), |signed, (name, value)| signed.header(name, Some(value)))
}

/// The bytes of these callbacks.
pub fn callbacks(numbers: Range<usize>) -> Vec<Vec<u8>> {
    numbers.map(|number| callback(number).bytes()).collect()
}

/// Fires the callbacks, so many at a time, each over a connection of its own as OSS does. Every one must be answered with 200.
/// The time that it took.
pub fn fire(address: SocketAddr, callbacks: &[Vec<u8>], in_flight: usize) -> Duration {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let callbacks: Rc<[Vec<u8>]> = callbacks.into();
    let next = Rc::new(Cell::new(0));
    let begun = Instant::now();
    LocalSet::new().block_on(&runtime, async {
        let senders: Vec<_> = (0..in_flight)
            .map(|_| {
                let (callbacks, next) = (Rc::clone(&callbacks), Rc::clone(&next));
                tokio::task::spawn_local(async move {
                    while let Some(callback) = callbacks.get(next.replace(next.get() + 1)) {
                        send(address, callback).await;
                    }
                })
            })
            .collect();
        for sender in senders {
            sender.await.unwrap();
        }
    });
    begun.elapsed()
}

async fn send(address: SocketAddr, callback: &[u8]) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(callback).await.unwrap();
    let mut answer = Vec::with_capacity(1024);
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer.get(9..12), Some(&b"200"[..]), "{}", String::from_utf8_lossy(&answer));
}

/// A program that listens, stopped when dropped. What it logs is thrown away.
pub struct Program {
    child: Child,
    pub address: SocketAddr,
}

impl Program {
    /// Starts it and waits for its ready line, `{"event":"ready","listen":"http://127.0.0.1:PORT"}`.
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no ready line from {command:?}"));
        let listen = ready["listen"].as_str().unwrap();
        Self { child, address: listen.strip_prefix("http://").unwrap().parse().unwrap() }
    }

    /// `oss-callback serve` on a free port, unconfirmed, over an embedded store in that directory.
    pub fn serve(data: &Path) -> Self {
        let mut command = Command::new(oss_callback());
        Self::start(command.arg("serve").env_clear().envs(function::settings(data, &[])))
    }

    /// User and system time of all its threads, those included that have ended.
    pub fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // The name, which is in parentheses, may hold spaces.
        let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(10) * u32::try_from(ticks).unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The time that this thread has spent on a processor, to the nanosecond: what else runs on the machine is left out.
pub fn thread_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap()
}

/// A series of measurements.
#[derive(Default, Clone)]
pub struct Series(Vec<f64>);

impl Series {
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    pub fn push_per(&mut self, time: Duration, times: usize) {
        self.push(time.as_secs_f64() * 1e6 / times as f64);
    }

    pub fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
    }

    pub fn lowest(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// The median of the ratios, round by round, to what else was measured in the same rounds: what slows the machine down
    /// for a while slows both.
    pub fn over(&self, other: &Self) -> f64 {
        Self(self.0.iter().zip(&other.0).map(|(this, that)| this / that).collect()).median()
    }
}

/// Prints a table in Markdown, its columns aligned.
pub fn print_table(title: &str, head: &[&str], rows: &[Vec<String>]) {
    let widths: Vec<usize> = (0..head.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).chain([head[column].len()]).max().unwrap())
        .collect();
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width)).collect();
        println!("| {} |", padded.join(" | "));
    };
    println!("\n{title}\n");
    line(head.to_vec());
    println!("|{}|", widths.iter().map(|width| "-".repeat(width + 2)).collect::<Vec<_>>().join("|"));
    for row in rows {
        line(row.iter().map(String::as_str).collect());
    }
}
