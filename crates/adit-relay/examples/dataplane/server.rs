//! The backends: one that answers each byte string with the same one, and one that swallows everything. Each also on a
//! port where a PROXY header comes first.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

/// Answers what it reads.
pub(crate) const ECHO: u16 = 9001;
/// Swallows, and says at the end how much it was.
pub(crate) const SINK: u16 = 9002;
/// Takes connections in and leaves them alone.
pub(crate) const HOLD: u16 = 9003;
/// Answers what it reads; a process of its own, for the endpoint that others are beside.
pub(crate) const QUIET: u16 = 9004;
/// Added to a port: a PROXY protocol header (version 2) comes first.
pub(crate) const WITH_HEADER: u16 = 10;

/// Threads that wait for connections, per port; more than any load has connections at a time.
const THREADS: usize = 48;
/// What one read of a bulk connection takes.
const CHUNK_BYTES: usize = 128 << 10;

pub(crate) fn main(arguments: &[String]) {
    let address = &arguments[0];
    if arguments[1] == "true" {
        start(address, QUIET, false);
    } else {
        for header in [false, true] {
            for port in [ECHO, SINK] {
                start(address, port, header);
            }
        }
        for port in [HOLD, HOLD + WITH_HEADER] {
            let listener = TcpListener::bind((address.as_str(), port)).unwrap();
            thread::spawn(move || hold(&listener));
        }
    }
    println!("ready");
    // Lives until whoever started it is gone.
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
}

fn start(address: &str, port: u16, header: bool) {
    let shown = if header { port + WITH_HEADER } else { port };
    let listener = TcpListener::bind((address, shown)).unwrap();
    for _ in 0..THREADS {
        let listener = listener.try_clone().unwrap();
        thread::Builder::new()
            .stack_size(256 << 10)
            .spawn(move || serve(&listener, port, header))
            .unwrap();
    }
}

fn serve(listener: &TcpListener, port: u16, header: bool) {
    loop {
        let Ok((mut stream, _)) = listener.accept() else {
            continue;
        };
        let _ = stream.set_nodelay(true);
        if header && skip_header(&mut stream).is_err() {
            continue;
        }
        // How a connection ends is the client's business.
        let _ = if port == SINK {
            swallow(&mut stream)
        } else {
            echo(&mut stream)
        };
    }
}

fn skip_header(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut fixed = [0; 16];
    stream.read_exact(&mut fixed)?;
    if fixed[..12] != *b"\r\n\r\n\0\r\nQUIT\n" {
        return Err(ErrorKind::InvalidData.into());
    }
    let mut rest = vec![0; usize::from(u16::from_be_bytes([fixed[14], fixed[15]]))];
    stream.read_exact(&mut rest)
}

fn echo(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..count])?;
    }
}

fn swallow(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut total = 0_u64;
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return stream.write_all(&total.to_be_bytes());
        }
        total += count as u64;
    }
}

/// Keeps what it was given for as long as the client does.
fn hold(listener: &TcpListener) {
    let mut held: Vec<TcpStream> = Vec::new();
    for stream in listener.incoming().flatten() {
        let _ = stream.set_nonblocking(true);
        // Those that have ended make room; looked at now and then, since each look costs a system call for each.
        if held.len() % 1_000 == 999 {
            held.retain(|held| !matches!(held.peek(&mut [0]), Ok(0)));
        }
        held.push(stream);
    }
}
