//! What the relay counts, per owner, and how a connection can end.
//!
//! Each accepted connection ends exactly once, so `accepted == active + sum of ends` whenever
//! nothing is in motion.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::rate::Bucket;

/// Why a connection ended. All but `Closed` are resets towards whoever is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum End {
    /// Both sides had said all they had to say.
    Closed,
    /// The client reset it, or was given up by the kernel.
    ClientReset,
    /// The backend reset it, or was given up by the kernel.
    BackendReset,
    /// The backend's port refused.
    BackendRefused,
    /// The backend did not answer the connect in time.
    BackendTimeout,
    /// No route to the backend, or its host is unreachable.
    BackendUnreachable,
    /// The source address is not local in the provider's namespace.
    SourceMissing,
    /// Every source port towards this backend is taken.
    SourcePortsExhausted,
    /// The provider's namespace could not be entered.
    NamespaceGone,
    /// The client's address could not be put in the TCP header, as the listener's target wants it.
    NoToa,
    /// The client's address is in none of the blocks that the listener allows.
    NotAllowed,
    /// The owner already had as many connections as it may.
    Limit,
    /// The owner had begun as many connections within a second as it may.
    Rate,
    /// The relay, or the process, had no descriptor left for it.
    OutOfDescriptors,
    /// No byte moved for the idle timeout.
    Idle,
    /// The listener was closed, or the relay stopped, before it ended by itself.
    Cut,
    /// The kernel refused something else; the log says what.
    Failed,
}

impl End {
    /// Every reason, in the order of their declaration.
    pub const ALL: [Self; 17] = [
        Self::Closed,
        Self::ClientReset,
        Self::BackendReset,
        Self::BackendRefused,
        Self::BackendTimeout,
        Self::BackendUnreachable,
        Self::SourceMissing,
        Self::SourcePortsExhausted,
        Self::NamespaceGone,
        Self::NoToa,
        Self::NotAllowed,
        Self::Limit,
        Self::Rate,
        Self::OutOfDescriptors,
        Self::Idle,
        Self::Cut,
        Self::Failed,
    ];

    /// Stable name for logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::ClientReset => "client_reset",
            Self::BackendReset => "backend_reset",
            Self::BackendRefused => "backend_refused",
            Self::BackendTimeout => "backend_timeout",
            Self::BackendUnreachable => "backend_unreachable",
            Self::SourceMissing => "source_missing",
            Self::SourcePortsExhausted => "source_ports_exhausted",
            Self::NamespaceGone => "namespace_gone",
            Self::NoToa => "no_toa",
            Self::NotAllowed => "not_allowed",
            Self::Limit => "limit",
            Self::Rate => "rate",
            Self::OutOfDescriptors => "out_of_descriptors",
            Self::Idle => "idle",
            Self::Cut => "cut",
            Self::Failed => "failed",
        }
    }
}

/// Upper bounds, themselves included, of the buckets that times to connect are counted in.
pub const CONNECT_BOUNDS: [Duration; 12] = [
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(5),
];

/// How long backends took to answer connects: from the client's accept to the backend's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectTimes {
    /// How many in each bucket of [`CONNECT_BOUNDS`], and in the last one those beyond.
    pub buckets: [u64; CONNECT_BOUNDS.len() + 1],
    /// All of them together.
    pub sum: Duration,
}

/// One owner's counters at one moment. Counted since its first listener opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnerStats {
    /// The owner, as in `Listener::owner`.
    pub owner: u128,
    /// Connections taken from clients, refused ones included.
    pub accepted: u64,
    /// Connections that are alive now.
    pub active: u32,
    /// How long backends took to answer connects.
    pub connect_times: ConnectTimes,
    /// Bytes from clients that were handed to backends; a preface does not count.
    pub bytes_to_backend: u64,
    /// Bytes from backends that were handed to clients.
    pub bytes_to_client: u64,
    /// Connections that should have carried the client's address in the TCP header, and were made without it.
    pub toa_missing: u64,
    ends: [u64; End::ALL.len()],
}

impl ConnectTimes {
    /// How many connects were answered.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

impl Default for OwnerStats {
    fn default() -> Self {
        Self::NONE
    }
}

impl Snapshot {
    /// Everything together, since the relay began.
    pub fn total(&self) -> OwnerStats {
        let mut total = self.departed;
        self.owners.iter().for_each(|owner| total.add(owner));
        total
    }
}

impl OwnerStats {
    /// Nothing yet, of nobody.
    pub(crate) const NONE: Self = Self {
        owner: 0,
        accepted: 0,
        active: 0,
        connect_times: ConnectTimes {
            buckets: [0; CONNECT_BOUNDS.len() + 1],
            sum: Duration::ZERO,
        },
        bytes_to_backend: 0,
        bytes_to_client: 0,
        ends: [0; End::ALL.len()],
        toa_missing: 0,
    };

    /// Counts another owner's in.
    pub(crate) fn add(&mut self, other: &Self) {
        // Without `..`, so that what is counted one day is not forgotten here.
        let Self {
            owner: _,
            accepted,
            active,
            connect_times,
            bytes_to_backend,
            bytes_to_client,
            ends,
            toa_missing,
        } = other;
        self.accepted += accepted;
        self.active += active;
        self.bytes_to_backend += bytes_to_backend;
        self.bytes_to_client += bytes_to_client;
        self.toa_missing += toa_missing;
        self.connect_times.sum += connect_times.sum;
        for (sum, more) in self.connect_times.buckets.iter_mut().zip(connect_times.buckets) {
            *sum += more;
        }
        for (sum, more) in self.ends.iter_mut().zip(ends) {
            *sum += more;
        }
    }

