//! What the edge does on real connections: slow clients, silent clients, bodies that nobody asked for, shutdown.
#![expect(clippy::unwrap_used, reason = "a test's panic is its verdict")]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use adit_server::edge::{self, Peer, Serving};
use axum::{
    Extension, Router,
    routing::{get, post},
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// How long a test waits for what has to come.
const PATIENCE: Duration = Duration::from_secs(60);

struct Server {
    address: SocketAddr,
    cancel: CancellationToken,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let peer = async |Extension(Peer(peer)): Extension<Peer>| peer.to_string();
        let router = Router::new()
            .route("/deaf", post(async || "answered without listening"))
            .route("/peer", get(peer));
        let router = edge::finish(router);
        let cancel = CancellationToken::new();
        let serving = tokio::spawn(edge::serve(listener, router, Serving::default(), cancel.clone()));
        Self {
            address,
            cancel,
            serving,
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    async fn stop(self) {
        self.cancel.cancel();
        self.serving.await.unwrap().unwrap();
    }
}

/// Sends a request with a body of so many bytes, all of it before anything is read, and answers the whole reply.
fn exchange(mut stream: TcpStream, method: &str, path: &str, length: usize) -> String {
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    )
    .unwrap();
    let chunk = vec![b'x'; 64 * 1024];
    let mut sent = 0;
    while sent < length {
        let n = chunk.len().min(length - sent);
        stream.write_all(&chunk[..n]).unwrap();
        sent += n;
    }
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    reply
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_not_lost_to_a_body_that_nobody_reads() {
    let server = Server::start().await;
    for (method, path, status) in [
        ("POST", "/nowhere", "404"),
        ("PUT", "/deaf", "405"),
        ("POST", "/deaf", "200"),
    ] {
        for length in [1, 1024 * 1024 + 1, 5 * 1024 * 1024] {
            let stream = server.connect();
            let (method, path) = (method.to_owned(), path.to_owned());
            let reply = tokio::task::spawn_blocking(move || exchange(stream, &method, &path, length))
                .await
                .unwrap();
            assert!(
                reply.starts_with(&format!("HTTP/1.1 {status}")),
                "{length}: {reply}"
            );
            assert!(reply.contains("x-request-id: "), "{reply}");
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_or_half_a_head_is_let_go() {
    let server = Server::start().await;
    let ends = |said: &'static [u8]| {
        let mut stream = server.connect();
        tokio::task::spawn_blocking(move || {
            stream.write_all(said).unwrap();
            // The end of the stream or a reset, and not this side's patience.
            match stream.read_to_end(&mut Vec::new()) {
                Ok(_) => true,
                Err(e) => e.kind() == std::io::ErrorKind::ConnectionReset,
            }
        })
    };
    let (silent, half, other) = tokio::join!(ends(b""), ends(b"GET /v1 HT"), ends(b"PRI * HT"));
    assert!(silent.unwrap() && half.unwrap() && other.unwrap());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_waits_for_no_half_sent_request() {
    let server = Server::start().await;
    let mut stream = server.connect();
    write!(
        stream,
        "POST /deaf HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc"
    )
    .unwrap();
    tokio::time::timeout(PATIENCE, server.stop()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_knows_the_address_that_it_comes_from() {
    let server = Server::start().await;
    let stream = server.connect();
    let own = stream.local_addr().unwrap();
    let reply = tokio::task::spawn_blocking(move || exchange(stream, "GET", "/peer", 0))
        .await
        .unwrap();
    assert!(reply.ends_with(&format!("\r\n\r\n{own}")), "{reply}");
    server.stop().await;
}
