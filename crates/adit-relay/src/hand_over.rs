//! Listeners from one process to the next, without one refused connection.
//!
//! A listening socket's queue is the kernel's and is reset when the last descriptor of it is closed, so the descriptors
//! themselves change hands, over a Unix socket (`SOCK_SEQPACKET`):
//!
//! ```text
//!   old: Relay::hand_over ── listener + descriptors ─▶ … ── end ─▶ new: Inherited::receive
//!        goes on accepting                                         Relay::start (Config::inherited), Relay::open takes them
//!        closes its own, drains  ◀──────────── done ──────────────  Inherited::done
//! ```
//!
//! Connections stay with the process that accepted them. Without `done` the old one goes on as if nothing had been.

use std::collections::HashMap;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::cmsg_space;
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    self, AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};

use crate::relay::Relay;
use crate::spec::Close;

/// Descriptors in one message; the kernel takes at most 253.
const DESCRIPTORS_PER_MESSAGE_MAX: usize = 64;
/// The other side may be an older or a newer program.
const VERSION: u8 = 1;
const LISTENER: u8 = b'L';
const END: u8 = b'E';
const DONE: u8 = b'D';
/// Kind, version, address, port, namespace (device and inode).
const MESSAGE_BYTES: usize = 2 + 4 + 2 + 8 + 8;

/// A namespace's identity: device and inode.
pub(crate) type Identity = (u64, u64);
/// Where something listens.
pub(crate) type Place = (Identity, SocketAddrV4);

/// Why listeners did not change hands.
#[derive(Debug, thiserror::Error)]
pub enum HandOverError {
    /// The channel between the processes.
    #[error("cannot {what} the other process")]
    Channel {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The other process has gone before it was done.
    #[error("the other process went before it was done; this one goes on")]
    Gone,
    /// It speaks another version of this protocol, or none.
    #[error("the other process says what this one does not know")]
    Unknown,
    /// A message had more descriptors than arrived: the limit of open files is reached.
    #[error("not all descriptors could be taken: the limit of open files is reached")]
    Descriptors,
}

fn channel(what: &'static str) -> impl Fn(Errno) -> HandOverError {
    move |errno| HandOverError::Channel {
        what,
        source: errno.into(),
    }
}

/// Two ends of a channel for a hand-over; one is for the other process.
///
/// # Errors
/// When there is no descriptor.
pub fn hand_over_channel() -> std::io::Result<(OwnedFd, OwnedFd)> {
    let (unix, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    Ok(net::socketpair(unix, kind, SocketFlags::CLOEXEC, None)?)
}

/// Listening sockets of a process before this one, until listeners claim them.
#[derive(Debug)]
pub struct Inherited {
    sockets: Mutex<HashMap<Place, Vec<OwnedFd>>>,
    channel: OwnedFd,
}

impl Inherited {
    /// Takes what the old process hands over; blocks until that is all here.
    ///
    /// # Errors
    /// See [`HandOverError`]; the old process goes on.
    pub fn receive(channel_end: OwnedFd) -> Result<Self, HandOverError> {
        let mut sockets: HashMap<_, Vec<OwnedFd>> = HashMap::new();
        while let Some((key, mut descriptors)) = receive_one(channel_end.as_fd())? {
            sockets.entry(key).or_default().append(&mut descriptors);
        }
        Ok(Self {
            sockets: Mutex::new(sockets),
            channel: channel_end,
        })
    }

    /// Addresses whose sockets no listener has claimed yet.
    pub fn unclaimed(&self) -> usize {
        self.sockets.lock().len()
    }

    /// Tells the old process that this one serves: it closes its listeners and ends its connections as it was told to. What
    /// nobody has claimed is closed.
    ///
    /// # Errors
    /// When it is gone already.
    pub fn done(&self) -> Result<(), HandOverError> {
        self.sockets.lock().clear();
        let sent = net::send(&self.channel, &[DONE], SendFlags::NOSIGNAL);
        sent.map(|_| ()).map_err(channel("tell"))
    }

    pub(crate) fn claim(&self, namespace: Identity, address: SocketAddrV4) -> Option<Vec<OwnedFd>> {
        self.sockets.lock().remove(&(namespace, address))
    }
}

type Handed = (Place, Vec<OwnedFd>);

fn receive_one(from: BorrowedFd<'_>) -> Result<Option<Handed>, HandOverError> {
    let mut message = [0; MESSAGE_BYTES];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS_PER_MESSAGE_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut parts = [IoSliceMut::new(&mut message)];
        match net::recvmsg(from, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(Errno::INTR) => {}
            received => break received.map_err(channel("hear"))?,
        }
    };
    let mut descriptors = Vec::new();
    for part in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            descriptors.extend(rights);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(HandOverError::Descriptors);
    }
    match &message[..received.bytes] {
        [] => Err(HandOverError::Gone),
        [END] => Ok(None),
        whole if whole.len() == MESSAGE_BYTES && whole[..2] == [LISTENER, VERSION] => {
            let (address, rest) = whole[2..].split_at(4);
            let (port, rest) = rest.split_at(2);
            let (device, inode) = rest.split_at(8);
            let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte));
            let ip = Ipv4Addr::from(number(address) as u32);
            let key = (
                (number(device), number(inode)),
                SocketAddrV4::new(ip, number(port) as u16),
            );
            Ok(Some((key, descriptors)))
        }
        _ => Err(HandOverError::Unknown),
    }
}

