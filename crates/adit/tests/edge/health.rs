//! Whether the process should get requests, by a store that answers, fails, or says nothing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use adit_server::edge::Health;
use adit_store::{
    Cache, Commit, CommitId, Entry, LeaseId, Page, PageToken, RedbStore, ResumeToken, Revision, State, Store,
    StoreError, Txn, Watch, WatchError,
};
use async_trait::async_trait;
use axum::{body::Body, http::Request};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

const WORKS: u8 = 0;
const FAILS: u8 = 1;
const SILENT: u8 = 2;
const AHEAD: u8 = 3;
const FULL: u8 = 4;

/// A store whose barrier does as it is told.
struct Told {
    store: RedbStore,
    barrier: AtomicU8,
}

#[async_trait]
impl Store for Told {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.store.get(key).await
    }

    async fn list(&self, prefix: &str, after: Option<&PageToken>, limit: usize) -> Result<Page, StoreError> {
        self.store.list(prefix, after, limit).await
    }

    async fn watch(&self, prefix: &str, from: &ResumeToken) -> Result<Box<dyn Watch>, WatchError> {
        self.store.watch(prefix, from).await
    }

    async fn commit(&self, txn: Txn) -> Result<Commit, StoreError> {
        self.store.commit(txn).await
    }

    async fn settle(&self, id: CommitId, since: Revision) -> Result<Option<Revision>, StoreError> {
        self.store.settle(id, since).await
    }

    async fn barrier(&self) -> Result<Revision, StoreError> {
        match self.barrier.load(Ordering::Relaxed) {
            FAILS => Err(StoreError::unavailable("say anything", "its disk is gone")),
            SILENT => std::future::pending().await,
            AHEAD => Ok(Revision(1_000)),
            _ => self.store.barrier().await,
        }
    }

    async fn can_write(&self) -> Result<(), StoreError> {
        match self.barrier.load(Ordering::Relaxed) {
            FULL => Err(StoreError::unavailable("write", "no space")),
            _ => Ok(()),
        }
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

#[tokio::test]
async fn it_is_ready_while_store_and_cache_answer_and_nobody_ends_it() {
    let told = Arc::new(Told {
        store: RedbStore::ephemeral().unwrap(),
        barrier: AtomicU8::new(WORKS),
    });
    let store: Arc<dyn Store> = Arc::clone(&told) as _;
    let cache = Cache::<State>::start(Arc::clone(&store), "");
    cache.wait_ready().await.unwrap();
    let stopping = CancellationToken::new();
    let registry = Arc::new(Mutex::new(Registry::default()));
    let health = Health::new(store, cache, registry, stopping.clone());
    let router = health.router();
    let ask = async |path: &str| {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let reply = router.clone().oneshot(request).await.unwrap();
        let status = reply.status().as_u16();
        let bytes = reply.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    };
    let ready = async || {
        let (status, text) = ask("/readyz").await;
        (status, serde_json::from_str::<Value>(&text).unwrap())
    };
    assert_eq!(ready().await, (200, json!({"ready": true})));
    for (barrier, reason, up) in [
        (FAILS, "store: the store could not say anything", "store_up 0"),
        (SILENT, "store: no answer within 1 s", "store_up 0"),
        (
            AHEAD,
            "cache: at revision 0 and not at 1000 within 1 s",
            "cache_lag_revisions 1000",
        ),
        (FULL, "store: the store could not write: no space", "store_up 1"),
    ] {
        told.barrier.store(barrier, Ordering::Relaxed);
        assert_eq!(ready().await, (503, json!({"ready": false, "reasons": [reason]})));
        let (status, metrics) = ask("/metrics").await;
        assert!(
            status == 200 && metrics.contains(&format!("\n{up}\n")),
            "{metrics}"
        );
    }
    // Alive it is all the while: nobody should end it for what is not its fault.
    assert_eq!(ask("/healthz").await.0, 200);
    told.barrier.store(WORKS, Ordering::Relaxed);
    assert_eq!(ready().await.0, 200);
    stopping.cancel();
    assert_eq!(
        ready().await,
        (503, json!({"ready": false, "reasons": ["stopping"]}))
    );
}
