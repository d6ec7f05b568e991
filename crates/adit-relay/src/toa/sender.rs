//! The sending side: the BPF program in the kernel, and the registration of sockets with it.
//!
//! A socket is registered as it is connected, see [`Registrar::connect`]. From there the program does everything: the option goes on the
//! segment that completes the handshake and on every other one until the first data is acknowledged. A registration goes with
//! its socket. Sockets that are not registered are left alone, also those of other processes in the same cgroup.

use std::fmt;
use std::io;
use std::net::SocketAddrV4;
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use aya::Ebpf;
use aya::maps::{Array, Map, MapData, MapError, SkStorage};
use aya::programs::{CgroupAttachMode, SockOps};
use parking_lot::Mutex;
use rustix::io::Errno;
use rustix::net::sockopt;

use super::cgroup::Cgroup;
use super::error::{ATTACH, LOAD, ToaError, check_kernel};
use super::program::{load, named};
use super::shared::{Orders, Sent};
use super::{option, self_test};
use crate::socket;
use crate::stats::End;

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../bpf/toa_sender.bpf.o");

/// As `struct registration` of the program, in words as they are in memory: its number, the option, flags (one byte of it).
type Value = [u64; 3];
const FLAGS: usize = 2;
/// A flag of the program's: at least one segment carried the option.
const SENT: u8 = 2;
/// How many numbers a thread takes at once: those of different threads are not neighbours in memory.
const NUMBERS_AT_ONCE: u64 = 64;

/// The means to send TOA: the program, loaded and attached to the cgroup that the process is in. Dropped, it is detached;
/// connections that have been registered still send the option only while it is attached.
pub struct Sender {
    /// Detaches the program when it goes.
    _program: Mutex<Ebpf>,
    registered: OwnedFd,
    orders: Orders,
    sent: Sent,
    /// How many numbers of registrations have been given to threads.
    numbers: AtomicU64,
    kind: u8,
    /// Whether a connection that went out without the option has been told of.
    complained: AtomicBool,
}

impl Sender {
    /// Loads the program, attaches it, and proves on a loopback of its own that the option goes out. Takes tens of
    /// milliseconds; not to be called from async code.
    ///
    /// `kind` is the option's, see [`super::KIND_DEFAULT`].
    ///
    /// # Errors
    /// See [`ToaError`]; nothing is left attached.
    pub fn start(kind: u8) -> Result<Arc<Self>, ToaError> {
        check_kernel()?;
        let mut program = load(OBJECT, |_| {})?;
        // They are to be open until the program is loaded.
        let maps = [
            map(&mut program, "registered")?,
            map(&mut program, "orders")?,
            map(&mut program, "sent")?,
        ];
        let registered = descriptor_of(&maps[0]).map_err(|error| ToaError::of(LOAD, &*error))?;
        let (orders, sent) = memory_of(&maps[1], &maps[2]).map_err(|error| ToaError::of(LOAD, &*error))?;
        let sockops: &mut SockOps = named(&mut program, "toa_sender")?;
        sockops.load().map_err(|error| ToaError::of(LOAD, &error))?;
        let cgroup = Cgroup::own().map_err(ToaError::Cgroup)?;
        // What attaches by a link admits others, whatever mode is named.
        let attached = sockops.attach(cgroup, CgroupAttachMode::Single);
        attached.map_err(|error| ToaError::of(ATTACH, &error))?;
        let sender = Arc::new(Self {
            _program: Mutex::new(program),
            registered,
            orders,
            sent,
            numbers: AtomicU64::new(0),
            kind,
            complained: AtomicBool::new(false),
        });
        self_test::run(&sender)?;
        Ok(sender)
    }

    /// The option's kind.
    pub fn kind(&self) -> u8 {
        self.kind
    }

