//! The control side: what callers hold. It never touches a byte of a connection.

use std::io;
use std::net::SocketAddrV4;

use crate::error::{OpenError, RetargetError, Stalled};
use crate::spec::{Close, Config, Listener, ListenerId, Target};
use crate::stats::Snapshot;

/// A running relay. All calls may be made from any thread; they block for as long as a worker needs
/// to take its turn (well under a millisecond as a rule, 5 s at most) and are not for an async
/// executor's own threads. Dropping it is `stop(Close::Cut)`.
#[derive(Debug)]
pub struct Relay {}

impl Relay {
    /// Raises the process's descriptor limit to the hard one and starts the workers.
    pub fn start(_config: Config) -> io::Result<Self> {
        Ok(Self {})
    }

    /// Opens a listener. When it returns, clients can connect.
    pub fn open(&self, _listener: Listener) -> Result<ListenerId, OpenError> {
        Err(OpenError::Stopped)
    }

    /// The address that a listener is bound to; `None` if it is not open.
    pub fn local_address(&self, _id: ListenerId) -> Option<SocketAddrV4> {
        None
    }

    /// Sends new connections to another target. Those that exist keep theirs.
    pub fn retarget(&self, _id: ListenerId, _target: Target) -> Result<(), RetargetError> {
        Err(RetargetError::Unknown)
    }

    /// Closes a listener. When it returns, its port refuses and, with `Close::Cut`, its
    /// connections are reset. Closing what is closed already is fine, and may still turn a drain into a cut.
    pub fn close(&self, _id: ListenerId, _how: Close) -> Result<(), Stalled> {
        Ok(())
    }

    /// Counters now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            listeners: 0,
            descriptors_used: 0,
            descriptors_budget: 0,
            owners: Vec::new(),
        }
    }

    /// Closes every listener, ends the connections as `how` says, and joins the workers. Idempotent.
    pub fn stop(&self, _how: Close) {}
}
