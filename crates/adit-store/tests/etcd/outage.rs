//! Members that crash, stand still and come back.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;

use adit_store::conformance::committed;
use adit_store::{Cache, Change, Commit, CommitId, Entry, EtcdConfig, Revision, Store, Txn, View};
use tokio::time::timeout;

use crate::DEADLINE;
use crate::cluster::{self, Cluster};

/// Every entry, by key.
#[derive(Default)]
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

async fn follow(store: &Arc<dyn Store>) -> Cache<Entries> {
    let cache = Cache::start(store.clone(), "");
    timeout(DEADLINE, cache.wait_ready()).await.unwrap().unwrap();
    cache
}

/// Commits until it is known to be committed: an outage may make it fail or leave it open.
async fn commit_at_last(store: &dyn Store, key: &str, value: u8) {
    let committing = async {
        loop {
            let since = match store.barrier().await {
                Ok(since) => since,
                Err(_) => continue,
            };
            let txn = Txn::new().put(key, [value]);
            let id = txn.id();
            match store.commit(txn).await {
                Ok(Commit::Committed(_)) => return,
                Ok(Commit::Conflict) => panic!("nothing was compared"),
                Ok(Commit::Unknown) if matches!(store.settle(id, since).await, Ok(Some(_))) => return,
                Ok(Commit::Unknown) | Err(_) => {}
            }
        }
    };
    timeout(DEADLINE, committing)
        .await
        .expect("the store works again");
}

