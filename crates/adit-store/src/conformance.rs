//! What every engine must do, as a suite: give it a [`Bench`] and it checks the engine through the trait alone.
//!
//! Each check gets a fresh, empty store and panics if a promise of [`Store`] is not kept. `Unknown` cannot be provoked
//! from outside; each engine tests it with its own broken device, and the suite checks that [`Store::settle`] tells
//! what became of a commit. Used by `tests/conformance.rs`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a check reports by panicking")]

mod concurrent;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::timeout;
use uuid::Uuid;

use crate::store::{
    Batch, Commit, Entry, Incarnation, LeaseId, PAGE_ENTRIES_MAX, ResumeToken, Revision, Store, StoreError,
    Watch, WatchError,
};
use crate::txn::{CommitId, KEY_BYTES_MAX, TXN_BYTES_MAX, TXN_OPERATIONS_MAX, Txn};
use concurrent::{
    commits_that_wait_together_are_told_apart, concurrent_commits_lose_no_update,
    one_winner_of_concurrent_commits,
};

/// How long a check waits for something that must happen.
const DEADLINE_S_MAX: u64 = 20;
/// The time to live of leases that a check lets lapse, in milliseconds.
const LEASE_TTL_MS: u64 = 100;

/// An engine on the bench.
#[async_trait]
pub trait Bench: Sync {
    /// A fresh, empty store, independent of the others.
    async fn store(&self) -> Arc<dyn Store>;

    /// Makes the store forget its history up to now, as reaching a limit does.
    async fn compact(&self, store: &Arc<dyn Store>);
}

/// Runs every check, printing the name of each before it starts.
pub async fn run_all(bench: &impl Bench) {
    macro_rules! run {
        ($($check:ident),* $(,)?) => { $( println!("conformance: {}", stringify!($check)); $check(bench).await; )* };
    }
    run!(
        entries_carry_their_revisions,
        a_transaction_is_all_or_nothing,
        compares_see_the_state_before_the_writes,
        what_changes_nothing_takes_no_revision,
        limits_are_told_before_anything_is_written,
        one_winner_of_concurrent_commits,
        concurrent_commits_lose_no_update,
        commits_that_wait_together_are_told_apart,
        pages_are_of_one_revision,
        a_page_that_cannot_be_read_is_told,
        list_keeps_to_its_prefix,
        watch_delivers_whole_revisions,
        watch_resumes_where_it_was,
        watch_says_when_it_is_too_late,
        a_token_of_another_incarnation_starts_anew,
        barrier_is_not_behind,
        settle_tells_what_became_of_a_commit,
        a_lapsed_lease_takes_its_keys_along,
        a_lease_kept_alive_stays,
        a_revoked_lease_is_gone_at_once,
    );
}

/// Commits, and expects it to be committed.
pub async fn committed(store: &dyn Store, txn: Txn) -> Revision {
    match store.commit(txn).await.unwrap() {
        Commit::Committed(revision) => revision,
        other => panic!("not committed: {other:?}"),
    }
}

/// All entries under a prefix, at one revision, in pages of `limit`.
pub async fn list_all(store: &dyn Store, prefix: &str, limit: usize) -> (Vec<Entry>, ResumeToken) {
    let (mut entries, mut after) = (Vec::new(), None);
    loop {
        let page = store.list(prefix, after.as_ref(), limit).await.unwrap();
        assert!(page.entries.len() <= limit);
        let token = page.resume_token();
        entries.extend(page.entries);
        after = page.next;
        if after.is_none() {
            return (entries, token);
        }
    }
}

async fn next(watch: &mut Box<dyn Watch>) -> Batch {
    timeout(Duration::from_secs(DEADLINE_S_MAX), watch.next())
        .await
        .expect("the watch delivers")
        .unwrap()
}

async fn value(store: &dyn Store, key: &str) -> Option<Vec<u8>> {
    store.get(key).await.unwrap().map(|entry| entry.value.to_vec())
}

async fn now(store: &dyn Store) -> ResumeToken {
    store.list("", None, 1).await.unwrap().resume_token()
}

