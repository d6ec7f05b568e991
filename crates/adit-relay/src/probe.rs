//! Whether a backend answers: one connection of our own to it, by the way that clients' connections go.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{self, SendFlags};

use crate::proxy_protocol::Header;
use crate::socket;
use crate::stats::End;

/// Connects to a backend from the namespace that the calling thread is in, and closes again. Where the backend expects a PROXY
/// header it is told that the connection is nobody's. Answers how long it took. Blocks for `patience` at most.
///
/// # Errors
/// How a client's connection would have ended.
pub fn probe(
    source: Ipv4Addr,
    backend: SocketAddrV4,
    header: Option<&Header>,
    patience: Duration,
) -> Result<Duration, End> {
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
    if let Some(header) = header {
        // It answered; whether it likes the header is another question.
        let _ = net::send(&socket, header.local(), SendFlags::NOSIGNAL);
    }
    Ok(took)
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
            probe(SOURCE, address, header.as_ref(), PATIENCE).unwrap();
            let (mut accepted, from) = listener.accept().unwrap();
            assert_eq!(from.ip(), SOURCE);
            let mut heard = Vec::new();
            accepted.read_to_end(&mut heard).unwrap();
            assert_eq!(heard, header.as_ref().map(Header::local).unwrap_or_default());
        }
    }

    #[test]
    fn one_that_does_not_is_told_as_a_client_s_connection_ends() {
        let (listener, address) = backend();
        drop(listener);
        assert_eq!(probe(SOURCE, address, None, PATIENCE), Err(End::BackendRefused));
        let elsewhere = Ipv4Addr::new(203, 0, 113, 7);
        assert_eq!(probe(elsewhere, address, None, PATIENCE), Err(End::SourceMissing));
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
