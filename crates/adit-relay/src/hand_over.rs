//! Listeners from one process to the next, without one refused connection.
//!
//! A listening socket's queue is the kernel's and is reset when the last descriptor of it is closed, so the descriptors
//! themselves change hands, over a Unix socket (`SOCK_SEQPACKET`):
//!
//! ```text
//!   old: open_door              ◀──────────── knock ─────────────── new: knock
//!        Relay::hand_over ── listener + descriptors ─▶ … ── end ─▶       Inherited::receive
//!        goes on accepting                                             Relay::start (Config::inherited), Relay::open takes them
//!        Relay::follow closes its own, drains ◀──── done ────────────── Inherited::done
//!                                       ◀──── end of an owner ──────── Relay::end
//! ```
//!
//! Connections stay with the process that accepted them, which ends those that the new one is told to end. Without `done` the old one goes on as if nothing had been. What else the
//! new process needs of the old one, such as namespaces without a name, goes along as *keepsakes*: descriptors under numbers of the caller's.

use std::collections::HashMap;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::cmsg_space;
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    self, AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

use crate::relay::Relay;
use crate::spec::Close;

/// Descriptors in one message; the kernel takes at most 253.
const DESCRIPTORS_PER_MESSAGE_MAX: usize = 64;
/// The other side may be an older or a newer program.
const VERSION: u8 = 1;
const LISTENER: u8 = b'L';
const KEEPSAKE: u8 = b'K';
const OWNER_ENDS: u8 = b'O';
const END: u8 = b'E';
const DONE: u8 = b'D';
/// Kind, version, address, port, namespace (device and inode).
const MESSAGE_BYTES: usize = 2 + 4 + 2 + 8 + 8;
/// Kind, version, number.
const KEEPSAKE_BYTES: usize = 2 + 16;
/// Kind, version, owner, for how many seconds its connections may go on.
const OWNER_ENDS_BYTES: usize = 2 + 16 + 8;
/// Processes that may wait at a door.
const WAITING_MAX: i32 = 4;

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

/// Opens the door that the process which is to follow knocks at, in place of one that was there: a socket in the file system, for
/// its owner alone. It does not block. What it accepts is the channel for [`Relay::hand_over`], whose messages have boundaries, though
/// the type says stream.
///
/// # Errors
/// When the file cannot be made.
pub fn open_door(path: &Path) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    rustix::fs::chmod(path, Mode::RUSR | Mode::WUSR)?;
    // Before this nobody gets in, whatever the file's mode was.
    net::listen(&socket, WAITING_MAX)?;
    Ok(socket.into())
}

/// Knocks at the door of the process that runs, and answers the channel to it, for [`Inherited::receive`].
///
/// # Errors
/// `NotFound` or `ConnectionRefused` when nobody is behind it.
pub fn knock(path: &Path) -> std::io::Result<OwnedFd> {
    let (unix, kind) = (AddressFamily::UNIX, SocketType::SEQPACKET);
    let socket = net::socket_with(unix, kind, SocketFlags::CLOEXEC, None)?;
    net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// Listening sockets of a process before this one, until listeners claim them.
#[derive(Debug)]
pub struct Inherited {
    sockets: Mutex<HashMap<Place, Vec<OwnedFd>>>,
    keepsakes: Mutex<HashMap<u128, OwnedFd>>,
    channel: OwnedFd,
}

impl Inherited {
    /// Takes what the old process hands over; blocks until that is all here.
    ///
    /// # Errors
    /// See [`HandOverError`]; the old process goes on.
    pub fn receive(channel_end: OwnedFd) -> Result<Self, HandOverError> {
        let mut sockets: HashMap<_, Vec<OwnedFd>> = HashMap::new();
        let mut keepsakes = HashMap::new();
        loop {
            match receive_one(channel_end.as_fd())? {
                Handed::Listener(place, mut more) => sockets.entry(place).or_default().append(&mut more),
                Handed::Keepsake(number, descriptor) => drop(keepsakes.insert(number, descriptor)),
                Handed::End => break,
            }
        }
        Ok(Self {
            sockets: Mutex::new(sockets),
            keepsakes: Mutex::new(keepsakes),
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
        self.keepsakes.lock().clear();
        let sent = net::send(&self.channel, &[DONE], SendFlags::NOSIGNAL);
        sent.map(|_| ()).map_err(channel("tell"))
    }

    /// Takes what was handed over under this number.
    pub fn keepsake(&self, number: u128) -> Option<OwnedFd> {
        self.keepsakes.lock().remove(&number)
    }

    /// Has the old process end an owner's connections, if it is still there.
    pub(crate) fn end(&self, owner: u128, how: Close) {
        let within_s = match how {
            Close::Cut => 0,
            // A drain of less than a second is one, not a cut.
            Close::Drain { within } => within.as_secs().max(1),
        };
        let mut message = vec![OWNER_ENDS, VERSION];
        message.extend_from_slice(&owner.to_be_bytes());
        message.extend_from_slice(&within_s.to_be_bytes());
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match net::send(&self.channel, &message, flags) {
            Ok(_) | Err(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN) => {}
            Err(error) => {
                tracing::warn!(%error, "connections of the process before this one may outlive their endpoint");
            }
        }
    }

    pub(crate) fn claim(&self, namespace: Identity, address: SocketAddrV4) -> Option<Vec<OwnedFd>> {
        self.sockets.lock().remove(&(namespace, address))
    }
}

/// One message.
enum Handed {
    Listener(Place, Vec<OwnedFd>),
    Keepsake(u128, OwnedFd),
    End,
}

fn receive_one(from: BorrowedFd<'_>) -> Result<Handed, HandOverError> {
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
        [END] => Ok(Handed::End),
        whole if whole.len() == KEEPSAKE_BYTES && whole[..2] == [KEEPSAKE, VERSION] => {
            let number = whole[2..]
                .iter()
                .fold(0, |sum, byte| (sum << 8) | u128::from(*byte));
            let descriptor = descriptors.pop().ok_or(HandOverError::Unknown)?;
            Ok(Handed::Keepsake(number, descriptor))
        }
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
            Ok(Handed::Listener(key, descriptors))
        }
        _ => Err(HandOverError::Unknown),
    }
}

fn send_listener(
    to: BorrowedFd<'_>,
    (namespace, address): Place,
    sockets: &[Arc<OwnedFd>],
) -> Result<(), Errno> {
    let mut message = Vec::with_capacity(MESSAGE_BYTES);
    message.extend_from_slice(&[LISTENER, VERSION]);
    message.extend_from_slice(&address.ip().octets());
    message.extend_from_slice(&address.port().to_be_bytes());
    message.extend_from_slice(&namespace.0.to_be_bytes());
    message.extend_from_slice(&namespace.1.to_be_bytes());
    send(to, &message, sockets)
}

fn send_keepsake(to: BorrowedFd<'_>, number: u128, descriptor: &Arc<OwnedFd>) -> Result<(), Errno> {
    let mut message = vec![KEEPSAKE, VERSION];
    message.extend_from_slice(&number.to_be_bytes());
    send(to, &message, std::slice::from_ref(descriptor))
}

fn send(to: BorrowedFd<'_>, message: &[u8], descriptors: &[Arc<OwnedFd>]) -> Result<(), Errno> {
    for descriptors in descriptors.chunks(DESCRIPTORS_PER_MESSAGE_MAX) {
        let descriptors: Vec<_> = descriptors.iter().map(|one| one.as_fd()).collect();
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(DESCRIPTORS_PER_MESSAGE_MAX))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let fits = ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        debug_assert!(fits, "the buffer is as large as the largest message");
        net::sendmsg(to, &[IoSlice::new(message)], &mut ancillary, SendFlags::NOSIGNAL)?;
    }
    Ok(())
}

