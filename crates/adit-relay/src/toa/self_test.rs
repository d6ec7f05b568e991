//! Proves that the option goes out: two connections with it, of which one completes its handshake with its first words, and
//! one without, on a loopback that nobody else is on, read back by a raw socket. What the kernel says it did is not taken for
//! granted.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use adit_netns::in_fresh_network;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, ipproto, recv, socket_with, sockopt};

use super::option;
use super::sender::{Registrar, Registration, Sender};
use crate::socket;

/// How long a step may take; on a loopback each takes microseconds.
const PATIENCE: Duration = Duration::from_secs(2);
/// A client that exists nowhere (RFC 5737).
const CLIENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 7), 51_234);
/// An IP header without options, and flags of a TCP header.
const IP_HEADER_BYTES_MIN: usize = 20;
const FIN: u8 = 1;
const SYN: u8 = 2;

/// Why the self-test does not hold.
#[derive(Debug)]
pub(super) enum SelfTestError {
    /// It could not be made: what was attempted, and what the kernel said.
    Failed {
        attempt: &'static str,
        source: io::Error,
    },
    /// It was made, and shows that TOA does not work.
    Wrong(&'static str),
}

/// A segment that went to the server, as far as it matters.
#[derive(Debug, PartialEq, Eq)]
struct Segment {
    syn: bool,
    data: bool,
    option: Option<Vec<u8>>,
}

pub(super) fn run(sender: &Arc<Sender>) -> Result<(), SelfTestError> {
    let tested = in_fresh_network(|| {
        let mut registrar = sender.registrar().map_err(failed("use the map of sockets"))?;
        let kind = sender.kind();
        let with = [false, true].map(|speaks| converse(kind, Some(&mut registrar), speaks));
        let without = converse(kind, None, false)?;
        for with in with {
            judge(&with?, &without, &option::encode(kind, CLIENT))?;
        }
        Ok(())
    });
    tested.map_err(failed("make a network namespace"))?
}

fn failed<E: Into<io::Error>>(attempt: &'static str) -> impl Fn(E) -> SelfTestError {
    move |error| SelfTestError::Failed {
        attempt,
        source: error.into(),
    }
}

/// What the segments of a registered connection and of another one have to be.
fn judge(with: &[Segment], without: &[Segment], expected: &[u8]) -> Result<(), SelfTestError> {
    let carries = |segment: &Segment| segment.option.as_deref() == Some(expected);
    let handshake = with.iter().find(|segment| !segment.syn);
    let mut data = with.iter().filter(|segment| segment.data);
    if !handshake.is_some_and(carries) {
        Err(SelfTestError::Wrong(
            "the segment that completes the handshake does not carry the option",
        ))
    } else if !data.next().is_some_and(carries) {
        Err(SelfTestError::Wrong(
            "data that is not acknowledged yet does not carry the option",
        ))
    } else if data.next().is_none_or(|later| later.option.is_some()) {
        Err(SelfTestError::Wrong(
            "data after the first acknowledgement still carries the option",
        ))
    } else if without.iter().any(|segment| segment.option.is_some()) {
        Err(SelfTestError::Wrong(
            "a connection that is not registered carries the option",
        ))
    } else {
        Ok(())
    }
}

/// Makes a connection, registered or not: one byte there, one back, one there. `speaks` if the first completes the handshake.
/// Answers what went to the server.
fn converse(
    kind: u8,
    mut registrar: Option<&mut Registrar>,
    speaks: bool,
) -> Result<Vec<Segment>, SelfTestError> {
    let flags = SocketFlags::CLOEXEC;
    let raw = socket_with(AddressFamily::INET, SocketType::RAW, flags, Some(ipproto::TCP))
        .map_err(failed("open a raw socket"))?;
    sockopt::set_socket_timeout(&raw, sockopt::Timeout::Recv, Some(PATIENCE))
        .map_err(failed("set a time-out"))?;
    let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed("listen on the loopback"))?;
    let outgoing = talk(&server, registrar.as_deref_mut(), speaks);
    let (outgoing, registration) = outgoing.map_err(failed("connect on the loopback"))?;
    let sent = registration.zip(registrar);
    if sent.is_some_and(|(registration, registrar)| !registrar.is_sent(&outgoing, registration)) {
        return Err(SelfTestError::Wrong(
            "the program is not run for this process's connections",
        ));
    }
    let port = server
        .local_addr()
        .map_err(failed("listen on the loopback"))?
        .port();
    listen_in(&raw, port, kind).map_err(failed("read the segments back"))
}

