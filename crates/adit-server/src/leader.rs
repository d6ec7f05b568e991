//! Which of several replicas runs the reconcilers: the one whose key is in the store, under a lease.
//!
//! ```text
//!   standing ──the key is absent──▶ leading ──renewed in time──▶ leading
//!      ▲                               └──lease gone, or not renewed in time──▶ standing
//! ```
//!
//! A leader gives up by its own clock before its lease can lapse, so that two seldom work at a time. Nothing depends on it: a process
//! that was stopped for a while believes for a moment that it leads still, and then every transition of a reconciler is
//! committed only on the documents that it was decided on. Never decides anything but who works.

use std::{sync::Arc, time::Duration};

use adit_model::error_chain;
use adit_store::{Cache, Commit, LeaseId, Revision, State, Store, StoreError, Txn};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

/// The key of whoever leads; its value is what that one says of itself ([`crate::replica::Leading`]).
pub const LEADER: &str = "leader/reconcilers";
/// How soon it is tried again to get or to renew the lease, where that failed.
const RETRY_INTERVAL: Duration = Duration::from_millis(300);
/// How long an end may wait for the lease to be given back.
const REVOKE_TIMEOUT: Duration = Duration::from_secs(2);

/// How a leader holds its lead.
#[derive(Clone, Debug)]
pub struct Lease {
    /// Who stands.
    pub name: String,
    /// How long a leader may be silent before another takes over.
    pub ttl: Duration,
}

impl Lease {
    /// How long a leader may be silent, where nothing is said.
    pub const TTL: Duration = Duration::from_secs(5);

    /// After how long without a renewal a leader gives up by itself: before its lease can lapse, by more than the clocks of two
    /// machines drift apart in that time.
    fn patience(&self) -> Duration {
        self.ttl * 4 / 5
    }

    /// How often it is renewed.
    fn renewal(&self) -> Duration {
        self.ttl * 3 / 10
    }
}

/// Does `work` whenever this replica leads, until it is cancelled or the work ends by itself. The work's token is cancelled where
/// the lead is lost; it is waited for before this replica stands again.
pub async fn lead<W: Future<Output = ()>>(
    store: Arc<dyn Store>,
    cache: Cache<State>,
    standing: &Lease,
    word: impl Fn() -> Arc<[u8]>,
    cancel: CancellationToken,
    work: impl Fn(CancellationToken) -> W,
) {
    // A lease that could not be given back: it would keep everybody waiting, us too, once the store is there again.
    let mut owed = None;
    loop {
        let term = tokio::select! {
            () = cancel.cancelled() => return,
            term = stand(&*store, &cache, standing, &word, &mut owed) => term,
        };
        let Some(mut term) = term else {
            return;
        };
        tracing::info!(
            leader.name = standing.name,
            "This process runs the reconcilers now."
        );
        let leading = cancel.child_token();
        let work = work(leading.clone());
        tokio::pin!(work);
        let lost = tokio::select! {
            () = &mut work => false,
            () = hold(&*store, &cache, &mut term, standing, &word) => true,
        };
        if lost {
            tracing::warn!(
                leader.name = standing.name,
                "This process has lost the lead: others run the reconcilers."
            );
            leading.cancel();
            work.await;
        }
        // So that the next one need not wait.
        let given_back = timeout(REVOKE_TIMEOUT, store.lease_revoke(term.lease)).await;
        if !matches!(given_back, Ok(Ok(()))) {
            owed = Some(term.lease);
        }
        if !lost {
            return;
        }
    }
}

/// A lead that was won.
struct Term {
    lease: LeaseId,
    /// What is under the key.
    word: Arc<[u8]>,
    /// A moment before which the lease was not granted.
    since: Instant,
    /// The commit that won it, or wrote it anew.
    revision: Revision,
}

