//! A proxy in front of DynamoDB that lets writes take effect but loses their answers, and counts what reading looks at.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// How an answer gets lost.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// The connection stays open and silent.
    Hang,
    /// The connection is closed.
    HangUp,
}

pub(crate) struct Proxy {
    address: SocketAddr,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    writes: AtomicUsize,
    /// Items and keys that queries and scans looked at.
    looked_at: AtomicUsize,
    /// Items that were read by their keys.
    read: AtomicUsize,
}

impl Proxy {
    /// Loses the answers to the first `losses` writes and passes on everything else.
    pub(crate) async fn start(server: SocketAddr, fault: Fault, losses: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let counts = Arc::new(Counts::default());
        let counter = Arc::clone(&counts);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass_on(client, server, fault, losses, Arc::clone(&counter)));
            }
        });
        Self { address, counts }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn writes_passed_on(&self) -> usize {
        self.counts.writes.load(Ordering::SeqCst)
    }

    /// How many items or keys were looked at by queries and scans, and how many items were read by their keys.
    pub(crate) fn examined(&self) -> (usize, usize) {
        (self.counts.looked_at.load(Ordering::SeqCst), self.counts.read.load(Ordering::SeqCst))
    }
}

/// Serves one connection until either side closes it, or a loss closes it.
async fn pass_on(mut client: TcpStream, server: SocketAddr, fault: Fault, losses: usize, counts: Arc<Counts>) {
    let mut server = TcpStream::connect(server).await.unwrap();
    while let Some(request) = read_message(&mut client).await {
        server.write_all(&request).await.unwrap();
        let answer = read_message(&mut server).await.expect("the server answers");
        counts.note(&answer);
        if is_write(&request) && counts.writes.fetch_add(1, Ordering::SeqCst) < losses {
            match fault {
                Fault::Hang => std::future::pending().await,
                Fault::HangUp => return,
            }
        }
        if client.write_all(&answer).await.is_err() {
            return;
        }
    }
}

impl Counts {
    fn note(&self, answer: &[u8]) {
        let body = &answer[head_of(answer).len() + 4..];
        let Ok(answer) = serde_json::from_slice::<serde_json::Value>(body) else { return };
        let looked_at = answer["ScannedCount"].as_u64().unwrap_or_default();
        self.looked_at.fetch_add(looked_at.try_into().unwrap(), Ordering::SeqCst);
        let tables = answer["Responses"].as_object().into_iter().flat_map(|tables| tables.values());
        let read = tables.map(|items| items.as_array().unwrap().len()).sum();
        self.read.fetch_add(read, Ordering::SeqCst);
    }
}

fn is_write(request: &[u8]) -> bool {
    head_of(request).contains("dynamodb_20120810.putitem")
}

/// One HTTP message with its body; `None` once the connection is closed.
async fn read_message(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut message = Vec::new();
    while !message.ends_with(b"\r\n\r\n") {
        message.push(stream.read_u8().await.ok()?);
    }
    let head = head_of(&message);
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let mut body = vec![0; length.map_or(0, |length| length.trim().parse().unwrap())];
    stream.read_exact(&mut body).await.ok()?;
    message.extend(body);
    Some(message)
}

/// The head in lower case, in which names are compared.
fn head_of(message: &[u8]) -> String {
    let end = message.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    String::from_utf8_lossy(&message[..end]).to_lowercase()
}
