//! What is particular to this engine, on a device that a test can hold up, break and cut the power of.
//! What every engine must do is in `crate::conformance`.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ::redb::{Database, StorageBackend, TableDefinition};
use parking_lot::{Condvar, Mutex};

use super::history::{HISTORY_BYTES_MAX, HISTORY_REVISIONS_MAX, History};
use super::writer::Request;
use super::{FORMAT_VERSION, META, META_FORMAT, OpenError, RedbStore};
use crate::conformance::{committed, list_all};
use crate::store::{
    Batch, Change, Commit, Entry, ResumeToken, Revision, Store, StoreError, Watch, WatchError,
};
use crate::txn::{TXN_OPERATIONS_MAX, Txn};

/// A device that keeps what was written and what was synced apart.
#[derive(Clone, Debug, Default)]
struct TestDevice {
    state: Arc<(Mutex<DeviceState>, Condvar)>,
}

#[derive(Debug, Default)]
struct DeviceState {
    live: Vec<u8>,
    durable: Vec<u8>,
    fault: Fault,
    syncs_waiting: usize,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
enum Fault {
    #[default]
    None,
    /// Syncs wait until the fault is lifted.
    HoldSyncs,
    FailSyncs,
    /// Writes beyond the present end fail.
    Full,
}

impl TestDevice {
    /// A device that holds what another one would hold after a power cut.
    fn after_power_cut(&self) -> Self {
        let durable = self.state.0.lock().durable.clone();
        let state = DeviceState {
            live: durable.clone(),
            durable,
            ..DeviceState::default()
        };
        Self {
            state: Arc::new((Mutex::new(state), Condvar::new())),
        }
    }

    fn set(&self, fault: Fault) {
        self.state.0.lock().fault = fault;
        self.state.1.notify_all();
    }