fn send_one(to: BorrowedFd<'_>, (namespace, address): Place, sockets: &[Arc<OwnedFd>]) -> Result<(), Errno> {
    let mut message = Vec::with_capacity(MESSAGE_BYTES);
    message.extend_from_slice(&[LISTENER, VERSION]);
    message.extend_from_slice(&address.ip().octets());
    message.extend_from_slice(&address.port().to_be_bytes());
    message.extend_from_slice(&namespace.0.to_be_bytes());
    message.extend_from_slice(&namespace.1.to_be_bytes());
    for sockets in sockets.chunks(DESCRIPTORS_PER_MESSAGE_MAX) {
        let descriptors: Vec<_> = sockets.iter().map(|socket| socket.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS_PER_MESSAGE_MAX))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let fits = ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        debug_assert!(fits, "the buffer is as large as the largest message");
        net::sendmsg(to, &[IoSlice::new(&message)], &mut ancillary, SendFlags::NOSIGNAL)?;
    }
    Ok(())
}

impl Relay {
    /// Hands every listener to another process, waits until that one serves, and then stops as `how` says: not one client is
    /// refused meanwhile. Answers how many listeners went. Open and close none while it runs.
    ///
    /// # Errors
    /// See [`HandOverError`]; this relay goes on as it was. `patience` bounds each wait for the other process.
    pub fn hand_over(&self, to: impl AsFd, how: Close, patience: Duration) -> Result<usize, HandOverError> {
        let to = to.as_fd();
        for timeout in [Timeout::Recv, Timeout::Send] {
            set_socket_timeout(to, timeout, Some(patience)).map_err(channel("wait for"))?;
        }
        let listening = self.listening();
        for (key, sockets) in &listening {
            send_one(to, *key, sockets).map_err(channel("hand listeners to"))?;
        }
        let count = listening.len();
        // Or they would stay open for as long as this waits.
        drop(listening);
        net::send(to, &[END], SendFlags::NOSIGNAL).map_err(channel("hand listeners to"))?;
        let mut answer = [0];
        match net::recv(to, &mut answer, RecvFlags::empty()).map_err(channel("hear"))? {
            (0, _) => return Err(HandOverError::Gone),
            _ if answer != [DONE] => return Err(HandOverError::Unknown),
            _ => {}
        }
        self.stop(how);
        Ok(count)
    }
}
