//! The operations, one file for each noun: authorise, check rules, one store transaction.
//!
//! Owns how a decision is made: on the cache, guarded by compares, read again and retried when the race is lost. Never
//! touches anything but the store: reconcilers make true what an operation records. Knows nothing of HTTP.
//!
//! Read next: [`service`], [`endpoint`], then [`crate::reconcile`].

pub mod access;
pub mod backend;
pub mod connection;
pub mod description;
mod effect;
pub mod endpoint;
mod in_flight;
pub mod operator;
pub mod policy;
pub mod public_service;
pub mod quota;
pub mod route_table;
pub mod service;
pub mod tag;
pub mod upgrade;
pub mod whitelist;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use adit_model::{
    ApiError, Code,
    id::{DomainId, EndpointId, MarkerId, PortId, ProjectId, ServiceId},
    quota::QuotaType,
    service::Service,
    time::{Created, Timestamp},
};
use adit_store::{Cache, Commit, ReadGuard, State, Store, Stored, Txn};
pub(crate) use effect::EFFECT_TIMEOUT;
use endpoint::EndpointSeen;
use futures_util::FutureExt as _;
use in_flight::{Held, InFlight, Turnstile};
use prometheus_client::registry::Registry;
use service::ServiceSeen;

use crate::{
    config::Config,
    error::Failure,
    feed::Feed,
    identity::Identity,
    network::{Fence, Network},
    planned::Failures,
    rate::ProjectRates,
    reconcile,
    replica::{Cluster, Mirrored},
    written::Written,
};

/// How often an operation is decided anew after it lost a race. Each loss means that somebody else got ahead, and takes
/// about a commit; two replicas that write one document in turns make one of them lose dozens in a row now and then.
const ATTEMPTS_MAX: usize = 256;
/// How long a read may wait for the cache to know what every answered commit wrote.
const BARRIER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a commit may take before its outcome is looked up.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(10);

/// A quota slot: whose, of what, which.
type Slot = (ProjectId, QuotaType, u32);

/// The state that all operations share.
pub struct App {
    /// The settings.
    pub config: Config,
    /// Where everything is kept.
    pub store: Arc<dyn Store>,
    /// The whole of it in memory.
    pub cache: Cache<State>,
    /// Who callers are.
    pub identity: Arc<dyn Identity>,
    /// Where endpoints live.
    pub network: Arc<dyn Network>,
    /// What gateways are told, and what they answered.
    pub feed: Arc<Feed>,
    /// What gateways said of backends to another process, where that one leads.
    pub(crate) mirror: Mirrored,
    /// What projects have asked of late.
    pub rates: ProjectRates,
    /// What is to fail on purpose.
    pub failures: Failures,
    /// What reconcilers have done.
    pub reconciled: reconcile::Metrics,
    clock: Clock,
    slots: InFlight<Slot>,
    /// Where among a quota's slots this process begins to look for a free one; another place after every race that was lost.
    slots_place: AtomicU32,
    markers: InFlight<MarkerId>,
    /// Creates on one backend port write one document, so they take turns here rather than lose races.
    backend_ports: Turnstile<PortId>,
    /// So do changes of one service's whitelist.
    whitelists: Turnstile<ServiceId>,
    /// Reserving an endpoint's address and deleting the endpoint take turns: an address must not be taken for an endpoint
    /// whose deletion was answered, since from then on it is free.
    pub(crate) placing: Turnstile<EndpointId>,
    /// The JSON of services, by whether it is part of a list, and of endpoints.
    pub(crate) written_services: Written<(ServiceId, bool), ServiceSeen>,
    pub(crate) written_endpoints: Written<EndpointId, EndpointSeen>,
}

/// Whose request it is: a caller, and the project in the path, which is the caller's own.
#[derive(Clone, Debug)]
pub struct Scope {
    /// The project.
    pub project: ProjectId,
    /// The account.
    pub domain: DomainId,
}

impl App {
    /// Puts the parts together; nothing runs yet.
    pub fn new(
        config: Config,
        store: Arc<dyn Store>,
        cache: Cache<State>,
        identity: Arc<dyn Identity>,
        network: Arc<dyn Network>,
    ) -> Arc<Self> {
        let feed = Arc::new(Feed::new());
        Arc::new(Self {
            rates: ProjectRates::new(config.rates),
            failures: Failures::default(),
            reconciled: reconcile::Metrics::default(),
            config,
            store,
            cache,
            identity,
            network,
            feed,
            mirror: Mirrored::default(),
            clock: Clock::default(),
            slots: InFlight::default(),
            slots_place: AtomicU32::new(rand::random()),
            markers: InFlight::default(),
            backend_ports: Turnstile::default(),
            whitelists: Turnstile::default(),
            placing: Turnstile::default(),
            written_services: Written::default(),
            written_endpoints: Written::default(),
        })
    }

    /// Has a registry show what the control plane counts.
    pub fn register(self: &Arc<Self>, registry: &mut Registry) {
        registry.register_collector(Box::new(Cluster(Arc::downgrade(self))));
        self.rates.register(registry);
        self.reconciled.register(registry);
    }