/// Passes a barrier, trying on while members are away.
async fn passed(cache: &Cache<Entries>) {
    let passing = async { while cache.barrier().await.is_err() {} };
    timeout(DEADLINE, passing).await.expect("the cache catches up");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_end_while_etcd_is_down_and_the_cache_catches_up() {
    if !cluster::is_installed("calls_end_while_etcd_is_down_and_the_cache_catches_up") {
        return;
    }
    let mut cluster = Cluster::start(1);
    let store: Arc<dyn Store> = Arc::new(cluster.open(cluster.config("adit")).await);
    let cache = follow(&store).await;
    let before = committed(&*store, Txn::new().put("k", [1]).put("kept", [1])).await;
    passed(&cache).await;

    cluster.kill(0);
    let calls = async {
        assert!(store.get("k").await.is_err());
        assert!(store.barrier().await.is_err());
        assert!(store.list("", None, 10).await.is_err());
        // It cannot have reached anybody, unless the connection's end was not noticed yet.
        assert!(!matches!(
            store.commit(Txn::new().put("lost", [1])).await,
            Ok(Commit::Committed(_) | Commit::Conflict)
        ));
        assert!(store.lease_grant(DEADLINE).await.is_err());
    };
    timeout(DEADLINE, calls).await.expect("every call ends");
    assert_eq!(*cache.read().0["k"].value, [1], "what is known stays to be read");

    cluster.restart(0);
    commit_at_last(&*store, "k", 2).await;
    passed(&cache).await;
    let view = cache.read();
    assert_eq!(*view.0["k"].value, [2]);
    assert_eq!(
        view.0["kept"].mod_revision, before,
        "what was acknowledged is there"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn any_member_of_three_may_die_or_stand_still() {
    if !cluster::is_installed("any_member_of_three_may_die_or_stand_still") {
        return;
    }
    let mut cluster = Cluster::start(3);
    let store: Arc<dyn Store> = Arc::new(cluster.open(cluster.config("adit")).await);
    let cache = follow(&store).await;
    let mut value = 0;
    // The one that is asked goes first: each outage has it move on to the next.
    for kills in [true, false] {
        for member in 0..3 {
            value += 1;
            match kills {
                true => cluster.kill(member),
                false => cluster.pause(member),
            }
            commit_at_last(&*store, "k", value).await;
            passed(&cache).await;
            assert_eq!(*cache.read().0["k"].value, [value], "without member {member}");
            match kills {
                true => cluster.restart(member),
                false => cluster.resume(member),
            }
            // The next one may only go when this one is back.
            let mut only = cluster.config("adit");
            only.urls = vec![cluster.url(member)];
            cluster.open(only).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_hangs_is_noticed_by_what_another_answers() {
    if !cluster::is_installed("a_member_that_hangs_is_noticed_by_what_another_answers") {
        return;
    }
    // An election takes longer than it takes to ask everybody twice.
    let slow = ["--heartbeat-interval", "300", "--election-timeout", "3000"].map(str::to_owned);
    let cluster = Cluster::start_with(3, "http", &slow);
    let config = cluster.config("adit");
    let store: Arc<dyn Store> = Arc::new(
        cluster
            .open(EtcdConfig {
                // Nothing ends in time by this.
                attempt_timeout: 10 * DEADLINE,
                ..config
            })
            .await,
    );
    let cache = follow(&store).await;
    let lease = store.lease_grant(10 * DEADLINE).await.unwrap();
    // Whichever is asked, and whichever leads, is among them.
    for member in 0..3 {
        cluster.pause(member);
        let kept = timeout(DEADLINE, store.lease_keep_alive(lease)).await;
        kept.expect("another answers").unwrap();
        let since = store.barrier();
        let since = timeout(DEADLINE, since).await.expect("another answers").unwrap();
        let txn = Txn::new().put("k", [u8::try_from(member).unwrap()]);
        let id = txn.id();
        let committed = timeout(DEADLINE, store.commit(txn)).await;
        match committed.expect("what hangs is given up").unwrap() {
            Commit::Committed(_) => {}
            Commit::Conflict => panic!("nothing was compared"),
            Commit::Unknown => {
                let settled = timeout(DEADLINE, store.settle(id, since)).await;
                settled.expect("it becomes known").unwrap();
            }
        }
        passed(&cache).await;
        cluster.resume(member);
        let mut only = cluster.config("adit");
        only.urls = vec![cluster.url(member)];
        cluster.open(only).await;
    }
}

/// All of etcd is killed; ports are bound again long before they are served, which is how etcd starts after much history. Nothing
/// that is asked meanwhile holds up what comes later.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_before_ports_are_served_keeps_nobody_waiting_afterwards() {
    if !cluster::is_installed("what_is_asked_before_ports_are_served_keeps_nobody_waiting_afterwards") {
        return;
    }
    let mut cluster = Cluster::start(3);
    let config = EtcdConfig {
        // Nothing ends in time by this.
        attempt_timeout: 10 * DEADLINE,
        ..cluster.config("adit")
    };
    let store: Arc<dyn Store> = Arc::new(cluster.open(config).await);
    let cache = follow(&store).await;
    let before = committed(&*store, Txn::new().put("kept", [1])).await;
    // At first they are served in the end; then they are killed once more, and others take their ports.
    for (value, dies) in [(1, false), (2, true)] {
        for member in 0..3 {
            cluster.kill(member);
        }
        for member in 0..3 {
            cluster.restart_unserved(member).await;
        }
        let txn = Txn::new().absent("once").put("once", [value]);
        let id = txn.id();
        let (reading, writing) = (store.clone(), store.clone());
        let (read, wrote) = (
            tokio::spawn(async move { reading.barrier().await }),
            tokio::spawn(async move { writing.commit(txn).await }),
        );
        for member in 0..3 {
            match dies {
                true => {
                    cluster.kill(member);
                    cluster.restart(member);
                }
                false => cluster.resume(member),
            }
        }
        // Whoever could have answered may be gone; but the calls end.
        let _ = timeout(DEADLINE, read).await.expect("a read ends").unwrap();
        let wrote = timeout(DEADLINE, wrote).await.expect("a commit ends").unwrap();
        commit_at_last(&*store, "k", value).await;
        passed(&cache).await;
        let view = cache.read();
        assert_eq!(*view.0["k"].value, [value]);
        assert_eq!(
            view.0["kept"].mod_revision, before,
            "what was acknowledged is there"
        );
        let found = view
            .0
            .get("once")
            .map(|entry| (entry.mod_revision, *entry.value == [value]));
        drop(view);
        let happened = match wrote {
            Ok(Commit::Committed(revision)) => Some(revision),
            Ok(Commit::Unknown) => settled(&*store, id, before).await,
            Ok(Commit::Conflict) | Err(_) => None,
        };
        match happened {
            Some(revision) => assert_eq!(found, Some((revision, true)), "once, and as it was told"),
            None => assert!(
                !matches!(found, Some((_, true))),
                "it was told that it did not happen"
            ),
        }
    }
}

/// What became of a commit, trying on while members are away.
async fn settled(store: &dyn Store, id: CommitId, since: Revision) -> Option<Revision> {
    let settling = async {
        loop {
            if let Ok(settled) = store.settle(id, since).await {
                return settled;
            }
        }
    };
    timeout(DEADLINE, settling).await.expect("it becomes known")
}

#[tokio::test(flavor = "multi_thread")]
async fn many_callers_wait_no_longer_for_a_silent_member_than_one() {
    const CALLERS: usize = 200;
    if !cluster::is_installed("many_callers_wait_no_longer_for_a_silent_member_than_one") {
        return;
    }
    let mut cluster = Cluster::start(1);
    // It takes connections and says nothing, so that no TLS comes about.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = cluster.config("adit");
    let urls = [
        cluster.url(0),
        format!("https://{}", silent.local_addr().unwrap()),
    ];
    let store: Arc<dyn Store> = Arc::new(
        cluster
            .open(EtcdConfig {
                urls: urls.into(),
                ..config
            })
            .await,
    );
    cluster.kill(0);
    let calls: Vec<_> = (0..CALLERS)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { store.commit(Txn::new().put(format!("k/{n}"), *b"")).await })
        })
        .collect();
    let ended = async {
        for call in calls {
            let outcome = call.await.unwrap();
            assert!(!matches!(outcome, Ok(Commit::Committed(_))), "{outcome:?}");
        }
    };
    timeout(DEADLINE, ended).await.expect("every call ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_without_space_says_so_until_somebody_makes_room() {
    if !cluster::is_installed("an_etcd_without_space_says_so_until_somebody_makes_room") {
        return;
    }
    let quota = ["--quota-backend-bytes".to_owned(), (8 << 20).to_string()];
    let cluster = Cluster::start_with(1, "http", &quota);
    let store = cluster.open(cluster.config("adit")).await;
    store.can_write().await.unwrap();
    let large = vec![7; 900_000];
    let refused = loop {
        if let Err(error) = store.commit(Txn::new().put("k", large.as_slice())).await {
            break error;
        }
    };
    let says_why = |error: &dyn std::error::Error| {
        assert!(
            error.source().unwrap().to_string().contains("space exceeded"),
            "{error:?}"
        );
    };
    says_why(&refused);
    // It answers, and writes nothing.
    assert!(store.get("k").await.unwrap().is_some());
    says_why(&store.can_write().await.unwrap_err());

    let revision = store.barrier().await.unwrap();
    let call = |path: &str, body: &str| {
        let url = format!("{}/v3/{path}", cluster.url(0));
        let called = Command::new("curl").args(["-sf", &url, "-d", body]).output();
        let called = called.unwrap();
        assert!(called.status.success(), "{path}: {called:?}");
        String::from_utf8(called.stdout).unwrap()
    };
    let compaction = format!(r#"{{"revision":"{revision}","physical":true}}"#);
    call("kv/compaction", &compaction);
    call("maintenance/defragment", "{}");
    says_why(&store.can_write().await.unwrap_err());
    let alarms = call("maintenance/alarm", r#"{"action":"GET"}"#);
    let (_, member) = alarms.split_once("\"memberID\":\"").unwrap();
    let (member, _) = member.split_once('"').unwrap();
    let disarm = format!(r#"{{"action":"DEACTIVATE","memberID":"{member}","alarm":"NOSPACE"}}"#);
    call("maintenance/alarm", &disarm);
    store.can_write().await.unwrap();
    committed(&store, Txn::new().put("k", *b"v")).await;
}