/// Waits until this replica leads; `None` where the cache has ended.
async fn stand(
    store: &dyn Store,
    cache: &Cache<State>,
    standing: &Lease,
    word: &impl Fn() -> Arc<[u8]>,
    owed: &mut Option<LeaseId>,
) -> Option<Term> {
    let mut notices = cache.subscribe();
    loop {
        if let Some(lease) = *owed {
            match store.lease_revoke(lease).await {
                Ok(()) | Err(StoreError::LeaseNotFound(_)) => *owed = None,
                Err(_) => {
                    tokio::time::sleep(RETRY_INTERVAL).await;
                    continue;
                }
            }
        }
        match candidate(store, standing, word()).await {
            Ok(Some(term)) => return Some(term),
            Ok(None) => {}
            Err(e) => {
                tracing::warn!(
                    error = error_chain(&e),
                    "The lead cannot be stood for; trying on."
                );
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
        }
        // Somebody leads, which the cache is about to know; it also tells when the key goes.
        let _ = timeout(standing.ttl, cache.barrier()).await;
        while cache.read().other(LEADER).is_some() {
            notices.next().await?;
        }
    }
}

/// Tries once to take the lead.
async fn candidate(store: &dyn Store, standing: &Lease, word: Arc<[u8]>) -> Result<Option<Term>, StoreError> {
    let since = Instant::now();
    let lease = store.lease_grant(standing.ttl).await?;
    let txn = Txn::new()
        .absent(LEADER)
        .put_leased(LEADER, Arc::clone(&word), lease);
    match store.commit(txn).await {
        Ok(Commit::Committed(revision)) => Ok(Some(Term {
            lease,
            word,
            since,
            revision,
        })),
        // What may have been written goes with its lease.
        other => {
            store.lease_revoke(lease).await?;
            other.map(|_| None)
        }
    }
}

/// Renews the lease, and what is under the key, until that does not go any more, or not in time, or the key is another's.
async fn hold(
    store: &dyn Store,
    cache: &Cache<State>,
    term: &mut Term,
    standing: &Lease,
    word: &impl Fn() -> Arc<[u8]>,
) {
    let mut renewed = term.since;
    let mut next = Instant::now() + standing.renewal();
    loop {
        let until = renewed + standing.patience();
        tokio::time::sleep_until(next.min(until)).await;
        if is_over(cache, term) {
            return;
        }
        let asked = Instant::now();
        match timeout_at(until, store.lease_keep_alive(term.lease)).await {
            Ok(Ok(())) => {
                renewed = asked;
                next = asked + standing.renewal();
                let _ = timeout_at(until, rewrite(store, term, word())).await;
            }
            Ok(Err(StoreError::LeaseNotFound(_))) | Err(_) => return,
            Ok(Err(e)) => {
                tracing::debug!(
                    error = error_chain(&e),
                    "The lead could not be renewed; trying on."
                );
                next = Instant::now() + RETRY_INTERVAL;
                if next >= until {
                    return;
                }
            }
        }
    }
}

/// Writes anew what is under the key, where that has changed. Where it fails, the next renewal tries it again, or finds the key
/// to be another's.
async fn rewrite(store: &dyn Store, term: &mut Term, word: Arc<[u8]>) {
    if word == term.word {
        return;
    }
    let txn = Txn::new()
        .unchanged(LEADER, term.revision)
        .put_leased(LEADER, Arc::clone(&word), term.lease);
    if let Ok(Commit::Committed(revision)) = store.commit(txn).await {
        term.revision = revision;
        term.word = word;
    }
}

/// Whether the key was taken away, or is another's. A cache that is behind the term says nothing.
fn is_over(cache: &Cache<State>, term: &Term) -> bool {
    let state = cache.read();
    let held = state.other(LEADER).map(|entry| entry.mod_revision);
    state.revision() >= term.revision && held != Some(term.revision)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use adit_store::keys::encode;
    use adit_store::{CommitId, Entry, Page, PageToken, RedbStore, ResumeToken, Watch, WatchError};
    use async_trait::async_trait;
    use tokio::{sync::watch, task::JoinHandle};

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(30);

    /// A way to a store that can be cut.
    struct Link {
        store: Arc<RedbStore>,
        cut: AtomicBool,
    }

    impl Link {
        fn check(&self) -> Result<(), StoreError> {
            match self.cut.load(Ordering::SeqCst) {
                true => Err(StoreError::unavailable("reach it", "cut")),
                false => Ok(()),
            }
        }
    }

    #[async_trait]
    impl Store for Link {
        async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
            self.check()?;
            self.store.get(key).await
        }

        async fn list(
            &self,
            prefix: &str,
            after: Option<&PageToken>,
            limit: usize,
        ) -> Result<Page, StoreError> {
            self.check()?;
            self.store.list(prefix, after, limit).await
        }

        async fn watch(&self, prefix: &str, from: &ResumeToken) -> Result<Box<dyn Watch>, WatchError> {
            self.check().map_err(WatchError::Unavailable)?;
            self.store.watch(prefix, from).await
        }

        async fn commit(&self, txn: Txn) -> Result<Commit, StoreError> {
            self.check()?;
            self.store.commit(txn).await
        }

        async fn settle(&self, id: CommitId, since: Revision) -> Result<Option<Revision>, StoreError> {
            self.check()?;
            self.store.settle(id, since).await
        }

        async fn barrier(&self) -> Result<Revision, StoreError> {
            self.check()?;
            self.store.barrier().await
        }

        async fn lease_grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
            self.check()?;
            self.store.lease_grant(ttl).await
        }

        async fn lease_keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
            self.check()?;
            self.store.lease_keep_alive(lease).await
        }

        async fn lease_revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
            self.check()?;
            self.store.lease_revoke(lease).await
        }
    }

    /// A process that stands for the lead.
    struct Replica {
        link: Arc<Link>,
        cancel: CancellationToken,
        works: watch::Receiver<bool>,
        task: JoinHandle<()>,
    }

    impl Replica {
        /// `working` counts all who work.
        async fn start(store: &Arc<RedbStore>, name: &'static str, working: &Arc<AtomicUsize>) -> Self {
            let link = Arc::new(Link {
                store: store.clone(),
                cut: AtomicBool::new(false),
            });
            let cache = Cache::start(link.clone(), "");
            cache.wait_ready().await.unwrap();
            let (works, seen) = watch::channel(false);
            let (cancel, working) = (CancellationToken::new(), working.clone());
            let work = move |leading: CancellationToken| {
                let (works, working) = (works.clone(), working.clone());
                async move {
                    assert_eq!(working.fetch_add(1, Ordering::SeqCst), 0, "one at a time");
                    works.send_replace(true);
                    leading.cancelled().await;
                    works.send_replace(false);
                    working.fetch_sub(1, Ordering::SeqCst);
                }
            };
            let (store, token) = (link.clone(), cancel.clone());
            let standing = Lease {
                name: name.to_owned(),
                ttl: Lease::TTL,
            };
            let task = tokio::spawn(async move {
                lead(store, cache, &standing, || encode(&name), token, work).await;
            });
            Self {
                link,
                cancel,
                works: seen,
                task,
            }
        }

        async fn until(&self, works: bool) {
            let mut seen = self.works.clone();
            let waited = timeout(DEADLINE, seen.wait_for(|seen| *seen == works)).await;
            waited.expect("it comes true").unwrap();
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn one_works_and_another_when_it_ends_or_is_cut_off() {
        let store = Arc::new(RedbStore::ephemeral().unwrap());
        let working = Arc::new(AtomicUsize::new(0));
        let first = Replica::start(&store, "first", &working).await;
        first.until(true).await;
        let second = Replica::start(&store, "second", &working).await;
        let third = Replica::start(&store, "third", &working).await;

        // An end hands over at once.
        first.cancel.cancel();
        timeout(DEADLINE, first.task).await.expect("it ends").unwrap();
        let mut either = (second.works.clone(), third.works.clone());
        let taken = timeout(DEADLINE, async {
            tokio::select! {
                _ = either.0.wait_for(|works| *works) => true,
                _ = either.1.wait_for(|works| *works) => false,
            }
        });
        let (leader, other) = match taken.await.expect("another leads") {
            true => (second, third),
            false => (third, second),
        };
        // Cut off, it stops by itself, before its lease lapses and the other takes over: the work asserts that.
        leader.link.cut.store(true, Ordering::SeqCst);
        other.until(true).await;
        assert!(!*leader.works.borrow());
        leader.link.cut.store(false, Ordering::SeqCst);

        for replica in [leader, other] {
            replica.cancel.cancel();
            timeout(DEADLINE, replica.task).await.expect("it ends").unwrap();
        }
        assert_eq!(store.get(LEADER).await.unwrap(), None);
    }
}