    /// Waits until the cache knows every commit that was answered before now, by any replica.
    ///
    /// # Errors
    /// Where the store does not answer in time.
    pub async fn barrier(&self) -> Result<(), Failure> {
        let mut barrier = std::pin::pin!(self.cache.barrier());
        // A store in this process answers at once, and no clock is needed.
        let result = match barrier.as_mut().now_or_never() {
            Some(result) => result,
            None => tokio::time::timeout(BARRIER_TIMEOUT, barrier)
                .await
                .map_err(|_| Failure::Timeout("the store"))?,
        };
        result.map(drop).map_err(Failure::from)
    }

    /// Commits, and waits until the cache shows it. Answers `false` where the race was lost: the cache has caught up, decide
    /// anew.
    ///
    /// # Errors
    /// Where the store does not answer, and where it cannot be found out whether the transaction was committed.
    pub(crate) async fn commit(&self, txn: Txn) -> Result<bool, Failure> {
        let id = txn.id();
        let since = self.cache.read().revision();
        let outcome = match tokio::time::timeout(COMMIT_TIMEOUT, self.store.commit(txn)).await {
            Ok(outcome) => outcome?,
            Err(_) => Commit::Unknown,
        };
        let committed = match outcome {
            Commit::Committed(revision) => Some(revision),
            Commit::Conflict => None,
            Commit::Unknown => {
                match tokio::time::timeout(COMMIT_TIMEOUT, self.store.settle(id, since)).await {
                    Ok(settled) => settled?,
                    Err(_) => return Err(Failure::Timeout("the store")),
                }
            }
        };
        match committed {
            Some(revision) => {
                match tokio::time::timeout(BARRIER_TIMEOUT, self.cache.wait_for(revision)).await {
                    Ok(result) => result?,
                    // Committed, and the caller must hear it: the next read waits for the cache by itself.
                    Err(_) => tracing::warn!(store.revision = %revision, "The cache lags behind a commit."),
                }
                Ok(true)
            }
            None => {
                self.slots_place.store(rand::random(), Ordering::Relaxed);
                self.barrier().await.map(|()| false)
            }
        }
    }

    /// The present second.
    pub fn now(&self) -> Timestamp {
        Timestamp::from_unix_s((clock_us() / 1_000_000) as i64)
    }

    /// The present microsecond since 1970.
    pub(crate) fn now_us(&self) -> u64 {
        clock_us()
    }

    /// The mark of something that is made now: later than every other that this process knows.
    pub(crate) fn created(&self) -> Created {
        self.clock.next(self.cache.read().newest_order())
    }

    /// A service of the caller's project; of another project it does not exist, and neither does a public one.
    pub(crate) fn own_service(
        state: &State,
        scope: &Scope,
        id: ServiceId,
    ) -> Result<Stored<Service>, ApiError> {
        state
            .service(&id)
            .filter(|s| s.project == scope.project && s.public.is_none())
            .cloned()
            .ok_or_else(|| {
                ApiError::because(
                    Code::E0005,
                    format!("There is no endpoint service {id} in this project."),
                )
            })
    }

    /// The quota slot to use for one more resource, kept from others of this process until the guard is dropped.
    ///
    /// Slots that others are about to take are left alone while there is another; when there is not, the transaction's
    /// compare decides who gets the last one, since the other may yet fail.
    pub(crate) fn pick_slot(
        &self,
        state: &State,
        project: &ProjectId,
        kind: QuotaType,
    ) -> (u32, Option<Held<'_, Slot>>) {
        let place = self.slots_place.load(Ordering::Relaxed);
        let held = self.slots.pick(|taken| {
            let mut free = state
                .free_slots(project, kind, place)
                .map(|n| (project.clone(), kind, n));
            free.find(|slot| !taken.contains(slot))
        });
        match held {
            Some(held) => (held.key().2, Some(held)),
            // A quota that is used up was refused before.
            None => (
                state.free_slots(project, kind, place).next().unwrap_or(u32::MAX),
                None,
            ),
        }
    }
}

/// Adds the compares of what an answer of the network was read from.
pub(crate) fn fence(mut txn: Txn, fences: &[Fence]) -> Txn {
    for (key, revision) in fences {
        txn = txn.unchanged(Arc::clone(key), *revision);
    }
    txn
}

/// Compares a document with what was seen of it, absence included.
pub(crate) fn as_seen<T>(txn: Txn, key: adit_store::Key, seen: Option<&Stored<T>>) -> Txn {
    match seen {
        Some(stored) => txn.unchanged(key, stored.revision),
        None => txn.absent(key),
    }
}

/// Puts a guard: a dependent of `of` comes to be (see [`adit_store::keys`]).
pub(crate) fn put_guard(txn: Txn, of: adit_store::Key) -> Txn {
    txn.put(of.guard(), adit_store::keys::encode(&()))
}

/// Compares a guard: no dependent of `of` has come to be since the state was read.
pub(crate) fn compare_guard(txn: Txn, of: adit_store::Key, state: &ReadGuard<'_, State>) -> Txn {
    match state.guard(of.clone()) {
        Some(revision) => txn.unchanged(of.guard(), revision),
        None => txn.absent(of.guard()),
    }
}

/// Gives creation marks that only grow.
#[derive(Default)]
struct Clock {
    last: AtomicU64,
}

impl Clock {
    fn next(&self, known: u64) -> Created {
        let now = clock_us();
        let mut previous = self.last.load(Ordering::Relaxed);
        loop {
            let created = Created::after(previous.max(known), now);
            match self.last.compare_exchange_weak(
                previous,
                created.order,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return created,
                Err(other) => previous = other,
            }
        }
    }
}

fn clock_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
