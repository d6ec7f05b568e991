//! The cache holds what the store holds, whatever is committed, cut off or compacted in between.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test reports by panicking")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use adit_store::cache::NOTICES_MAX;
use adit_store::conformance::{committed, list_all};
use adit_store::{
    Batch, Cache, CacheError, Change, Commit, CommitId, Entry, LeaseId, Notice, Page, PageToken, RedbStore,
    ResumeToken, Revision, Store, StoreError, Txn, View, Watch, WatchError,
};
use async_trait::async_trait;
use proptest::prelude::*;
use tokio::sync::{Semaphore, broadcast};
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(20);

/// Every entry, by key.
#[derive(Default, Debug)]
struct Entries(BTreeMap<Arc<str>, Entry>);

impl View for Entries {
    type Reading = Change;

    fn read(change: &Change) -> Change {
        change.clone()
    }

    fn apply(&mut self, change: Change) {
        match change.entry {
            Some(entry) => self.0.insert(change.key, entry),
            None => self.0.remove(&change.key),
        };
    }
}

/// What a cut does to every watch that is open.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Compacted,
    Unavailable,
}

/// A store whose watches can be cut off, and whose barriers can be held up.
struct Cuttable {
    store: RedbStore,
    cuts: broadcast::Sender<Cut>,
    lists: AtomicUsize,
    barriers: AtomicUsize,
    barrier_gate: Semaphore,
}

impl Cuttable {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            store: RedbStore::ephemeral().unwrap(),
            cuts: broadcast::channel(16).0,
            lists: AtomicUsize::new(0),
            barriers: AtomicUsize::new(0),
            barrier_gate: Semaphore::new(Semaphore::MAX_PERMITS),
        })
    }
}

struct CuttableWatch {
    watch: Box<dyn Watch>,
    known: Revision,
    cuts: broadcast::Receiver<Cut>,
}

#[async_trait]
impl Watch for CuttableWatch {
    async fn next(&mut self) -> Result<Batch, WatchError> {
        tokio::select! {
            cut = self.cuts.recv() => Err(match cut {
                Ok(Cut::Unavailable) => WatchError::Unavailable(StoreError::unavailable("watch", "cut off")),
                _ => WatchError::Compacted { revision: self.known },
            }),
            batch = self.watch.next() => batch.inspect(|batch| self.known = batch.revision),
        }
    }
}

#[async_trait]
impl Store for Cuttable {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.store.get(key).await
    }

    /// Small pages, so that a load takes several.
    async fn list(&self, prefix: &str, after: Option<&PageToken>, limit: usize) -> Result<Page, StoreError> {
        self.lists.fetch_add(1, Ordering::SeqCst);
        self.store.list(prefix, after, limit.min(3)).await
    }

    async fn watch(&self, prefix: &str, from: &ResumeToken) -> Result<Box<dyn Watch>, WatchError> {
        let cuts = self.cuts.subscribe();
        let watch = self.store.watch(prefix, from).await?;
        Ok(Box::new(CuttableWatch {
            watch,
            known: from.revision,
            cuts,
        }))
    }

    async fn commit(&self, txn: Txn) -> Result<Commit, StoreError> {
        self.store.commit(txn).await
    }

    async fn settle(&self, id: CommitId, since: Revision) -> Result<Option<Revision>, StoreError> {
        self.store.settle(id, since).await
    }

    async fn barrier(&self) -> Result<Revision, StoreError> {
        self.barriers.fetch_add(1, Ordering::SeqCst);
        let revision = self.store.barrier().await;
        self.barrier_gate.acquire().await.unwrap().forget();
        revision
    }

    async fn lease_grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.store.lease_grant(ttl).await
    }

    async fn lease_keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.store.lease_keep_alive(lease).await
    }

    async fn lease_revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.store.lease_revoke(lease).await
    }
}

async fn ready(store: &Arc<Cuttable>, prefix: &str) -> Cache<Entries> {
    let cache = Cache::start(store.clone(), prefix);
    timeout(DEADLINE, cache.wait_ready()).await.unwrap().unwrap();
    cache
}

async fn passed(cache: &Cache<Entries>) -> Revision {
    timeout(DEADLINE, cache.barrier()).await.unwrap().unwrap()
}