    /// What a thread needs to register sockets.
    pub(crate) fn registrar(self: &Arc<Self>) -> io::Result<Registrar> {
        let map = MapData::from_fd(self.registered.try_clone()?).map_err(io::Error::other)?;
        let storage = SkStorage::try_from(Map::SkStorage(map)).map_err(io::Error::other)?;
        Ok(Registrar {
            sender: Arc::clone(self),
            storage,
            numbers: 0..0,
        })
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// One thread's access to the sockets that are registered.
#[derive(Debug)]
pub(crate) struct Registrar {
    sender: Arc<Sender>,
    storage: SkStorage<MapData, Value>,
    /// Numbers for the next registrations.
    numbers: Range<u64>,
}

/// A socket's registration.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Registration {
    number: NonZeroU64,
}

impl Registrar {
    /// Begins to connect `socket`, so that the connection carries the client's address.
    ///
    /// The program registers the socket itself, by an order that lies in memory. Where the order has no place there, or the
    /// program does not see it, a system call registers it, for about two microseconds more.
    ///
    /// # Errors
    /// As [`socket::connect`]; [`End::NoToa`] with `ENOMEM` where the socket's option memory is spent (`net.core.optmem_max`), or
    /// with what else the kernel answers. The connect may have begun then.
    pub(crate) fn connect(
        &mut self,
        socket: &OwnedFd,
        client: SocketAddrV4,
        backend: SocketAddrV4,
    ) -> Result<Registration, (End, Errno)> {
        let registration = Registration {
            number: self.number(),
        };
        let option = option::encode(self.sender.kind, client);
        let value = [registration.number.get(), u64::from_ne_bytes(option), 0];
        let cookie = sockopt::socket_cookie(socket).map_err(|errno| (End::NoToa, errno))?;
        let order = self.sender.orders.put(cookie, value);
        if order.is_none() {
            insert(&mut self.storage, socket, value)?;
        }
        socket::connect(socket, backend)?;
        if order.is_some_and(|order| !order.is_taken()) {
            insert(&mut self.storage, socket, value)?;
        }
        Ok(registration)
    }

    fn number(&mut self) -> NonZeroU64 {
        let number = self.numbers.next().unwrap_or_else(|| {
            let first = self.sender.numbers.fetch_add(NUMBERS_AT_ONCE, Relaxed);
            self.numbers = first + 1..first + NUMBERS_AT_ONCE;
            first
        });
        // Places are empty with a zero in them.
        NonZeroU64::MIN.saturating_add(number)
    }

    /// Whether a registered socket's option went out. To be asked when the handshake is over; what it answers in the same
    /// moment may be too early. Takes a system call only for what went out a while ago, or did not.
    pub(crate) fn is_sent(&self, socket: &OwnedFd, registration: Registration) -> bool {
        self.sender.sent.has(registration.number) || self.is_flagged(socket)
    }

    fn is_flagged(&self, socket: &OwnedFd) -> bool {
        let value = self.storage.get(socket, 0);
        value.is_ok_and(|value| value[FLAGS].to_ne_bytes()[0] & SENT != 0)
    }

