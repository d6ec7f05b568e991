//! What the control side says to a worker, and how it waits for the answer.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::RwLock;

use crate::descriptors::ListenerShare;
use crate::error::OpenError;
use crate::namespace::Namespace;
use crate::proxy_protocol::Header;
use crate::record::Record;
use crate::socket;
use crate::spec::{Admission, Backend, Close, ListenerId, Owner};
use crate::stats::{Counters, End};

/// Commands that may wait for one worker. Each caller waits for its answer, so this is in effect
/// a number of callers.
pub(crate) const COMMANDS_QUEUED_MAX: usize = 1_024;
/// A worker answers between two batches of events; one that takes this long is stuck.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Where connections go, as the workers know it.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) namespace: Namespace,
    pub(crate) source: Ipv4Addr,
    pub(crate) backend: Backend,
    /// Whose turn it is, among the workers that share the listener.
    pub(crate) turn: Arc<AtomicUsize>,
    pub(crate) header: Option<Header>,
    pub(crate) toa: bool,
}

/// What all workers that serve a listener share.
#[derive(Debug)]
pub(crate) struct Mapping {
    pub(crate) id: ListenerId,
    /// What clients connect to.
    pub(crate) address: SocketAddrV4,
    pub(crate) owner: Owner,
    pub(crate) counters: Arc<Counters>,
    /// Read once per connection; replaced whole, so that no connection is judged by half of a change.
    pub(crate) admission: RwLock<Admission>,
    /// Set when the caller gave up: whoever has not begun to serve it must not.
    pub(crate) abandoned: AtomicBool,
}

impl Route {
    /// Where a client's connection goes; the address that it connected to, where that is in none of the blocks.
    pub(crate) fn backend(&self, client: &OwnedFd) -> Result<SocketAddrV4, SocketAddrV4> {
        let blocks = match &self.backend {
            Backend::At(backend) => return Ok(*backend),
            Backend::InTurn(backends) => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed) % backends.len().max(1);
                let nobody = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
                return backends.get(turn).copied().ok_or(nobody);
            }
            Backend::AsDialled(blocks) => blocks,
        };
        let nobody = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
        let dialled = socket::source(client).map_err(|_| nobody)?;
        let within = blocks.iter().any(|block| block.contains(dialled.ip()));
        if within { Ok(dialled) } else { Err(dialled) }
    }
}

impl Mapping {
    /// What a client connected to: the listener's address, or the backend's own where the listener has none.
    pub(crate) fn dialled(&self, backend: SocketAddrV4) -> SocketAddrV4 {
        if self.address.ip().is_unspecified() {
            backend
        } else {
            self.address
        }
    }

    /// The record of a connection that came in here, so far as can be said of any.
    pub(crate) fn record(&self, client: SocketAddrV4, backend: SocketAddrV4, began: Instant) -> Record {
        let lasted = began.elapsed();
        let now = SystemTime::now();
        Record {
            owner: self.owner,
            client,
            endpoint: self.dialled(backend),
            source: None,
            backend,
            began: now.checked_sub(lasted).unwrap_or(now),
            lasted,
            connected_after: None,
            bytes_to_backend: 0,
            bytes_to_client: 0,
            end: None,
        }
    }

    /// Counts a client's connection in, or as one that ended at once.
    pub(crate) fn admit(&self, client: Ipv4Addr) -> Result<(), End> {
        let admission = self.admission.read();
        // Neither ever counts as active: a stranger must not take a place from those who may come.
        if !allows(&admission, client) {
            self.counters.refuse(End::NotAllowed);
            return Err(End::NotAllowed);
        }
        if let Some(rate) = admission.new_per_second
            && !self.counters.rate.take(rate)
        {
            self.counters.refuse(End::Rate);
            return Err(End::Rate);
        }
        self.counters.admit(admission.max_connections)
    }
}

fn allows(admission: &Admission, client: Ipv4Addr) -> bool {
    match &admission.allowed {
        None => true,
        Some(blocks) => blocks.iter().any(|block| block.contains(&client)),
    }
}

/// A listening socket on its way to its worker.
#[derive(Debug)]
pub(crate) struct ListenSocket {
    pub(crate) socket: Arc<OwnedFd>,
    /// Held for as long as the socket is.
    pub(crate) _share: ListenerShare,
}

#[derive(Debug)]
pub(crate) enum Command {
    /// Make sockets that listen, `count` for one address.
    Bind {
        consumer: Namespace,
        provider: Namespace,
        address: SocketAddrV4,
        count: usize,
        answer: SyncSender<Result<(SocketAddrV4, Vec<OwnedFd>), OpenError>>,
    },
    /// Serve a listening socket.
    Serve {
        mapping: Arc<Mapping>,
        route: Route,
        socket: ListenSocket,
        answer: SyncSender<io::Result<()>>,
    },
    /// Send the listener's new connections elsewhere; false if it is not served here.
    Retarget {
        id: ListenerId,
        route: Route,
        answer: SyncSender<io::Result<bool>>,
    },
    /// Close the listener, and end its connections.
    Close {
        id: ListenerId,
        how: Close,
        answer: SyncSender<()>,
    },
    /// End an owner's connections, whatever listener they came in by.
    End {
        owner: u128,
        how: Close,
        answer: SyncSender<()>,
    },
    /// Tell of the connections that a backend sees come from an address.
    Who {
        source: SocketAddrV4,
        answer: SyncSender<Vec<Record>>,
    },
    /// Close everything, end all connections, return.
    Stop { how: Close },
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// The worker has returned.
    Stopped,
    /// It takes too long.
    Stalled,
}

/// The answer to one command, of one worker.
#[derive(Debug)]
pub(crate) struct Answer<T> {
    receiver: Receiver<T>,
    due: Instant,
}

impl<T> Answer<T> {
    pub(crate) fn expected() -> (SyncSender<T>, Self) {
        let (sender, receiver) = sync_channel(1);
        (
            sender,
            Self {
                receiver,
                due: Instant::now() + ANSWER_TIMEOUT,
            },
        )
    }

    pub(crate) fn wait(self) -> Result<T, NoAnswer> {
        self.receiver
            .recv_timeout(self.due.saturating_duration_since(Instant::now()))
            .map_err(|error| match error {
                RecvTimeoutError::Timeout => NoAnswer::Stalled,
                RecvTimeoutError::Disconnected => NoAnswer::Stopped,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_let_in_what_they_hold() {
        let admission = |blocks: Option<&[&str]>| Admission {
            allowed: blocks.map(|blocks| blocks.iter().map(|block| block.parse().unwrap()).collect()),
            ..Admission::default()
        };
        let client = Ipv4Addr::new(10, 0, 1, 7);
        for (blocks, allows) in [
            (None, true),
            (Some(&[][..]), false),
            (Some(&["0.0.0.0/0"]), true),
            (Some(&["10.0.1.7/32"]), true),
            (Some(&["10.0.1.6/32"]), false),
            (Some(&["10.0.2.0/24", "10.0.1.0/24"]), true),
            // Host bits are of no account.
            (Some(&["10.0.1.200/24"]), true),
            (Some(&["10.0.1.8/29"]), false),
        ] {
            assert_eq!(super::allows(&admission(blocks), client), allows, "{blocks:?}");
        }
    }
}
