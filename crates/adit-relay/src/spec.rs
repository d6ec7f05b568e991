//! What a caller says to the relay: the words of its interface, without behaviour.
//!
//! Namespaces are given as open descriptors. The relay keeps them open for as long as something
//! uses them, and compares them by identity (device and inode), never by name: a deleted namespace
//! lives on behind open sockets, and its name may already mean another one.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use ipnet::Ipv4Net;

use crate::hand_over::Inherited;
use crate::proxy_protocol::Header;
use crate::record::Recorder;
use crate::toa;

/// Connections one owner may have open at once unless its listeners say otherwise: the limit
/// that the service documents.
pub const MAX_CONNECTIONS_DEFAULT: u32 = 3_000;

/// How the relay runs. `Config::default()` suits a gateway that has the machine for itself.
#[derive(Debug, Clone)]
pub struct Config {
    /// Worker threads, 1 to 256; values outside are clamped. Default: one per core.
    pub workers: usize,
    /// Descriptors that the relay may hold: listeners, both sockets of every connection, pipes.
    /// `None` (default) takes the process's limit, which `Relay::start` raises as far as it may,
    /// less a reserve for the rest of the process. A larger number than that is cut down to it.
    pub descriptors_max: Option<usize>,
    /// How long a backend may take to answer a connect. Default: 10 s.
    pub connect_timeout: Duration,
    /// A connection on which no byte moved for this long, either way, is reset on both sides.
    /// Rounded up to whole seconds. Default: one hour.
    pub idle_timeout: Duration,
    /// The listening sockets of a process before this one: [`Relay::open`](crate::Relay::open) takes what it finds there. Default:
    /// none.
    pub inherited: Option<Arc<Inherited>>,
    /// Where a record of each connection goes. Default: nowhere.
    pub recorder: Option<Recorder>,
    /// What it takes to send TOA. Default: `None`, and targets that ask for TOA are refused.
    pub toa: Option<Arc<toa::Sender>>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            workers: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            descriptors_max: None,
            connect_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(3_600),
            inherited: None,
            recorder: None,
            toa: None,
        }
    }
}

/// One port mapping of one endpoint: where to listen and where to send what arrives.
#[derive(Debug, Clone)]
pub struct Listener {
    /// The endpoint that this belongs to. Counters and limits are per owner, over all of its listeners.
    pub owner: Owner,
    /// Where clients connect to.
    pub consumer: Consumer,
    /// Where connections go. Can be replaced later, see `Relay::retarget`.
    pub provider: Target,
    /// Who is let in. Can be replaced later, see `Relay::admit`.
    pub admission: Admission,
}

/// The endpoint that a listener belongs to. The relay tells owners apart by `endpoint`; the rest goes into records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Its id.
    pub endpoint: u128,
    /// The id of the service that it leads to.
    pub service: u128,
    /// Its marker id.
    pub marker: u32,
}

impl From<u128> for Owner {
    fn from(endpoint: u128) -> Self {
        Self {
            endpoint,
            service: 0,
            marker: 0,
        }
    }
}

/// Who is let in. Whoever is not is reset before the backend is touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// Most connections that the owner may have when this listener takes one more. See
    /// [`MAX_CONNECTIONS_DEFAULT`].
    pub max_connections: u32,
    /// Most connections that the owner may begin in a second, over all of its listeners; as many may come at
    /// once after a quiet second. `None`: as many as come.
    pub new_per_second: Option<NonZeroU32>,
    /// The endpoint's access control: the blocks that clients may come from, host bits being of no
    /// account. A client from elsewhere takes no place of the limits. `None` lets any client in, an empty
    /// list none. Every connection is held against each block in turn, so this is for tens of them.
    pub allowed: Option<Arc<[Ipv4Net]>>,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            max_connections: MAX_CONNECTIONS_DEFAULT,
            new_per_second: None,
            allowed: None,
        }
    }
}

/// The consumer leg: what to bind, and in which network namespace.
#[derive(Debug, Clone)]
pub struct Consumer {
    /// Network namespace of the consumer's VPC.
    pub namespace: Arc<OwnedFd>,
    /// Endpoint address and client port. Port 0 is accepted and means any free port (tests).
    pub address: SocketAddrV4,
}

/// The provider leg: who connects to whom, and in which network namespace.
#[derive(Debug, Clone)]
pub struct Target {
    /// Network namespace of the provider's VPC.
    pub namespace: Arc<OwnedFd>,
    /// The endpoint's own source address there; the backend sees it. It must be local in the namespace.
    pub source: Ipv4Addr,
    /// Where the backend is.
    pub backend: Backend,
    /// What each connection tells the backend of its client, before any of the client's bytes.
    pub header: Option<Header>,
    /// Whether each connection carries its client's address in the TCP header (see [`crate::toa`]). A connection that
    /// cannot be made to is refused.
    pub toa: bool,
}

/// Where connections go.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Backend {
    /// To this address and port.
    At(SocketAddrV4),
    /// To each of these in turn, the first one first; there is at least one. A backend that does not answer gets its share all the
    /// same: whether one does is not the relay's to find out.
    InTurn(Arc<[SocketAddrV4]>),
    /// To the very address and port that the client connected to, if it is in one of these blocks; a client of any other
    /// address is reset as one that is not allowed. For a listener on 0.0.0.0 in a namespace that has all addresses of the blocks.
    AsDialled(Arc<[Ipv4Net]>),
}

impl From<SocketAddrV4> for Backend {
    fn from(address: SocketAddrV4) -> Self {
        Self::At(address)
    }
}

/// Names one open listener. Never reused within one `Relay`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId(pub(crate) u64);

/// What happens to the live connections when a listener, or the relay, closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// Reset them now.
    Cut,
    /// Let them end by themselves; reset those that have not by then.
    Drain {
        /// Counted from the call.
        within: Duration,
    },
}
