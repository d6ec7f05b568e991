//! Slow clients, silent clients, bodies that nobody asked for, shutdown.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    time::Duration,
};

use crate::rig::{BIG_BYTES, PATIENCE, Server, blocking, short};

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

/// Reads until the server ends the connection; what came of it.
fn to_the_end(stream: &mut impl Read) -> Vec<u8> {
    let mut came = Vec::new();
    // The end of the stream or a reset, and not this side's patience.
    if let Err(e) = stream.read_to_end(&mut came) {
        assert_eq!(e.kind(), ErrorKind::ConnectionReset);
    }
    came
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_or_half_a_head_is_let_go() {
    let server = Server::start_with(short(|patience| patience.head = Duration::from_millis(300))).await;
    let half: &[&str] = &["", "GET /v1 HT", "PRI * HT"];
    for said in half {
        let mut stream = server.connect();
        let came = blocking(move || {
            stream.write_all(said.as_bytes()).unwrap();
            to_the_end(&mut stream)
        });
        assert_eq!(came.await, b"", "{said}");
    }
    // Nor after a whole one.
    let mut stream = server.connect();
    let came = blocking(move || {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
        stream.write_all(b"GET / HT").unwrap();
        to_the_end(&mut stream)
    });
    assert_eq!(came.await, b"");
    let cut = half.len() as u64 + 1;
    until_metric(&server, "http_connections_cut_total{reason=\"head\"}", cut).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_no_further_request_is_let_go_and_who_does_is_served() {
    let server = Server::start_with(short(|patience| patience.idle = Duration::from_millis(300))).await;
    let mut stream = server.connect();
    let came = blocking(move || {
        let mut came = Vec::new();
        for _ in 0..3 {
            stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            let mut reply = [0; 4096];
            let n = stream.read(&mut reply).unwrap();
            came.extend_from_slice(&reply[..n]);
        }
        came.extend(to_the_end(&mut stream));
        String::from_utf8(came).unwrap()
    });
    assert_eq!(came.await.matches("HTTP/1.1 200").count(), 3);
    until_metric(&server, "http_connections_cut_total{reason=\"idle\"}", 1).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_is_answered_in_the_usual_form() {
    let server = Server::start_with(short(|patience| patience.body = Duration::from_millis(300))).await;
    let mut stream = server.connect();
    let came = blocking(move || {
        write!(
            stream,
            "POST /listens HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 100\r\n\r\nabc"
        )
        .unwrap();
        String::from_utf8(to_the_end(&mut stream)).unwrap()
    });
    let came = came.await;
    assert!(
        came.starts_with("HTTP/1.1 504") && came.contains("EndPoint.0013"),
        "{came}"
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_its_reply_is_let_go_and_who_reads_slowly_is_not() {
    let server = Server::start_with(short(|patience| patience.stall = Duration::from_millis(500))).await;
    let mut deaf = server.connect();
    write!(deaf, "GET /big HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    // Every pause is shorter than the server's patience; all of them together are longer.
    let slow = server.connect();
    let came = blocking(move || {
        let mut stream = slow;
        write!(
            stream,
            "GET /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut chunk = vec![0; BIG_BYTES / 16];
        let mut came = 0;
        loop {
            let n = stream.read(&mut chunk).unwrap();
            if n == 0 {
                break came;
            }
            came += n;
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    assert!(came.await > BIG_BYTES);
    until_metric(&server, "http_connections_cut_total{reason=\"stall\"}", 1).await;
    let came = blocking(move || to_the_end(&mut deaf)).await;
    assert!(came.len() < BIG_BYTES, "{}", came.len());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_never_over_ends_with_its_connection() {
    let server = Server::start_with(short(|patience| patience.exchange = Duration::from_millis(300))).await;
    let mut stream = server.connect();
    let came = blocking(move || {
        write!(stream, "GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        to_the_end(&mut stream)
    });
    assert_eq!(came.await, b"");
    until_metric(&server, "http_connections_cut_total{reason=\"exchange\"}", 1).await;
    // What it was waiting for is given up with it.
    until_metric(&server, "http_requests_in_progress", 0).await;
    server.stop().await;
}

/// Waits until a metric has a value.
async fn until_metric(server: &Server, line: &str, value: u64) {
    let come = async {
        while server.metric(line) != value {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, come).await.unwrap();
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

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_on_an_idle_connection_while_the_server_stops_is_answered_as_the_last() {
    let server = Server::start().await;
    let mut idle = server.connect();
    let (reply, mut idle) = blocking(move || {
        idle.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut reply = [0; 4096];
        let n = idle.read(&mut reply).unwrap();
        (String::from_utf8_lossy(&reply[..n]).into_owned(), idle)
    })
    .await;
    assert!(
        reply.starts_with("HTTP/1.1 200") && !reply.contains("connection: close"),
        "{reply}"
    );
    server.cancel();
    let reply = blocking(move || {
        idle.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut reply = String::new();
        idle.read_to_string(&mut reply).unwrap();
        reply
    });
    let reply = reply.await;
    assert!(
        reply.starts_with("HTTP/1.1 200") && reply.contains("connection: close"),
        "{reply}"
    );
    server.stop().await;
}