async fn entries_carry_their_revisions(bench: &impl Bench) {
    let store = bench.store().await;
    assert_eq!(store.get("k").await.unwrap(), None);
    let created = committed(&*store, Txn::new().put("k", *b"1")).await;
    let changed = committed(&*store, Txn::new().put("k", *b"2")).await;
    assert!(changed > created);
    let entry = store.get("k").await.unwrap().unwrap();
    assert_eq!((entry.create_revision, entry.mod_revision), (created, changed));
    assert_eq!((&*entry.key, &*entry.value), ("k", &b"2"[..]));
    committed(&*store, Txn::new().delete("k")).await;
    let again = committed(&*store, Txn::new().put("k", *b"3")).await;
    let entry = store.get("k").await.unwrap().unwrap();
    assert_eq!((entry.create_revision, entry.mod_revision), (again, again));
}

async fn a_transaction_is_all_or_nothing(bench: &impl Bench) {
    let store = bench.store().await;
    let first = committed(&*store, Txn::new().put("a", *b"1").put("b", *b"1")).await;
    let refused = Txn::new().absent("b").put("a", *b"2").delete("b").put("c", *b"2");
    assert_eq!(store.commit(refused).await.unwrap(), Commit::Conflict);
    assert_eq!(store.barrier().await.unwrap(), first);
    let state = (
        value(&*store, "a").await,
        value(&*store, "b").await,
        value(&*store, "c").await,
    );
    assert_eq!(state, (Some(b"1".to_vec()), Some(b"1".to_vec()), None));
    let second = committed(
        &*store,
        Txn::new().absent("c").put("a", *b"2").delete("b").put("c", *b"2"),
    )
    .await;
    let (entries, _) = list_all(&*store, "", PAGE_ENTRIES_MAX).await;
    let found: Vec<_> = entries
        .iter()
        .map(|entry| (&*entry.key, entry.mod_revision))
        .collect();
    assert_eq!(found, [("a", second), ("c", second)]);
}

async fn compares_see_the_state_before_the_writes(bench: &impl Bench) {
    let store = bench.store().await;
    let first = committed(&*store, Txn::new().absent("k").put("k", *b"1")).await;
    assert_eq!(
        store
            .commit(Txn::new().absent("k").put("k", *b"2"))
            .await
            .unwrap(),
        Commit::Conflict
    );
    let second = committed(&*store, Txn::new().unchanged("k", first).put("k", *b"2")).await;
    assert_eq!(
        store
            .commit(Txn::new().unchanged("k", first).put("k", *b"3"))
            .await
            .unwrap(),
        Commit::Conflict
    );
    assert_eq!(
        store
            .commit(Txn::new().unchanged("none", second).put("k", *b"3"))
            .await
            .unwrap(),
        Commit::Conflict
    );
    committed(
        &*store,
        Txn::new()
            .unchanged("k", second)
            .absent("other")
            .delete("k")
            .put("other", *b"x"),
    )
    .await;
    assert_eq!(
        store
            .commit(Txn::new().unchanged("k", second).put("k", *b"4"))
            .await
            .unwrap(),
        Commit::Conflict
    );
    assert_eq!(value(&*store, "k").await, None);
}

async fn what_changes_nothing_takes_no_revision(bench: &impl Bench) {
    let store = bench.store().await;
    let first = committed(&*store, Txn::new().put("k", *b"1")).await;
    assert_eq!(committed(&*store, Txn::new().unchanged("k", first)).await, first);
    assert_eq!(committed(&*store, Txn::new().delete("none")).await, first);
    assert_eq!(store.barrier().await.unwrap(), first);
}

async fn limits_are_told_before_anything_is_written(bench: &impl Bench) {
    let store = bench.store().await;
    let puts = |count: usize| (0..count).fold(Txn::new(), |txn, n| txn.put(format!("n/{n}"), *b""));
    let full = puts(TXN_OPERATIONS_MAX - 1).absent("none");
    let over = store.commit(full.clone().absent("none")).await.unwrap_err();
    assert!(
        matches!(over, StoreError::TooManyOperations { operations } if operations == TXN_OPERATIONS_MAX + 1)
    );
    committed(&*store, full).await;

    let big = |bytes: usize| Txn::new().put("big", vec![7; bytes - "big".len()]);
    let over = store.commit(big(TXN_BYTES_MAX + 1)).await.unwrap_err();
    assert!(matches!(over, StoreError::TooLarge { bytes } if bytes == TXN_BYTES_MAX + 1));
    assert_eq!(value(&*store, "big").await, None);
    committed(&*store, big(TXN_BYTES_MAX)).await;

    committed(&*store, Txn::new().put("k".repeat(KEY_BYTES_MAX), *b"")).await;
    for key in [String::new(), "k".repeat(KEY_BYTES_MAX + 1)] {
        let error = store.commit(Txn::new().put(key, *b"")).await.unwrap_err();
        assert!(matches!(error, StoreError::InvalidKey { .. }));
    }
    let twice = store
        .commit(Txn::new().put("a", *b"").delete("a"))
        .await
        .unwrap_err();
    assert!(matches!(twice, StoreError::DuplicateKey { key } if &*key == "a"));
    let no_lease = store
        .commit(Txn::new().put("a", *b"").put_leased("b", *b"", LeaseId(1)))
        .await
        .unwrap_err();
    assert!(matches!(no_lease, StoreError::LeaseNotFound(LeaseId(1))));
    assert_eq!(value(&*store, "a").await, None);
}

