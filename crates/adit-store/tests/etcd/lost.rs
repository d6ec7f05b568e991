//! Answers and requests that are lost on the way.

use std::collections::HashSet;

use adit_store::conformance::committed;
use adit_store::{Commit, Store, Txn};
use futures_util::future::join_all;
use tokio::time::timeout;

use crate::DEADLINE;
use crate::cluster::{self, Cluster};
use crate::link::{Held, Link};

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_settled_by_reading_back() {
    if !cluster::is_installed("a_commit_whose_answer_is_lost_is_settled_by_reading_back") {
        return;
    }
    let cluster = Cluster::start(1);
    let link = Link::to(cluster.port(0)).await;
    let mut config = cluster.config("adit");
    let direct = cluster.open(config.clone()).await;
    // Whom else it knows, it might ask first.
    config.urls = vec![link.url()];
    let store = cluster.open(config.clone()).await;
    let since = committed(&store, Txn::new().put("first", [1])).await;

    // The request arrives; the answer does not.
    link.hold(Held::Answers);
    let txn = Txn::new().absent("k").put("k", [1]);
    let id = txn.id();
    let outcome = timeout(DEADLINE, store.commit(txn))
        .await
        .expect("the call ends")
        .unwrap();
    assert_eq!(outcome, Commit::Unknown);
    let others = committed(&direct, Txn::new().put("k", [2])).await;
    let settled = timeout(DEADLINE, direct.settle(id, since))
        .await
        .expect("the call ends")
        .unwrap();
    assert!(settled.is_some_and(|revision| since < revision && revision < others));
    link.hold(Held::Nothing);

    // The request itself is held up, and arrives after it was settled that it never happened.
    let late = cluster.open(config).await;
    committed(&late, Txn::new().put("second", [1])).await;
    link.hold(Held::Requests);
    let txn = Txn::new().absent("late").put("late", [1]);
    let id = txn.id();
    let since = direct.barrier().await.unwrap();
    let outcome = timeout(DEADLINE, late.commit(txn))
        .await
        .expect("the call ends")
        .unwrap();
    assert_eq!(outcome, Commit::Unknown);
    assert_eq!(
        timeout(DEADLINE, direct.settle(id, since))
            .await
            .expect("the call ends")
            .unwrap(),
        None
    );
    link.hold(Held::Nothing);
    // What lay on the way comes before anything that is sent after it.
    let mut through = cluster.config("adit");
    through.urls = vec![link.url()];
    committed(&cluster.open(through).await, Txn::new().put("third", [1])).await;
    assert_eq!(
        direct.get("late").await.unwrap(),
        None,
        "what was settled stays settled"
    );
}

// On one thread, so that all of them wait before the first request is made.
#[tokio::test]
async fn commits_that_went_together_and_are_lost_are_settled_one_by_one() {
    const COMMITS: usize = 40;
    if !cluster::is_installed("commits_that_went_together_and_are_lost_are_settled_one_by_one") {
        return;
    }
    let cluster = Cluster::start(1);
    let link = Link::to(cluster.port(0)).await;
    let mut config = cluster.config("adit");
    let direct = cluster.open(config.clone()).await;
    config.urls = vec![link.url()];
    let store = cluster.open(config).await;
    let since = committed(&store, Txn::new().put("first", [1])).await;
    link.hold(Held::Answers);
    let key = |n: usize| format!("k/{n}");
    let txns: Vec<_> = (0..COMMITS)
        .map(|n| Txn::new().absent(key(n)).put(key(n), [1]))
        .collect();
    let ids: Vec<_> = txns.iter().map(Txn::id).collect();
    let outcomes = join_all(txns.into_iter().map(|txn| store.commit(txn)));
    let outcomes = timeout(DEADLINE, outcomes).await.expect("the calls end");
    let mut revisions = HashSet::new();
    for (n, (id, outcome)) in ids.into_iter().zip(outcomes).enumerate() {
        assert_eq!(outcome.unwrap(), Commit::Unknown);
        let settled = timeout(DEADLINE, direct.settle(id, since)).await;
        let settled = settled.expect("the call ends").unwrap();
        let entry = direct.get(&key(n)).await.unwrap();
        assert_eq!(settled, entry.map(|entry| entry.mod_revision));
        revisions.insert(settled);
    }
    assert!(
        revisions.len() == 1 && !revisions.contains(&None),
        "{revisions:?}"
    );
}
