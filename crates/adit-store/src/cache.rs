//! The watch cache: everything under a prefix, in memory, in the shape that its readers need.
//!
//! One follower task loads the prefix at one revision, then applies the watch, whole revisions at a time; when it
//! came too late it loads anew **into a fresh view** and swaps it in, so that readers see the old state or the new one and never a
//! mix. Reads are cheap and may be behind: what must not be behind calls [`Cache::barrier`] first; what must be
//! right guards its commit with compares. Never writes to the store.
//!
//! ```text
//!   loading ──loaded──▶ following ──Compacted──▶ loading (readers keep the old view)
//!                          └──Unavailable──▶ watch again from the last revision, after a pause
//! ```

mod barriers;

use std::collections::VecDeque;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{RwLock, RwLockReadGuard};
use tokio::sync::{broadcast, watch};
use tokio::task::{AbortHandle, JoinHandle};

use barriers::Barriers;

use crate::store::{
    Batch, Change, Entry, PAGE_ENTRIES_MAX, ResumeToken, Revision, Store, StoreError, WatchError,
};

/// Most notices that a subscriber may be behind before it is told to look at everything.
pub const NOTICES_MAX: usize = 1024;
/// Most revisions that are taken in together: readers wait for so long.
const TOGETHER_MAX: usize = 256;
/// Most pages of a load that are read and not taken in yet: enough for a few cores.
const LOAD_PAGES_MAX: usize = 4;
/// First and longest pause before the follower tries a failing store again, in milliseconds.
const RETRY_MS_MIN: u64 = 20;
const RETRY_MS_MAX: u64 = 2_000;

/// What a cache keeps. It starts from its default, and is given every change once, in order.
pub trait View: Default + Send + Sync + 'static {
    /// A change as the view takes it in: read.
    type Reading: Send + 'static;

    /// Reads a change. Called before the lock is taken, and on several threads at a time for a load: no I/O, and no panic on
    /// what the bytes say.
    fn read(change: &Change) -> Self::Reading;

    /// Takes in one change. Called with the write lock held: as little as there is to do.
    fn apply(&mut self, reading: Self::Reading);
}

/// A handle to a cache; clones share it. The follower stops when the last handle is dropped.
pub struct Cache<V> {
    inner: Arc<Inner<V>>,
}

impl<V> Clone for Cache<V> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

struct Inner<V> {
    store: Arc<dyn Store>,
    state: Arc<RwLock<State<V>>>,
    /// The revision that the view has reached; `None` before the first load. Closed if the follower has ended.
    reached: watch::Receiver<Option<Revision>>,
    notices: broadcast::WeakSender<(Revision, Notice)>,
    barriers: Barriers,
    follower: AbortHandle,
}

impl<V> Drop for Inner<V> {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

#[derive(Default)]
struct State<V> {
    view: V,
    revision: Revision,
}

/// What a subscriber is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// One revision changed these keys.
    Changed(Arc<[Arc<str>]>),
    /// Anything may have changed: the view was loaded, or this subscriber was too slow.
    Resync,
}

/// Why a cache could not promise what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CacheError {
    /// The store did not answer the barrier.
    #[error("the newest revision is not known")]
    Store(#[source] StoreError),
    /// The follower has ended: a defect in the view, or the runtime is going down.
    #[error("the cache has stopped")]
    Stopped,
}

/// The view, held still while this exists. Drop it before awaiting anything.
pub struct ReadGuard<'a, V> {
    state: RwLockReadGuard<'a, State<V>>,
}

impl<V> ReadGuard<'_, V> {
    /// The revision that the view is of; 0 before the first load.
    pub fn revision(&self) -> Revision {
        self.state.revision
    }
}

impl<V> Deref for ReadGuard<'_, V> {
    type Target = V;

    fn deref(&self) -> &V {
        &self.state.view
    }
}

impl<V: fmt::Debug> fmt::Debug for ReadGuard<'_, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state.view.fmt(f)
    }
}

