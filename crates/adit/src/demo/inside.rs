//! What happens within the tenants' networks: a web server on the backend, and clients on the other side.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    path::Path,
    time::Duration,
};

use adit_netns::Namespace;

use super::Error;

/// How long a connection may take that is expected to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait for one that must not.
const SILENCE: Duration = Duration::from_millis(300);

/// What became of an attempt to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// It came about.
    Connected,
    /// Refused at once.
    Refused,
    /// Nothing answered, or there is no way there.
    Silence(String),
}

fn step(what: &str) -> impl Fn(std::io::Error) -> Error {
    move |e| Error::Step(format!("{what}: {e}"))
}

/// Starts a web server in a namespace; it tells each client which address it sees, and ends with the process.
pub(super) fn serve_pages(namespace: &Namespace, port: u16) -> Result<(), Error> {
    let bind = || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port));
    let listener = namespace
        .run(bind)
        .and_then(|bound| bound)
        .map_err(step("start a web server on the backend"))?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
    Ok(())
}

/// Answers requests on one connection until the client ends it.
fn answer(stream: TcpStream) -> std::io::Result<()> {
    let peer = stream.peer_addr()?.ip();
    let mut reader = BufReader::new(stream);
    let header = Header::read(&mut reader)?;
    let told = header.map_or(String::new(), |header| format!(" A header says {header}."));
    let page = format!("Hello from the backend. I see you as {peer}.{told}\n");
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 {
        if line.trim_end().is_empty() {
            let length = page.len();
            write!(
                reader.get_mut(),
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{page}"
            )?;
        }
        line.clear();
    }
    Ok(())
}

/// What a binary PROXY header of IPv4 says.
struct Header {
    client: SocketAddrV4,
    /// The kinds of its TLVs.
    tlvs: Vec<u8>,
}

impl Header {
    const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
    /// Up to the addresses: signature, version, family, length.
    const HEAD_BYTES: usize = 16;

    /// The header that a connection begins with, if it does: nobody else begins with the end of a line.
    fn read(from: &mut impl BufRead) -> std::io::Result<Option<Self>> {
        if from.fill_buf()?.first() != Self::SIGNATURE.first() {
            return Ok(None);
        }
        let mut head = [0; Self::HEAD_BYTES];
        from.read_exact(&mut head)?;
        if !head.starts_with(Self::SIGNATURE) {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        let mut rest = vec![0; u16::from_be_bytes([head[14], head[15]]).into()];
        from.read_exact(&mut rest)?;
        let [a, b, c, d, _, _, _, _, p0, p1, _, _, tlvs @ ..] = &rest[..] else {
            return Err(std::io::ErrorKind::InvalidData.into());
        };
        Ok(Some(Self {
            client: SocketAddrV4::new([*a, *b, *c, *d].into(), u16::from_be_bytes([*p0, *p1])),
            tlvs: kinds(tlvs),
        }))
    }
}

impl std::fmt::Display for Header {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tlvs: Vec<_> = self.tlvs.iter().map(|kind| format!("{kind:#04x}")).collect();
        write!(f, "{} with {}", self.client, tlvs.join(" and "))
    }
}

fn kinds(mut tlvs: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    while let [kind, high, low, rest @ ..] = tlvs {
        kinds.push(*kind);
        tlvs = rest
            .get(u16::from_be_bytes([*high, *low]).into()..)
            .unwrap_or_default();
    }
    kinds
}

/// Connects from within a namespace; the connection goes on to live outside.
pub(super) fn connect(namespace: &Namespace, to: SocketAddrV4) -> Result<TcpStream, Error> {
    let connect = || TcpStream::connect_timeout(&to.into(), CONNECT_TIMEOUT);
    namespace
        .run(connect)
        .and_then(|stream| stream)
        .map_err(step(&format!("connect to {to}")))
}

/// Fetches a page over a connection and answers its text.
pub(super) fn fetch(stream: &mut TcpStream) -> Result<String, Error> {
    let fetch = |stream: &mut TcpStream| -> std::io::Result<String> {
        stream.set_read_timeout(Some(CONNECT_TIMEOUT))?;
        write!(stream, "GET / HTTP/1.1\r\nHost: demo\r\n\r\n")?;
        let mut reader = BufReader::new(stream);
        let (mut line, mut length) = (String::new(), 0);
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let head = line.trim();
            if head.is_empty() {
                break;
            }
            if let Some(value) = head.strip_prefix("Content-Length: ") {
                length = value.parse().map_err(std::io::Error::other)?;
            }
        }
        let mut page = vec![0; length];
        reader.read_exact(&mut page)?;
        String::from_utf8(page).map_err(std::io::Error::other)
    };
    fetch(stream).map_err(step("fetch a page"))
}

/// Tries to connect from within a namespace to where one must not get.
pub(super) fn attempt(namespace: &Namespace, to: SocketAddrV4) -> Result<Attempt, Error> {
    let connect = || TcpStream::connect_timeout(&to.into(), SILENCE);
    let result = namespace
        .run(connect)
        .map_err(step("enter the client's network"))?;
    Ok(match result {
        Ok(_) => Attempt::Connected,
        Err(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => Attempt::Refused,
        Err(e) => Attempt::Silence(e.to_string()),
    })
}

/// Whether the other end has ended a connection: a reset, or its end.
pub(super) fn is_cut(stream: &mut TcpStream) -> bool {
    let _ = stream.set_read_timeout(Some(CONNECT_TIMEOUT));
    match stream.read(&mut [0; 1]) {
        Ok(n) => n == 0,
        Err(e) => matches!(
            e.kind(),
            std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe
        ),
    }
}

/// The namespaces of a region that are still named.
pub(super) fn left_over(instance: &str, directory: &Path) -> Vec<String> {
    let names = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| name.starts_with(&format!("a{instance}")))
        .collect()
}
