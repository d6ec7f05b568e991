//! The system calls on sockets, in the namespace that the calling thread is in.

#![expect(unsafe_code, reason = "IP_BIND_ADDRESS_NO_PORT has no safe wrapper")]

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SocketFlags, SocketType, sockopt};

use crate::stats::End;

/// Connections that may wait to be accepted on one listener; the kernel cuts it to `net.core.somaxconn`.
const BACKLOG_CONNECTIONS_MAX: i32 = 4_096;
/// How long a peer may be silent before the kernel asks whether it is still there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// How often it asks then.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// How many questions may go unanswered: one that has vanished is noticed within two minutes.
const KEEPALIVE_PROBES: u32 = 4;

fn stream() -> Result<OwnedFd, Errno> {
    net::socket_with(
        AddressFamily::INET,
        SocketType::STREAM,
        SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
        None,
    )
}

/// `count` sockets that listen on `address` and share what arrives there.
pub(crate) fn listen(address: SocketAddrV4, count: usize) -> Result<(SocketAddrV4, Vec<OwnedFd>), Errno> {
    let first = bind(address, false)?;
    // The first binds without SO_REUSEPORT, so that somebody else's group is a conflict and not a
    // party to join; the rest may join ours.
    if count > 1 {
        sockopt::set_socket_reuseport(&first, true)?;
    }
    net::listen(&first, BACKLOG_CONNECTIONS_MAX)?;
    let bound = SocketAddrV4::try_from(net::getsockname(&first)?)?;
    let mut sockets = vec![first];
    for _ in 1..count {
        let socket = bind(bound, true)?;
        net::listen(&socket, BACKLOG_CONNECTIONS_MAX)?;
        sockets.push(socket);
    }
    Ok((bound, sockets))
}

fn bind(address: SocketAddrV4, join: bool) -> Result<OwnedFd, Errno> {
    let socket = stream()?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if join {
        sockopt::set_socket_reuseport(&socket, true)?;
    }
    // Accepted sockets inherit it.
    sockopt::set_tcp_nodelay(&socket, true)?;
    net::bind(&socket, &address)?;
    Ok(socket)
}

/// Takes the next client in, and says where it comes from.
pub(crate) fn accept(listener: &OwnedFd) -> Result<(OwnedFd, SocketAddrV4), Errno> {
    let (client, from) = net::acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    // A listener of IPv4 has no other clients; one whose address is not known could not be judged.
    let from = from.and_then(|from| SocketAddrV4::try_from(from).ok());
    Ok((client, from.ok_or(Errno::CONNABORTED)?))
}

/// A socket for a connection that is to come from `source`.
pub(crate) fn outgoing(source: Ipv4Addr) -> Result<OwnedFd, (End, Errno)> {
    let socket = stream().map_err(|errno| (connect_end(errno), errno))?;
    let failed = |errno| (End::Failed, errno);
    sockopt::set_tcp_nodelay(&socket, true).map_err(failed)?;
    set_bind_address_no_port(&socket).map_err(failed)?;
    net::bind(&socket, &SocketAddrV4::new(source, 0)).map_err(|errno| match errno {
        Errno::ADDRNOTAVAIL => (End::SourceMissing, errno),
        errno => failed(errno),
    })?;
    Ok(socket)
}

/// Starts a connect; the socket becomes writable, or an error, when it is decided.
pub(crate) fn connect(socket: &OwnedFd, backend: SocketAddrV4) -> Result<(), (End, Errno)> {
    match net::connect(socket, &backend) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(()),
        Err(errno) => Err((connect_end(errno), errno)),
    }
}

/// What a client has said already, as far as there is room.
pub(crate) fn first_bytes(client: &OwnedFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    match net::recv(client, buffer, RecvFlags::empty()) {
        Ok((n, _)) => Ok(n),
        // An end is told again to whoever reads next.
        Err(Errno::AGAIN | Errno::INTR) => Ok(0),
        Err(errno) => Err(errno),
    }
}

/// Has the segment that completes a handshake wait for the bytes that follow it at once (`tcp(7)`, `TCP_QUICKACK`): one packet
/// less.
pub(crate) fn speak_at_once(socket: &OwnedFd) {
    // Without it there are two.
    let _ = sockopt::set_tcp_quickack(socket, false);
}

/// A socket's own address: what a client connected to; where a backend sees a connection come from, once its connect has begun.
pub(crate) fn source(socket: &OwnedFd) -> Result<SocketAddrV4, Errno> {
    SocketAddrV4::try_from(net::getsockname(socket)?).map_err(|_| Errno::AFNOSUPPORT)
}