    /// Connections that ended for this reason.
    pub fn ended(&self, end: End) -> u64 {
        self.ends[end as usize]
    }

    /// Connections that ended, whatever the reason.
    pub fn finished(&self) -> u64 {
        self.ends.iter().sum()
    }

    /// Connections that never reached the backend because of the backend or the way to it.
    pub fn backend_connect_errors(&self) -> u64 {
        use End::{
            BackendRefused, BackendTimeout, BackendUnreachable, NamespaceGone, SourceMissing,
            SourcePortsExhausted,
        };
        [
            BackendRefused,
            BackendTimeout,
            BackendUnreachable,
            NamespaceGone,
            SourceMissing,
            SourcePortsExhausted,
        ]
        .iter()
        .map(|end| self.ended(*end))
        .sum()
    }
}

/// The relay at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Listeners that are open (one per mapping, however many workers serve it).
    pub listeners: usize,
    /// Descriptors that the relay holds.
    pub descriptors_used: usize,
    /// Descriptors that it may hold.
    pub descriptors_budget: usize,
    /// How often there was no pipe to splice through, so that bytes were copied.
    pub pipes_refused: u64,
    /// Records of connections that were lost, since nobody took them in time.
    pub records_dropped: u64,
    /// All those together that had been forgotten before: nothing that was counted is ever lost.
    pub departed: OwnerStats,
    /// Owners with a listener or a live connection, and those that lost their last since the snapshot before.
    pub owners: Vec<OwnerStats>,
}

/// The live counters behind [`OwnerStats`], shared by the workers.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    owner: u128,
    accepted: AtomicU64,
    active: AtomicU32,
    bytes_to_backend: AtomicU64,
    bytes_to_client: AtomicU64,
    toa_missing: AtomicU64,
    ends: [AtomicU64; End::ALL.len()],
    connect_times: [AtomicU64; CONNECT_BOUNDS.len() + 1],
    connect_us: AtomicU64,
    pub(crate) rate: Bucket,
}

impl Counters {
    pub(crate) fn new(owner: u128) -> Self {
        Self {
            owner,
            ..Self::default()
        }
    }

    /// Counts a connection in, unless the owner has `max` already (then it is counted as ended by the limit).
    pub(crate) fn admit(&self, max: u32) -> Result<(), End> {
        self.accepted.fetch_add(1, Relaxed);
        // Add first, then look: two workers must not both take the last place.
        if self.active.fetch_add(1, Relaxed) >= max {
            self.end(End::Limit);
            return Err(End::Limit);
        }
        Ok(())
    }

    /// Counts an admitted connection out.
    pub(crate) fn end(&self, end: End) {
        self.active.fetch_sub(1, Relaxed);
        self.ends[end as usize].fetch_add(1, Relaxed);
    }

    /// Counts a connection that was never admitted.
    pub(crate) fn refuse(&self, end: End) {
        self.accepted.fetch_add(1, Relaxed);
        self.ends[end as usize].fetch_add(1, Relaxed);
    }

    /// Counts a connection that went out without the client's address in its TCP header.
    pub(crate) fn miss_toa(&self) {
        self.toa_missing.fetch_add(1, Relaxed);
    }

    /// Counts a backend's answer to a connect.
    pub(crate) fn connected(&self, after: Duration) {
        let bucket = CONNECT_BOUNDS.partition_point(|bound| *bound < after);
        self.connect_times[bucket].fetch_add(1, Relaxed);
        let us = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        self.connect_us.fetch_add(us, Relaxed);
    }

    pub(crate) fn add_bytes(&self, to_backend: u64, to_client: u64) {
        if to_backend > 0 {
            self.bytes_to_backend.fetch_add(to_backend, Relaxed);
        }
        if to_client > 0 {
            self.bytes_to_client.fetch_add(to_client, Relaxed);
        }
    }

    pub(crate) fn stats(&self) -> OwnerStats {
        OwnerStats {
            owner: self.owner,
            accepted: self.accepted.load(Relaxed),
            active: self.active.load(Relaxed),
            bytes_to_backend: self.bytes_to_backend.load(Relaxed),
            bytes_to_client: self.bytes_to_client.load(Relaxed),
            toa_missing: self.toa_missing.load(Relaxed),
            ends: std::array::from_fn(|i| self.ends[i].load(Relaxed)),
            connect_times: ConnectTimes {
                buckets: std::array::from_fn(|i| self.connect_times[i].load(Relaxed)),
                sum: Duration::from_micros(self.connect_us.load(Relaxed)),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_listed_in_order() {
        for (i, end) in End::ALL.iter().enumerate() {
            assert_eq!(*end as usize, i, "{}", end.name());
        }
    }

    #[test]
    fn times_fall_into_the_first_bucket_that_holds_them() {
        let counters = Counters::new(7);
        for us in [0, 100, 101, 5_000_000, 5_000_001] {
            counters.connected(Duration::from_micros(us));
        }
        let times = counters.stats().connect_times;
        assert_eq!(times.buckets, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!((times.count(), times.sum), (5, Duration::from_micros(10_000_202)));
    }

    #[test]
    fn the_limit_admits_exactly_as_many() {
        let counters = Counters::new(7);
        assert_eq!(
            [counters.admit(2), counters.admit(2), counters.admit(2)],
            [Ok(()), Ok(()), Err(End::Limit)]
        );
        counters.end(End::Closed);
        assert_eq!(counters.admit(2), Ok(()));
        let stats = counters.stats();
        assert_eq!((stats.accepted, stats.active, stats.finished()), (4, 2, 2));
    }
}
