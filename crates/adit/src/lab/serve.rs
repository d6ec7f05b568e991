//! The lab's backend: a server that echoes, and answers requests with a page.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
};

/// The first word of a request for a page; whatever begins otherwise is echoed.
const GET: &[u8; 4] = b"GET ";

/// Serves on that port, until it is ended.
///
/// # Errors
/// Where the port cannot be had.
pub fn run(port: u16) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?;
    for stream in listener.incoming().flatten() {
        // Where there are no more threads, this client is let down and the next may be served.
        let _ = std::thread::Builder::new().spawn(move || answer(stream));
    }
    Ok(())
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut first = [0; 4];
    stream.read_exact(&mut first)?;
    if &first == GET {
        return page(stream);
    }
    stream.write_all(&first)?;
    let mut from = stream.try_clone()?;
    io::copy(&mut from, &mut stream).map(drop)
}

fn page(stream: TcpStream) -> io::Result<()> {
    let peer = stream.peer_addr()?.ip();
    let mut lines = BufReader::new(&stream).lines();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let page = format!("Hello from the backend. I see you as {peer}.\n");
    let length = page.len();
    write!(
        &stream,
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{page}"
    )
}