async fn pages_are_of_one_revision(bench: &impl Bench) {
    let store = bench.store().await;
    for n in 0..10 {
        committed(&*store, Txn::new().put(format!("p/{n}"), *b"old")).await;
    }
    let before = store.barrier().await.unwrap();
    let first = store.list("p/", None, 4).await.unwrap();
    assert_eq!((first.entries.len(), first.revision), (4, before));
    committed(
        &*store,
        Txn::new().put("p/5", *b"new").delete("p/6").put("p/55", *b"new"),
    )
    .await;
    let second = store.list("p/", first.next.as_ref(), 4).await.unwrap();
    let third = store.list("p/", second.next.as_ref(), 4).await.unwrap();
    assert_eq!((second.revision, third.revision), (before, before));
    assert!(third.next.is_none());
    let all: Vec<_> = [first.entries, second.entries, third.entries].concat();
    let expected: Vec<_> = (0..10).map(|n| format!("p/{n}")).collect();
    assert_eq!(all.iter().map(|entry| &*entry.key).collect::<Vec<_>>(), expected);
    assert!(all.iter().all(|entry| &*entry.value == b"old"));
}

async fn a_page_that_cannot_be_read_is_told(bench: &impl Bench) {
    let store = bench.store().await;
    committed(&*store, Txn::new().put("p/1", *b"").put("p/2", *b"")).await;
    let mut token = store.list("p/", None, 1).await.unwrap().next.unwrap();
    committed(&*store, Txn::new().put("p/3", *b"")).await;
    bench.compact(&store).await;
    assert!(matches!(
        store.list("p/", Some(&token), 1).await,
        Err(StoreError::Compacted { .. })
    ));
    token = store.list("p/", None, 1).await.unwrap().next.unwrap();
    token.incarnation = Incarnation(Uuid::new_v4());
    assert!(matches!(
        store.list("p/", Some(&token), 1).await,
        Err(StoreError::Compacted { .. })
    ));
}

async fn list_keeps_to_its_prefix(bench: &impl Bench) {
    let store = bench.store().await;
    committed(
        &*store,
        Txn::new()
            .put("a", *b"")
            .put("a/1", *b"")
            .put("a/2", *b"")
            .put("a0", *b"")
            .put("b", *b""),
    )
    .await;
    for limit in [1, 2, 100] {
        let (entries, token) = list_all(&*store, "a/", limit).await;
        assert_eq!(
            entries.iter().map(|entry| &*entry.key).collect::<Vec<_>>(),
            ["a/1", "a/2"]
        );
        assert_eq!(token.revision, store.barrier().await.unwrap());
        assert_eq!(list_all(&*store, "", limit).await.0.len(), 5);
        assert!(list_all(&*store, "none/", limit).await.0.is_empty());
    }
}

