//! The embedded engine keeps the promises of the trait, in memory and in a file.

#![expect(clippy::unwrap_used, reason = "a test reports by panicking")]

use std::collections::HashMap;
use std::sync::Arc;

use adit_store::conformance::{self, Bench};
use adit_store::{RedbStore, Store};
use async_trait::async_trait;
use parking_lot::Mutex;

/// Makes stores, and remembers them to reach what the trait does not show.
#[derive(Default)]
struct RedbBench {
    folder: Option<tempfile::TempDir>,
    stores: Mutex<HashMap<usize, Arc<RedbStore>>>,
}

/// The same store has the same address through either pointer.
fn address<T: ?Sized>(store: &Arc<T>) -> usize {
    Arc::as_ptr(store).cast::<()>() as usize
}

#[async_trait]
impl Bench for RedbBench {
    async fn store(&self) -> Arc<dyn Store> {
        let mut stores = self.stores.lock();
        let store = Arc::new(match &self.folder {
            Some(folder) => RedbStore::open(folder.path().join(format!("{}.redb", stores.len()))).unwrap(),
            None => RedbStore::ephemeral().unwrap(),
        });
        stores.insert(address(&store), store.clone());
        store
    }

    async fn compact(&self, store: &Arc<dyn Store>) {
        self.stores.lock()[&address(store)].compact_history();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redb_in_memory_conforms() {
    conformance::run_all(&RedbBench::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redb_in_a_file_conforms() {
    let folder = Some(tempfile::tempdir().unwrap());
    conformance::run_all(&RedbBench {
        folder,
        ..RedbBench::default()
    })
    .await;
}
