//! HTTP/2, frame by frame: side by side, bounded, and ended cleanly.

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    net::TcpStream,
};

use adit_server::edge::Limits;
use tokio_rustls::rustls::{ClientConnection, StreamOwned};

use crate::rig::{Server, blocking};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Error codes of RFC 9113, section 7.
const NO_ERROR: u32 = 0;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;

#[derive(Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    /// The error code of an RST_STREAM or GOAWAY.
    fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A GET, by HPACK's static table.
fn get(stream: u32, path: &str) -> Vec<u8> {
    let mut block = vec![0x82, 0x87, 0x41, 1, b'x', 0x44, u8::try_from(path.len()).unwrap()];
    block.extend(path.as_bytes());
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &block)
}

struct Client(StreamOwned<ClientConnection, TcpStream>);

impl Client {
    /// Connects, and reads the server's settings.
    fn begin(connect: impl FnOnce() -> StreamOwned<ClientConnection, TcpStream>) -> (Self, Frame) {
        let mut client = Self(connect());
        client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        client.send(&frame(SETTINGS, 0, 0, &[]));
        let settings = client.until(|f| f.kind == SETTINGS && f.flags == 0);
        client.send(&frame(SETTINGS, ACK, 0, &[]));
        (client, settings)
    }

    fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
        self.0.flush().unwrap();
    }

    fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.0.read_exact(&mut payload).ok()?;
        if (head[3], head[4]) == (PING, 0) {
            self.send(&frame(PING, ACK, 0, &payload));
            return self.next();
        }
        Some(Frame {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes(head[5..].try_into().unwrap()),
            payload,
        })
    }

    fn until(&mut self, wanted: impl Fn(&Frame) -> bool) -> Frame {
        loop {
            let frame = self.next().expect("the connection ended");
            if wanted(&frame) {
                return frame;
            }
        }
    }
}

fn is_reply(frame: &Frame) -> bool {
    frame.kind == HEADERS
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_side_by_side_and_bounded() {
    let server = Server::secured(Limits::default()).await;
    let connect = server.connector();
    let gate = server.gate.clone();
    blocking(move || {
        let (mut client, settings) = Client::begin(connect);
        let setting = |id: u16| {
            let mut settings = settings.payload.chunks(6);
            let found = settings.find(|s| s[..2] == id.to_be_bytes()).unwrap();
            u32::from_be_bytes(found[2..].try_into().unwrap())
        };
        let streams_max = setting(3);
        assert_eq!((streams_max, setting(6)), (128, 64 * 1024));
        let waiting: BTreeSet<u32> = (0..streams_max).map(|n| 2 * n + 1).collect();
        for stream in &waiting {
            client.send(&get(*stream, "/wait"));
        }
        let extra = 2 * streams_max + 1;
        client.send(&get(extra, "/"));
        let refused = client.until(|f| f.stream == extra);
        assert_eq!((refused.kind, refused.code()), (RST_STREAM, REFUSED_STREAM));
        gate.add_permits(waiting.len());
        let mut answered = BTreeSet::new();
        while answered.len() < waiting.len() {
            answered.insert(client.until(is_reply).stream);
        }
        assert_eq!(answered, waiting);
        // Now there is room again.
        client.send(&get(extra + 2, "/"));
        client.until(|f| is_reply(f) && f.stream == extra + 2);
    })
    .await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_its_requests_back_at_once_is_told_to_calm_down() {
    let server = Server::secured(Limits::default()).await;
    let connect = server.connector();
    blocking(move || {
        let (mut client, _) = Client::begin(connect);
        let mut burst = Vec::new();
        for stream in (1..200).step_by(2) {
            burst.extend(get(stream, "/wait"));
            burst.extend(frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()));
        }
        client.send(&burst);
        let mut frames = std::iter::from_fn(|| client.next());
        let bye = frames.find(|f| f.kind == GOAWAY).expect("a farewell");
        assert_eq!(bye.code(), ENHANCE_YOUR_CALM);
        assert!(frames.all(|f| f.kind == GOAWAY), "nothing follows");
    })
    .await;
    // Others are served.
    let connect = server.connector();
    blocking(move || {
        let (mut client, _) = Client::begin(connect);
        client.send(&get(1, "/"));
        client.until(is_reply);
    })
    .await;
    assert_eq!(server.metric("http_requests_in_progress"), 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_without_end_is_refused() {
    let server = Server::secured(Limits::default()).await;
    let connect = server.connector();
    blocking(move || {
        let (mut client, _) = Client::begin(connect);
        // One name of two letters and its long value, as often as it takes to be more than the limit.
        let mut block = vec![0x82, 0x87, 0x41, 1, b'x', 0x84];
        for _ in 0..20 {
            block.extend([0x00, 2, b'x', b'a', 0x7f, 0x81, 0x1f]);
            block.extend([b'v'; 127 + 1 + 31 * 128]);
        }
        let mut chunks = block.chunks(16_000).peekable();
        client.send(&frame(HEADERS, END_STREAM, 1, chunks.next().unwrap()));
        while let Some(chunk) = chunks.next() {
            let end = if chunks.peek().is_none() { END_HEADERS } else { 0 };
            client.send(&frame(9, end, 1, chunk));
        }
        let refused = client.until(|f| f.stream == 1 || f.kind == GOAWAY);
        assert!(
            is_reply(&refused) && refused.flags & END_STREAM != 0,
            "{refused:?}"
        );
        client.send(&get(3, "/"));
        client.until(|f| is_reply(f) && f.stream == 3);
    })
    .await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_lets_what_is_in_progress_end_and_says_goodbye() {
    let server = Server::secured(Limits::default()).await;
    let (busy, idle) = (server.connector(), server.connector());
    let (mut busy, mut idle) = blocking(move || {
        let (mut busy, _) = Client::begin(busy);
        busy.send(&get(1, "/wait"));
        (busy, Client::begin(idle).0)
    })
    .await;
    while server.metric("http_requests_in_progress") < 1 {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    server.cancel();
    let idle = tokio::spawn(blocking(move || {
        let bye = idle.until(|f| f.kind == GOAWAY);
        assert_eq!(bye.code(), NO_ERROR);
        while idle.next().is_some() {}
    }));
    idle.await.unwrap();
    let busy = tokio::spawn(blocking(move || {
        busy.until(|f| f.kind == GOAWAY && f.code() == NO_ERROR);
        busy
    }));
    let mut busy = busy.await.unwrap();
    server.gate.add_permits(1);
    blocking(move || {
        busy.until(|f| is_reply(f) && f.stream == 1);
        let data = busy.until(|f| f.kind == DATA);
        assert_eq!(data.payload, b"waited");
        while busy.next().is_some() {}
    })
    .await;
    server.serving.await.unwrap().unwrap();
}
