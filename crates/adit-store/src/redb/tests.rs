//! What is particular to this engine; what every engine must do is in `crate::conformance`.

use std::sync::Arc;

use super::RedbStore;
use crate::store::{Commit, Store};
use crate::txn::Txn;

#[tokio::test]
async fn a_file_is_read_again_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let store: Arc<dyn Store> = Arc::new(RedbStore::open(&path).unwrap());
    let Commit::Committed(revision) = store.commit(Txn::new().absent("a").put("a", *b"1")).await.unwrap() else {
        panic!("a commit without contention is committed")
    };
    drop(store);
    let store = RedbStore::open(&path).unwrap();
    let entry = store.get("a").await.unwrap().unwrap();
    assert_eq!((&*entry.value, entry.mod_revision), (&b"1"[..], revision));
    assert_eq!(store.barrier().await.unwrap(), revision);
}