impl Relay {
    /// Hands every listener, and some keepsakes, to another process, and waits until that one serves. Answers how many listeners went.
    /// Both accept until this one is stopped, which is the next thing to do ([`Relay::follow`]): not one client is refused meanwhile.
    /// Open and close no listener while it runs.
    ///
    /// # Errors
    /// See [`HandOverError`]; this relay goes on as it was. `patience` bounds each wait for the other process.
    pub fn hand_over(
        &self,
        to: impl AsFd,
        keepsakes: &[(u128, Arc<OwnedFd>)],
        patience: Duration,
    ) -> Result<usize, HandOverError> {
        let to = to.as_fd();
        for timeout in [Timeout::Recv, Timeout::Send] {
            set_socket_timeout(to, timeout, Some(patience)).map_err(channel("wait for"))?;
        }
        for (number, descriptor) in keepsakes {
            send_keepsake(to, *number, descriptor).map_err(channel("hand namespaces to"))?;
        }
        let listening = self.listening();
        for (key, sockets) in &listening {
            send_listener(to, *key, sockets).map_err(channel("hand listeners to"))?;
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
        Ok(count)
    }

    /// What comes after a hand-over: stops as `how` says. As long as connections are left, those are ended that the other process is
    /// told to end.
    pub fn follow(&self, to: impl AsFd, how: Close) {
        let to = to.as_fd();
        std::thread::scope(|scope| {
            scope.spawn(|| self.heed(to));
            self.stop(how);
            // Whoever listens there hears the end.
            let _ = net::shutdown(to, net::Shutdown::Both);
        });
    }

    fn heed(&self, from: BorrowedFd<'_>) {
        if let Err(error) = set_socket_timeout(from, Timeout::Recv, None) {
            tracing::warn!(%error, "the other process is not heeded for long");
        }
        let mut message = [0; OWNER_ENDS_BYTES];
        loop {
            match net::recv(from, &mut message, RecvFlags::empty()) {
                Err(Errno::INTR) => {}
                Ok((OWNER_ENDS_BYTES, _)) if message[..2] == [OWNER_ENDS, VERSION] => {
                    let number =
                        |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| (sum << 8) | u128::from(*byte));
                    let how = match number(&message[18..]) as u64 {
                        0 => Close::Cut,
                        within_s => Close::Drain {
                            within: Duration::from_secs(within_s),
                        },
                    };
                    if self.end(number(&message[2..18]), how).is_err() {
                        tracing::error!("a relay worker does not answer; connections may go on");
                    }
                }
                Ok((0, _)) | Err(_) => return,
                // A newer program may say more.
                Ok(_) => {}
            }
        }
    }
}
