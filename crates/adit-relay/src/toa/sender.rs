//! The sending side: the BPF program in the kernel, and the registration of sockets with it.
//!
//! A socket is registered between `socket()` and `connect()`. From there the program does everything: the option goes on the
//! segment that completes the handshake and on data until the first of it is acknowledged. A registration goes with its
//! socket. Sockets that are not registered are left alone, also those of other processes in the same cgroup.

use std::fmt;
use std::io;
use std::net::SocketAddrV4;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use aya::Ebpf;
use aya::maps::{Map, MapData, MapError, SkStorage};
use aya::programs::{CgroupAttachMode, SockOps};
use parking_lot::Mutex;
use rustix::io::Errno;

use super::cgroup::Cgroup;
use super::error::{ATTACH, LOAD, ToaError, check_kernel};
use super::program::{load, named};
use super::{option, self_test};

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../bpf/toa_sender.bpf.o");

/// As `struct registration` of the program: flags, three bytes unused, the option.
type Value = [u8; REGISTRATION_BYTES];
const REGISTRATION_BYTES: usize = 4 + option::LENGTH;
/// A flag of the program's: at least one segment carried the option.
const SENT: u8 = 2;

/// The means to send TOA: the program, loaded and attached to the cgroup that the process is in. Dropped, it is detached;
/// connections that have been registered still send the option only while it is attached.
pub struct Sender {
    /// Detaches the program when it goes.
    _program: Mutex<Ebpf>,
    registered: OwnedFd,
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
        let map = program.take_map("registered");
        let map = map.ok_or_else(|| ToaError::Object("it has no map `registered`".into()))?;
        let registered = descriptor_of(&map).map_err(|error| ToaError::of(LOAD, &*error))?;
        let sockops: &mut SockOps = named(&mut program, "toa_sender")?;
        sockops.load().map_err(|error| ToaError::of(LOAD, &error))?;
        let cgroup = Cgroup::own().map_err(ToaError::Cgroup)?;
        // What attaches by a link admits others, whatever mode is named.
        let attached = sockops.attach(cgroup, CgroupAttachMode::Single);
        attached.map_err(|error| ToaError::of(ATTACH, &error))?;
        let sender = Arc::new(Self {
            _program: Mutex::new(program),
            registered,
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
}

impl Registrar {
    /// Has the connection that `socket` is going to make carry the client's address. About a microsecond.
    ///
    /// # Errors
    /// `ENOMEM` where the socket's option memory is spent (`net.core.optmem_max`); what the kernel answers.
    pub(crate) fn register(&mut self, socket: &OwnedFd, client: SocketAddrV4) -> Result<(), Errno> {
        let mut value = [0; REGISTRATION_BYTES];
        value[REGISTRATION_BYTES - option::LENGTH..]
            .copy_from_slice(&option::encode(self.sender.kind, client));
        self.storage
            .insert(socket, value, 0)
            .map_err(|error| match error {
                MapError::SyscallError(error) => {
                    Errno::from_io_error(&error.io_error).unwrap_or(Errno::INVAL)
                }
                _ => Errno::INVAL,
            })
    }

    /// Whether a registered socket's option went out. To be asked when the handshake is over; what it answers in the same
    /// moment may be too early.
    pub(crate) fn is_sent(&self, socket: &OwnedFd) -> bool {
        self.storage
            .get(socket, 0)
            .is_ok_and(|[flags, ..]| flags & SENT != 0)
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

/// A descriptor of a map that holds registrations: its sizes are compared, so that a program and a loader that do not belong
/// together are found out here.
fn descriptor_of(map: &Map) -> Result<OwnedFd, Box<dyn std::error::Error>> {
    SkStorage::<_, Value>::try_from(map)?;
    let Map::SkStorage(data) = map else {
        return Err("the map is of another kind".into());
    };
    Ok(data.fd().as_fd().try_clone_to_owned()?)
}
