//! The store in a real etcd: it conforms, survives the crash of a member, and never says what it does not know.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test reports by panicking")]

mod cluster;
mod link;
mod lost;
mod outage;
mod secure;
mod strangers;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use adit_store::conformance::{self, Bench};
use adit_store::{EtcdStore, Store};
use async_trait::async_trait;
use cluster::Cluster;
use parking_lot::Mutex;
use uuid::Uuid;

/// How long a test waits for something that must happen.
const DEADLINE: Duration = Duration::from_secs(60);

/// Makes stores in one etcd, each below a root of its own.
struct EtcdBench {
    cluster: Cluster,
    stores: Mutex<HashMap<usize, Arc<EtcdStore>>>,
}

/// The same store has the same address through either pointer.
fn address<T: ?Sized>(store: &Arc<T>) -> usize {
    Arc::as_ptr(store).cast::<()>() as usize
}

#[async_trait]
impl Bench for EtcdBench {
    async fn store(&self) -> Arc<dyn Store> {
        let config = self.cluster.config(&format!("test/{}", Uuid::new_v4()));
        let store = Arc::new(self.cluster.open(config).await);
        self.stores.lock().insert(address(&store), store.clone());
        store
    }

    async fn compact(&self, store: &Arc<dyn Store>) {
        let store = self.stores.lock()[&address(store)].clone();
        store.compact_history().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_conforms() {
    if !cluster::is_installed("etcd_conforms") {
        return;
    }
    let bench = EtcdBench {
        cluster: Cluster::start(1),
        stores: Mutex::default(),
    };
    conformance::run_all(&bench).await;
}
