//! One record per connection, for whoever wants to know later who that was: what it was between, how long, how much, and
//! why it ended. Also what a connection that is alive looks like ([`Relay::who`](crate::Relay::who)).
//!
//! Workers put records into a queue that never makes them wait: what does not fit is dropped and counted. Writing them is
//! somebody else's business.

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, SystemTime};

use crate::spec::Owner;
use crate::stats::End;

/// One connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Whose it was.
    pub owner: Owner,
    /// Where the client came from.
    pub client: SocketAddrV4,
    /// Where it connected to.
    pub endpoint: SocketAddrV4,
    /// Where the backend saw it come from; absent for a client that was refused before that was known.
    pub source: Option<SocketAddrV4>,
    /// The backend that it was, or would have been, for.
    pub backend: SocketAddrV4,
    /// When the client was accepted.
    pub began: SystemTime,
    /// How long it lasted, or has lasted so far.
    pub lasted: Duration,
    /// How long the backend took to answer; absent if it never did.
    pub connected_after: Option<Duration>,
    /// Bytes from the client that were handed to the backend; a header does not count.
    pub bytes_to_backend: u64,
    /// Bytes from the backend that were handed to the client.
    pub bytes_to_client: u64,
    /// Why it ended; absent while it lives.
    pub end: Option<End>,
}

/// Where workers put their records.
#[derive(Debug, Clone)]
pub struct Recorder {
    queue: SyncSender<Record>,
    dropped: Arc<AtomicU64>,
}

impl Recorder {
    /// A queue of at most `queued_max` records, and the end to take them from. The one who takes them should do so in
    /// batches: a worker that finds nobody waiting at the queue has nobody to wake.
    pub fn new(queued_max: usize) -> (Self, Receiver<Record>) {
        let (queue, records) = sync_channel(queued_max);
        let recorder = Self {
            queue,
            dropped: Arc::default(),
        };
        (recorder, records)
    }

    /// Records that did not fit into the queue.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Puts a record into the queue, or counts it as dropped.
    pub fn put(&self, record: Record) {
        if self.queue.try_send(record).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }
}