async fn watch_delivers_whole_revisions(bench: &impl Bench) {
    let store = bench.store().await;
    committed(&*store, Txn::new().put("w/gone", *b"")).await;
    let token = now(&*store).await;
    let mut watch = store.watch("w/", &token).await.unwrap();
    let first = committed(
        &*store,
        Txn::new().put("w/a", *b"1").put("other", *b"1").delete("w/gone"),
    )
    .await;
    let second = committed(&*store, Txn::new().put("other", *b"2")).await;
    let third = committed(&*store, Txn::new().put("w/a", *b"2").delete("w/none")).await;

    let batch = next(&mut watch).await;
    assert_eq!(batch.revision, first);
    let changes: BTreeMap<_, _> = batch
        .changes
        .iter()
        .map(|change| (&*change.key, change.entry.as_ref().map(|entry| &*entry.value)))
        .collect();
    assert_eq!(
        changes,
        BTreeMap::from([("w/a", Some(&b"1"[..])), ("w/gone", None)])
    );
    let batch = next(&mut watch).await;
    assert_eq!(
        (batch.revision, batch.changes.len()),
        (second, 0),
        "a revision elsewhere is delivered empty"
    );
    let batch = next(&mut watch).await;
    assert_eq!((batch.revision, batch.changes.len()), (third, 1));
    let entry = batch.changes[0].entry.clone().unwrap();
    assert_eq!((entry.create_revision, entry.mod_revision), (first, third));
    assert_eq!(store.get("w/a").await.unwrap(), Some(entry));
    assert!(
        timeout(Duration::from_millis(20), watch.next()).await.is_err(),
        "nothing more has happened"
    );
}

async fn watch_resumes_where_it_was(bench: &impl Bench) {
    let store = bench.store().await;
    let mut token = now(&*store).await;
    let mut revisions = Vec::new();
    for n in 0..10u8 {
        revisions.push(committed(&*store, Txn::new().put("w/k", [n])).await);
    }
    let mut delivered = Vec::new();
    for _ in 0..5 {
        let mut watch = store.watch("w/", &token).await.unwrap();
        for _ in 0..2 {
            token.revision = next(&mut watch).await.revision;
            delivered.push(token.revision);
        }
    }
    assert_eq!(delivered, revisions);
}

async fn watch_says_when_it_is_too_late(bench: &impl Bench) {
    let store = bench.store().await;
    let token = now(&*store).await;
    let mut behind = store.watch("w/", &token).await.unwrap();
    for n in 0..10u8 {
        committed(&*store, Txn::new().put("w/k", [n])).await;
    }
    let newest = now(&*store).await;
    let mut current = store.watch("w/", &newest).await.unwrap();
    bench.compact(&store).await;
    assert!(matches!(
        store.watch("w/", &token).await,
        Err(WatchError::Compacted { .. })
    ));
    // An engine may have delivered to a live watcher before; but then all of it, without a gap.
    let mut expected = token.revision;
    loop {
        match timeout(Duration::from_secs(DEADLINE_S_MAX), behind.next())
            .await
            .expect("an answer")
        {
            Ok(batch) => {
                expected.0 += 1;
                assert_eq!(batch.revision, expected);
                if expected == newest.revision {
                    break;
                }
            }
            Err(WatchError::Compacted { .. }) => break,
            Err(error) => panic!("{error}"),
        }
    }
    // Who had seen everything goes on.
    let after = committed(&*store, Txn::new().put("w/k", *b"after")).await;
    assert_eq!(next(&mut current).await.revision, after);
    let mut resumed = store.watch("w/", &newest).await.unwrap();
    assert_eq!(next(&mut resumed).await.revision, after);
}

async fn a_token_of_another_incarnation_starts_anew(bench: &impl Bench) {
    let (store, other) = (bench.store().await, bench.store().await);
    let (token, foreign) = (now(&*store).await, now(&*other).await);
    assert_ne!(token.incarnation, foreign.incarnation);
    assert!(matches!(
        store.watch("", &foreign).await,
        Err(WatchError::Compacted { .. })
    ));
    let future = ResumeToken {
        revision: Revision(token.revision.0 + 1000),
        ..token
    };
    assert!(matches!(
        store.watch("", &future).await,
        Err(WatchError::Compacted { .. })
    ));
}