/// Answers the client's socket, after it has said its last, and its registration.
fn talk(
    server: &TcpListener,
    registrar: Option<&mut Registrar>,
    speaks: bool,
) -> io::Result<(OwnedFd, Option<Registration>)> {
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, server.local_addr()?.port());
    let outgoing = socket::outgoing(Ipv4Addr::LOCALHOST).map_err(|(_, errno)| errno)?;
    if speaks {
        socket::speak_at_once(&outgoing);
    }
    let connected = match registrar {
        Some(registrar) => registrar.connect(&outgoing, CLIENT, address).map(Some),
        None => socket::connect(&outgoing, address).map(|()| None),
    };
    let registration = connected.map_err(|(_, errno)| errno)?;
    wait_until_connected(&outgoing)?;
    let mut client = TcpStream::from(outgoing.try_clone()?);
    client.set_nonblocking(false)?;
    client.write_all(b"a")?;
    let (mut accepted, _) = server.accept()?;
    for stream in [&client, &accepted] {
        stream.set_read_timeout(Some(PATIENCE))?;
    }
    let mut byte = [0];
    accepted.read_exact(&mut byte)?;
    // The answer acknowledges what came before it.
    accepted.write_all(b"b")?;
    client.read_exact(&mut byte)?;
    client.write_all(b"c")?;
    accepted.read_exact(&mut byte)?;
    client.shutdown(Shutdown::Write)?;
    Ok((outgoing, registration))
}

fn wait_until_connected(socket: &OwnedFd) -> io::Result<()> {
    let patience = Timespec::try_from(PATIENCE).map_err(io::Error::other)?;
    let mut watched = [PollFd::new(socket, PollFlags::OUT)];
    if poll(&mut watched, Some(&patience))? == 0 {
        return Err(Errno::TIMEDOUT.into());
    }
    socket::connected(socket).map_err(|end| io::Error::other(end.name()))
}

/// The segments to `port`, from the first to the one that ends them.
fn listen_in(raw: &OwnedFd, port: u16, kind: u8) -> io::Result<Vec<Segment>> {
    let mut segments = Vec::new();
    let mut packet = [0; 2048];
    loop {
        let (n, _) = recv(raw, &mut packet, RecvFlags::empty())?;
        let Some(tcp) = tcp_of(&packet[..n]).filter(|tcp| tcp[2..4] == port.to_be_bytes()) else {
            continue;
        };
        let flags = tcp[13];
        segments.push(Segment {
            syn: flags & SYN != 0,
            data: tcp.len() > usize::from(tcp[12] >> 4) * 4,
            option: option::find(kind, tcp).map(<[u8]>::to_vec),
        });
        if flags & FIN != 0 {
            return Ok(segments);
        }
    }
}

/// A packet's TCP header and data.
fn tcp_of(packet: &[u8]) -> Option<&[u8]> {
    let header = usize::from(packet.first()? & 0xf) * 4;
    packet
        .get(header.max(IP_HEADER_BYTES_MIN)..)
        .filter(|tcp| tcp.len() >= 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTION: [u8; 8] = [254, 8, 0xc8, 0x22, 203, 0, 113, 7];

    fn segments(described: &str) -> Vec<Segment> {
        let segment = |word: &str| Segment {
            syn: word.starts_with("syn"),
            data: word.starts_with("data"),
            option: match word.split_once('+') {
                None => None,
                Some((_, "toa")) => Some(OPTION.into()),
                Some(_) => Some(vec![254, 2]),
            },
        };
        described.split(' ').map(segment).collect()
    }

    #[test]
    fn only_what_should_be_on_the_wire_passes() {
        let plain = "syn ack data ack data fin";
        let passes = |with, without| judge(&segments(with), &segments(without), &OPTION).is_ok();
        assert!(passes("syn ack+toa data+toa ack data fin", plain));
        assert!(passes("syn data+toa ack data fin", plain));
        for wrong in [
            plain,
            "syn ack+other data+other ack data fin",
            "syn ack data+toa ack data fin",
            "syn ack+toa data ack data fin",
            "syn data ack data fin",
            "syn ack+toa data+toa ack data+toa fin",
            "syn ack+toa data+toa ack fin",
            "syn+toa",
        ] {
            assert!(!passes(wrong, plain), "{wrong}");
        }
        assert!(!passes(
            "syn ack+toa data+toa ack data fin",
            "syn ack+toa data ack data fin"
        ));
    }
}
