//! What the control side says to a worker, and how it waits for the answer.

use std::io;
use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use crate::descriptors::ListenerShare;
use crate::error::OpenError;
use crate::namespace::Namespace;
use crate::spec::{Close, ListenerId};
use crate::stats::Counters;

/// Commands that may wait for one worker. Each caller waits for its answer, so this is in effect
/// a number of callers.
pub(crate) const COMMANDS_QUEUED_MAX: usize = 1_024;
/// A worker answers between two batches of events; one that takes this long is stuck.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Where connections go, as the workers know it.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) namespace: Namespace,
    pub(crate) source: std::net::Ipv4Addr,
    pub(crate) backend: SocketAddrV4,
}

/// What all workers that serve a listener share.
#[derive(Debug)]
pub(crate) struct Mapping {
    pub(crate) id: ListenerId,
    pub(crate) counters: Arc<Counters>,
    pub(crate) max_connections: AtomicU32,
    pub(crate) preface: Option<Arc<[u8]>>,
    /// Set when the caller gave up: whoever has not begun to serve it must not.
    pub(crate) abandoned: AtomicBool,
}

/// A listening socket on its way to its worker.
#[derive(Debug)]
pub(crate) struct ListenSocket {
    pub(crate) socket: OwnedFd,
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