    /// Says, the first time, that a connection went out without its option.
    pub(crate) fn complain(&self) {
        if !self.sender.complained.swap(true, Relaxed) {
            tracing::warn!(
                "a connection went out without the client's address in its TCP header, and more may follow: has the \
                 process been moved to another cgroup since it started? A restart mends that"
            );
        }
    }
}

fn insert(
    storage: &mut SkStorage<MapData, Value>,
    socket: &OwnedFd,
    value: Value,
) -> Result<(), (End, Errno)> {
    storage.insert(socket, value, 0).map_err(|error| {
        let errno = match error {
            MapError::SyscallError(error) => Errno::from_io_error(&error.io_error),
            _ => None,
        };
        (End::NoToa, errno.unwrap_or(Errno::INVAL))
    })
}

fn map(program: &mut Ebpf, name: &str) -> Result<Map, ToaError> {
    let map = program.take_map(name);
    map.ok_or_else(|| ToaError::Object(format!("it has no map `{name}`")))
}

/// A descriptor of a map that holds registrations: its sizes are compared, so that a program and a loader that do not belong
/// together are found out here.
fn descriptor_of(map: &Map) -> Result<OwnedFd, Box<dyn std::error::Error>> {
    SkStorage::<_, Value>::try_from(map)?;
    let Map::SkStorage(data) = map else {
        return Err("the map is of another kind".into());
    };
    Ok(data.fd().as_fd().try_clone_to_owned()?)
}

/// The memory of the maps of what is ordered, and of what was sent.
fn memory_of(orders: &Map, sent: &Map) -> Result<(Orders, Sent), Box<dyn std::error::Error>> {
    Array::<_, [u64; 4]>::try_from(orders)?;
    Array::<_, u64>::try_from(sent)?;
    let (Map::Array(orders), Map::Array(sent)) = (orders, sent) else {
        return Err("a map is of another kind".into());
    };
    Ok((Orders::of(orders.fd())?, Sent::of(sent.fd())?))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use adit_netns::in_fresh_network;

    use super::*;
    use crate::socket;
    use crate::toa::KIND_DEFAULT;
    use crate::toa::shared::PLACES;

    /// Whether it can be had; a test that cannot run here says so.
    fn is_root(test: &str) -> bool {
        let root = adit_netns::userns::is_privileged();
        if !root {
            assert!(std::env::var_os("CI").is_none(), "this test needs root");
            println!("SKIPPED {test}: run it as root");
        }
        root
    }

    #[test]
    fn a_socket_is_registered_by_its_order_or_by_a_system_call() {
        if !is_root("a_socket_is_registered_by_its_order_or_by_a_system_call") {
            return;
        }
        let sender = Sender::start(KIND_DEFAULT).unwrap();
        let mut registrar = sender.registrar().unwrap();
        in_fresh_network(move || {
            let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, server.local_addr().unwrap().port());
            let option = u64::from_ne_bytes(option::encode(KIND_DEFAULT, address));
            let value = |number| [number, option, 0];
            let outgoing = || {
                let socket = socket::outgoing(Ipv4Addr::LOCALHOST).unwrap();
                let cookie = sockopt::socket_cookie(&socket).unwrap();
                (socket, cookie)
            };
            let (socket, cookie) = outgoing();
            let [order, another_s] = [cookie, cookie + 1].map(|c| sender.orders.put(c, value(c)).unwrap());
            socket::connect(&socket, address).unwrap();
            server.accept().unwrap();
            assert!(order.is_taken() && !another_s.is_taken());
            assert!(registrar.is_flagged(&socket));
            drop((order, another_s));
            let (socket, cookie) = outgoing();
            // Another socket has its place.
            let far = sender.orders.put(cookie + 256, value(7)).unwrap();
            let registration = registrar.connect(&socket, address, address).unwrap();
            server.accept().unwrap();
            assert!(registrar.is_sent(&socket, registration) && !far.is_taken());
        })
        .unwrap();
    }

    #[test]
    fn what_went_out_is_known_also_when_its_place_is_taken() {
        if !is_root("what_went_out_is_known_also_when_its_place_is_taken") {
            return;
        }
        let sender = Sender::start(KIND_DEFAULT).unwrap();
        let mut registrar = sender.registrar().unwrap();
        in_fresh_network(move || {
            let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, server.local_addr().unwrap().port());
            let mut connect = || {
                let socket = socket::outgoing(Ipv4Addr::LOCALHOST).unwrap();
                let registration = registrar.connect(&socket, address, address).unwrap();
                // It completes the handshake, or is still to be taken in.
                server.accept().unwrap();
                (socket, registration)
            };
            let (first, first_registration) = connect();
            let many: Vec<_> = (0..PLACES).map(|_| connect().1).collect();
            let is_remembered = |registration: Registration| sender.sent.has(registration.number);
            assert!(!is_remembered(first_registration) && many.into_iter().all(is_remembered));
            assert!(registrar.is_sent(&first, first_registration));
        })
        .unwrap();
    }
}