/// One step of the property below.
#[derive(Clone, Debug)]
enum Step {
    /// Puts (`Some`) and deletes of keys under the prefix, and one key beside it.
    Commit {
        writes: BTreeMap<u8, Option<u8>>,
        beside: bool,
    },
    Cut(Cut),
    Compact,
    /// The follower may run between steps, or not.
    Pass,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let writes = prop::collection::btree_map(0u8..8, prop::option::of(any::<u8>()), 0..4);
    let step = prop_oneof![
        6 => (writes, any::<bool>()).prop_map(|(writes, beside)| Step::Commit { writes, beside }),
        1 => Just(Step::Cut(Cut::Compacted)),
        1 => Just(Step::Cut(Cut::Unavailable)),
        1 => Just(Step::Compact),
        2 => Just(Step::Pass),
    ];
    prop::collection::vec(step, 1..30)
}

/// The model: what the steps leave under the prefix, with the revision of each last write.
type Model = BTreeMap<String, (u8, Revision)>;

async fn take(step: Step, store: &Cuttable, cache: &Cache<Entries>, model: &mut Model) {
    match step {
        Step::Commit { writes, beside } => {
            let start = if beside {
                Txn::new().put("beside", [1])
            } else {
                Txn::new()
            };
            let txn = writes.iter().fold(start, |txn, (key, value)| match value {
                Some(value) => txn.put(format!("in/{key}"), [*value]),
                None => txn.delete(format!("in/{key}")),
            });
            let revision = committed(store, txn).await;
            for (key, value) in writes {
                match value {
                    Some(value) => model.insert(format!("in/{key}"), (value, revision)),
                    None => model.remove(&format!("in/{key}")),
                };
            }
        }
        Step::Cut(cut) => drop(store.cuts.send(cut)),
        Step::Compact => store.store.compact_history(),
        Step::Pass => {
            let revision = passed(cache).await;
            let view = cache.read();
            assert!(view.revision() >= revision);
            let held: Model = view
                .0
                .values()
                .map(|entry| (entry.key.to_string(), (entry.value[0], entry.mod_revision)))
                .collect();
            assert_eq!(held, *model);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn the_cache_is_the_model_after_any_steps(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = Cuttable::new();
            let cache = Cache::start(store.clone(), "in/");
            let mut model = Model::new();
            for step in steps.into_iter().chain([Step::Pass]) {
                take(step, &store, &cache, &mut model).await;
            }
            // The model is no more than a test's idea of the store; the store itself agrees.
            let (entries, _) = list_all(&store.store, "in/", 100).await;
            assert_eq!(cache.read().0.values().cloned().collect::<Vec<_>>(), entries);
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_see_whole_revisions_also_across_resyncs() {
    let store = Cuttable::new();
    committed(&*store, Txn::new().put("in/a", [0]).put("in/z", [0])).await;
    let cache = ready(&store, "in/").await;
    let writer = store.clone();
    let writing = tokio::spawn(async move {
        for n in 0..300u16 {
            let value = n.to_be_bytes();
            committed(&*writer, Txn::new().put("in/a", value).put("in/z", value)).await;
            if n % 25 == 0 {
                let _ = writer.cuts.send(Cut::Compacted);
            }
        }
    });
    let mut newest = Revision(0);
    while !writing.is_finished() {
        {
            let view = cache.read();
            assert_eq!(view.0["in/a"].value, view.0["in/z"].value);
            assert!(view.revision() >= newest, "time does not go back");
            newest = view.revision();
        }
        tokio::task::yield_now().await;
    }
    writing.await.unwrap();
}

#[tokio::test]
async fn callers_share_the_next_barrier_and_not_the_one_under_way() {
    let store = Cuttable::new();
    let cache = ready(&store, "").await;
    store.barrier_gate.forget_permits(Semaphore::MAX_PERMITS);
    let ask = || {
        let cache = cache.clone();
        tokio::spawn(async move { cache.barrier().await.unwrap() })
    };
    let first = ask();
    while store.barriers.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    // The first look has read; this commit is answered after it, so its caller needs another one.
    let revision = committed(&*store, Txn::new().put("k", *b"")).await;
    let others: Vec<_> = (0..20).map(|_| ask()).collect();
    tokio::task::yield_now().await;
    assert_eq!(store.barriers.load(Ordering::SeqCst), 1, "one at a time");
    store.barrier_gate.add_permits(2);
    assert!(timeout(DEADLINE, first).await.unwrap().unwrap() < revision);
    for other in others {
        assert!(timeout(DEADLINE, other).await.unwrap().unwrap() >= revision);
    }
    assert_eq!(store.barriers.load(Ordering::SeqCst), 2, "the others shared one");
}

#[tokio::test]
async fn a_caller_that_gives_up_holds_nobody_up() {
    let store = Cuttable::new();
    let cache = ready(&store, "").await;
    store.barrier_gate.forget_permits(Semaphore::MAX_PERMITS);
    assert!(timeout(Duration::from_millis(5), cache.barrier()).await.is_err());
    store.barrier_gate.add_permits(1);
    passed(&cache).await;
}

#[tokio::test]
async fn whoever_gives_up_while_many_ask_holds_nobody_up() {
    let store = Cuttable::new();
    let cache = ready(&store, "").await;
    store.barrier_gate.forget_permits(Semaphore::MAX_PERMITS);
    for given_up in 0..10 {
        let before = store.barriers.load(Ordering::SeqCst);
        let asking: Vec<_> = (0..10)
            .map(|_| {
                let cache = cache.clone();
                tokio::spawn(async move { cache.barrier().await.unwrap() })
            })
            .collect();
        while store.barriers.load(Ordering::SeqCst) == before {
            tokio::task::yield_now().await;
        }
        // The one who looks, those who share a look, and those who wait for the next one.
        asking[given_up].abort();
        asking[(given_up + 1) % 10].abort();
        store.barrier_gate.add_permits(10);
        for (n, asked) in asking.into_iter().enumerate() {
            let asked = timeout(DEADLINE, asked).await.expect("the turn goes on");
            assert!(asked.is_ok() || n == given_up || n == (given_up + 1) % 10);
        }
        store.barrier_gate.forget_permits(Semaphore::MAX_PERMITS);
    }
}

#[tokio::test]
async fn subscribers_learn_what_changed() {
    let store = Cuttable::new();
    let cache = ready(&store, "in/").await;
    let mut notices = cache.subscribe();
    let revision = committed(
        &*store,
        Txn::new().put("in/a", [1]).put("in/b", [1]).put("out", [1]),
    )
    .await;
    let notice = timeout(DEADLINE, notices.next()).await.unwrap();
    assert_eq!(
        notice,
        Some(Notice::Changed(Arc::new(["in/a".into(), "in/b".into()])))
    );
    assert!(
        cache.read().revision() >= revision,
        "the view is there before the notice"
    );

    let _ = store.cuts.send(Cut::Compacted);
    assert_eq!(
        timeout(DEADLINE, notices.next()).await.unwrap(),
        Some(Notice::Resync)
    );

    for n in 0..=NOTICES_MAX {
        committed(&*store, Txn::new().put("in/a", n.to_be_bytes())).await;
    }
    passed(&cache).await;
    assert_eq!(
        timeout(DEADLINE, notices.next()).await.unwrap(),
        Some(Notice::Resync),
        "too slow"
    );
    drop(cache);
    let drained = async { while notices.next().await.is_some() {} };
    timeout(DEADLINE, drained)
        .await
        .expect("the notices end with the last handle");
}

#[tokio::test]
async fn a_cut_off_watch_is_resumed_without_loading_again() {
    let store = Cuttable::new();
    let cache = ready(&store, "").await;
    let lists = store.lists.load(Ordering::SeqCst);
    for n in 0..5u8 {
        let _ = store.cuts.send(Cut::Unavailable);
        committed(&*store, Txn::new().put("k", [n])).await;
        passed(&cache).await;
    }
    assert_eq!(*cache.read().0["k"].value, [4]);
    assert_eq!(store.lists.load(Ordering::SeqCst), lists);
}

#[tokio::test]
async fn the_follower_ends_with_the_last_handle() {
    let store = Cuttable::new();
    let cache = ready(&store, "").await;
    let other = cache.clone();
    drop(cache);
    committed(&*store, Txn::new().put("k", *b"")).await;
    passed(&other).await;
    drop(other);
    let ended = async {
        while Arc::strong_count(&store) > 1 {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, ended)
        .await
        .expect("the follower lets go of the store");
}

/// A view with a defect.
#[derive(Default)]
struct Defect;

impl View for Defect {
    type Reading = ();

    fn read(_change: &Change) {}

    fn apply(&mut self, (): ()) {
        panic!("on purpose");
    }
}

#[tokio::test]
async fn a_defect_of_the_view_is_told_to_who_waits() {
    let store = Cuttable::new();
    let cache = Cache::<Defect>::start(store.clone(), "");
    timeout(DEADLINE, cache.wait_ready()).await.unwrap().unwrap();
    committed(&*store, Txn::new().put("k", *b"")).await;
    let answer = timeout(DEADLINE, cache.barrier()).await.expect("an answer");
    assert!(matches!(answer, Err(CacheError::Stopped)));
}
