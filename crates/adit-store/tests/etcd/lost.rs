//! Answers and requests that are lost on the way.

use adit_store::conformance::committed;
use adit_store::{Commit, Store, Txn};
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
    config.urls.insert(0, link.url());
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
    let settled = timeout(DEADLINE, store.settle(id, since))
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
        timeout(DEADLINE, late.settle(id, since))
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
