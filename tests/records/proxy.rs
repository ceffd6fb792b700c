//! A proxy in front of DynamoDB that lets writes take effect but loses their answers.

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
    writes: Arc<AtomicUsize>,
}

impl Proxy {
    /// Loses the answers to the first `losses` writes and passes on everything else.
    pub(crate) async fn start(server: SocketAddr, fault: Fault, losses: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let writes = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&writes);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass_on(client, server, fault, losses, Arc::clone(&counter)));
            }
        });
        Self { address, writes }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn writes_passed_on(&self) -> usize {
        self.writes.load(Ordering::SeqCst)
    }
}

/// Serves one connection until either side closes it, or a loss closes it.
async fn pass_on(mut client: TcpStream, server: SocketAddr, fault: Fault, losses: usize, writes: Arc<AtomicUsize>) {
    let mut server = TcpStream::connect(server).await.unwrap();
    while let Some(request) = read_message(&mut client).await {
        server.write_all(&request).await.unwrap();
        let answer = read_message(&mut server).await.expect("the server answers");
        if is_write(&request) && writes.fetch_add(1, Ordering::SeqCst) < losses {
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
