//! The cloud's shared state, and how it decides.
//!
//! Every operation decides on the cache and commits what it decided guarded by compares; when the race is lost it decides
//! anew on what the winner left, a bounded number of times (`Cloud::decide`).

use std::{
    fmt,
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use adit_model::{
    id::SubnetId,
    time::{Created, Timestamp},
};
use adit_store::{Cache, CacheError, Commit, State, Store, StoreError, Txn};

use crate::{
    identity::{Memory, TokenKey},
    network::{Failure, in_flight::InFlight},
    region::Region,
};

/// How often an operation is decided anew after it lost a race. Each loss means that somebody else got ahead.
const ATTEMPTS_MAX: usize = 256;
/// How long the cache may take to know what every answered commit wrote, in seconds.
const BARRIER_TIMEOUT_S: u64 = 5;
/// How long a commit may take before its outcome is looked up, in seconds.
const COMMIT_TIMEOUT_S: u64 = 10;

/// Tells the time; tests turn it forward.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// The embedded cloud: the control plane's identity and network, and the APIs of both.
pub struct Cloud {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) cache: Cache<State>,
    pub(crate) region: Region,
    pub(crate) token_key: TokenKey,
    /// Tokens that were found good.
    pub(crate) verified: Memory,
    /// Addresses that requests in progress have picked.
    pub(crate) addresses: InFlight<(SubnetId, Ipv4Addr)>,
    clock: Clock,
    /// The last creation mark given out.
    last_order: AtomicU64,
}

impl fmt::Debug for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cloud")
            .field("region", &self.region.name)
            .finish_non_exhaustive()
    }
}

/// Why a region did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store does not do as asked.
    #[error("the store could not be asked for the region's state")]
    Store(#[source] Failure),
    /// The key that signs tokens is not what this program writes.
    #[error("the stored key of the tokens cannot be read")]
    TokenKey,
}

impl From<Failure> for StartError {
    fn from(failure: Failure) -> Self {
        Self::Store(failure)
    }
}

impl Cloud {
    /// Starts a region on a store, whose whole key space `cache` follows: makes what the region file has and the store has
    /// not had yet.
    ///
    /// # Errors
    /// Where the store does not answer, or holds what this program cannot read.
    pub async fn start(
        store: Arc<dyn Store>,
        cache: Cache<State>,
        region: Region,
    ) -> Result<Arc<Self>, StartError> {
        Self::start_with_clock(store, cache, region, Arc::new(SystemTime::now)).await
    }

    /// [`Cloud::start`] with a clock of the caller's.
    ///
    /// # Errors
    /// As [`Cloud::start`].
    pub async fn start_with_clock(
        store: Arc<dyn Store>,
        cache: Cache<State>,
        region: Region,
        clock: Clock,
    ) -> Result<Arc<Self>, StartError> {
        bounded(BARRIER_TIMEOUT_S, cache.wait_ready())
            .await?
            .map_err(Failure::from)?;
        let token_key = TokenKey::load(&*store).await?;
        let cloud = Arc::new(Self {
            store,
            cache,
            region,
            token_key,
            verified: Memory::default(),
            addresses: InFlight::default(),
            clock,
            last_order: AtomicU64::new(0),
        });
        cloud.seed().await?;
        Ok(cloud)
    }

    /// The region that this is.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// The present second.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_unix_s(i64::try_from(self.clock_us() / 1_000_000).unwrap_or(i64::MAX))
    }

    /// The mark of something that is made now: later than every other of this process.
    pub(crate) fn created(&self) -> Created {
        let now = self.clock_us();
        let mut last = self.last_order.load(Ordering::Relaxed);
        loop {
            let created = Created::after(last, now);
            match self.last_order.compare_exchange_weak(
                last,
                created.order,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return created,
                Err(other) => last = other,
            }
        }
    }

    fn clock_us(&self) -> u64 {
        let since = (self.clock)().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
    }

    /// What `look` sees in a state that holds every commit answered before now.
    pub(crate) async fn look<T>(&self, look: impl FnOnce(&State) -> T) -> Result<T, Failure> {
        self.barrier().await?;
        Ok(look(&self.cache.read()))
    }

    /// Decides and commits: `decide` answers what to write and what to return once it is written; when the race is lost, it
    /// is asked again with what the winner left. A transaction that writes nothing is not committed.
    pub(crate) async fn decide<T>(
        &self,
        decide: impl Fn(&State) -> Result<(Txn, T), Failure>,
    ) -> Result<T, Failure> {
        self.barrier().await?;
        for _ in 0..ATTEMPTS_MAX {
            let (txn, answer) = decide(&self.cache.read())?;
            if txn.writes().is_empty() || self.commit(txn).await? {
                return Ok(answer);
            }
        }
        Err(Failure::Busy(ATTEMPTS_MAX))
    }

    async fn barrier(&self) -> Result<(), Failure> {
        bounded(BARRIER_TIMEOUT_S, self.cache.barrier()).await??;
        Ok(())
    }

    /// Commits, and waits until the cache shows it. Answers `false` where the race was lost, once the cache has caught up.
    async fn commit(&self, txn: Txn) -> Result<bool, Failure> {
        let id = txn.id();
        let since = self.cache.read().revision();
        let outcome = match bounded(COMMIT_TIMEOUT_S, self.store.commit(txn)).await {
            Ok(outcome) => outcome?,
            Err(_) => Commit::Unknown,
        };
        let committed = match outcome {
            Commit::Committed(revision) => Some(revision),
            Commit::Conflict => None,
            Commit::Unknown => bounded(COMMIT_TIMEOUT_S, self.store.settle(id, since)).await??,
        };
        let Some(revision) = committed else {
            return self.barrier().await.map(|()| false);
        };
        match bounded(BARRIER_TIMEOUT_S, self.cache.wait_for(revision)).await {
            Ok(waited) => waited?,
            // Committed, and the caller must hear it: the next read waits for the cache by itself.
            Err(_) => tracing::warn!(store.revision = %revision, "The cache lags behind a commit."),
        }
        Ok(true)
    }
}

async fn bounded<T>(seconds: u64, what: impl Future<Output = T>) -> Result<T, Failure> {
    tokio::time::timeout(Duration::from_secs(seconds), what)
        .await
        .map_err(|_| Failure::Timeout)
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<CacheError> for Failure {
    fn from(error: CacheError) -> Self {
        Self::Cache(error)
    }
}
