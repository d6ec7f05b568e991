//! What runs through the region: servers that check what they get, and clients of every kind.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use adit_netns::Namespace;
use parking_lot::Mutex;

use crate::{ledger::Ledger, process::pattern::Pattern};

/// How long anything may stand still before it is a fault.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a server says first, so that the client knows that it has been let through.
const GREETING: u8 = b'G';
/// What a PROXY header of version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// So many faults are enough to see.
const FAULTS_SHOWN_MAX: usize = 20;

/// What was not as it must be.
#[derive(Clone, Default)]
pub(crate) struct Faults(Arc<Mutex<Vec<String>>>);

impl Faults {
    pub(crate) fn note(&self, fault: String) {
        let mut faults = self.0.lock();
        if faults.len() < FAULTS_SHOWN_MAX {
            faults.push(fault);
        }
    }

    pub(crate) fn assert_none(&self) {
        let faults = self.0.lock();
        assert!(faults.is_empty(), "{faults:#?}");
    }
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// So many bytes each way, and an end each way.
    Whole { up: u32, down: u32 },
    /// It is held, and bytes come back as they are said.
    Held,
    /// The client will break off.
    Broken,
}

impl Kind {
    /// The word to the server: kind, amounts, and who the client is.
    fn word(self, client: SocketAddrV4) -> [u8; WORD_BYTES] {
        let (kind, up, down) = match self {
            Self::Whole { up, down } => (b'W', up, down),
            Self::Held => (b'H', 0, 0),
            Self::Broken => (b'B', 0, 0),
        };
        let mut word = [0; WORD_BYTES];
        word[0] = kind;
        word[1..5].copy_from_slice(&up.to_be_bytes());
        word[5..9].copy_from_slice(&down.to_be_bytes());
        word[9..13].copy_from_slice(&client.ip().octets());
        word[13..].copy_from_slice(&client.port().to_be_bytes());
        word
    }

    fn of(word: &[u8; WORD_BYTES]) -> (Self, SocketAddrV4) {
        let number = |at: usize| u32::from_be_bytes([word[at], word[at + 1], word[at + 2], word[at + 3]]);
        let (up, down) = (number(1), number(5));
        let kind = match word[0] {
            b'W' => Self::Whole { up, down },
            b'H' => Self::Held,
            _ => Self::Broken,
        };
        let ip = Ipv4Addr::from(number(9));
        (
            kind,
            SocketAddrV4::new(ip, u16::from_be_bytes([word[13], word[14]])),
        )
    }
}

const WORD_BYTES: usize = 15;

/// Serves a port of a backend until the process ends. Where the service sends a PROXY header, it has to name the client.
pub(crate) fn serve(
    inside: &Namespace,
    at: SocketAddrV4,
    has_header: bool,
    pattern: &Pattern,
    faults: &Faults,
) {
    let listener = inside.run(|| TcpListener::bind(at)).unwrap().unwrap();
    let (pattern, faults) = (pattern.clone(), faults.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (pattern, faults) = (pattern.clone(), faults.clone());
            std::thread::spawn(move || {
                // One that a client or the region cuts is no fault of anybody's.
                match answer(stream, has_header, &pattern) {
                    Err(e) if matches!(e.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) => {
                        faults.note(format!("backend {at}: {e}"));
                    }
                    _ => {}
                }
            });
        }
    });
}