impl<V: View> Cache<V> {
    /// Starts to follow a prefix; must be called inside a tokio runtime. See [`Cache::wait_ready`].
    pub fn start(store: Arc<dyn Store>, prefix: impl Into<Arc<str>>) -> Self {
        let state = Arc::new(RwLock::new(State::default()));
        let (reached_sender, reached) = watch::channel(None);
        let (notices, _) = broadcast::channel(NOTICES_MAX);
        let weak_notices = notices.downgrade();
        let follower = Follower {
            store: store.clone(),
            prefix: prefix.into(),
            state: state.clone(),
            reached: reached_sender,
            notices,
            failing: false,
        };
        let follower = tokio::spawn(follower.run()).abort_handle();
        let barriers = Barriers::default();
        Self {
            inner: Arc::new(Inner {
                store,
                state,
                reached,
                notices: weak_notices,
                barriers,
                follower,
            }),
        }
    }

    /// The view as it is now, which may be behind the store.
    pub fn read(&self) -> ReadGuard<'_, V> {
        ReadGuard {
            state: self.inner.state.read(),
        }
    }

    /// Waits for the first load. Waits for ever while the store is away: bound it.
    pub async fn wait_ready(&self) -> Result<(), CacheError> {
        self.wait_for(Revision(0)).await
    }

    /// Waits until the view has reached a revision. Bound it, as `wait_ready`.
    pub async fn wait_for(&self, revision: Revision) -> Result<(), CacheError> {
        let has_reached = |reached: &Option<Revision>| reached.is_some_and(|reached| reached >= revision);
        if has_reached(&self.inner.reached.borrow()) {
            return Ok(());
        }
        let mut reached = self.inner.reached.clone();
        reached
            .wait_for(has_reached)
            .await
            .map(drop)
            .map_err(|_| CacheError::Stopped)
    }

    /// Waits until the view holds every commit that was answered before this call, by any process, and returns the
    /// revision that it has at least.
    ///
    /// Callers that come while one look at the store is under way share the next one: the one under way may have
    /// read before their commits were answered.
    pub async fn barrier(&self) -> Result<Revision, CacheError> {
        let revision = self
            .inner
            .barriers
            .pass(&*self.inner.store)
            .await
            .map_err(CacheError::Store)?;
        self.wait_for(revision).await?;
        Ok(revision)
    }

    /// Notices of every change from now on.
    pub fn subscribe(&self) -> Notices {
        Notices {
            receiver: self.inner.notices.upgrade().map(|notices| notices.subscribe()),
            reached: Revision(0),
        }
    }
}

/// A subscription to a cache's notices. Lossless in effect: what was missed arrives as one [`Notice::Resync`].
pub struct Notices {
    receiver: Option<broadcast::Receiver<(Revision, Notice)>>,
    reached: Revision,
}

