//! What the engine has done since it was opened, in numbers.

use prometheus_client::{
    metrics::{counter::Counter, histogram::Histogram},
    registry::{Registry, Unit},
};

/// Upper bounds of times, in seconds: a sync takes some microseconds in memory, and may take seconds on a busy disk.
const SECONDS: [f64; 14] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];
/// Upper bounds of the number of commits that share a sync.
const COMMITS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// The engine's metrics; clones share the numbers.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Commits that took a revision.
    pub(super) commits: Counter,
    /// Commits whose compares did not hold.
    pub(super) conflicts: Counter,
    /// How long a commit's caller waited for its answer.
    pub(super) commit_seconds: Histogram,
    /// How many commits were made durable together.
    pub(super) batch: Histogram,
    /// Syncs of the device, the few of opening included: what the next one counts, for those who ask in process.
    pub(super) fsyncs: Counter,
    /// How long each took.
    pub(super) fsync_seconds: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            commits: Counter::default(),
            conflicts: Counter::default(),
            commit_seconds: Histogram::new(SECONDS),
            batch: Histogram::new(COMMITS),
            fsyncs: Counter::default(),
            fsync_seconds: Histogram::new(SECONDS),
        }
    }
}

impl Metrics {
    /// Has a registry show them, as `store_…`.
    pub fn register(&self, registry: &mut Registry) {
        let store = registry.sub_registry_with_prefix("store");
        store.register(
            "commits",
            "Transactions that took a revision",
            self.commits.clone(),
        );
        store.register(
            "conflicts",
            "Transactions that lost a race: a compare did not hold, and nothing was written",
            self.conflicts.clone(),
        );
        store.register_with_unit(
            "commit_duration",
            "How long a transaction's caller waited for its answer",
            Unit::Seconds,
            self.commit_seconds.clone(),
        );
        store.register(
            "batch_commits",
            "How many transactions were made durable by one sync",
            self.batch.clone(),
        );
        store.register_with_unit(
            "fsync_duration",
            "How long a sync of the store's file took",
            Unit::Seconds,
            self.fsync_seconds.clone(),
        );
    }
}