fn answer(mut stream: TcpStream, has_header: bool, pattern: &Pattern) -> io::Result<()> {
    stream.set_read_timeout(Some(2 * PATIENCE))?;
    let announced = if has_header {
        Some(header(&mut stream)?)
    } else {
        None
    };
    stream.write_all(&[GREETING])?;
    let mut word = [0; WORD_BYTES];
    // A client that was let in at the last moment may have nothing to say.
    stream.read_exact(&mut word).map_err(|e| match e.kind() {
        ErrorKind::UnexpectedEof => ErrorKind::ConnectionReset.into(),
        _ => e,
    })?;
    let (kind, client) = Kind::of(&word);
    if announced.is_some_and(|announced| announced != client) {
        let (announced, client) = (announced, Some(client));
        return Err(invalid(format!(
            "the header says {announced:?}, and it is {client:?}"
        )));
    }
    match kind {
        Kind::Whole { up, down } => {
            pattern.take(&mut stream, up as usize)?;
            pattern.send(&mut stream, down as usize)?;
            stream.shutdown(Shutdown::Write)?;
            match stream.read(&mut [0])? {
                0 => Ok(()),
                _ => Err(invalid("more than was to come".to_owned())),
            }
        }
        Kind::Held => {
            // For as long as it takes.
            stream.set_read_timeout(None)?;
            io::copy(&mut stream.try_clone()?, &mut stream).map(drop)
        }
        Kind::Broken => {
            let sent = pattern.send(&mut stream, u32::MAX as usize);
            sent.map_err(|_| ErrorKind::ConnectionReset.into())
        }
    }
}

fn invalid(what: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

/// Reads a PROXY header, and answers whom it names.
fn header(stream: &mut TcpStream) -> io::Result<SocketAddrV4> {
    let mut head = [0; 16];
    // A connection that is cut at once may come without.
    stream
        .read_exact(&mut head)
        .map_err(|_| io::Error::from(ErrorKind::ConnectionReset))?;
    if &head[..12] != SIGNATURE {
        return Err(invalid(format!("no PROXY header: {head:02x?}")));
    }
    let mut rest = vec![0; u16::from_be_bytes([head[14], head[15]]).into()];
    stream.read_exact(&mut rest)?;
    let ip = Ipv4Addr::new(rest[0], rest[1], rest[2], rest[3]);
    Ok(SocketAddrV4::new(ip, u16::from_be_bytes([rest[8], rest[9]])))
}

/// Clients' side: who keeps count.
pub(crate) struct Clients {
    pub(crate) pattern: Pattern,
    pub(crate) ledger: Ledger,
    pub(crate) faults: Faults,
    pub(crate) bytes: AtomicU64,
}

impl Clients {
    /// Connects from within the client's namespace, and waits until the backend answers.
    pub(crate) fn open(&self, to: SocketAddrV4, kind: Kind) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::V4(to), PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let SocketAddr::V4(client) = stream.local_addr()? else {
            unreachable!("connected by IPv4")
        };
        self.ledger.attempted(client, to);
        let mut greeting = [0];
        stream.read_exact(&mut greeting)?;
        if greeting != [GREETING] {
            return Err(invalid(format!("greeted with {greeting:?}")));
        }
        self.ledger.greeted(client, to);
        stream.write_all(&kind.word(client))?;
        Ok(stream)
    }

    /// One connection from begin to end.
    pub(crate) fn whole(&self, to: SocketAddrV4, up: u32, down: u32) -> io::Result<()> {
        let mut stream = self.open(to, Kind::Whole { up, down })?;
        self.pattern.send(&mut stream, up as usize)?;
        self.pattern.receive(&mut stream, down as usize)?;
        stream.shutdown(Shutdown::Write)?;
        self.bytes.fetch_add(u64::from(up) + u64::from(down), Relaxed);
        Ok(())
    }

    /// One that the client breaks off: with bytes on their way to it, so that it ends as a reset.
    pub(crate) fn broken(&self, to: SocketAddrV4) -> io::Result<()> {
        let mut stream = self.open(to, Kind::Broken)?;
        self.pattern.take(&mut stream, 100_000)
    }
}

/// Says something on a held connection, and hears it again.
pub(crate) fn talk(stream: &mut TcpStream) -> io::Result<()> {
    let mut heard = [0; 4];
    stream.write_all(b"soak")?;
    stream.read_exact(&mut heard)?;
    match &heard {
        b"soak" => Ok(()),
        other => Err(invalid(format!("{other:?} came back"))),
    }
}