impl Notices {
    /// The next notice, sent after the view shows it; `None` once the cache has stopped. May be dropped half-way.
    pub async fn next(&mut self) -> Option<Notice> {
        match self.receiver.as_mut()?.recv().await {
            Ok((revision, notice)) => {
                self.reach(revision);
                Some(notice)
            }
            Err(broadcast::error::RecvError::Lagged(_)) => Some(Notice::Resync),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

impl Notices {
    /// The revision up to which everything was told; 0 before the first notice.
    pub fn reached(&self) -> Revision {
        self.reached
    }

    /// Everything up to this revision is known from elsewhere.
    pub fn reach(&mut self, revision: Revision) {
        self.reached = self.reached.max(revision);
    }
}

/// The one writer of the view.
struct Follower<V> {
    store: Arc<dyn Store>,
    prefix: Arc<str>,
    state: Arc<RwLock<State<V>>>,
    reached: watch::Sender<Option<Revision>>,
    notices: broadcast::Sender<(Revision, Notice)>,
    /// Whether the last thing asked of the store failed; logged when it changes.
    failing: bool,
}

impl<V: View> Follower<V> {
    async fn run(mut self) {
        let mut retry = Backoff::default();
        loop {
            match self.load().await {
                Ok(mut token) => {
                    self.note_working();
                    retry = Backoff::default();
                    self.follow(&mut token).await;
                }
                // Commits outran the list: its snapshot is gone. The next attempt may be luckier.
                Err(StoreError::Compacted { .. }) => retry.pause().await,
                Err(error) => {
                    self.note_failing(&error);
                    retry.pause().await;
                }
            }
        }
    }

    /// Reads the whole prefix at one revision into a fresh view, and swaps it in.
    ///
    /// Pages are read one after the other, their entries on other threads meanwhile: at a start nobody is served before
    /// this has ended.
    async fn load(&self) -> Result<ResumeToken, StoreError> {
        let mut view = V::default();
        let mut readings = VecDeque::new();
        let mut after = None;
        let token = loop {
            let page = self
                .store
                .list(&self.prefix, after.as_ref(), PAGE_ENTRIES_MAX)
                .await?;
            let token = page.resume_token();
            after = page.next;
            readings.push_back(tokio::task::spawn_blocking(|| read_all::<V>(page.entries)));
            while readings.len() > LOAD_PAGES_MAX
                && let Some(reading) = readings.pop_front()
            {
                finished(reading).await?.into_iter().for_each(|r| view.apply(r));
            }
            if after.is_none() {
                break token;
            }
        };
        for reading in readings {
            finished(reading).await?.into_iter().for_each(|r| view.apply(r));
        }
        // The old view is dropped after the lock is released: that may take a while.
        let old = std::mem::replace(
            &mut *self.state.write(),
            State {
                view,
                revision: token.revision,
            },
        );
        drop(old);
        self.reached.send_replace(Some(token.revision));
        let _ = self.notices.send((token.revision, Notice::Resync));
        Ok(token)
    }

    /// Applies the watch until it is compacted. A store that is away is tried again from where we are.
    async fn follow(&mut self, token: &mut ResumeToken) {
        let mut retry = Backoff::default();
        loop {
            let error = match self.store.watch(&self.prefix, token).await {
                Ok(mut watch) => loop {
                    match watch.next().await {
                        Ok(batch) => {
                            self.note_working();
                            retry = Backoff::default();
                            let mut batches = vec![batch];
                            while batches.len() < TOGETHER_MAX
                                && let Some(batch) = watch.try_next()
                            {
                                batches.push(batch);
                            }
                            token.revision = self.apply(&batches).unwrap_or(token.revision);
                        }
                        Err(error) => break error,
                    }
                },
                Err(error) => error,
            };
            match error {
                WatchError::Compacted { .. } => return,
                WatchError::Unavailable(error) => {
                    self.note_failing(&error);
                    retry.pause().await;
                }
            }
        }
    }

    /// Takes in what came together: one turn of the lock, and one wake-up of those who wait for a revision, of whom there
    /// are as many as commits that shared an fsync. Answers the revision that the view has reached.
    fn apply(&self, batches: &[Batch]) -> Option<Revision> {
        let reached = batches.last()?.revision;
        let changes = batches.iter().flat_map(|batch| batch.changes.iter());
        let readings: Vec<_> = changes.map(V::read).collect();
        {
            let mut state = self.state.write();
            readings.into_iter().for_each(|reading| state.view.apply(reading));
            state.revision = reached;
        }
        self.reached.send_replace(Some(reached));
        for batch in batches {
            if !batch.changes.is_empty() && self.notices.receiver_count() > 0 {
                let keys = batch.changes.iter().map(|change| change.key.clone()).collect();
                let _ = self.notices.send((batch.revision, Notice::Changed(keys)));
            }
        }
        Some(reached)
    }

    fn note_failing(&mut self, error: &StoreError) {
        if !self.failing {
            tracing::warn!(prefix = %self.prefix, error = error as &dyn std::error::Error, "the cache cannot follow the store; trying on");
        }
        self.failing = true;
    }

    fn note_working(&mut self) {
        if self.failing {
            tracing::info!(prefix = %self.prefix, "the cache follows the store again");
        }
        self.failing = false;
    }
}

fn read_all<V: View>(entries: Vec<Entry>) -> Vec<V::Reading> {
    let read = |entry: Entry| {
        V::read(&Change {
            key: entry.key.clone(),
            entry: Some(entry),
        })
    };
    entries.into_iter().map(read).collect()
}

/// What another thread has read. Its panic is the follower's own.
async fn finished<T>(reading: JoinHandle<T>) -> Result<T, StoreError> {
    reading.await.map_err(|e| match e.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(cancelled) => StoreError::unavailable("read what it lists", cancelled),
    })
}

/// Pauses that double.
struct Backoff {
    next_ms: u64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            next_ms: RETRY_MS_MIN,
        }
    }
}

impl Backoff {
    async fn pause(&mut self) {
        tokio::time::sleep(Duration::from_millis(self.next_ms)).await;
        self.next_ms = (self.next_ms * 2).min(RETRY_MS_MAX);
    }
}