/// Has the kernel find out when the peer vanishes, however little is said.
pub(crate) fn keep_alive(socket: &OwnedFd) -> Result<(), Errno> {
    sockopt::set_tcp_keepidle(socket, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(socket, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(socket, KEEPALIVE_PROBES)?;
    sockopt::set_socket_keepalive(socket, true)
}

/// How a connection ends whose connect failed with `errno`.
pub(crate) fn connect_end(errno: Errno) -> End {
    match errno {
        Errno::CONNREFUSED => End::BackendRefused,
        // It was connected and is reset already; PIPE when it had said its last before.
        Errno::CONNRESET | Errno::PIPE => End::BackendReset,
        Errno::TIMEDOUT => End::BackendTimeout,
        // A firewall in the way answers ACCESS or PERM.
        Errno::NETUNREACH
        | Errno::HOSTUNREACH
        | Errno::NETDOWN
        | Errno::HOSTDOWN
        | Errno::ACCESS
        | Errno::PERM => End::BackendUnreachable,
        Errno::ADDRNOTAVAIL | Errno::ADDRINUSE | Errno::AGAIN => End::SourcePortsExhausted,
        Errno::MFILE | Errno::NFILE => End::OutOfDescriptors,
        _ => End::Failed,
    }
}

/// Whether a pending connect succeeded.
pub(crate) fn connected(socket: &OwnedFd) -> Result<(), End> {
    match sockopt::socket_error(socket) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(errno)) | Err(errno) => Err(connect_end(errno)),
    }
}

/// Closes a socket so that its peer sees a reset, whatever is still unsent.
pub(crate) fn reset(socket: OwnedFd) {
    // It can only fail on what is no socket; then an ordinary close is all there is.
    let _ = sockopt::set_socket_linger(&socket, Some(Duration::ZERO));
    drop(socket);
}

/// Lets `connect` choose the port, when the backend is known: the same port then serves many backends.
fn set_bind_address_no_port(socket: &OwnedFd) -> Result<(), Errno> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open for as long as `socket` is borrowed, and the option's value is
    // a live c_int whose size is passed with it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const LOOPBACK: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 0, 10, 1), 0);

    #[test]
    fn a_group_shares_one_address_and_strangers_cannot_join_it() {
        let (bound, sockets) = listen(LOOPBACK, 3).unwrap();
        assert_eq!(sockets.len(), 3);
        assert_eq!(listen(bound, 1).unwrap_err(), Errno::ADDRINUSE);
        assert_eq!(listen(bound, 2).unwrap_err(), Errno::ADDRINUSE);
        drop(sockets);
        listen(bound, 2).unwrap();
    }

    #[test]
    fn the_port_is_chosen_by_connect() {
        let (backend, _sockets) = listen(LOOPBACK, 1).unwrap();
        let socket = outgoing(Ipv4Addr::new(127, 0, 10, 2)).unwrap();
        connect(&socket, backend).unwrap();
        let from = source(&socket).unwrap();
        assert_eq!(*from.ip(), Ipv4Addr::new(127, 0, 10, 2));
        assert_ne!(from.port(), 0);
    }

    #[test]
    fn either_end_can_be_kept_alive() {
        let (address, sockets) = listen(LOOPBACK, 1).unwrap();
        let client = outgoing(Ipv4Addr::new(127, 0, 10, 2)).unwrap();
        connect(&client, address).unwrap();
        connected(&client).unwrap();
        let (accepted, _) = accept(&sockets[0]).unwrap();
        for socket in [accepted, client] {
            assert!(!sockopt::socket_keepalive(&socket).unwrap());
            keep_alive(&socket).unwrap();
            assert!(sockopt::socket_keepalive(&socket).unwrap());
            assert_eq!(sockopt::tcp_keepidle(&socket).unwrap(), KEEPALIVE_IDLE);
            assert_eq!(sockopt::tcp_keepcnt(&socket).unwrap(), KEEPALIVE_PROBES);
        }
    }

    #[test]
    fn a_source_that_is_not_local_is_named() {
        let end = outgoing(Ipv4Addr::new(203, 0, 113, 7)).unwrap_err().0;
        assert_eq!(end, End::SourceMissing);
    }

    #[test]
    fn first_words_are_taken_as_far_as_there_is_room() {
        let (address, sockets) = listen(LOOPBACK, 1).unwrap();
        let mut client = std::net::TcpStream::connect(address).unwrap();
        let (accepted, _) = accept(&sockets[0]).unwrap();
        let mut room = [0; 4];
        assert_eq!(first_bytes(&accepted, &mut room), Ok(0), "nothing said yet");
        client.write_all(b"hello").unwrap();
        assert_eq!(first_bytes(&accepted, &mut room), Ok(4));
        assert_eq!(&room, b"hell");
        assert_eq!(first_bytes(&accepted, &mut room), Ok(1));
        client.shutdown(std::net::Shutdown::Write).unwrap();
        for _ in 0..2 {
            assert_eq!(
                first_bytes(&accepted, &mut room),
                Ok(0),
                "an end stays to be read"
            );
        }
        let client = std::net::TcpStream::connect(address).unwrap();
        let (accepted, _) = accept(&sockets[0]).unwrap();
        reset(client.into());
        assert_eq!(first_bytes(&accepted, &mut room), Err(Errno::CONNRESET));
    }

    #[test]
    fn who_speaks_at_once_does_not_acknowledge_at_once() {
        let socket = outgoing(Ipv4Addr::new(127, 0, 10, 2)).unwrap();
        speak_at_once(&socket);
        assert!(!sockopt::tcp_quickack(&socket).unwrap());
    }
}
