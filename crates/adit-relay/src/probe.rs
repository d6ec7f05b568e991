//! Whether a backend answers: one connection of our own to it, by the way that clients' connections go.

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{self, SendFlags};

use crate::proxy_protocol::Header;
use crate::socket;
use crate::stats::End;

/// How a backend took a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probed {
    /// How long it took to answer the connect.
    pub took: Duration,
    /// Whether the whole header could be written, where there is one.
    pub header: Option<bool>,
}

/// Whether the namespace that the calling thread is in has the source address, and a route from there to a backend. Sends nothing.
///
/// # Errors
/// How a client's connection would have ended.
pub fn route(source: Ipv4Addr, backend: SocketAddrV4) -> Result<(), End> {
    // The kernel looks the way up when a socket is connected; one of UDP says nothing to anybody by that.
    let socket = UdpSocket::bind((source, 0)).map_err(|error| end_of(&error))?;
    socket.connect(backend).map_err(|error| end_of(&error))
}

fn end_of(error: &std::io::Error) -> End {
    match Errno::from_io_error(error) {
        Some(Errno::ADDRNOTAVAIL) => End::SourceMissing,
        // What a way that is a blackhole is told by.
        Some(Errno::INVAL) => End::BackendUnreachable,
        Some(errno) => socket::connect_end(errno),
        None => End::Failed,
    }
}

/// Connects to a backend from the namespace that the calling thread is in, and closes again. Where the backend expects a PROXY
/// header it is told that the connection is nobody's. Blocks for `patience` at most.
///
/// # Errors
/// How a client's connection would have ended.
pub fn probe(
    source: Ipv4Addr,
    backend: SocketAddrV4,
    header: Option<&Header>,
    patience: Duration,
) -> Result<Probed, End> {
    let began = Instant::now();
    let socket = socket::outgoing(source).map_err(|(end, _)| end)?;
    socket::connect(&socket, backend).map_err(|(end, _)| end)?;
    loop {
        let left = patience.saturating_sub(began.elapsed());
        let left = Timespec::try_from(left).map_err(|_| End::Failed)?;
        let mut wanted = [PollFd::new(&socket, PollFlags::OUT)];
        match poll(&mut wanted, Some(&left)) {
            Ok(0) => {
                socket::reset(socket);
                return Err(End::BackendTimeout);
            }
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(_) => return Err(End::Failed),
        }
    }
    socket::connected(&socket)?;
    let took = began.elapsed();
    // It answered; whether it likes the header is another question.
    let header = header.map(|header| {
        let local = header.local();
        net::send(&socket, &local, SendFlags::NOSIGNAL).is_ok_and(|sent| sent == local.len())
    });
    Ok(Probed { took, header })
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{SocketAddr, TcpListener};

    use super::*;
    use crate::proxy_protocol::{Identity, Profile, TlvTypes};

    const SOURCE: Ipv4Addr = Ipv4Addr::new(127, 0, 11, 2);
    const PATIENCE: Duration = Duration::from_secs(30);

    fn backend() -> (TcpListener, SocketAddrV4) {
        let listener = TcpListener::bind("127.0.11.1:0").unwrap();
        match listener.local_addr().unwrap() {
            SocketAddr::V4(address) => (listener, address),
            SocketAddr::V6(_) => unreachable!("bound to IPv4"),
        }
    }

    #[test]
    fn a_backend_that_answers_hears_that_it_was_nobody() {
        let (listener, address) = backend();
        let identity = Identity {
            endpoint: 1,
            marker: 1,
            vni: None,
        };
        for profile in [None, Some(Profile::Vpcep), Some(Profile::V1)] {
            let header = profile.map(|profile| Header::new(profile, &identity, TlvTypes::default(), false));
            route(SOURCE, address).unwrap();
            let probed = probe(SOURCE, address, header.as_ref(), PATIENCE).unwrap();
            assert_eq!(probed.header, header.as_ref().map(|_| true));
            let (mut accepted, from) = listener.accept().unwrap();
            assert_eq!(from.ip(), SOURCE);
            let mut heard = Vec::new();
            accepted.read_to_end(&mut heard).unwrap();
            assert_eq!(heard, *header.as_ref().map(Header::local).unwrap_or_default());
        }
    }

    #[test]
    fn one_that_does_not_is_told_as_a_client_s_connection_ends() {
        let (listener, address) = backend();
        drop(listener);
        assert_eq!(probe(SOURCE, address, None, PATIENCE), Err(End::BackendRefused));
        let elsewhere = Ipv4Addr::new(203, 0, 113, 7);
        assert_eq!(probe(elsewhere, address, None, PATIENCE), Err(End::SourceMissing));
        assert_eq!(route(elsewhere, address), Err(End::SourceMissing));
        // The loopback's addresses lead nowhere else.
        let outside = SocketAddrV4::new(Ipv4Addr::BROADCAST, 80);
        assert_eq!(route(SOURCE, outside), Err(End::BackendUnreachable));
        // A listener whose queue is full drops SYNs.
        let full = socket::outgoing(SOURCE).unwrap();
        net::listen(&full, 0).unwrap();
        let address = socket::source(&full).unwrap();
        let queued = socket::outgoing(SOURCE).unwrap();
        socket::connect(&queued, address).unwrap();
        let soon = Duration::from_millis(50);
        assert_eq!(probe(SOURCE, address, None, soon), Err(End::BackendTimeout));
    }
}
