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
fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let page = format!(
        "Hello from the backend. I see you as {}.\n",
        stream.peer_addr()?.ip()
    );
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    while let Some(line) = lines.next().transpose()? {
        if line.is_empty() {
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{page}",
                page.len()
            )?;
        }
    }
    Ok(())
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