async fn barrier_is_not_behind(bench: &impl Bench) {
    let store = bench.store().await;
    let tasks: Vec<_> = (0..8u8)
        .map(|task| {
            let store = store.clone();
            tokio::spawn(async move {
                for n in 0..10u8 {
                    let revision = committed(&*store, Txn::new().put(format!("b/{task}"), [n])).await;
                    assert!(store.barrier().await.unwrap() >= revision);
                    assert!(store.list("b/", None, 100).await.unwrap().revision >= revision);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

async fn settle_tells_what_became_of_a_commit(bench: &impl Bench) {
    let store = bench.store().await;
    let since = store.barrier().await.unwrap();
    let txn = Txn::new().absent("k").put("k", *b"1");
    let (id, revision) = (txn.id(), committed(&*store, txn).await);
    let loser = Txn::new().absent("k").put("k", *b"2");
    let loser_id = loser.id();
    assert_eq!(store.commit(loser).await.unwrap(), Commit::Conflict);
    committed(&*store, Txn::new().put("k", *b"3")).await;
    assert_eq!(store.settle(id, since).await.unwrap(), Some(revision));
    assert_eq!(store.settle(loser_id, since).await.unwrap(), None);
    assert_eq!(store.settle(CommitId(Uuid::new_v4()), since).await.unwrap(), None);

    // Whoever gave up waiting learns what happened, also while the commit is still on its way.
    let txn = Txn::new().put("late", *b"1");
    let id = txn.id();
    let _ = timeout(Duration::ZERO, store.commit(txn)).await;
    let settled = store.settle(id, since).await.unwrap();
    assert_eq!(
        store.get("late").await.unwrap().map(|entry| entry.mod_revision),
        settled
    );
}

async fn a_lapsed_lease_takes_its_keys_along(bench: &impl Bench) {
    let store = bench.store().await;
    let lease = store
        .lease_grant(Duration::from_millis(LEASE_TTL_MS))
        .await
        .unwrap();
    let put = Txn::new()
        .put_leased("l/1", *b"", lease)
        .put_leased("l/2", *b"", lease)
        .put_leased("l/3", *b"", lease);
    committed(&*store, put).await;
    let lease_of = async |key| store.get(key).await.unwrap().unwrap().lease;
    assert_eq!(lease_of("l/3").await, Some(lease));
    // Taken over without a lease, a key stays.
    committed(&*store, Txn::new().put("l/3", *b"kept")).await;
    assert_eq!(lease_of("l/3").await, None);
    let mut watch = store.watch("l/", &now(&*store).await).await.unwrap();
    let mut gone = Vec::new();
    while gone.len() < 2 {
        let batch = next(&mut watch).await;
        gone.extend(
            batch
                .changes
                .iter()
                .filter(|change| change.entry.is_none())
                .map(|change| change.key.clone()),
        );
    }
    gone.sort();
    assert_eq!(gone, ["l/1".into(), "l/2".into()]);
    assert_eq!(value(&*store, "l/1").await, None);
    assert_eq!(value(&*store, "l/3").await, Some(b"kept".to_vec()));
    assert!(matches!(store.lease_keep_alive(lease).await, Err(StoreError::LeaseNotFound(id)) if id == lease));
}

async fn a_lease_kept_alive_stays(bench: &impl Bench) {
    let store = bench.store().await;
    let (kept, lapsing) = (
        store
            .lease_grant(Duration::from_secs(DEADLINE_S_MAX))
            .await
            .unwrap(),
        store
            .lease_grant(Duration::from_millis(LEASE_TTL_MS))
            .await
            .unwrap(),
    );
    committed(
        &*store,
        Txn::new()
            .put_leased("kept", *b"", kept)
            .put_leased("lapsing", *b"", lapsing),
    )
    .await;
    let mut watch = store.watch("", &now(&*store).await).await.unwrap();
    store.lease_keep_alive(kept).await.unwrap();
    let batch = next(&mut watch).await;
    assert_eq!(
        batch
            .changes
            .iter()
            .map(|change| &*change.key)
            .collect::<Vec<_>>(),
        ["lapsing"]
    );
    store.lease_keep_alive(kept).await.unwrap();
    assert_eq!(value(&*store, "kept").await, Some(Vec::new()));
}

async fn a_revoked_lease_is_gone_at_once(bench: &impl Bench) {
    let store = bench.store().await;
    let lease = store
        .lease_grant(Duration::from_secs(DEADLINE_S_MAX))
        .await
        .unwrap();
    committed(&*store, Txn::new().put_leased("l", *b"", lease)).await;
    store.lease_revoke(lease).await.unwrap();
    assert_eq!(value(&*store, "l").await, None);
    store.lease_revoke(lease).await.unwrap();
    let refused = store
        .commit(Txn::new().put_leased("l", *b"", lease))
        .await
        .unwrap_err();
    assert!(matches!(refused, StoreError::LeaseNotFound(id) if id == lease));
}