    fn open(&self) -> RedbStore {
        RedbStore::with_backend(self.clone(), Path::new("test device")).unwrap()
    }
}

impl StorageBackend for TestDevice {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state.0.lock().live.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        out.copy_from_slice(&self.state.0.lock().live[start..start + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state.0.lock();
        let len = usize::try_from(len).unwrap();
        if state.fault == Fault::Full && len > state.live.len() {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        state.live.resize(len, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let (state, changed) = &*self.state;
        let mut state = state.lock();
        state.syncs_waiting += 1;
        changed.notify_all();
        while state.fault == Fault::HoldSyncs {
            changed.wait(&mut state);
        }
        state.syncs_waiting -= 1;
        match state.fault {
            Fault::FailSyncs => return Err(io::Error::other("the device broke")),
            Fault::None | Fault::Full | Fault::HoldSyncs => {}
        }
        state.durable = state.live.clone();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap();
        self.state.0.lock().live[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }
}

/// Waits for a condition, not for ever.
async fn until(holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .expect("it comes true");
}

#[tokio::test]
async fn a_file_is_read_again_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let store = RedbStore::open(&path).unwrap();
    let revision = committed(&store, Txn::new().absent("a").put("a", *b"1")).await;
    let token = store.list("", None, 1).await.unwrap().resume_token();
    drop(store);

    let store = RedbStore::open(&path).unwrap();
    let entry = store.get("a").await.unwrap().unwrap();
    assert_eq!((&*entry.value, entry.mod_revision), (&b"1"[..], revision));
    assert_eq!(store.barrier().await.unwrap(), revision);
    // Nothing was missed yet, so the watch goes on; from further back it is too late.
    let mut watch = store.watch("", &token).await.unwrap();
    let next = committed(&store, Txn::new().put("a", *b"2")).await;
    assert_eq!(watch.next().await.unwrap().revision, next);
    drop((store, watch));
    let store = RedbStore::open(&path).unwrap();
    assert!(matches!(
        store.watch("", &token).await,
        Err(WatchError::Compacted { .. })
    ));
}

#[test]
fn a_file_in_use_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let first = RedbStore::open(&path).unwrap();
    assert!(matches!(RedbStore::open(&path), Err(OpenError::InUse { .. })));
    drop(first);
    RedbStore::open(&path).unwrap();
}

#[test]
fn a_file_that_is_not_ours_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let newer = folder.path().join("newer.redb");
    drop(RedbStore::open(&newer).unwrap());
    let db = Database::open(&newer).unwrap();
    let txn = db.begin_write().unwrap();
    txn.open_table(META)
        .unwrap()
        .insert(META_FORMAT, FORMAT_VERSION + 1)
        .unwrap();
    txn.commit().unwrap();
    drop(db);
    let error = RedbStore::open(&newer).err().unwrap();
    assert!(
        matches!(error, OpenError::NewerFormat { found, .. } if found == FORMAT_VERSION + 1),
        "{error}"
    );

    let foreign = folder.path().join("foreign.redb");
    let db = Database::create(&foreign).unwrap();
    let txn = db.begin_write().unwrap();
    txn.open_table(TableDefinition::<u64, u64>::new("theirs"))
        .unwrap();
    txn.commit().unwrap();
    drop(db);
    assert!(matches!(
        RedbStore::open(&foreign),
        Err(OpenError::NotAStore { .. })
    ));

    let text = folder.path().join("notes.txt");
    std::fs::write(&text, "no database").unwrap();
    assert!(matches!(RedbStore::open(&text), Err(OpenError::Database { .. })));
    assert_eq!(std::fs::read_to_string(&text).unwrap(), "no database");
    assert!(matches!(
        RedbStore::open(folder.path().join("none/store.redb")),
        Err(OpenError::Io { .. })
    ));
}

#[tokio::test]
async fn keys_of_leases_of_an_earlier_process_are_swept_at_open() {
    let device = TestDevice::default();
    let store = device.open();
    let lease = store.lease_grant(Duration::from_secs(3600)).await.unwrap();
    let other = store.lease_grant(Duration::from_secs(3600)).await.unwrap();
    let leased = Txn::new()
        .put_leased("l/1", *b"", lease)
        .put_leased("l/2", *b"", other)
        .put("k", *b"");
    let revision = committed(&store, leased).await;
    drop(store);
    let store = device.open();
    let (entries, token) = list_all(&store, "", 10).await;
    assert_eq!(entries.iter().map(|entry| &*entry.key).collect::<Vec<_>>(), ["k"]);
    assert!(token.revision > revision);
    assert!(matches!(
        store.lease_keep_alive(lease).await,
        Err(StoreError::LeaseNotFound(_))
    ));
    drop(store);
    assert_eq!(
        device.open().barrier().await.unwrap(),
        token.revision,
        "swept once"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_commits_share_an_fsync() {
    const COMMITS: u64 = 200;
    let device = TestDevice::default();
    let store = Arc::new(device.open());
    let before = store.stats();
    committed(&*store, Txn::new().put("alone", *b"")).await;
    let alone = store.stats().fsyncs - before.fsyncs;
    assert!(alone >= 1);

    device.set(Fault::HoldSyncs);
    let commit = |n: u64| {
        let store = store.clone();
        tokio::spawn(async move { committed(&*store, Txn::new().put(format!("k/{n}"), *b"")).await })
    };
    let first = commit(0);
    until(|| device.state.0.lock().syncs_waiting > 0).await;
    let others: Vec<_> = (1..COMMITS).map(commit).collect();
    // All of them are in the queue while the first one's fsync is held up.
    until(|| store.requests.as_ref().unwrap().capacity() <= super::QUEUE_REQUESTS_MAX - others.len()).await;
    device.set(Fault::None);
    let mut revisions = vec![first.await.unwrap()];
    for other in others {
        revisions.push(other.await.unwrap());
    }
    revisions.sort();
    revisions.dedup();
    assert_eq!(revisions.len() as u64, COMMITS, "each has a revision of its own");
    let stats = store.stats();
    assert_eq!(stats.commits, COMMITS + 1);
    let fsyncs = stats.fsyncs - before.fsyncs;
    // One alone, the first, one for all the others; and the file may have to grow for them.
    assert!(
        fsyncs <= 4 * alone,
        "{fsyncs} fsyncs, {alone} for one commit alone"
    );
}

#[tokio::test]
async fn readers_and_watchers_see_only_what_is_durable() {
    let device = TestDevice::default();
    let store = Arc::new(device.open());
    let token = store.list("", None, 1).await.unwrap().resume_token();
    let mut watch = store.watch("", &token).await.unwrap();
    device.set(Fault::HoldSyncs);
    let writer = store.clone();
    let commit = tokio::spawn(async move { committed(&*writer, Txn::new().put("k", *b"")).await });
    until(|| device.state.0.lock().syncs_waiting > 0).await;
    assert_eq!(store.get("k").await.unwrap(), None);
    assert_eq!(store.barrier().await.unwrap(), token.revision);
    assert!(
        tokio::time::timeout(Duration::from_millis(5), watch.next())
            .await
            .is_err()
    );
    device.set(Fault::None);
    let revision = commit.await.unwrap();
    assert_eq!(watch.next().await.unwrap().revision, revision);
}

#[tokio::test]
async fn an_answered_commit_survives_a_power_cut() {
    let device = TestDevice::default();
    let store = device.open();
    for n in 0..40u8 {
        let keys = (0..TXN_OPERATIONS_MAX).fold(Txn::new(), |txn, key| txn.put(format!("k/{key}"), [n; 100]));
        let revision = committed(&store, keys).await;
        let after = device.after_power_cut().open();
        assert_eq!(after.barrier().await.unwrap(), revision);
        let (entries, _) = list_all(&after, "k/", 100).await;
        assert_eq!(entries.len(), TXN_OPERATIONS_MAX);
        assert!(
            entries
                .iter()
                .all(|entry| *entry.value == [n; 100] && entry.mod_revision == revision)
        );
    }
}

/// After a fault nobody waits for ever, nothing is promised, and reopening finds all that was promised before.
async fn stops_after(fault: Fault) {
    let device = TestDevice::default();
    let store = device.open();
    let since = committed(&store, Txn::new().put("before", *b"")).await;
    let mut watch = store.watch("", &list_all(&store, "", 10).await.1).await.unwrap();
    device.set(fault);
    let (mut ids, mut unknown) = (Vec::new(), 0);
    for n in 0..100 {
        // Large, so that a full device is found out.
        let txn = Txn::new().put(format!("k/{n}"), vec![n; 500_000]);
        ids.push(txn.id());
        match store.commit(txn).await {
            Ok(Commit::Committed(_)) if fault == Fault::Full => {}
            Ok(Commit::Unknown) => unknown += 1,
            Err(StoreError::Unavailable { .. }) => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(unknown >= 1);
    assert_stopped(&store, &mut watch).await;
    drop(store);

    device.set(Fault::None);
    let store = device.open();
    assert!(store.get("before").await.unwrap().is_some());
    for (n, id) in ids.into_iter().enumerate() {
        let found = store
            .get(&format!("k/{n}"))
            .await
            .unwrap()
            .map(|entry| entry.mod_revision);
        assert_eq!(
            store.settle(id, since).await.unwrap(),
            found,
            "what settle says is so"
        );
    }
}

async fn assert_stopped(store: &RedbStore, watch: &mut Box<dyn Watch>) {
    let ended = loop {
        match watch.next().await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(ended, WatchError::Unavailable(_)));
    let txn = Txn::new().put("k", *b"");
    let id = txn.id();
    assert!(matches!(
        store.commit(txn).await,
        Err(StoreError::Unavailable { .. })
    ));
    assert!(matches!(
        store.settle(id, Revision(0)).await,
        Err(StoreError::Unavailable { .. })
    ));
    assert!(matches!(
        store.get("before").await,
        Err(StoreError::Unavailable { .. })
    ));
    assert!(matches!(
        store.list("", None, 1).await,
        Err(StoreError::Unavailable { .. })
    ));
    assert!(matches!(
        store.barrier().await,
        Err(StoreError::Unavailable { .. })
    ));
    assert!(matches!(
        store.lease_grant(Duration::from_secs(1)).await,
        Err(StoreError::Unavailable { .. })
    ));
    let token = ResumeToken {
        incarnation: store.shared.incarnation,
        revision: Revision(0),
    };
    assert!(matches!(
        store.watch("", &token).await,
        Err(WatchError::Unavailable(_))
    ));
}

#[tokio::test]
async fn a_failing_fsync_is_unknown_and_stops_the_engine() {
    stops_after(Fault::FailSyncs).await;
}

#[tokio::test]
async fn a_full_device_stops_the_engine() {
    stops_after(Fault::Full).await;
}

#[tokio::test]
async fn a_panic_of_the_writer_stops_the_engine() {
    let device = TestDevice::default();
    let store = device.open();
    committed(&store, Txn::new().put("before", *b"")).await;
    let mut watch = store.watch("", &list_all(&store, "", 10).await.1).await.unwrap();
    store
        .requests
        .as_ref()
        .unwrap()
        .try_send(Request::Panic)
        .ok()
        .unwrap();
    // It is behind the panic in the queue, so it is dropped or refused.
    assert!(!matches!(
        store.commit(Txn::new().put("k", *b"")).await,
        Ok(Commit::Committed(_))
    ));
    assert_stopped(&store, &mut watch).await;
    drop(store);
    let store = device.open();
    assert!(store.get("before").await.unwrap().is_some());
    assert!(store.get("k").await.unwrap().is_none());
}

#[tokio::test]
async fn half_way_lists_are_bounded() {
    let store = RedbStore::ephemeral().unwrap();
    committed(&store, Txn::new().put("p/1", *b"").put("p/2", *b"")).await;
    let mut tokens = Vec::new();
    for n in 0..20u8 {
        tokens.push(store.list("p/", None, 1).await.unwrap().next.unwrap());
        committed(&store, Txn::new().put("other", [n])).await;
    }
    assert!(matches!(
        store.list("p/", tokens.first(), 1).await,
        Err(StoreError::Compacted { .. })
    ));
    let last = store.list("p/", tokens.last(), 1).await.unwrap();
    assert_eq!(last.entries.len(), 1);
}

#[test]
fn history_is_bounded_in_revisions_and_bytes() {
    let batch = |revision: u64, bytes: usize| {
        let revision = Revision(revision);
        let (key, value) = (Arc::from("k"), vec![0; bytes].into());
        let entry = Entry {
            key: Arc::clone(&key),
            value,
            mod_revision: revision,
            create_revision: revision,
            lease: None,
        };
        Batch {
            revision,
            changes: Arc::new([Change {
                key,
                entry: Some(entry),
            }]),
        }
    };
    let history = History::new(Revision(7));
    let newest = 7 + HISTORY_REVISIONS_MAX as u64;
    history.publish((8..=newest).map(|revision| batch(revision, 1)).collect());
    assert!(history.reaches_back_to(Revision(7)));
    assert!(!history.reaches_back_to(Revision(6)));
    history.publish(vec![batch(newest + 1, 1)]);
    assert!(!history.reaches_back_to(Revision(7)));
    assert!(history.reaches_back_to(Revision(8)));
    history.publish(vec![batch(newest + 2, HISTORY_BYTES_MAX - 1_000_000)]);
    assert!(history.reaches_back_to(Revision(newest)));
    history.publish(vec![batch(newest + 3, 1_000_000)]);
    assert!(!history.reaches_back_to(Revision(newest)));
    assert!(history.reaches_back_to(Revision(newest + 2)));
    assert_eq!(history.newest(), Revision(newest + 3));
}

/// A value read must not outlive its read transaction: the writer reuses pages that nobody reads, and redb's debug build
/// asserts that nobody does.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reading_while_pages_are_reused_disturbs_nobody() {
    let store = Arc::new(RedbStore::ephemeral().unwrap());
    committed(&*store, Txn::new().put("k", [0; 3000])).await;
    let writer = store.clone();
    let writing = tokio::spawn(async move {
        for n in 0..2000u16 {
            committed(&*writer, Txn::new().put("k", n.to_be_bytes().repeat(1500))).await;
        }
    });
    let readers: Vec<_> = (0..3)
        .map(|_| {
            let (store, writing) = (store.clone(), writing.abort_handle());
            tokio::spawn(async move {
                while !writing.is_finished() {
                    let value = store.get("k").await.unwrap().unwrap().value;
                    assert!(value.chunks(2).all(|pair| pair == &value[..2]));
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    writing.await.unwrap();
    for reader in readers {
        reader.await.unwrap();
    }
}
